"""How predictions for the frames of a camera agree with the truth: the same figures in lockstep and in real time.

Every frame counts that was answered and has truth; what a run has dropped is told by its coverage, not here. Of several
frames with one stamp, the first has the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from objloc_ros.bags.predictions import Answer
from objloc_ros.bags.truth import BACKGROUND, Classes, FrameTruth, plain_name
from objloc_ros.engine.frame_stats import continues
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.metrics import CorLoc, Scored, coco_metrics, is_hit, semantic
from objloc_ros.metrics.steadiness import Flicker, Steadiness
from objloc_ros.types import UNLABELLED

OTHER = "(other)"
"""Class of prompts that the truth has no class for."""


class FrameTruths(Protocol):
    """Truth by frame; `TopicTruth` and `FileTruth` are some."""

    classes: Classes | None

    def at(self, key: int) -> FrameTruth | None:
        """The truth of the frame with this stamp, nanoseconds; None if it has none, or was asked for before."""


class Scorer:
    """The figures of one method on one camera; call `add` with its answers in their order.

    Args:
        classes: Those of the truth's masks, if there are any.
        meant: The class of each prompt; a prompt that is not in it means the class of its own name.

    What stays in memory are the boxes of frames with truth, which average precision needs all together; masks do not.
    """

    def __init__(self, classes: Classes | None = None, meant: Mapping[str, str] | None = None) -> None:
        self.answers = self.objects = self.judged = 0
        self._classes, self._meant = classes, dict(meant or {})
        self._steadiness, self._flicker = Steadiness(), Flicker()
        self._corloc, self._scored = CorLoc(0, 0), list[Scored]()
        self._boxes_known, self._lasting, self._named = True, True, True
        self._mask_ious: list[float] = []
        size = 0 if classes is None else len(classes.order) + 1
        self._confusion = np.zeros((size, size), np.int64)

    def add(self, answer: Answer, truth: FrameTruth | None) -> None:
        """Count the answer to the next frame.

        Raises:
            InputError: A mask and its truth have different sizes.
        """
        self.answers += 1
        self.objects += len(answer.boxes)
        mask = answer.foreground()
        if mask is not None:
            self._flicker.add(mask)
        if truth is None:
            return
        self.judged += 1
        if truth.objects is None:
            self._boxes_known = False
        elif self._boxes_known:
            self._add_boxes(answer, truth)
        if truth.foreground is not None and mask is not None:
            self._mask_ious.append(_mask_iou(mask, truth.foreground))
        if truth.classes is not None and answer.mask is not None and answer.prompts is not None:
            self._confusion += self._compared(answer, truth.classes)

    def cut(self) -> None:
        """The camera's time has jumped: the next frame is of another video."""
        self._steadiness.cut()
        self._flicker.cut()

    def metrics(self) -> dict[str, float]:
        """All figures that this truth allows; see docs/evaluation.md for what they mean."""
        figures: dict[str, float] = {}
        if self._flicker.pairs:
            figures["mask_flicker"] = self._flicker.mean
        if self._boxes_known and self._scored:
            ap = coco_metrics(self._scored)
            steady = self._steadiness.figures()
            figures |= {"corloc": self._corloc.fraction, "ap": ap["ap"], "ap50": ap["ap50"], "ar100": ap["ar"]}
            figures |= {"recall": steady["recall"], "precision": steady["precision"]}
            if self._lasting:
                figures["flicker"] = steady["flicker"]
                figures |= {"switches": steady["switches"]} if self._named else {}
        if self._mask_ious:
            figures["mask_iou"] = float(np.mean(self._mask_ious))
        if self._confusion.any():
            each = [value for value in self.per_class().values() if value is not None]
            counted = self._confusion.sum()
            figures |= {"miou": float(np.mean(each)), "accuracy": float(np.trace(self._confusion) / counted)}
        return figures

    def per_class(self) -> dict[str, float | None]:
        """IoU of each class of the truth; None for one that is neither in the truth nor in the answers."""
        if self._classes is None or not self._confusion.any():
            return {}
        found = semantic.summarise(self._confusion)["per_class"]
        return dict(zip(self._classes.order, found, strict=False))

    def summary(self) -> dict[str, Any]:
        """Everything, for a report."""
        about: dict[str, Any] = {
            "answers": self.answers,
            "objects": self.objects,
            "frames_with_truth": self.judged,
            "metrics": self.metrics(),
        }
        per_class = self.per_class()
        return about | ({"per_class": per_class} if per_class else {})

    def _add_boxes(self, answer: Answer, truth: FrameTruth) -> None:
        objects = truth.objects or {}
        boxes = np.array(list(objects.values()), np.float64).reshape(-1, 4)
        if objects:  # frames without any object cannot be right or wrong about one
            best = answer.boxes[0].tolist() if len(answer.boxes) else None
            self._corloc += CorLoc(int(is_hit(best, boxes)), 1)
        self._scored.append(Scored(answer.boxes, answer.scores, boxes))
        self._lasting &= truth.lasting
        self._named &= answer.ids is not None
        if not truth.lasting:
            self._steadiness.cut()
        self._steadiness.add(objects, answer.boxes, answer.ids)

    def _compared(self, answer: Answer, truth: np.ndarray) -> np.ndarray:
        """Pixels by true class and by the class that the prompt there means; unlabelled ones are the background."""
        if self._classes is None or answer.mask is None:
            raise InputError("class maps need names")
        order = self._classes.order
        places = {name: place for place, name in enumerate(order)}
        table: np.ndarray = np.zeros(256, np.int64)
        for number, prompt in (answer.prompts or {}).items():
            name = plain_name(self._meant.get(prompt, prompt))
            table[number] = places.get(name, len(order))
        table[UNLABELLED] = places[BACKGROUND]
        return semantic.confusion(truth, table[answer.mask], len(order) + 1)


def score(answers: Iterable[tuple[int, Answer]], truths: FrameTruths | None, scorer: Scorer) -> dict[str, Any]:
    """Score answers that come by their frames' stamps, as from a recording of the nodes.

    Args:
        answers: Stamps in nanoseconds and answers, in their order.
        truths: The camera's truth, if there is any.
        scorer: A fresh one.

    Returns:
        The summary.
    """
    before: int | None = None
    for key, answer in answers:
        if before is not None and not continues(before, key):
            scorer.cut()
        before = key
        scorer.add(answer, None if truths is None else truths.at(key))
    return scorer.summary()


def _mask_iou(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union; 1 where both are empty."""
    if mask.shape != truth.shape:
        raise InputError(f"the answer has {_size(mask)} pixels, the truth {_size(truth)}")
    union = np.count_nonzero(mask | truth)
    return np.count_nonzero(mask & truth) / union if union else 1.0


def _size(mask: np.ndarray) -> str:
    return "x".join(str(side) for side in mask.shape[1::-1])


FORMAT = "objloc_ros bag 1"

Mode = Literal["lockstep", "realtime"]
Report = Mapping[str, Any]

LEADING = (
    *("coverage", "age_ms_p50", "age_ms_p95", "age_ms_p99"),
    *("corloc", "ap50", "ar100", "recall", "precision", "mask_iou", "miou", "flicker", "switches", "mask_flicker"),
)
"""Metrics in the printed table, in this order."""


def frames_of(received: int, processed: int, dropped: Mapping[str, int], late: int, **more: float) -> dict[str, Any]:
    """The coverage of a camera: received = processed + dropped."""
    causes = {cause: dropped[cause] for cause in sorted(dropped)}
    return {"in": received, "processed": processed, "dropped": causes, "late": late, **more}


def report_of(mode: Mode, bag: str, cameras: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one bag.

    Args:
        mode: How the frames went through the methods.
        bag: The bag's name, without folders.
        cameras: For each topic "frames" (`frames_of`), "truth" (where there is some) and "methods", a
            `Scorer.summary()` by the name of each row; where rows differ in their coverage, each has "frames", too.
        settings: All that the numbers depend on.
    """
    return {"format": FORMAT, "mode": mode, "bag": bag, "cameras": dict(cameras), "settings": dict(settings)}


def measured(reports: Iterable[Report]) -> dict[str, list[tuple[str, float]]]:
    """Every value of each metric, with the name of what it was measured on."""
    found: dict[str, list[tuple[str, float]]] = {}
    for report in reports:
        where = " in real time" if report["mode"] == "realtime" else ""
        for camera, about in report["cameras"].items():
            for name, row in about["methods"].items():
                for metric, value in row["metrics"].items():
                    found.setdefault(metric, []).append((f"{name} on {camera} of {report['bag']}{where}", value))
    return found


def broken_limits(reports: Iterable[Report], least: Mapping[str, float], most: Mapping[str, float]) -> list[str]:
    """Say which metrics are below or above their limits, on any camera and for any method that has them.

    Raises:
        ParameterError: A limit is for a metric that was not measured at all.
    """
    values = measured(reports)
    if unknown := sorted({*least, *most} - set(values)):
        raise ParameterError(f"there is no metric {', '.join(unknown)}; there are {', '.join(values) or 'none'}")
    low = [(m, v, w, f"below {b:g}") for m, b in least.items() for w, v in values[m] if v < b]
    high = [(m, v, w, f"above {b:g}") for m, b in most.items() for w, v in values[m] if v > b]
    return [f"{metric} of {what} is {value:.4f}, {how}" for metric, value, what, how in low + high]


def table(reports: Iterable[Report]) -> str:
    """A line per bag, camera and method, for people."""
    rows = []
    for report in reports:
        for camera, about in report["cameras"].items():
            for name, row in about["methods"].items():
                frames = row.get("frames", about["frames"])
                first = [report["bag"], camera, name, f"{frames['processed']}/{frames['in']}"]
                rows.append((first, row["metrics"]))
    names = [metric for metric in LEADING if any(metric in metrics for _, metrics in rows)]
    cells = [["bag", "camera", "method", "frames", *names]]
    for first, metrics in rows:
        cells.append([*first, *(f"{metrics[m]:.3f}" if m in metrics else "" for m in names)])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: list[str], widths: list[int]) -> str:
    """Names to the left, numbers to the right."""
    padded = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()
