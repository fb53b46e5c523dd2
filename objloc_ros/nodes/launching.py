"""What the launch files have in common."""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext
from launch.actions import DeclareLaunchArgument, SetEnvironmentVariable

from objloc_ros.nodes.qos import PROFILE_VARIABLES

NODE_ARGUMENTS = (
    DeclareLaunchArgument("backbone", default_value="", description="Backbone, as `objloc weights list` names them."),
    DeclareLaunchArgument("device", default_value="", description="auto, cpu, cuda or cuda:N."),
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


def check_file(text: str) -> str:
    """Return the path; a missing parameter file would otherwise show only in a node's log."""
    if not Path(text).is_file():
        raise ValueError(f"params_file must be an existing file, got {text!r}")
    return text


def split_names(text: str) -> list[str]:
    """Split ``front, rear`` or a YAML list of names."""
    return [name.strip(" '\"") for name in text.strip("[] ").split(",")]


def make_profile_actions(context: LaunchContext, profile: Path) -> list[SetEnvironmentVariable]:
    """Give Fast DDS room for images unless the user chose a profile; without it they get lost between processes."""
    if any(context.environment.get(name) for name in PROFILE_VARIABLES):
        return []
    return [SetEnvironmentVariable(name, str(profile)) for name in PROFILE_VARIABLES]


def read_settings(given: dict[str, str]) -> dict[str, str | bool]:
    """Return the node parameters that arguments set; what they leave out stays with the parameter file."""
    texts = ("backbone", "device", "image_transport")
    chosen: dict[str, str | bool] = {name: given[name] for name in texts if given[name]}
    if given["autostart"]:
        chosen["autostart"] = given["autostart"] == "true"
    return chosen
