"""Videos whose objects are written in their pixels, and a pipeline that reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from objloc_ros.engine.results import HeadResult, Result
from objloc_ros.engine.temporal import Memory
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import Detections, Image, size_of

LABELS = ("dog", "cat")


def image(*objects: tuple[int, int, int]) -> Image:
    """Write objects (x, y, number of a label from 1 on): RGB uint8 [100, 100, 3]."""
    rgb = np.zeros((100, 100, 3), np.uint8)
    for x, y, label in objects:
        rgb[y, x, 0] = label
    return rgb


class ReadingPipeline:
    """Finds what is written: boxes of 20 pixels, the upper ones first, each less sure than the one before.

    `memories` are those that the latest run was given.
    """

    methods = ("found", "lost")

    def __init__(self) -> None:
        self.memories: Mapping[str, Memory] = {}

    def run(self, image: Image, methods: Sequence[str], *, key: object, memories: Mapping[str, Memory]) -> Result:
        self.memories = dict(memories)
        y, x = image[..., 0].nonzero()
        boxes = np.stack([x, y, x + 20, y + 20], axis=1).astype(np.float32)
        labels = tuple(LABELS[image[j, i, 0] - 1] for j, i in zip(y, x, strict=True))
        detections = Detections(boxes, np.linspace(0.9, 0.5, len(y), dtype=np.float32), labels)
        size = size_of(image)
        found = HeadResult(detections, Geometry(size, size, size, 1), np.zeros(size, bool))
        return Result(size, dict.fromkeys(methods, found))
