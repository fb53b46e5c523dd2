"""The Fast DDS profile that makes room for images, found in a source tree and in every kind of installation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from objloc_ros.nodes.qos import PROFILE_VARIABLES


def fast_dds_profile() -> Path | None:
    """Path of `fastdds_shm.xml`, or None where the package was installed without it."""
    prefixes = [*os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep), sys.prefix]
    folders = [Path(prefix) / "share" / "objloc_ros" for prefix in prefixes if prefix]
    candidates = [folder / "config" / "fastdds_shm.xml" for folder in (Path(__file__).parents[2], *folders)]
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def fast_dds_environment() -> dict[str, str]:
    """Variables to start a process with, unless the user has chosen a profile; none where there is no profile."""
    profile = fast_dds_profile()
    if profile is None or any(os.environ.get(name) for name in PROFILE_VARIABLES):
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(profile))
