"""Every metric is used alike: the figures of all images, whatever was asked in between; a reset forgets them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from objloc_ros.metrics import (
    AveragePrecision,
    ClusterAP,
    ClusteredImage,
    CorLoc,
    Flicker,
    Mean,
    MeanIoU,
    Metric,
    RankAP,
    Saliency,
    ScoredImage,
    Steadiness,
)
from objloc_ros.metrics.base import VideoMetric
from objloc_ros.metrics.saliency import score

BOX, OTHER = np.array([[0, 0, 8, 8]]), np.array([[20, 20, 30, 30]])
MASK = np.eye(4, dtype=bool)
COUNTS = np.array([[3, 1], [0, 2]])

METRICS: dict[Callable[[], Metric], list[tuple[Any, ...]]] = {
    AveragePrecision: [(ScoredImage(BOX, np.ones(1), BOX),), (ScoredImage(OTHER, np.ones(1), BOX),)],
    lambda: ClusterAP(["object"], 1): [
        (ClusteredImage(found, np.ones(1), np.zeros(1, int), BOX, np.zeros(1, int)),) for found in (BOX, OTHER)
    ],
    CorLoc: [([BOX[0].tolist()], [BOX]), ([None], [BOX])],
    Flicker: [(MASK,), (~MASK,)],
    Mean: [(0.25,), (0.75,)],
    lambda: MeanIoU(2): [(COUNTS,), (COUNTS[::-1],)],
    RankAP: [(BOX, BOX), (OTHER, BOX)],
    Saliency: [(score(MASK * 0.7, MASK.astype(np.uint8)),), (score(MASK * 0.7, 1 - MASK.astype(np.uint8)),)],
    Steadiness: [({"a": BOX[0].tolist()}, BOX, ["1"]), ({"a": BOX[0].tolist()}, OTHER, ["1"])],
}
"""Two images that differ in every figure, for each metric."""


@pytest.mark.parametrize(("make", "images"), METRICS.items())
def test_a_reset_metric_is_a_new_one(make: Callable[[], Metric], images: list[tuple[Any, ...]]) -> None:
    metric, again = make(), make()
    metric.update(*images[0])
    first = metric.compute()
    metric.update(*images[1])
    both = metric.compute()
    assert both != first
    again.update(*images[0])
    again.update(*images[1])
    assert again.compute() == both, "compute changes nothing"
    metric.reset()
    metric.update(*images[0])
    assert metric.compute() == first


@pytest.mark.parametrize("make", [Flicker, Steadiness])
def test_videos_have_nothing_to_do_with_each_other(make: Callable[[], VideoMetric]) -> None:
    metric = make()
    first, second = METRICS[make]
    metric.update(*first)
    metric.start_video()
    before = metric.compute()
    metric.update(*second)
    assert metric.pairs == 0  # type: ignore[attr-defined]
    assert before is not None
