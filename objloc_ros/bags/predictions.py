"""What was predicted for a frame: made of a result in memory, or read from the recorded messages of a node."""

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

MAX_INCOMPLETE = 100
"""Greatest number of stamps for which one of two messages has been read; the oldest are dropped."""


@dataclass(frozen=True)
class Prediction:
    """What one method predicts for one frame.

    Args:
        boxes: float32 [n, 4], best first.
        scores: float32 [n].
        ids: Track of each object, the same from frame to frame; None where the method has no tracks.
        mask: Integers [H, W], non-zero on objects; with prompts their ids, 255 where no prompt fits. None if unknown.
        prompts: The prompt of each id; None for methods without prompts.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    ids: tuple[str, ...] | None = None
    mask: npt.NDArray[np.integer] | None = None
    prompts: Mapping[int, str] | None = None

    @classmethod
    def from_result(cls, result: HeadResult) -> Prediction:
        """Make the prediction of a method's result, at the size of its image."""
        boxes, scores, ids = result.detections.boxes, result.detections.scores, result.detections.ids
        return cls(boxes, scores, ids, result.label_map(), None if result.prompts is None else result.prompts.names())

    def foreground(self) -> npt.NDArray[np.bool_] | None:
        """Return the pixels of objects, bool [H, W]; None if they are unknown."""
        if self.mask is None:
            return None
        return np.asarray(self.mask != (0 if self.prompts is None else UNLABELLED))


def read_predictions(path: Path, node: str, *, has_prompts: bool = False) -> Iterator[tuple[int, Prediction]]:
    """Read the predictions of a node from a bag, in the order in which they are complete.

    A prediction is the detections of a stamp and, where the node's masks were recorded, the mask of the same stamp.

    Args:
        path: A bag that `objloc bag` has written, or a recording of the nodes.
        node: Full name of the node, `/front/found`.
        has_prompts: Whether the names in its LabelInfo are prompts, as those of `found` are not.

    Yields:
        The stamp of the frame, nanoseconds, and its prediction.

    Raises:
        InputError: The bag is damaged or has no detections of the node, or a prediction is invalid.
    """
    with BagReader(path) as bag:
        bag.require_topics([f"{node}/detections"])
        masks = [f"{node}/{name}" for name in ("mask", "instance_mask") if f"{node}/{name}" in bag.kinds]
        infos = [f"{node}/label_info"] if has_prompts and f"{node}/label_info" in bag.kinds else []
        prompts: Mapping[int, str] | None = None
        incomplete: dict[int, dict[str, Any]] = {}
        for message in bag.messages([f"{node}/detections", *masks, *infos]):
            contents = deserialize(bag, message.kind, message.data)
            if message.topic in infos:
                prompts = parse_label_info(contents)
                continue
            key = parse_key(message)
            parts = incomplete.setdefault(key, {})
            parts["detections" if message.topic.endswith("/detections") else "mask"] = contents
            if len(parts) == 1 + bool(masks):
                del incomplete[key]
                with locate_errors(node, key):
                    prediction = _parse_prediction(parts, prompts)
                yield key, prediction
            elif len(incomplete) > MAX_INCOMPLETE:
                del incomplete[next(iter(incomplete))]


def _parse_prediction(parts: Mapping[str, Any], prompts: Mapping[int, str] | None) -> Prediction:
    detections = parts["detections"].detections
    boxes = [parse_box(detection.bbox) for detection in detections]
    ids = tuple(detection.id for detection in detections)
    return Prediction(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([detection.results[0].hypothesis.score for detection in detections], np.float32),
        ids if all(ids) else None,
        decode_mask(parts["mask"]) if "mask" in parts else None,
        prompts,
    )
