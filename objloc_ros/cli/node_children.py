"""Nodes as child processes, in a ROS domain that nobody else is in."""

from __future__ import annotations

import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from objloc_ros.nodes.profile import fast_dds_environment

START_LIMIT_S = 120.0
"""Loading torch from a cold disk takes its time."""

_times = itertools.count()


@contextmanager
def ros_of_its_own() -> Iterator[None]:
    """A DDS domain that does not leave this machine, with room for images, for this process and its children.

    Every block has another one, so that children that were killed are not taken for those of the next.
    """
    chosen = {
        "ROS_DOMAIN_ID": str(1 + (os.getpid() + next(_times)) % 100),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH") or sys.prefix,
        **fast_dds_environment(),
    }
    before = {name: os.environ.pop(name, None) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def node_command(
    program: Sequence[str], namespace: str, parameters: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> list[str]:
    """Command line of a node.

    Args:
        program: What starts it.
        namespace: Full name; empty for the root.
        parameters: JSON's scalars and lists are YAML's.
        names: New names of topics, and of the node as `__node`, by their old ones.
    """
    renamed = {"__ns": namespace or "/", **(names or {})}
    given = {name: json.dumps(value, ensure_ascii=False) for name, value in parameters.items()}
    words = [word for old, new in renamed.items() for word in ("-r", f"{old}:={new}")]
    return [
        *program,
        "--ros-args",
        *words,
        *(word for name, text in given.items() for word in ("-p", f"{name}:={text}")),
    ]
