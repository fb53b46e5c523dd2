"""How predictions agree with the truth, and with themselves, over the frames of a video."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from objloc_ros.metrics.base import VideoMetric
from objloc_ros.ops.boxes import Boxes, iou
from objloc_ros.ops.regions import mask_iou

HIT_IOU = 0.5
"""IoU from which on a box is an object's."""


@dataclass
class Steadiness(VideoMetric):
    """Counts over the frames of videos, added one by one.

    Args:
        seen: Objects visible, frame by frame.
        found: Those that some box overlaps by an IoU of one half.
        boxes: Boxes that were reported.
        right: Those that overlap some object by as much.
        pairs: Objects visible in two consecutive frames.
        flickers: Those that were found in one of the two only.
        switches: Times that an object was found under another id than before.
    """

    seen: int = 0
    found: int = 0
    boxes: int = 0
    right: int = 0
    pairs: int = 0
    flickers: int = 0
    switches: int = 0
    _was_found: dict[Hashable, bool] = field(default_factory=dict, repr=False)
    _was_called: dict[Hashable, str] = field(default_factory=dict, repr=False)

    def update(self, truth: Mapping[Hashable, Sequence[float]], boxes: Boxes, ids: Sequence[str] | None = None) -> None:
        """Count the next frame.

        Args:
            truth: The box (x1, y1, x2, y2) of each visible object, by an identity that lasts from frame to frame.
            boxes: What was reported, [n, 4].
            ids: The name of each reported box; None counts no switches.
        """
        overlaps = iou(boxes, np.array(list(truth.values()), np.float64).reshape(-1, 4))
        self.boxes += len(boxes)
        self.right += int((overlaps.max(1, initial=0) >= HIT_IOU).sum())
        hits = match_boxes(truth, boxes)
        self.seen += len(truth)
        self.found += len(hits)
        again = [name for name in truth if name in self._was_found]
        self.pairs += len(again)
        self.flickers += sum((name in hits) != self._was_found[name] for name in again)
        self._was_found = {name: name in hits for name in truth}
        if ids is not None:
            called = {name: ids[place] for name, place in hits.items()}
            self.switches += sum(self._was_called.get(name, now) != now for name, now in called.items())
            self._was_called |= called

    def compute(self) -> dict[str, float]:
        """Return the fractions "recall", "precision" and "flicker", and "switches" per 100 objects found."""
        return {
            "recall": self.found / max(self.seen, 1),
            "precision": self.right / max(self.boxes, 1),
            "flicker": self.flickers / max(self.pairs, 1),
            "switches": 100 * self.switches / max(self.found, 1),
        }

    def reset(self) -> None:
        """Forget all frames."""
        self.seen = self.found = self.boxes = self.right = self.pairs = self.flickers = self.switches = 0
        self.start_video()

    def start_video(self) -> None:
        """Tell that the next frame is the first of another video: its objects are others, whatever they are called."""
        self._was_found, self._was_called = {}, {}


def match_boxes(truth: Mapping[Hashable, Sequence[float]], boxes: Boxes) -> dict[Hashable, int]:
    """Return the place of the best box of each object that some box overlaps by an IoU of one half.

    Args:
        truth: The box (x1, y1, x2, y2) of each object, by its identity.
        boxes: What was reported, [n, 4].
    """
    if not len(boxes):
        return {}
    overlaps = iou(boxes, np.array(list(truth.values()), np.float64).reshape(-1, 4))
    best = {name: int(overlaps[:, j].argmax()) for j, name in enumerate(truth)}
    return {name: place for j, (name, place) in enumerate(best.items()) if overlaps[place, j] >= HIT_IOU}


@dataclass
class Flicker(VideoMetric):
    """How much a mask changes from frame to frame, without any truth; motion counts as change, too.

    Args:
        total: Sum over pairs of consecutive masks of 1 - IoU.
        pairs: Their number. A mask of another size begins anew.
    """

    total: float = 0.0
    pairs: int = 0
    _last: npt.NDArray[np.bool_] | None = field(default=None, repr=False)

    def update(self, mask: npt.NDArray[np.bool_]) -> None:
        """Count the next mask, bool [H, W]; two empty ones in a row agree."""
        if self._last is not None and self._last.shape == mask.shape:
            self.total += 1 - mask_iou(self._last, mask)
            self.pairs += 1
        self._last = mask

    def compute(self) -> float:
        """Return the mean of 1 - IoU, in [0, 1]; 0 without pairs."""
        return self.total / max(self.pairs, 1)

    def reset(self) -> None:
        """Forget all masks."""
        self.total, self.pairs, self._last = 0.0, 0, None

    def start_video(self) -> None:
        """Tell that the next mask is the first of another video."""
        self._last = None
