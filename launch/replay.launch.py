"""A recording in place of a camera: the nodes of ``objloc.launch.py``, with its arguments, on the bag's time.

ros2 launch objloc_ros replay.launch.py bag:=drive camera:=/front/image_raw methods:=found,discovery rate:=2

The bag begins when somebody listens to the nodes, and everything ends with it. Without ``bag`` the nodes wait for
``ros2 bag play --clock``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, IncludeLaunchDescription, OpaqueFunction, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import SetParameter

NODES = Path(__file__).parent / "objloc.launch.py"

ARGUMENTS = (
    DeclareLaunchArgument("bag", default_value="", description="Bag to play; empty: somebody else plays it."),
    DeclareLaunchArgument("rate", default_value="1.0", description="Times real time."),
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments, start the nodes on the bag's time, then the player."""
    nodes = IncludeLaunchDescription(PythonLaunchDescriptionSource(str(NODES)))
    return LaunchDescription([*ARGUMENTS, SetParameter("use_sim_time", True), nodes, OpaqueFunction(function=play)])


def play(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the player of the camera's images, if there is a bag to play."""
    given = {name: context.launch_configurations[name].strip() for name in ("bag", "rate", "camera", "image_transport")}
    if not given["bag"]:
        return []
    topic = "/" + given["camera"].strip("/") + ("/compressed" if given["image_transport"] == "compressed" else "")
    words = ["play", given["bag"], "--rate", given["rate"], "--topics", topic, "--wait-for-subscribers", "1"]
    return [
        ExecuteProcess(cmd=[sys.executable, "-m", "objloc_ros.cli.main", *words], output="screen", on_exit=Shutdown())
    ]
