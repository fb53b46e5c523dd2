"""Which truth belongs to which frame: by stamps that are equal, or nearly so."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError

Keys = npt.NDArray[np.int64]
"""Stamps in nanoseconds."""


@dataclass(frozen=True)
class Matches:
    """Pairs of a frame and its truth.

    Args:
        frames: Keys of frames with truth, ascending, int64 [n].
        truths: The key of each one's truth, int64 [n].
        alone: Frames without truth.
        unused: Truths without a frame.
    """

    frames: Keys
    truths: Keys
    alone: int
    unused: int

    def of_frame(self, frame: int) -> int | None:
        """The place of the pair with this frame; None if the frame has no truth."""
        return _place(self.frames, frame)

    def of_truth(self, truth: int) -> int | None:
        """The place of the pair with this truth; None if no frame has it. Pairs are in the order of both."""
        return _place(self.truths, truth)

    def counts(self) -> dict[str, int]:
        """Stamps with both, without truth, and without a frame."""
        return {"matched": len(self.frames), "frames_without_truth": self.alone, "truth_without_frame": self.unused}


def match(frames: Keys, truths: Keys, slop_ns: int = 0, *, what: str = "the truth") -> Matches:
    """Pair frames with truth: each with its nearest, if that has no nearer frame, and if they are near enough.

    Args:
        frames: Different keys, ascending.
        truths: Different keys, ascending.
        slop_ns: Greatest difference, nanoseconds.
        what: The truth's name for messages.

    Raises:
        InputError: There is not a single pair.
    """
    if not len(frames) or not len(truths):
        raise InputError(f"{what} holds {len(truths)} stamps of truth for {len(frames)} frames: nothing to compare")
    nearest = _nearest(truths, frames)
    mutual = _nearest(frames, truths)[nearest] == np.arange(len(frames))
    distance = np.abs(truths[nearest] - frames)
    kept = mutual & (distance <= slop_ns)
    if not kept.any():
        raise InputError(
            f"{what} has {len(truths)} stamps, but none is within {slop_ns / 1e6:g} ms of one of the {len(frames)} "
            f"frames' stamps; the nearest is {int(distance.min()) / 1e6:g} ms away"
        )
    matched = int(kept.sum())
    return Matches(frames[kept], truths[nearest[kept]], len(frames) - matched, len(truths) - matched)


def _place(keys: Keys, wanted: int) -> int | None:
    place = int(np.searchsorted(keys, wanted))
    return place if place < len(keys) and keys[place] == wanted else None


def _nearest(values: Keys, wanted: Keys) -> npt.NDArray[np.intp]:
    """Place of the nearest of ascending `values` for each wanted one, of two equally near ones the earlier."""
    most = len(values) - 1
    right = np.clip(np.searchsorted(values, wanted), min(1, most), most)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(wanted - values[left]) <= np.abs(values[right] - wanted), left, right)
