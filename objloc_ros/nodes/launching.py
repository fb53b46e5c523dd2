"""What the launch files have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable

from objloc_ros.nodes.qos import PROFILE_VARIABLES

RESPAWN_DELAY_S = 2.0
"""Pause before a process that ended is started again, seconds: one that cannot start leaves others room."""

NODE_ARGUMENTS = (
    DeclareLaunchArgument("backbone", default_value="", description="Backbone, as `objloc weights list` names them."),
    DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N."),
    DeclareLaunchArgument(
        "method",
        default_value="",
        description="Method of the one node: maskcut, detector, ...; see docs/parameters.md.",
    ),
    DeclareLaunchArgument(
        "weights", default_value="", description="Path of the weights of the network that looks at the images."
    ),
    DeclareLaunchArgument(
        "head_weights", default_value="", description="Head of the one node: the file of a token detector, or of FOUND."
    ),
    DeclareLaunchArgument(
        "image_transport", default_value="", choices=["", "raw", "compressed"], description="How images come in."
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=["", "true", "false"],
        description="false: wait for `ros2 lifecycle`.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=["", "true", "false"],
        description="true: time is that of /clock, as with `ros2 bag play --clock` and simulators.",
    ),
)
"""What `read_settings` reads; empty leaves a parameter to the parameter file."""

PROCESS_ARGUMENTS = (
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        choices=["debug", "info", "warn", "error", "fatal"],
        description="Least severity of what a process logs; debug tells what became of each frame.",
    ),
    DeclareLaunchArgument(
        "respawn",
        default_value="false",
        choices=["true", "false"],
        description=f"true: start a process that ended again, {RESPAWN_DELAY_S:g} s later.",
    ),
)
"""What `read_process_options` reads."""


def check_file(text: str, argument: str = "params_file") -> str:
    """Return the absolute path; a missing file would otherwise show only in a node's log."""
    if not Path(text).is_file():
        raise ValueError(f"{argument} must be an existing file, got {text!r}")
    return str(Path(text).absolute())


def split_names(text: str) -> list[str]:
    """Split ``front, rear`` or a YAML list of names."""
    return [name.strip(" '\"") for name in text.strip("[] ").split(",")]


def make_profile_actions(context: LaunchContext, profile: Path) -> list[SetEnvironmentVariable]:
    """Give Fast DDS room for images unless the user chose a profile; without it they get lost between processes."""
    if any(context.environment.get(name) for name in PROFILE_VARIABLES):
        return []
    return [SetEnvironmentVariable(name, str(profile)) for name in PROFILE_VARIABLES]


def read_settings(given: dict[str, str], nodes: Sequence[str]) -> dict[str, str | bool]:
    """Return the node parameters that arguments set; what they leave out stays with the parameter file.

    Args:
        given: Arguments by name.
        nodes: Names of the nodes that they are for.

    Raises:
        ValueError: There are several nodes, and an argument means another thing to each.
    """
    for name in ("method", "head_weights"):
        if given[name] and len(nodes) != 1:
            raise ValueError(
                f"{name} is of one node, and methods are {', '.join(nodes) or 'those of the parameter file'}: choose "
                "one, or set it in a parameter file"
            )
    texts = ("backbone", "device", "method", "image_transport")
    chosen: dict[str, str | bool] = {name: given[name] for name in texts if given[name]}
    for name in ("weights", "head_weights"):
        if given[name]:
            chosen[name] = check_file(given[name], name)
    for name in ("autostart", "use_sim_time"):
        if given[name]:
            chosen[name] = given[name] == "true"
    return chosen


def read_process_options(given: dict[str, str]) -> dict[str, Any]:
    """Return the keyword arguments of `launch_ros.actions.Node` that arguments set.

    Args:
        given: Arguments by name.
    """
    return {
        "ros_arguments": ["--log-level", given["log_level"]],
        "respawn": given["respawn"] == "true",
        "respawn_delay": RESPAWN_DELAY_S,
    }
