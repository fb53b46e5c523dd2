"""Names for objects that stay the same from frame to frame, by motpy: Kalman filters on boxes, matched by IoU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from motpy import Detection, MultiObjectTracker
from motpy.tracker import IOUAndFeatureMatchingFunction

from objloc_ros.types import Detections, Size

UNIT = 1000.0
"""Boxes are tracked in thousandths of the image's longer side, so that the filters' noise suits any size."""

PATIENCE = 10
"""Frames for which a track outlives its last detection."""

MOTION = {
    "order_pos": 1,
    "dim_pos": 2,
    "order_size": 0,
    "dim_size": 2,
    "q_var_pos": 300.0,
    "q_var_size": 100.0,
    "r_var_pos": 30.0,
    "r_var_size": 30.0,
}
"""Constant velocity, constant size; variances in squared units (and per frame): patches are about 30 units wide."""

MIN_IOU = 0.2
"""Least overlap of a detection with a track's predicted box."""


class Tracker:
    """Tracks the objects of one camera; call `update` with every frame in turn."""

    def __init__(self) -> None:
        self._count = 0
        self.forget()

    def forget(self) -> None:
        """End all tracks: the next frame is the first of another video."""
        self._matching = _Recorder(min_iou=MIN_IOU)
        self._tracker = MultiObjectTracker(
            dt=1.0,
            model_spec=dict(MOTION),
            matching_fn=self._matching,
            tracker_kwargs={"max_staleness": PATIENCE},
        )
        self._numbers: dict[str, str] = {}

    def update(self, detections: Detections, size: Size) -> tuple[str, ...]:
        """Name the detections of the next frame.

        Args:
            detections: Boxes in pixels.
            size: Height and width of the image.

        Returns:
            One id per detection, "1", "2", ...: the same as in earlier frames for the same object, and never used again
            for another.
        """
        scale = UNIT / max(size)
        boxes = detections.boxes.astype(np.float64) * scale
        known = {track.id for track in self._tracker.trackers}
        self._tracker.step(
            [Detection(box=box, score=float(s)) for box, s in zip(boxes, detections.scores, strict=True)]
        )
        fresh = iter(track.id for track in self._tracker.trackers if track.id not in known)
        ids = [self._matching.track_of.get(i) or next(fresh) for i in range(len(boxes))]
        alive = {track.id for track in self._tracker.trackers}
        names = tuple(self._name(track) for track in ids)
        self._numbers = {track: name for track, name in self._numbers.items() if track in alive}
        return names

    def _name(self, track: str) -> str:
        if track not in self._numbers:
            self._count += 1
            self._numbers[track] = str(self._count)
        return self._numbers[track]


class _Recorder(IOUAndFeatureMatchingFunction):
    """motpy's matching, which remembers the track of each detection: motpy itself does not tell."""

    def __call__(self, trackers: list, detections: list) -> npt.NDArray[np.int64]:
        pairs = super().__call__(trackers, detections)
        self.track_of = {int(detection): trackers[int(track)].id for track, detection in pairs}
        return pairs
