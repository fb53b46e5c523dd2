"""AP by rank, against the original and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from golden_cases import find_cases, load_case

from objloc_ros.metrics.rank_ap import RankAP

NONE = np.zeros((0, 4))
A, B, FAR = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]


@pytest.mark.parametrize("path", find_cases("lod_ranking"), ids=lambda path: path.stem)
def test_figures_are_those_of_the_original(path) -> None:
    case = load_case(path)
    metric = RankAP()
    regions, truths = (
        np.split(case[name] + [0, 0, 1, 1], np.cumsum(case[counts])[:-1])
        for name, counts in (("boxes", "counts"), ("gt", "gt_counts"))
    )  # maxima exclusive
    for boxes, picked, truth in zip(regions, case["picked_group"], truths, strict=True):
        metric.update(boxes[picked[picked >= 0]], truth)
    figures = metric.compute()
    ranks = len(case["precision50"])
    np.testing.assert_allclose(figures.ap, case["ap"], atol=1e-12)
    np.testing.assert_allclose(figures.precision[0][:ranks], case["precision50"], atol=1e-12)
    np.testing.assert_allclose(figures.recall[0][:ranks], case["recall50"], atol=1e-12)
    assert figures.precision[0][0] == pytest.approx(float(case["corloc"]))


def test_repeating_an_object_costs_precision() -> None:
    metric = RankAP([0.5])
    metric.update(np.array([A, A, B]), np.array([A, B]))
    figures = metric.compute()
    assert figures.precision == [[1, 1 / 2, pytest.approx(2 / 3)]]
    assert figures.recall == [[0.5, 0.5, 1]]
    assert figures.ap == [pytest.approx(0.5 + 0.5 * 2 / 3)]


def test_images_that_lack_objects_or_truth() -> None:
    metric = RankAP([0.5])
    metric.update(np.array([A, FAR]), np.array([A]))
    metric.update(NONE, np.array([A]))
    metric.update(np.array([A]), NONE)
    figures = metric.compute()
    assert figures.precision == [[pytest.approx(1 / 3), pytest.approx(1 / 4)]]
    assert figures.recall == [[0.5, 0.5]]


def test_no_images() -> None:
    assert RankAP([0.5]).compute() == ([0.0], [[]], [[]])
