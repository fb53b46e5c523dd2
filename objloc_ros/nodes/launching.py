"""What the launch files have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable

from objloc_ros.nodes.qos import PROFILE_VARIABLES

NODE_ARGUMENTS = (
    DeclareLaunchArgument("backbone", default_value="", description="Backbone, as `objloc weights list` names them."),
    DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N."),
    DeclareLaunchArgument(
        "method",
        default_value="",
        description="Method of the one node: maskcut, detector, ...; see docs/parameters.md.",
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
)
"""What `read_settings` reads; empty leaves a parameter to the parameter file."""


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
    if given["head_weights"]:
        chosen["head_weights"] = check_file(given["head_weights"], "head_weights")
    if given["autostart"]:
        chosen["autostart"] = given["autostart"] == "true"
    return chosen
