"""Answers as the nodes' own messages, in a new bag: the images' headers, and their times of recording."""

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
from objloc_ros.nodes.conversions import compressed_to_rgb, mask_to_image, rgb_to_compressed
from objloc_ros.nodes.messages import detections_to_msg, labels_to_msg
from objloc_ros.types import Image

OVERLAY = "overlay/compressed"


class OutputBag:
    """Writes answers under the names that the nodes give them.

    Args:
        writer: Of the bag.
        pictures: Whether to draw overlays.
    """

    def __init__(self, writer: BagWriter, *, pictures: bool) -> None:
        self._writer, self._pictures = writer, pictures
        self._announced: dict[str, int] = {}

    def add(self, node: str, frame: BagImage, found: HeadResult, threshold: float) -> None:
        """Write the answer to a frame.

        Args:
            node: Full name of the node whose answer it is.
            frame: With an image.
            found: The answer.
            threshold: Least confidence of a label, of the methods with prompts.
        """

        def put(name: str, message: Any) -> None:
            self._writer.write(f"{node}/{name}", message, frame.recorded_ns)

        if found.prompts is not None and self._is_news(node, frame.key):
            put("label_info", labels_to_msg(found.prompts, frame.header, threshold))
        put("detections", detections_to_msg(found.detections, frame.header))
        for name, make_map in found.maps().items():
            put(name, mask_to_image(make_map(), frame.header))
        if self._pictures and frame.image is not None:
            put(OVERLAY, rgb_to_compressed(found.draw(frame.image), frame.header))

    def _is_news(self, node: str, key: int) -> bool:
        """Whether the labels must be told: at the first frame, and where time has jumped before it."""
        first = self._announced.get(node)
        if first is not None and not jumps_back(first, key):
            return False
        self._announced[node] = key
        return True


def write_films(bag: Path, folder: Path) -> list[Path]:
    """Write the overlays of a bag as films, at the pace of their recording.

    Args:
        bag: As `OutputBag` has written it, or a recording of the nodes.
        folder: Where they go, named after the nodes.

    Returns:
        The files.
    """
    with BagReader(bag) as reader:
        stamps = survey(reader, [topic for topic in reader.kinds if topic.endswith(f"/{OVERLAY}")])
    films = []
    for topic, each in stamps.items():
        frames: Iterator[Image] = (compressed_to_rgb(message) for _, _, message in read_bag(bag, [topic]))
        name = topic.removesuffix(f"/{OVERLAY}").strip("/").replace("/", "_")
        films.append(write_movie(folder / f"overlay_{name}", frames, float(np.clip(1e9 / each.period_ns, 1, 120))))
    return films
