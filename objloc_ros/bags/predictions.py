"""What was predicted for a frame, wherever it comes from: a result in memory, or the messages of a recorded node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.bags.reader import BagReader, deserialize
from objloc_ros.bags.survey import parse_key
from objloc_ros.bags.truth import decode_mask, locate_errors, parse_box
from objloc_ros.engine.results import HeadResult
from objloc_ros.nodes.messages import parse_label_info
from objloc_ros.types import UNLABELLED

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


def answer_of(found: HeadResult) -> Answer:
    """The answer that a result is, at the size of its image."""
    boxes, scores, ids = found.detections.boxes, found.detections.scores, found.detections.ids
    return Answer(boxes, scores, ids, found.label_map(), None if found.prompts is None else found.prompts.names())


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
        bag.require_topics([f"{node}/detections"])
        masks = [f"{node}/{name}" for name in ("mask", "instance_mask") if f"{node}/{name}" in bag.kinds]
        infos = [f"{node}/label_info"] if f"{node}/label_info" in bag.kinds else []
        prompts: Mapping[int, str] | None = None
        waiting: dict[int, dict[str, Any]] = {}
        for message in bag.messages([f"{node}/detections", *masks, *infos]):
            content = deserialize(bag, message.kind, message.data)
            if message.topic in infos:
                prompts = parse_label_info(content)
                continue
            key = parse_key(message)
            parts = waiting.setdefault(key, {})
            parts["detections" if message.topic.endswith("/detections") else "mask"] = content
            if len(parts) == 1 + bool(masks):
                del waiting[key]
                with locate_errors(node, key):
                    answer = _answer(parts, prompts)
                yield key, answer
            elif len(waiting) > WAITING:
                del waiting[next(iter(waiting))]


def _answer(parts: Mapping[str, Any], prompts: Mapping[int, str] | None) -> Answer:
    detections = parts["detections"].detections
    rows = [parse_box(one.bbox) for one in detections]
    names = tuple(one.id for one in detections)
    return Answer(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array([one.results[0].hypothesis.score for one in detections], np.float32),
        names if all(names) else None,
        decode_mask(parts["mask"]) if "mask" in parts else None,
        prompts,
    )
