"""Pictures, videos and bags to pre-label, and what is left of a run, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from objloc_ros.bags.writer import BagWriter
from objloc_ros.io.media import VideoWriter, write_image
from objloc_ros.nodes.conversions import rgb_to_compressed, rgb_to_image
from objloc_ros.types import Image

COCO_FILE = Path("annotations/instances_default.json")


def scene(shift: int = 0) -> Image:
    rgb = np.full((120, 160, 3), 40, np.uint8)
    rgb[20:60, 20 + shift : 60 + shift] = (220, 60, 40)
    rgb[70:110, 100:150] = (60, 200, 90)
    return rgb


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, scene(8 * number))
    return folder


def bag(path: Path, frames: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with BagWriter(path) as writer:
        for t in range(frames):
            header = Header(stamp=Time(sec=100, nanosec=t * 100_000_000))
            writer.write("/front/image", rgb_to_image(scene(4 * t), header), t)
            writer.write("/rear/compressed", rgb_to_compressed(scene(40 - 4 * t), header), t)
    return path


def video(path: Path) -> Path:
    with VideoWriter(path, 10) as writer:
        for t in range(3):
            writer.write(scene(4 * t))
    return path


def document(out: Path) -> dict[str, Any]:
    """The COCO document of a run."""
    return json.loads((out / COCO_FILE).read_text())


def tree(folder: Path) -> dict[str, bytes]:
    """All files below a folder and what is in them."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
