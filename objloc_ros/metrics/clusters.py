"""How clusters of found objects agree with classes (LOST, Siméoni et al., BMVC 2021, section 4.4).

Each cluster is taken for each class in turn, and its boxes are judged as PASCAL VOC judges those of a detector: an
object is found if a box overlaps it by more than the threshold, the second box on one object is wrong, objects flagged
difficult are neither right nor wrong, and average precision is the area under the envelope of precision. The
assignment of clusters to classes (Kuhn, 1955) with the greatest sum at the threshold 0.5 is then judged at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from objloc_ros.errors import InputError
from objloc_ros.metrics.base import Metric
from objloc_ros.ops.boxes import Boxes, iou

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU thresholds of COCO's average: 0.5 to 0.95."""

Rewards = npt.NDArray[np.float64]
"""Average precision of each class (rows) by the boxes of each cluster (columns): [classes, clusters]."""


@dataclass(frozen=True)
class ClusteredImage:
    """The clustered objects of one image, and the true ones.

    Args:
        boxes: [n, 4] as (x1, y1, x2, y2), max side exclusive.
        scores: [n].
        clusters: int [n], the cluster of each box, from 0.
        truth: [m, 4] as the boxes.
        classes: int [m], the class of each true object, from 0.
        difficult: bool [m]; none by default.
    """

    boxes: Boxes
    scores: npt.NDArray[np.floating]
    clusters: npt.NDArray[np.integer]
    truth: Boxes
    classes: npt.NDArray[np.integer]
    difficult: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    def __post_init__(self) -> None:
        if not self.difficult.size:
            object.__setattr__(self, "difficult", np.zeros(len(self.truth), np.bool_))
        if not len(self.boxes) == len(self.scores) == len(self.clusters):
            counts = f"{len(self.boxes)} boxes, {len(self.scores)} scores and {len(self.clusters)} clusters"
            raise InputError(f"every box has a score and a cluster, got {counts}")
        if not len(self.truth) == len(self.classes) == len(self.difficult):
            counts = f"{len(self.truth)} true boxes, {len(self.classes)} classes, {len(self.difficult)} flags"
            raise InputError(f"every true box has a class and a flag, got {counts}")


def class_ap(images: Sequence[ClusteredImage], classes: int, clusters: int, *, threshold: float = 0.5) -> Rewards:
    """Compute the average precision of each class if each cluster were its detector.

    Args:
        images: All images.
        classes: Number of classes.
        clusters: Number of clusters. One without any box has an average precision of 0, as has a class without objects.
        threshold: An object is found if the IoU is greater.

    Returns:
        float64 [classes, clusters], fractions. Boxes of equal scores come in the order of the images.

    Raises:
        InputError: A cluster or a class is beyond their number.
    """
    rewards: Rewards = np.zeros((classes, clusters))
    labels = _stack([image.clusters for image in images], np.int64)
    _check_ids("cluster", labels, clusters)
    _check_ids("class", _stack([image.classes for image in images], np.int64), classes)
    order = np.argsort(-_stack([image.scores for image in images], np.float64), kind="stable")
    for number in range(classes):
        matches = _match_class(images, number)
        if matches.count:
            for cluster in np.unique(labels):
                rewards[number, cluster] = _average_precision(matches, order[labels[order] == cluster], threshold)
    return rewards


def match_clusters(rewards: Rewards) -> tuple[npt.NDArray[np.int64], float]:
    """Assign a cluster to each class so that the sum of their rewards is greatest.

    Args:
        rewards: float [classes, clusters]; there may be more of either.

    Returns:
        The cluster of each class, int64 [classes], -1 for a class that none is left for; and the mean reward of all
        classes, in which that of such a class is 0.
    """
    rows, columns = linear_sum_assignment(rewards, maximize=True)
    assigned = np.full(len(rewards), -1, np.int64)
    assigned[rows] = columns
    return assigned, float(rewards[rows, columns].sum() / len(rewards)) if len(rewards) else 0.0


class ClusterAP(Metric):
    """Average precision of clusters, assigned to classes.

    Args:
        classes: Names of the classes. Those without an object that counts are left out of assignment and means.
        clusters: Number of clusters.
    """

    def __init__(self, classes: Sequence[str], clusters: int) -> None:
        self.classes = tuple(classes)
        self.clusters = clusters
        self.images: list[ClusteredImage] = []

    def update(self, image: ClusteredImage) -> None:
        """Add an image; it is kept, since the figures rank the objects of all images together."""
        self.images.append(image)

    def compute(self) -> dict[str, Any]:
        """Return the figures as fractions.

        Returns:
            "ap" averaged over `THRESHOLDS`, and "ap50", both the means over classes; "classes": for each class the
            "cluster" that is assigned to it, from 0, None if there are fewer clusters than classes, and its "ap" and
            "ap50"; None in place of the class without objects.
        """
        counted = [number for number in range(len(self.classes)) if self._count_objects(number)]
        aps = np.stack([self._rewards(threshold)[counted] for threshold in THRESHOLDS])  # [10, classes, clusters]
        assigned, ap50 = match_clusters(aps[0])
        chosen = aps[:, np.arange(len(counted)), assigned] * (assigned >= 0)  # [10, classes]
        figures: dict[str, Any] = dict.fromkeys(self.classes)
        for place, number in enumerate(counted):
            cluster = int(assigned[place]) if assigned[place] >= 0 else None
            ap = float(chosen[:, place].mean())
            figures[self.classes[number]] = {"cluster": cluster, "ap50": float(chosen[0, place]), "ap": ap}
        return {"ap": float(chosen.mean()) if counted else 0.0, "ap50": ap50, "classes": figures}

    def reset(self) -> None:
        """Forget all images."""
        self.images = []

    def _rewards(self, threshold: float) -> Rewards:
        return class_ap(self.images, len(self.classes), self.clusters, threshold=threshold)

    def _count_objects(self, number: int) -> int:
        return sum(int(((image.classes == number) & ~image.difficult).sum()) for image in self.images)


@dataclass(frozen=True)
class _Matches:
    """The object of one class that each box overlaps most, whatever the box's cluster.

    Args:
        overlaps: float64 [N], IoU of the boxes of all images; -1 where there is no object.
        objects: int64 [N], numbers of the objects over all images.
        difficult: bool [N], whether that object is.
        count: Number of objects that are not difficult.
    """

    overlaps: npt.NDArray[np.float64]
    objects: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]
    count: int


def _match_class(images: Sequence[ClusteredImage], number: int) -> _Matches:
    overlaps, objects, difficult = [], [], []
    first = count = 0
    for image in images:
        own = image.classes == number
        flags = image.difficult[own]
        best = np.zeros(len(image.boxes), np.int64)
        height = np.full(len(image.boxes), -1.0)
        if len(flags) and len(best):
            table = iou(image.boxes, image.truth[own])  # [n, objects of the class]
            best = table.argmax(1)
            height = table[np.arange(len(best)), best]
        overlaps.append(height)
        objects.append(first + best)
        difficult.append(flags[best] if len(flags) else np.zeros(len(best), np.bool_))
        first += len(flags)
        count += int((~flags).sum())
    return _Matches(_stack(overlaps, np.float64), _stack(objects, np.int64), _stack(difficult, np.bool_), count)


def _average_precision(matches: _Matches, ranked: npt.NDArray[np.int64], threshold: float) -> float:
    """Compute the area under the envelope of precision of some boxes, given by their places, best first."""
    hits = matches.overlaps[ranked] > threshold
    judged = ~(hits & matches.difficult[ranked])
    ranked, hits = ranked[judged], hits[judged]
    right = np.zeros(len(ranked), np.bool_)
    places = hits.nonzero()[0]
    right[places[np.unique(matches.objects[ranked[places]], return_index=True)[1]]] = True
    found = np.cumsum(right)
    precision = found / np.arange(1, len(ranked) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[right].sum() / matches.count)


def _check_ids(name: str, ids: npt.NDArray[np.int64], count: int) -> None:
    if ids.size and not 0 <= ids.min() <= ids.max() < count:
        raise InputError(f"each {name} must be one of 0 to {count - 1}, got {ids.min()} to {ids.max()}")


def _stack(parts: Sequence[npt.NDArray[Any]], dtype: type) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)
