"""Predictions as the nodes' own messages in a new bag, with the images' headers and times of recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from objloc_ros.bags.images import BagImage
from objloc_ros.bags.reader import BagReader, read_bag
from objloc_ros.bags.survey import survey
from objloc_ros.bags.writer import BagWriter
from objloc_ros.engine.frame_stats import jumps_back
from objloc_ros.engine.results import HeadResult
from objloc_ros.io.media import write_movie
from objloc_ros.io.sanitize import sanitize_path
from objloc_ros.nodes.conversions import compressed_to_rgb, mask_to_image, rgb_to_compressed
from objloc_ros.nodes.messages import detections_to_msg, labels_to_msg
from objloc_ros.types import Image

OVERLAY = "overlay/compressed"
"""Name of the topic with drawings, below the node's."""

MIN_FPS, MAX_FPS = 1.0, 120.0
"""Frame rates of overlay videos, in frames per second."""


class OutputBag:
    """Writes predictions under the names that the nodes give them.

    Args:
        writer: Of the bag.
        overlays: Whether to write drawings, too.
    """

    def __init__(self, writer: BagWriter, *, overlays: bool) -> None:
        self._writer, self._overlays = writer, overlays
        self._labels_written: dict[str, int] = {}

    def write(self, node: str, frame: BagImage, prediction: HeadResult, threshold: float) -> None:
        """Write what was predicted for a frame.

        Args:
            node: Full name of the node that would predict it.
            frame: With an image.
            prediction: The method's result.
            threshold: Least confidence of a label, for methods with a mask of labels.
        """

        def put(name: str, message: Any) -> None:
            self._writer.write(f"{node}/{name}", message, frame.recorded_ns)

        if prediction.mask_labels is not None and self._needs_labels(node, frame.key):
            put("label_info", labels_to_msg(prediction.mask_labels, frame.header, threshold))
        put("detections", detections_to_msg(prediction.detections, frame.header))
        for name, pixels in prediction.maps().items():
            put(name, mask_to_image(pixels, frame.header))
        if self._overlays and frame.image is not None:
            put(OVERLAY, rgb_to_compressed(prediction.draw(frame.image), frame.header))

    def _needs_labels(self, node: str, key: int) -> bool:
        """Whether the labels must be written: before the first frame, and where time has jumped back."""
        first = self._labels_written.get(node)
        if first is not None and not jumps_back(first, key):
            return False
        self._labels_written[node] = key
        return True


def write_overlay_videos(bag: Path, folder: Path) -> list[Path]:
    """Write the overlays of a bag as videos, at the pace of their recording.

    Args:
        bag: As `OutputBag` has written it, or a recording of the nodes.
        folder: Where the videos go, named after the nodes.

    Returns:
        The files.
    """
    with BagReader(bag) as reader:
        stamps_by_topic = survey(reader, [topic for topic in reader.kinds if topic.endswith(f"/{OVERLAY}")])
    videos = []
    for topic, stamps in stamps_by_topic.items():
        frames: Iterator[Image] = (compressed_to_rgb(message) for _, _, message in read_bag(bag, [topic]))
        name = sanitize_path(topic.removesuffix(f"/{OVERLAY}")).replace("/", "_")
        fps = float(np.clip(1e9 / stamps.period_ns, MIN_FPS, MAX_FPS))
        videos.append(write_movie(folder / f"overlay_{name}", frames, fps))
    return videos
