"""Real nodes in real processes over DDS: a peer in the test process talks to a node in another one."""

import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections import deque
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from forked import Forked
from gate import FOLDER, Gate
from waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "config" / "fastdds_shm.xml"
PATIENT = ("-p", "max_age_ms:=0.0", "-p", "idle_priority:=false")
"""On a busy machine every frame may be old, and nobody idle."""

rclpy = pytest.importorskip("rclpy")

os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join(
    dict.fromkeys([sys.prefix, *filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))])
)
os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"


class Node:
    """A found node, or a command of its own, in another process.

    Unless it is to be `fresh`, that process has imported everything before it begins.
    """

    def __init__(self, domain, folder, *arguments, command=None, patient=True, fresh=False):
        self.folder, self.log_path, self.began = folder, folder / "log.txt", time.monotonic()
        command = command or [str(Path(__file__).with_name("found_process.py"))]
        command = [*command, "--ros-args", *(PATIENT if patient else ()), *arguments]
        env = {"ROS_DOMAIN_ID": str(domain), FOLDER: str(folder)}
        if fresh:
            env |= {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
            with self.log_path.open("w") as out:
                self.process = subprocess.Popen(
                    [sys.executable, *command],
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **env},
                    cwd=ROOT,
                    start_new_session=True,
                )
        else:
            self.process = Forked(command, log=self.log_path, env=env, cwd=ROOT)

    @property
    def log(self):
        return self.log_path.read_text()

    def says_once_a_minute(self, text):
        """Whether the log has this text, and no more often than the minutes allow that have begun."""
        return 1 <= self.log.count(text) <= 1 + (time.monotonic() - self.began) // 60

    @contextmanager
    def held_up(self, name, *, times=1):
        """Close a gate in the process, once the caller has given it reason to get there so many times."""
        gate = Gate(name, self.folder)
        before = self.log.count(gate.word)
        gate.close()
        try:
            yield lambda: wait_for(lambda: self.log.count(gate.word) >= before + times, f"{gate.word} x{times}")
        finally:
            gate.open()

    def kill(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, signals=(signal.SIGINT,)):
        """Ask the process to end; kill it when it does not. Returns its exit code."""
        for number in signals:
            self.kill(number)
            time.sleep(0.02)
        try:
            return self.process.wait(PATIENCE_S)
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
        self.thread.join()
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

    def ask(self, inbox, make, topic="image"):
        """Publish fresh frames of `make()` until one is answered in `inbox`; returns (frame, answer)."""
        asked, (answer,) = self.ask_all([inbox], make, topic)
        return asked, answer

    def ask_all(self, inboxes, make, topic="image"):
        """Publish fresh frames of `make()` until one is answered in every inbox; returns (frame, answers)."""
        asked = []

        def answered():
            if not asked or time.monotonic() - asked[-1][0] > 0.2:
                msg = make()
                self.publisher(type(msg), topic).publish(msg)
                asked.append((time.monotonic(), msg))
            for _, msg in asked:
                answers = [inbox.with_stamp(msg.header.stamp) for inbox in inboxes]
                if None not in answers:
                    return msg, answers
            return None

        return wait_for(answered, "an answer")

    def call(self, service_type, name, request):
        if name not in self.clients:
            self.clients[name] = self.node.create_client(service_type, name)
            assert self.clients[name].wait_for_service(PATIENCE_S), f"no service {name}"
            self._introduce(name.rpartition("/")[0])
        future = self.clients[name].call_async(request)
        wait_for(future.done, f"an answer of {name}")
        return future.result()

    def _introduce(self, node):
        """Wait until a node has met every client made so far.

        A service gives an answer up whose client it has not discovered within 0.1 s, and the client waits in vain.
        Endpoints are announced in order, so once a younger client hears an answer, so will the others. To ask for no
        parameters may be repeated.
        """
        from rcl_interfaces.srv import GetParameters

        client, asked = self.node.create_client(GetParameters, f"{node}/get_parameters"), {}

        def heard():
            if client.service_is_ready() and time.monotonic() - max(asked, default=0) > 1:
                asked[time.monotonic()] = client.call_async(GetParameters.Request())
            return any(future.done() for future in asked.values())

        wait_for(heard, f"an answer of {node}")
        self.node.destroy_client(client)

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
    """Start nodes: `start(*ros_arguments)`; all are ended with the module."""
    nodes = []

    def start(*arguments, **options):
        nodes.append(Node(domain, tmp_path_factory.mktemp("node"), *arguments, **options))
        return nodes[-1]

    yield start
    for node in nodes:
        node.kill(signal.SIGINT)
    assert [node.end() for node in nodes] == [0] * len(nodes), "\n".join(node.log for node in nodes)


@pytest.fixture
def spawn(domain, tmp_path_factory):
    """Start a node that the test sees to the end of."""
    nodes = []

    def spawn(*arguments, **options):
        nodes.append(Node(domain, tmp_path_factory.mktemp("node"), *arguments, **options))
        return nodes[-1]

    yield spawn
    for node in nodes:
        node.end()


class Accounts:
    """The latest diagnostics of each node, by its name; without one, of whichever was heard last."""

    def __init__(self, peer):
        from diagnostic_msgs.msg import DiagnosticArray

        self.latest, self.states = {}, {}
        self.subscription = peer.node.create_subscription(DiagnosticArray, "/diagnostics", self.receive, 200)

    def receive(self, msg):
        at_ns = msg.header.stamp.sec * 10**9 + msg.header.stamp.nanosec
        for status in msg.status:
            said = {name: getattr(status, name) for name in ("level", "message", "hardware_id", "name")}
            facts = {"at_ns": at_ns, **said, **{pair.key: pair.value for pair in status.values}}
            name = status.name.partition(":")[0]
            self.latest[name] = self.latest[""] = facts
            self.states.setdefault(name, []).append(facts["state"])

    def __call__(self, name=""):
        return self.latest.get(name, {})

    def count(self, what, name=""):
        return int(self(name).get(what, 0))

    def settle(self, name=""):
        """Wait until the node says that nothing is in flight any more; returns the facts."""
        now_ns = time.time_ns()
        settled = lambda: self(name).get("in_flight") == "0" and self(name)["at_ns"] > now_ns  # noqa: E731
        wait_for(settled, f"the last frame of {name}")
        return self(name)

    def conserved(self, name=""):
        """Whether each frame has an answer, a cause, or is still to come."""
        facts = self(name)
        return int(facts["received"]) == sum(int(facts[what]) for what in ("published", "dropped", "in_flight"))


@pytest.fixture(scope="module")
def accounts(peer):
    """What the nodes say in their diagnostics."""
    return Accounts(peer)


@pytest.fixture(scope="module")
def facts(accounts):
    """The same, where there is one node."""
    return accounts


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
