"""Answers to the frames of several cameras, with numbers for objects that last from frame to frame."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from objloc_ros.engine.discovery import METHODS as DISCOVERY
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult
from objloc_ros.engine.tracking import Tracker
from objloc_ros.evaluation.past import Past
from objloc_ros.types import Detections, Image, Size, size_of


class Follower:
    """Runs one method on frames that belong together, as the nodes do: discovery with a memory, names by a tracker.

    Objects of different prompts are tracked apart, so that none takes another's number where they overlap.

    Args:
        pipeline: What runs the method.
        method: Its name.
    """

    def __init__(self, pipeline: Pipeline, method: str) -> None:
        self._pipeline, self._method = pipeline, method
        self._followed = (method,) if method in DISCOVERY else ()
        self._cameras: dict[str, Past] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}

    def answer(self, image: Image, camera: str, stamp_ns: int | None) -> tuple[HeadResult, list[int]]:
        """Look at the next frame of a camera.

        Args:
            image: RGB uint8 [H, W, 3].
            camera: Whose frame it is.
            stamp_ns: When it was taken, in nanoseconds. Where time jumps, all that was known is forgotten: a bag that
                starts over, a camera that was away. None for frames without time, which follow one another.

        Returns:
            The method's result, and the number of each detection: 1, 2, ... over all cameras, never used again for
            another object.
        """
        past = self._cameras.setdefault(camera, Past(self._followed))
        if stamp_ns is not None:
            past.notice(stamp_ns)
        found: HeadResult = self._pipeline.follow(image, past.memories, (self._method,))[self._method]
        names = _names(past.trackers, found.detections, size_of(image))
        keys = [(camera, label, name) for label, name in zip(found.detections.labels, names, strict=True)]
        return found, [self._numbers.setdefault(key, len(self._numbers) + 1) for key in keys]


def _names(trackers: defaultdict[str, Tracker], detections: Detections, size: Size) -> list[str]:
    """The track of each detection; trackers of labels that are not in sight learn that, too."""
    labels = np.array(detections.labels, dtype=object)
    names = [""] * len(detections)
    for label in dict.fromkeys([*trackers, *detections.labels]):
        places = np.flatnonzero(labels == label)
        part = Detections(detections.boxes[places], detections.scores[places], (label,) * len(places))
        for place, name in zip(places, trackers[label].update(part, size), strict=True):
            names[place] = name
    return names
