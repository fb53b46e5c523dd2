"""Objects of a video that keep their ids from frame to frame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from objloc_ros.engine.box_tracker import BoxTracker
from objloc_ros.engine.config import DISCOVERY
from objloc_ros.engine.frame_stats import VideoClock
from objloc_ros.engine.results import HeadResult, Result
from objloc_ros.methods.options import PATCH_METHODS
from objloc_ros.options import Options, option
from objloc_ros.types import Image, Size

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline
    from objloc_ros.engine.temporal import Memory


@dataclass(frozen=True)
class VideoOptions(Options):
    """How discovery methods take the frames of a video together."""

    temporal: bool = option(
        True,
        "Keep objects from frame to frame, and hold a new one back for one frame; off, each frame stands alone, as it "
        "always does for detectors (`detector`, `rcnn`), but for the ids.",
    )
    max_objects: int | None = option(
        None,
        "Most objects in one frame; without `temporal`, only `maskcut` and detectors find more than one.",
        kind=int,
        low=1,
        high=20,
        unset="all",
    )
    min_score: float = option(
        0.0,
        "Least score: how much more an object's patches resemble each other than the rest, on average; of detectors "
        "their own, where 0 stands for their usual threshold.",
        low=0,
        high=1,
    )


class VideoTracker:
    """Runs methods on the frames of one camera, one after the other, and gives their objects ids that last.

    Ids are "1", "2", ... for each method, never used again for another object. Objects of different labels are tracked
    apart, so that none takes another's id where they overlap. Where the camera's time jumps, as where a bag starts over
    or a camera was away, another video begins: nothing of the earlier frames is known any more.

    Args:
        pipeline: What runs the methods.
        methods: Those to run; None for all of the pipeline.
        options: Of the discovery methods; None for the defaults.
        tracked: Methods whose detections get ids; None for all.

    Attributes:
        options: May be exchanged between two frames.
        tracked: Likewise; one that is tracked again begins with new ids.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        methods: Sequence[str] | None = None,
        options: VideoOptions | None = None,
        *,
        tracked: Collection[str] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._methods = tuple(pipeline.methods if methods is None else methods)
        self.options = VideoOptions() if options is None else options
        self.tracked = tracked
        self._clock = VideoClock()
        self._memories: dict[str, Memory] = {}
        self._trackers: defaultdict[str, BoxTracker] = defaultdict(BoxTracker)

    def __call__(self, image: Image, stamp_ns: int | None = None, *, key: Hashable | None = None) -> Result:
        """Run the methods on the next frame, in one pass of the backbone.

        Args:
            image: RGB uint8 [H, W, 3].
            stamp_ns: When it was taken, nanoseconds; None for a frame without time, which follows the one before.
            key: As in `Pipeline.run`.

        Raises:
            InputError: The image is empty or not RGB uint8.
            ParameterError: The pipeline has no such method.
        """
        if stamp_ns is not None and self._clock.jumps_to(stamp_ns):
            self.reset()
        remembering = [method for method in self._methods if method in PATCH_METHODS and self.options.temporal]
        self._memories = {
            method: self._memories[method] if method in self._memories else _begin_memory() for method in remembering
        }
        result = self._pipeline.run(image, self._methods, key=key, memories=self._memories)
        heads = {method: self._track(method, found, result.source) for method, found in result.heads.items()}
        return replace(result, heads=heads)

    def use(self, methods: Sequence[str]) -> None:
        """Run other methods from the next frame on.

        One that takes another's place begins without a memory, as what another method found is no guide to it, but goes
        on with the other's ids.
        """
        gone = [method for method in self._methods if method not in methods]
        new = [method for method in methods if method not in self._methods]
        for before, after in zip(gone, new, strict=False):
            self._trackers[after] = self._trackers.pop(before, BoxTracker())
        for method in gone[len(new) :]:
            self._trackers[method].forget()
        self._methods = tuple(methods)

    def reset(self) -> None:
        """Forget the video: the next frame is the first of another one, whose objects get new ids."""
        self._memories = {}
        for tracker in self._trackers.values():
            tracker.forget()

    def _track(self, method: str, found: HeadResult, source: Size) -> HeadResult:
        if method in DISCOVERY:
            count = len(found.detections) if self.options.max_objects is None else self.options.max_objects
            found = found.best(count, self.options.min_score)
        if self.tracked is not None and method not in self.tracked:
            self._trackers[method].forget()
            return found
        return found.with_ids(self._trackers[method].update(found.detections, source))


def _begin_memory() -> Memory:
    from objloc_ros.engine.temporal import Memory  # torch's; FOUND does without

    return Memory()
