"""How predictions for the frames of a camera agree with the truth: the same figures in lockstep and in real time.

Every frame counts that was answered and has truth; what a run has dropped is told by its coverage, not here. Of several
frames with one stamp, the first has the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol

import numpy as np

from objloc_ros.bags.predictions import Answer
from objloc_ros.bags.truth import BACKGROUND, Classes, FrameTruth, normalise_name
from objloc_ros.engine.frame_stats import VideoClock
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.tables import text_table
from objloc_ros.metrics import AveragePrecision, CorLoc, Flicker, Mean, MeanIoU, ScoredImage, Steadiness
from objloc_ros.metrics.base import VideoMetric
from objloc_ros.metrics.semantic import confusion_matrix
from objloc_ros.ops.regions import mask_iou
from objloc_ros.types import UNLABELLED

OTHER = "(other)"
"""Class of prompts that the truth has no class for."""


class FrameTruths(Protocol):
    """Truth by frame; `TopicTruth` and `FileTruth` are some."""

    classes: Classes | None

    def take(self, key: int) -> FrameTruth | None:
        """The truth of the frame with this stamp, nanoseconds; None if it has none, or was asked for before."""


class Scorer(VideoMetric):
    """The figures of one method on one camera; call `update` with its predictions in their order.

    Args:
        classes: Those of the truth's masks, if there are any.
        meant: The class of each prompt; a prompt that is not in it means the class of its own name.

    What stays in memory are the boxes of frames with truth, which average precision needs all together; masks do not.
    """

    def __init__(self, classes: Classes | None = None, meant: Mapping[str, str] | None = None) -> None:
        self._classes, self._meant = classes, dict(meant or {})
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self.answers = self.objects = self.judged = 0
        self._steadiness, self._flicker = Steadiness(), Flicker()
        self._corloc, self._precision = CorLoc(), AveragePrecision()
        self._boxes_known, self._lasting, self._named = True, True, True
        self._mask_iou = Mean()
        self._mean_iou = MeanIoU(0 if self._classes is None else len(self._classes.order) + 1)

    def update(self, answer: Answer, truth: FrameTruth | None) -> None:
        """Count the prediction for the next frame.

        Raises:
            InputError: A mask and its truth have different sizes.
        """
        self.answers += 1
        self.objects += len(answer.boxes)
        mask = answer.foreground()
        if mask is not None:
            self._flicker.update(mask)
        if truth is None:
            return
        self.judged += 1
        if truth.boxes is None:
            self._boxes_known = False
        elif self._boxes_known:
            self._update_boxes(answer, truth)
        if truth.foreground is not None and mask is not None:
            if mask.shape != truth.foreground.shape:
                raise InputError(f"the prediction has {_size(mask)} pixels, the truth {_size(truth.foreground)}")
            self._mask_iou.update(mask_iou(mask, truth.foreground))
        if truth.classes is not None and answer.mask is not None and answer.prompts is not None:
            self._mean_iou.update(self._count_pixels(answer, truth.classes))

    def start_video(self) -> None:
        """Tell that the camera's time has jumped: the next frame is of another video."""
        self._steadiness.start_video()
        self._flicker.start_video()

    def compute(self) -> dict[str, float]:
        """Return all figures that this truth allows; see docs/evaluation.md for what they mean."""
        figures: dict[str, float] = {}
        if self._flicker.pairs:
            figures["mask_flicker"] = self._flicker.compute()
        if self._boxes_known and self._precision.images:
            ap, steadiness = self._precision.compute(), self._steadiness.compute()
            figures["corloc"] = self._corloc.compute()
            figures |= {name: ap[name] for name in ("ap", "ap50", "ar100")}
            figures |= {name: steadiness[name] for name in ("recall", "precision")}
            if self._lasting:
                figures |= {name: steadiness[name] for name in ("flicker", *(["switches"] if self._named else []))}
        if self._mask_iou.values:
            figures["mask_iou"] = self._mask_iou.compute()
        if self._mean_iou.counts.any():
            ious = [iou for iou in self.per_class().values() if iou is not None]
            figures |= {"miou": float(np.mean(ious)), "accuracy": self._mean_iou.compute()["accuracy"]}
        return figures

    def per_class(self) -> dict[str, float | None]:
        """Return the IoU of each class of the truth; None for one that is neither in the truth nor predicted."""
        if self._classes is None or not self._mean_iou.counts.any():
            return {}
        return dict(zip(self._classes.order, self._mean_iou.compute()["per_class"], strict=False))

    def summary(self) -> dict[str, Any]:
        """Everything, for a report."""
        about: dict[str, Any] = {
            "answers": self.answers,
            "objects": self.objects,
            "frames_with_truth": self.judged,
            "metrics": self.compute(),
        }
        per_class = self.per_class()
        return about | ({"per_class": per_class} if per_class else {})

    def _update_boxes(self, answer: Answer, truth: FrameTruth) -> None:
        objects = truth.boxes or {}
        boxes = np.array(list(objects.values()), np.float64).reshape(-1, 4)
        if objects:  # frames without any object cannot be right or wrong about one
            self._corloc.update([answer.boxes[0].tolist() if len(answer.boxes) else None], [boxes])
        self._precision.update(ScoredImage(answer.boxes, answer.scores, boxes))
        self._lasting &= truth.tracked
        self._named &= answer.ids is not None
        if not truth.tracked:
            self._steadiness.start_video()
        self._steadiness.update(objects, answer.boxes, answer.ids)

    def _count_pixels(self, answer: Answer, truth: np.ndarray) -> np.ndarray:
        """Count pixels by true class and the class that the prompt there means; unlabelled ones are background."""
        if self._classes is None or answer.mask is None:
            raise InputError("class maps need names")
        order = self._classes.order
        places = {name: place for place, name in enumerate(order)}
        table: np.ndarray = np.zeros(256, np.int64)
        for number, prompt in (answer.prompts or {}).items():
            name = normalise_name(self._meant.get(prompt, prompt))
            table[number] = places.get(name, len(order))
        table[UNLABELLED] = places[BACKGROUND]
        return confusion_matrix(truth, table[answer.mask], len(order) + 1)


def score(answers: Iterable[tuple[int, Answer]], truths: FrameTruths | None, scorer: Scorer) -> dict[str, Any]:
    """Score answers that come by their frames' stamps, as from a recording of the nodes.

    Args:
        answers: Stamps in nanoseconds and answers, in their order.
        truths: The camera's truth, if there is any.
        scorer: A fresh one.

    Returns:
        The summary.
    """
    clock = VideoClock()
    for key, answer in answers:
        if clock.jumps_to(key):
            scorer.start_video()
        scorer.update(answer, None if truths is None else truths.take(key))
    return scorer.summary()


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
    """Make a table of a line per bag, camera and method, for people."""
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
    return text_table(cells, left=3)
