"""The methods on the frames of one camera, as its nodes would answer them: with memory, ids, and an end to both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from objloc_ros.engine.discovery import METHODS as DISCOVERY
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, InstanceResult, Result
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.past import Past
from objloc_ros.types import Image


@dataclass(frozen=True)
class FollowOptions:
    """Parameters of the `discovery` node that are none of its methods'.

    Args:
        temporal: Keep objects from frame to frame.
        max_objects: Most objects in one frame.
        min_score: Least score.

    Raises:
        ParameterError: A value is out of the node's range.
    """

    temporal: bool = True
    max_objects: int = 3
    min_score: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_objects <= 20:
            raise ParameterError(f"max_objects must lie in [1, 20], got {self.max_objects}")
        if not 0 <= self.min_score <= 1:
            raise ParameterError(f"min_score must lie in [0, 1], got {self.min_score}")


class Named(NamedTuple):
    """A method's answer to one frame, with the ids of its objects where the method gives some."""

    found: HeadResult
    ids: tuple[str, ...] | None


class Follower:
    """Answers the frames of one camera, one after the other.

    Args:
        methods: All that will be asked for; discovery methods are followed.
        options: As those of the node.
    """

    def __init__(self, methods: Sequence[str], options: FollowOptions) -> None:
        self._options = options
        self._past = Past([method for method in methods if method in DISCOVERY] if options.temporal else ())

    def notice(self, key: int) -> bool:
        """Tell the stamp of the next frame, nanoseconds.

        Returns:
            Whether time has jumped, and everything is forgotten.
        """
        return self._past.notice(key)

    def run(self, pipeline: Pipeline, image: Image, methods: Sequence[str]) -> Result:
        """Run methods on the next frame, in one pass of the backbone."""
        memories = {method: memory for method, memory in self._past.memories.items() if method in methods}
        return pipeline.follow(image, memories, methods)

    def named(self, result: Result, method: str) -> Named:
        """One method's answer as its node would give it; ask once for each frame."""
        found = result[method]
        if not isinstance(found, InstanceResult):
            return Named(found, None)
        found = found.best(self._options.max_objects, self._options.min_score)
        return Named(found, self._past.trackers[method].update(found.detections, result.source))
