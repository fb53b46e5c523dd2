"""Real nodes in real processes over DDS: a peer in the test process talks to a node in another one."""

import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections import deque
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "fastdds_shm.xml"
TIMEOUT_S = 20.0

rclpy = pytest.importorskip("rclpy")

os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(
    dict.fromkeys([sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))])
)
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


def wait_for(condition, timeout=TIMEOUT_S, what="the condition"):
    """Poll until `condition()` is truthy and return its value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout} s"
        time.sleep(0.01)
    return value


class Node:
    """A found node in another process."""

    def __init__(self, domain, log, *arguments, delay_ms=0, command=None):
        self.log_path = log
        command = command or [str(Path(__file__).with_name("found_process.py")), str(delay_ms)]
        command = [sys.executable, *command, *(["--ros-args"] if arguments else []), *arguments]
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
                cwd=ROOT,
                start_new_session=True,
            )

    @property
    def log(self):
        return self.log_path.read_text()

    def kill(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, signals=(signal.SIGINT,)):
        """Ask the process to end; kill it when it does not. Returns its exit code."""
        for number in signals:
            self.kill(number)
            time.sleep(0.02)
        try:
            return self.process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            raise


class Inbox:
    """Messages of one topic, newest last."""

    def __init__(self):
        self.subscription, self.messages = None, deque(maxlen=500)

    def receive(self, msg):
        self.messages.append(msg)

    def with_stamp(self, stamp):
        return next((msg for msg in list(self.messages) if msg.header.stamp == stamp), None)


class Peer:
    """Everything else in the robot: camera, subscribers, parameter and service clients."""

    def __init__(self, domain):
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("peer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self._spin, daemon=True)
        self.thread.start()
        self.publishers, self.clients, self.last_ns = {}, {}, 0

    def _spin(self):
        from rclpy.executors import ExternalShutdownException

        try:
            self.executor.spin()
        except ExternalShutdownException:
            return

    def close(self):
        self.executor.shutdown()
        self.thread.join(5)
        self.node.destroy_node()
        self.context.try_shutdown()

    def publisher(self, msg_type, topic="image", reliability="RELIABLE"):
        from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy

        if (topic, reliability) not in self.publishers:
            profile = QoSProfile(
                history=QoSHistoryPolicy.KEEP_LAST,
                depth=1,
                reliability=QoSReliabilityPolicy[reliability],
                durability=QoSDurabilityPolicy.VOLATILE,
            )
            self.publishers[topic, reliability] = self.node.create_publisher(msg_type, topic, profile)
        return self.publishers[topic, reliability]

    def subscribe(self, msg_type, topic, depth=50):
        inbox = Inbox()
        inbox.subscription = self.node.create_subscription(msg_type, topic, inbox.receive, depth)
        return inbox

    def unsubscribe(self, *inboxes):
        for inbox in inboxes:
            self.node.destroy_subscription(inbox.subscription)

    def stamp(self):
        """The time now, different from every stamp before."""
        self.last_ns = max(self.last_ns + 1, time.time_ns())
        return rclpy.time.Time(nanoseconds=self.last_ns).to_msg()

    def image(self, pixels, encoding=None, **changes):
        """An Image message of a uint8 or float32 array [H, W] or [H, W, 3], fields changed at will."""
        from sensor_msgs.msg import Image

        msg = Image(height=pixels.shape[0], width=pixels.shape[1], step=pixels.nbytes // max(pixels.shape[0], 1))
        msg.encoding = ("rgb8" if pixels.ndim == 3 else "mono8") if encoding is None else encoding
        msg.data = array("B", np.ascontiguousarray(pixels).tobytes())
        msg.header.frame_id = "camera"
        msg.header.stamp = self.stamp()
        for name, value in changes.items():
            setattr(msg, name, value)
        return msg

    def ask(self, inbox, make, topic="image", timeout=TIMEOUT_S):
        """Publish fresh frames of `make()` until one is answered in `inbox`; returns (frame, answer)."""
        asked, (answer,) = self.ask_all([inbox], make, topic, timeout)
        return asked, answer

    def ask_all(self, inboxes, make, topic="image", timeout=TIMEOUT_S):
        """Publish fresh frames of `make()` until one is answered in every inbox; returns (frame, answers)."""
        asked = []

        def answered():
            if not asked or time.monotonic() - asked[-1][0] > 0.5:
                msg = make()
                self.publisher(type(msg), topic).publish(msg)
                asked.append((time.monotonic(), msg))
            for _, msg in asked:
                answers = [inbox.with_stamp(msg.header.stamp) for inbox in inboxes]
                if None not in answers:
                    return msg, answers
            return None

        return wait_for(answered, timeout, "an answer")

    def call(self, service_type, name, request):
        if name not in self.clients:
            self.clients[name] = self.node.create_client(service_type, name)
        client = self.clients[name]
        assert client.wait_for_service(TIMEOUT_S), f"no service {name}"
        future = client.call_async(request)
        wait_for(future.done, what=f"an answer of {name}")
        return future.result()

    def set_parameters(self, node="/found", **values):
        """Set atomically; returns (successful, reason)."""
        from rcl_interfaces.srv import SetParametersAtomically
        from rclpy.parameter import Parameter

        request = SetParametersAtomically.Request()
        request.parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        result = self.call(SetParametersAtomically, f"{node}/set_parameters_atomically", request).result
        return result.successful, result.reason

    def get_parameters(self, *names, node="/found"):
        from rcl_interfaces.srv import GetParameters
        from rclpy.parameter import parameter_value_to_python

        values = self.call(GetParameters, f"{node}/get_parameters", GetParameters.Request(names=names)).values
        return [parameter_value_to_python(value) for value in values]

    def change_state(self, label, node="/found"):
        from lifecycle_msgs.srv import ChangeState

        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, f"{node}/change_state", request).success

    def state(self, node="/found"):
        from lifecycle_msgs.srv import GetState

        return self.call(GetState, f"{node}/get_state", GetState.Request()).current_state.label


@pytest.fixture(scope="module")
def peer(domain):
    peer = Peer(domain)
    yield peer
    peer.close()


@pytest.fixture(scope="module")
def start(domain, tmp_path_factory):
    """Start nodes: `start(*ros_arguments, delay_ms=0)`; all are ended with the module."""
    nodes = []

    def start(*arguments, **options):
        nodes.append(Node(domain, tmp_path_factory.mktemp("node") / "log.txt", *arguments, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.kill(signal.SIGINT)
    assert [node.end() for node in nodes] == [0] * len(nodes), "\n".join(node.log for node in nodes)


@pytest.fixture
def spawn(domain, tmp_path):
    """Start a node that the test sees to the end of."""
    nodes = []

    def spawn(*arguments, **options):
        nodes.append(Node(domain, tmp_path / f"log{len(nodes)}.txt", *arguments, **options))
        return nodes[-1]

    yield spawn
    for node in nodes:
        node.end()


@pytest.fixture(scope="module")
def facts(peer):
    """The node's latest diagnostic values, as `facts()`."""
    from diagnostic_msgs.msg import DiagnosticArray

    inbox = peer.subscribe(DiagnosticArray, "/diagnostics")

    def latest():
        if not inbox.messages:
            return {}
        status = inbox.messages[-1].status[0]
        return {
            "level": status.level,
            "message": status.message,
            "hardware_id": status.hardware_id,
            "name": status.name,
        } | {pair.key: pair.value for pair in status.values}

    return latest


def disc(radius=20, brightness=255, size=(120, 160)):
    """A grey scene with one bright disc in the middle: RGB uint8 [H, W, 3]."""
    rgb = np.full((*size, 3), 40, np.uint8)
    ys, xs = np.ogrid[: size[0], : size[1]]
    rgb[(ys - size[0] / 2) ** 2 + (xs - size[1] / 2) ** 2 <= radius**2] = brightness
    return rgb


@pytest.fixture(name="disc", scope="session")
def _disc():
    return disc


@pytest.fixture(name="wait_for", scope="session")
def _wait_for():
    return wait_for
