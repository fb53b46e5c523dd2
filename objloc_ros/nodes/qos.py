"""Quality of service of cameras and results, and why messages do not arrive: other policies, no room in Fast DDS."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.qos import (
    QoSDurabilityPolicy,
    QoSHistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    QoSReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.utilities import get_rmw_implementation_identifier

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS 2 and 3 look for the profile that makes room for images in shared memory."""


def make_camera_profile(depth: int = 1) -> QoSProfile:
    """Return what nodes ask of cameras: the newest frames only; BEST_EFFORT VOLATILE suits every publisher."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.VOLATILE,
    )


def make_output_profile(depth: int) -> QoSProfile:
    """Return what nodes offer: RELIABLE suits every subscriber, and KEEP_LAST keeps a slow one from holding them up."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.VOLATILE,
    )


def make_latched_profile(depth: int = 1) -> QoSProfile:
    """Return the profile of topics whose latest message is for those, too, who subscribe later."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    )


def allow_overrides() -> QoSOverridingOptions:
    """Let `qos_overrides.<topic>.<subscription|publisher>.<policy>` parameters change each of the four fields."""
    return QoSOverridingOptions(
        (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY, QoSPolicyKind.DURABILITY)
    )


def describe_profile(profile: QoSProfile) -> str:
    """Name the fields that decide about compatibility, as `best_effort volatile`."""
    return f"{profile.reliability.name.lower()} {profile.durability.name.lower()}"


def explain_incompatible_publisher(node: Node, topic: str, asked: QoSProfile, policy_kind: Any) -> str:
    """Return one line about a publisher whose frames will not come, with the fix.

    Args:
        node: Knows the publishers of the topic.
        topic: Full topic name.
        asked: Profile of the subscription.
        policy_kind: Policy that the middleware names in its event.
    """
    offers = ", ".join(
        f"{info.node_namespace.rstrip('/')}/{info.node_name} ({describe_profile(info.qos_profile)})"
        for info in node.get_publishers_info_by_topic(topic)
    )
    policy = qos_policy_name_from_kind(policy_kind).lower()
    fix = {"reliability": "best_effort", "durability": "volatile"}.get(policy, "what the publisher offers")
    return (
        f"no frames will come from a publisher of '{topic}': its {policy} QoS is incompatible with this node's "
        f"({describe_profile(asked)}); publishers: {offers or 'gone'}. Fix: set the parameter "
        f"'qos_overrides.{topic}.subscription.{policy}' to '{fix}' or remove it from your overrides"
    )


def explain_incompatible_subscriber(topic: str, offered: QoSProfile, policy_kind: Any) -> str:
    """Return one line about a subscriber that will not get this node's results, with the fix."""
    policy = qos_policy_name_from_kind(policy_kind).lower()
    return (
        f"a subscriber of '{topic}' gets nothing: it asks for a {policy} QoS that this node does not offer "
        f"({describe_profile(offered)}). Fix: relax the subscriber or set 'qos_overrides.{topic}.publisher.{policy}'"
    )


def explain_silent_publisher(topic: str, publishers: int, seconds: float) -> str:
    """Return one line about publishers that are seen while no frame arrives, with the likeliest fix."""
    line = f"{publishers} publisher(s) of '{topic}' but no frame for {seconds:.0f} s"
    if "fastrtps" not in get_rmw_implementation_identifier():
        return f"{line}: is the camera running, and do large messages get through (socket buffers, network)?"
    profile = next((os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)), "")
    if profile:
        return f"{line}: is the camera running, and was it started with the Fast DDS profile '{profile}', too?"
    return (
        f"{line}: Fast DDS loses images between processes when they exceed its 512 KB of shared memory. Fix: start "
        f"camera and node with {PROFILE_VARIABLES[0]}=<share/objloc_ros>/config/fastdds_shm.xml"
    )


def find_fast_dds_profile() -> Path | None:
    """Return the path of `fastdds_shm.xml`, or None where the package was installed without it."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    folders = [Path(prefix) / "share" / "objloc_ros" for prefix in prefixes if prefix]
    candidates = [folder / "config" / "fastdds_shm.xml" for folder in (Path(__file__).parents[2], *folders)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def make_fast_dds_environment() -> dict[str, str]:
    """Return variables to start a process with; none where the user has chosen a profile, or there is none."""
    profile = find_fast_dds_profile()
    if profile is None or any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(profile))
