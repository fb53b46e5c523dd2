"""Launch files under the real launch and launch_ros, around real nodes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
PROFILE = str(ROOT / "config/fastdds_shm.xml")
DOMAIN = 60 + os.getpid() % 40

# What `ros2 launch` does, where ros2cli may be missing.
LAUNCHER = """
import sys
from launch import LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
arguments = [argument.split(":=") for argument in sys.argv[2:]]
service = LaunchService(noninteractive=True)
source = PythonLaunchDescriptionSource(sys.argv[1])
service.include_launch_description(IncludeLaunchDescription(source, launch_arguments=arguments))
sys.exit(service.run())
"""


class Launched:
    """`ros2 launch FILE ARGUMENTS` in a process group of its own."""

    def __init__(self, log, file, *arguments, **environment):
        self._log = log
        inherited = {key: value for key, value in os.environ.items() if "DEFAULT_PROFILES_FILE" not in key}
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", LAUNCHER, str(ROOT / "launch" / file), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**inherited, "ROS_DOMAIN_ID": str(DOMAIN), "OMP_NUM_THREADS": "1", **environment},
            )

    @property
    def log(self):
        return self._log.read_text()

    def children(self):
        """Process ids of the nodes that run."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(number) for number in text.split()]

    def child_environment(self):
        """Environment of the one node that was launched."""
        (child,) = self.children()
        entries = Path(f"/proc/{child}/environ").read_bytes().decode().split("\0")
        return dict(entry.split("=", 1) for entry in entries if entry)

    def end(self):
        """Ctrl-C, as from a terminal; returns the exit code."""
        try:
            self.process.send_signal(signal.SIGINT)
            return self.process.wait(PATIENCE_S)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


def wait_for(condition, launched):
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"timed out; the launch said:\n{launched.log}"
        time.sleep(0.05)
    return value


def call(peer, kind, name, request, launched):
    """Ask a question that may be repeated: an answer is lost if its service has not discovered the client yet."""
    client, asked = peer.create_client(kind, name), {}

    def answer():
        if client.service_is_ready() and time.monotonic() - max(asked, default=0) > 2:
            asked[time.monotonic()] = client.call_async(request)
        return next((future.result() for future in asked.values() if future.done()), None)

    return wait_for(answer, launched)


def parameters(peer, node, names, launched):
    request = GetParameters.Request(names=names)
    answer = call(peer, GetParameters, f"{node}/get_parameters", request, launched)
    return dict(zip(names, map(parameter_value_to_python, answer.values), strict=True))
