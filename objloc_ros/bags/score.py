"""How predictions for the frames of a camera agree with the truth: the same metrics in lockstep and in real time.

Every frame counts that has a prediction and truth; the coverage says which frames were dropped. Of several frames with
one stamp, the first has the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from objloc_ros.bags.predictions import Prediction
from objloc_ros.bags.settings import Pace
from objloc_ros.bags.truth import BACKGROUND, Classes, FrameTruth, normalise_name
from objloc_ros.engine.frame_stats import VideoClock
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.tables import text_table
from objloc_ros.metrics import AveragePrecision, CorLoc, Flicker, Mean, MeanIoU, ScoredImage, Steadiness
from objloc_ros.metrics.base import VideoMetric
from objloc_ros.metrics.semantic import confusion_matrix
from objloc_ros.ops.regions import mask_iou
from objloc_ros.types import UNLABELLED

FORMAT = "objloc_ros bag 1"
"""Of the report."""

LEADING_METRICS = (
    *("coverage", "age_ms_p50", "age_ms_p95", "age_ms_p99"),
    *("corloc", "ap50", "ar100", "recall", "precision", "mask_iou", "miou", "flicker", "switches", "mask_flicker"),
)
"""Metrics in the printed table, in this order."""

Report = Mapping[str, Any]


class FrameTruths(Protocol):
    """The truth of a camera's frames, such as `TopicTruth` and `FileTruth`."""

    classes: Classes | None

    def take(self, key: int) -> FrameTruth | None:
        """Take the truth of the frame with this stamp, nanoseconds; None if it has no truth or it was taken before."""


class Scorer(VideoMetric):
    """The metrics of one method on one camera; call `update` with its predictions in their order.

    Args:
        classes: Those of the truth's masks, if there are any.
        class_names: The class that each prompt means; other prompts mean the class of their own name.

    The boxes of frames with truth stay in memory, because average precision needs all of them; masks do not.
    """

    def __init__(self, classes: Classes | None = None, class_names: Mapping[str, str] | None = None) -> None:
        self._classes, self._class_names = classes, dict(class_names or {})
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self.predictions = self.objects = self.frames_with_truth = 0
        self._steadiness, self._flicker = Steadiness(), Flicker()
        self._corloc, self._precision = CorLoc(), AveragePrecision()
        self._boxes_known, self._tracked, self._has_ids = True, True, True
        self._mask_iou = Mean()
        self._mean_iou = MeanIoU(0 if self._classes is None else len(self._classes.order) + 1)

    def update(self, prediction: Prediction, truth: FrameTruth | None) -> None:
        """Count the prediction for the next frame.

        Raises:
            InputError: A mask and its truth have different sizes.
        """
        self.predictions += 1
        self.objects += len(prediction.boxes)
        mask = prediction.foreground()
        if mask is not None:
            self._flicker.update(mask)
        if truth is None:
            return
        self.frames_with_truth += 1
        if truth.boxes is None:
            self._boxes_known = False
        elif self._boxes_known:
            self._update_boxes(prediction, truth)
        if truth.foreground is not None and mask is not None:
            if mask.shape != truth.foreground.shape:
                raise InputError(
                    f"the prediction has {_format_size(mask)} pixels, the truth {_format_size(truth.foreground)}"
                )
            self._mask_iou.update(mask_iou(mask, truth.foreground))
        if truth.classes is not None and prediction.mask is not None and prediction.prompts is not None:
            self._mean_iou.update(self._count_pixels(prediction, truth.classes))

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
            if self._tracked:
                figures |= {name: steadiness[name] for name in ("flicker", *(["switches"] if self._has_ids else []))}
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
        """Return counts and metrics for a report."""
        about: dict[str, Any] = {
            "answers": self.predictions,
            "objects": self.objects,
            "frames_with_truth": self.frames_with_truth,
            "metrics": self.compute(),
        }
        per_class = self.per_class()
        return about | ({"per_class": per_class} if per_class else {})

    def _update_boxes(self, prediction: Prediction, truth: FrameTruth) -> None:
        objects = truth.boxes or {}
        boxes = np.array(list(objects.values()), np.float64).reshape(-1, 4)
        if objects:  # frames without any object cannot be right or wrong about one
            self._corloc.update([prediction.boxes[0].tolist() if len(prediction.boxes) else None], [boxes])
        self._precision.update(ScoredImage(prediction.boxes, prediction.scores, boxes))
        self._tracked &= truth.tracked
        self._has_ids &= prediction.ids is not None
        if not truth.tracked:
            self._steadiness.start_video()
        self._steadiness.update(objects, prediction.boxes, prediction.ids)

    def _count_pixels(self, prediction: Prediction, truth: np.ndarray) -> np.ndarray:
        """Count pixels by true class and the class that the prompt there means; unlabelled ones are background."""
        if self._classes is None or prediction.mask is None:
            raise InputError("class maps need names")
        order = self._classes.order
        indices = {name: index for index, name in enumerate(order)}
        table: np.ndarray = np.zeros(256, np.int64)
        for number, prompt in (prediction.prompts or {}).items():
            name = normalise_name(self._class_names.get(prompt, prompt))
            table[number] = indices.get(name, len(order))  # the last row is for other classes
        table[UNLABELLED] = indices[BACKGROUND]
        return confusion_matrix(truth, table[prediction.mask], len(order) + 1)


def score_predictions(
    predictions: Iterable[tuple[int, Prediction]], truths: FrameTruths | None, scorer: Scorer
) -> dict[str, Any]:
    """Score predictions that come with the stamps of their frames, as from a recording of the nodes.

    Args:
        predictions: Stamps in nanoseconds and predictions, in their order.
        truths: The camera's truth, if there is any.
        scorer: A fresh one.

    Returns:
        The scorer's summary.
    """
    clock = VideoClock()
    for key, prediction in predictions:
        if clock.jumps_to(key):
            scorer.start_video()
        scorer.update(prediction, None if truths is None else truths.take(key))
    return scorer.summary()


def _format_size(mask: np.ndarray) -> str:
    return "x".join(str(side) for side in mask.shape[1::-1])


def make_coverage(
    received: int, processed: int, dropped: Mapping[str, int], late: int, **more: float
) -> dict[str, Any]:
    """Make the coverage of a camera, in which received = processed + dropped."""
    causes = {cause: dropped[cause] for cause in sorted(dropped)}
    return {"in": received, "processed": processed, "dropped": causes, "late": late, **more}


def make_report(pace: Pace, bag: str, cameras: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Make the report of one bag.

    Args:
        pace: How the frames went through the methods.
        bag: The bag's name, without folders.
        cameras: For each topic "frames" (`make_coverage`), "truth" (where there is some) and "methods", a
            `Scorer.summary()` by the name of each row; where rows differ in their coverage, each has "frames", too.
        settings: What the numbers depend on.
    """
    return {"format": FORMAT, "mode": pace, "bag": bag, "cameras": dict(cameras), "settings": dict(settings)}


def collect_metrics(reports: Iterable[Report]) -> dict[str, list[tuple[str, float]]]:
    """Collect every value of each metric, with the name of what it was measured on."""
    values: dict[str, list[tuple[str, float]]] = {}
    for report in reports:
        where = " in real time" if report["mode"] == "realtime" else ""
        for camera, about in report["cameras"].items():
            for name, row in about["methods"].items():
                for metric, value in row["metrics"].items():
                    values.setdefault(metric, []).append((f"{name} on {camera} of {report['bag']}{where}", value))
    return values


def find_broken_limits(reports: Iterable[Report], least: Mapping[str, float], most: Mapping[str, float]) -> list[str]:
    """Say which metrics are below or above their limits, on any camera and for any method that has them.

    Raises:
        ParameterError: A limit is for a metric that was not measured at all.
    """
    values = collect_metrics(reports)
    if unknown := sorted({*least, *most} - set(values)):
        raise ParameterError(f"there is no metric {', '.join(unknown)}; there are {', '.join(values) or 'none'}")
    below = [
        f"{metric} of {subject} is {value:.4f}, below {limit:g}"
        for metric, limit in least.items()
        for subject, value in values[metric]
        if value < limit
    ]
    above = [
        f"{metric} of {subject} is {value:.4f}, above {limit:g}"
        for metric, limit in most.items()
        for subject, value in values[metric]
        if value > limit
    ]
    return below + above


def format_table(reports: Iterable[Report]) -> str:
    """Write a table for people, a line per bag, camera and method."""
    rows = []
    for report in reports:
        for camera, about in report["cameras"].items():
            for name, row in about["methods"].items():
                frames = row.get("frames", about["frames"])
                first = [report["bag"], camera, name, f"{frames['processed']}/{frames['in']}"]
                rows.append((first, row["metrics"]))
    names = [metric for metric in LEADING_METRICS if any(metric in metrics for _, metrics in rows)]
    cells = [["bag", "camera", "method", "frames", *names]]
    for first, metrics in rows:
        cells.append([*first, *(f"{metrics[m]:.3f}" if m in metrics else "" for m in names)])
    return text_table(cells, left=3)
