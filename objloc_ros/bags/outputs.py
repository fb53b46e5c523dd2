"""Answers as the nodes' own messages, in a new bag: the images' headers, and their times of recording."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from objloc_ros.bags.images import BagImage
from objloc_ros.bags.predictions import Answer, Named
from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import survey
from objloc_ros.bags.writer import BagWriter, read_bag
from objloc_ros.engine.frame_stats import JUMP_NS
from objloc_ros.engine.results import InstanceResult, SaliencyResult, SemanticResult
from objloc_ros.io.drawing import label_overlay, overlay
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

    def add(self, node: str, frame: BagImage, named: Named, answer: Answer, threshold: float) -> None:
        """Write the answer to a frame.

        Args:
            node: Full name of the node whose answer it is.
            frame: With an image.
            named: The answer.
            answer: The same at the size of the image.
            threshold: Least confidence of a label, of the methods with prompts.
        """
        found = named.found

        def put(name: str, message: Any) -> None:
            self._writer.write(f"{node}/{name}", message, frame.recorded_ns)

        if isinstance(found, SemanticResult) and self._is_news(node, frame.key):
            put("label_info", labels_to_msg(found.labels, frame.header, threshold))
        put("detections", detections_to_msg(found.detections, frame.header, named.ids))
        mask = np.asarray(answer.mask)
        put("instance_mask" if isinstance(found, InstanceResult) else "mask", mask_to_image(mask, frame.header))
        if isinstance(found, SaliencyResult):
            put("confidence", mask_to_image(found.saliency_u8(), frame.header))
        elif isinstance(found, SemanticResult):
            put("confidence", mask_to_image(found.confidence_u8(), frame.header))
        if self._pictures and frame.image is not None:
            put(OVERLAY, rgb_to_compressed(picture(frame.image, named, answer), frame.header))

    def _is_news(self, node: str, key: int) -> bool:
        """Whether the labels must be told: at the first frame, and where time has jumped before it."""
        first = self._announced.get(node)
        if first is not None and key >= first - JUMP_NS:
            return False
        self._announced[node] = key
        return True


def picture(image: Image, named: Named, answer: Answer) -> Image:
    """The frame with its answer drawn in, as the nodes draw it: RGB uint8 [H, W, 3]."""
    found, mask = named.found, np.asarray(answer.mask)
    if isinstance(found, SemanticResult):
        return label_overlay(image, mask.astype(np.uint8), found.labels.names())
    if named.ids is not None:
        return overlay(image, mask, found.detections.with_labels(tuple(f"{name}:" for name in named.ids)))
    return overlay(image, mask, found.detections)


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
