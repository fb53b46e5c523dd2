"""What was predicted for a frame, wherever it comes from: a result in memory, or the messages of a recorded node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import key_of
from objloc_ros.bags.truth import corners_of, mask_of, named
from objloc_ros.bags.writer import decoded
from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, InstanceResult, Result, SemanticResult
from objloc_ros.engine.temporal import Past
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.messages import names_of
from objloc_ros.types import UNLABELLED, Image

WAITING = 100
"""Stamps for which one of two messages has come and the other has not, at most; older ones are given up."""


@dataclass(frozen=True)
class Answer:
    """One method's answer to one frame.

    Args:
        boxes: float32 [n, 4], best first.
        scores: float32 [n].
        ids: Names that objects keep from frame to frame; None where the method gives none.
        mask: Integers [H, W], non-zero on objects; with prompts their ids, 255 where none fits. None if not known.
        prompts: The prompt of each id; None for methods without.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    ids: tuple[str, ...] | None = None
    mask: npt.NDArray[np.integer] | None = None
    prompts: Mapping[int, str] | None = None

    def foreground(self) -> npt.NDArray[np.bool_] | None:
        """The pixels of objects, bool [H, W]."""
        if self.mask is None:
            return None
        return np.asarray(self.mask != (0 if self.prompts is None else UNLABELLED))


def answer_of(found: HeadResult, ids: Sequence[str] | None = None) -> Answer:
    """The answer that a result is, at the size of its image."""
    detections = found.detections
    names = None if ids is None else tuple(ids)
    if isinstance(found, SemanticResult):
        return Answer(detections.boxes, detections.scores, names, found.classes_u8(), found.labels.names())
    mask = found.instances_u16() if isinstance(found, InstanceResult) else found.mask_u8()
    return Answer(detections.boxes, detections.scores, names, mask)


def read_answers(path: Path, node: str) -> Iterator[tuple[int, Answer]]:
    """Read the answers of a node from a bag, in the order in which they are complete.

    An answer is the detections of a stamp and, where the node's masks were recorded, the mask of the same stamp.

    Args:
        path: A bag that `objloc bag` has written, or a recording of the nodes.
        node: Full name of the node, `/front/found`.

    Yields:
        The stamp that the answer is for, nanoseconds, and the answer.

    Raises:
        InputError: The bag is damaged or has no detections of the node, or an answer is none.
    """
    with BagReader(path) as bag:
        bag.need([f"{node}/detections"])
        masks = [f"{node}/{name}" for name in ("mask", "instance_mask") if f"{node}/{name}" in bag.kinds]
        infos = [f"{node}/label_info"] if f"{node}/label_info" in bag.kinds else []
        prompts: Mapping[int, str] | None = None
        waiting: dict[int, dict[str, Any]] = {}
        for message in bag.messages([f"{node}/detections", *masks, *infos]):
            content = decoded(bag, message.kind, message.data)
            if message.topic in infos:
                prompts = names_of(content)
                continue
            key = key_of(message)
            parts = waiting.setdefault(key, {})
            parts["detections" if message.topic.endswith("/detections") else "mask"] = content
            if len(parts) == 1 + bool(masks):
                del waiting[key]
                with named(node, key):
                    answer = _answer(parts, prompts)
                yield key, answer
            elif len(waiting) > WAITING:
                del waiting[next(iter(waiting))]


def _answer(parts: Mapping[str, Any], prompts: Mapping[int, str] | None) -> Answer:
    detections = parts["detections"].detections
    rows = [corners_of(one.bbox) for one in detections]
    names = tuple(one.id for one in detections)
    return Answer(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array([one.results[0].hypothesis.score for one in detections], np.float32),
        names if all(names) else None,
        mask_of(parts["mask"]) if "mask" in parts else None,
        prompts,
    )


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
