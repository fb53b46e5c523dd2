"""Object localization on several cameras, in one process around one engine.

ros2 launch objloc_ros multi_camera.launch.py cameras:=front,rear methods:=found,discovery

Cameras are named after their namespaces: the nodes of ``front`` are ``/front/found`` and so on, with the topics that
processes of their own would have, and its images come from ``/front/image_raw`` unless the parameter file says
otherwise. Empty arguments leave a setting to the parameter file.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch_ros.actions import Node

from objloc_ros.nodes import launching

CONFIG = Path(__file__).parent.parent / "config"

ARGUMENTS = (
    DeclareLaunchArgument("cameras", default_value="", description="Comma-separated names: front, rear."),
    DeclareLaunchArgument("methods", default_value="", description="Of: found, discovery, segmentation."),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(CONFIG / "multi_camera.yaml"),
        description="ROS parameter file: cameras, their image topics, and the parameters of their nodes.",
    ),
    *launching.NODE_ARGUMENTS,
    *launching.PROCESS_ARGUMENTS,
)


def generate_launch_description() -> LaunchDescription:
    """Declare the arguments and postpone the rest until they have values."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=launch_cameras)])


def launch_cameras(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Return the environment and the process."""
    given = {argument.name: context.launch_configurations[argument.name].strip() for argument in ARGUMENTS}
    lists = {name: launching.split_names(given[name]) for name in ("cameras", "methods") if given[name]}
    settings = launching.read_settings(given, lists.get("methods", []))
    # Without a name, so that the parameters hold for every node of the process.
    perception = Node(
        package="objloc_ros",
        executable="perception",
        parameters=[launching.check_file(given["params_file"]), {**settings, **lists}],
        output="screen",
        **launching.read_process_options(given),
    )
    return [*launching.make_profile_actions(context, CONFIG / "fastdds_shm.xml"), perception]
