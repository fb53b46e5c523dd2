"""Average precision of clusters against LOST's evaluation, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_cases import Case, find_cases, load_case

from objloc_ros.errors import InputError
from objloc_ros.metrics.clusters import THRESHOLDS, ClusterAP, ClusteredImage, class_ap, match_clusters

LEFT, RIGHT, BELOW = (0, 0, 10, 10), (20, 0, 30, 10), (0, 20, 10, 30)


def make_images(case: Case) -> list[ClusteredImage]:
    images = []
    for number in range(int(case["images"])):
        found = case["det_image"] == number
        objects = case["objects"][case["objects"][:, 0] == number]
        corners = case["det_xywh"][found]
        corners[:, 2:] += corners[:, :2]
        truth = objects[:, 4:] - np.array([1, 1, 0, 0])  # VOC counts pixels from 1 and includes the last
        labels = case["det_score"][found], case["det_cluster"][found]
        images.append(ClusteredImage(corners, *labels, truth, objects[:, 1], objects[:, 2] > 0))
    return images


def make_image(
    found: list[tuple[tuple[int, ...], float, int]], truth: list[tuple[tuple[int, ...], int, bool]]
) -> ClusteredImage:
    """An image of (box, score, cluster) and of (box, class, difficult)."""
    boxes, scores, clusters = zip(*found, strict=True) if found else ((), (), ())
    objects, classes, difficult = zip(*truth, strict=True) if truth else ((), (), ())
    return ClusteredImage(
        np.array(boxes, float).reshape(-1, 4),
        np.array(scores, float),
        np.array(clusters, int),
        np.array(objects, float).reshape(-1, 4),
        np.array(classes, int),
        np.array(difficult, bool),
    )


@pytest.mark.parametrize("path", find_cases("lost_od_eval"), ids=lambda path: path.stem)
def test_the_original_agrees(path: Path) -> None:
    case = load_case(path)
    images = make_images(case)
    shape = case["reward"].shape
    rewards = class_ap(images, *shape)
    np.testing.assert_allclose(rewards, case["reward"], atol=1e-12)
    assigned, map50 = match_clusters(rewards)
    assert assigned.tolist() == case["class_to_cluster"].tolist()
    assert map50 == pytest.approx(case["map50"], abs=1e-12)
    aps = [class_ap(images, *shape, threshold=threshold) for threshold in THRESHOLDS]
    chosen = np.stack([ap[np.arange(shape[0]), assigned] for ap in aps], axis=1)
    np.testing.assert_allclose(chosen, case["ap"], atol=1e-12)


@pytest.mark.parametrize("path", find_cases("lost_od_eval"), ids=lambda path: path.stem)
def test_the_metric_says_the_same_in_names(path: Path) -> None:
    case = load_case(path)
    names = [f"class {number}" for number in range(len(case["reward"]))]
    metric = ClusterAP(names, case["reward"].shape[1])
    for image in make_images(case):
        metric.update(image)
    figures = metric.compute()
    assert (figures["ap50"], figures["ap"]) == (pytest.approx(case["map50"]), pytest.approx(case["ap"].mean()))
    assert [figures["classes"][name]["cluster"] for name in names] == case["class_to_cluster"].tolist()
    np.testing.assert_allclose([figures["classes"][name]["ap"] for name in names], case["ap"].mean(1))
    metric.reset()
    assert metric.compute()["ap50"] == 0


def test_the_second_box_on_an_object_is_wrong_and_a_difficult_object_is_neither() -> None:
    once = make_image([(LEFT, 0.9, 0)], [(LEFT, 0, False)])
    twice = make_image([(LEFT, 0.9, 0), (LEFT, 0.95, 0), (RIGHT, 0.1, 0)], [(LEFT, 0, False), (RIGHT, 0, False)])
    hard = make_image([(RIGHT, 0.99, 0), (LEFT, 0.9, 0)], [(LEFT, 0, False), (RIGHT, 0, True)])
    assert class_ap([once], 1, 1)[0, 0] == 1
    assert class_ap([twice], 1, 1)[0, 0] == pytest.approx((1 + 2 / 3) / 2)
    assert class_ap([hard], 1, 1)[0, 0] == 1
    assert class_ap([make_image([(LEFT, 0.9, 0)], [(LEFT, 0, True)])], 1, 1)[0, 0] == 0


def test_an_overlap_of_exactly_the_threshold_is_none() -> None:
    half = make_image([((0, 0, 10, 5), 0.9, 0)], [(LEFT, 0, False)])
    assert class_ap([half], 1, 1, threshold=0.5)[0, 0] == 0
    assert class_ap([half], 1, 1, threshold=0.49)[0, 0] == 1


def test_precision_is_taken_under_its_envelope() -> None:
    boxes = [(LEFT, 0.9, 0), (BELOW, 0.8, 0), (RIGHT, 0.7, 0)]
    image = make_image(boxes, [(LEFT, 0, False), (RIGHT, 0, False)])
    assert class_ap([image], 1, 1)[0, 0] == pytest.approx((1 + 2 / 3) / 2)
    late = make_image([(BELOW, 0.9, 0), (LEFT, 0.8, 0), (RIGHT, 0.7, 0)], [(LEFT, 0, False), (RIGHT, 0, False)])
    assert class_ap([late], 1, 1)[0, 0] == pytest.approx(2 / 3), "1 of 2 at first, but 2 of 3 later"


def test_equal_scores_keep_the_order_of_the_images() -> None:
    right, wrong = make_image([(LEFT, 0.5, 0)], [(LEFT, 0, False)]), make_image([(RIGHT, 0.5, 0)], [])
    assert class_ap([right, wrong], 1, 1)[0, 0] == 1
    assert class_ap([wrong, right], 1, 1)[0, 0] == 0.5


def test_clusters_without_boxes_and_classes_without_clusters_count_as_zero() -> None:
    image = make_image([(LEFT, 0.9, 2)], [(LEFT, 1, False), (RIGHT, 0, False)])
    rewards = class_ap([image], 2, 4)
    assert rewards.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]
    assigned, map50 = match_clusters(rewards)
    assert assigned[1] == 2
    assert map50 == 0.5
    fewer, mean = match_clusters(rewards[:, 2:3])
    assert (fewer.tolist(), mean) == ([-1, 0], 0.5)


def test_the_best_sum_wins_and_not_the_best_pair() -> None:
    assigned, mean = match_clusters(np.array([[0.9, 0.8], [0.8, 0.1]]))
    assert (assigned.tolist(), mean) == ([1, 0], pytest.approx(0.8))


def test_a_class_without_objects_takes_no_cluster() -> None:
    metric = ClusterAP(["absent", "car"], 1)
    metric.update(make_image([(LEFT, 0.9, 0)], [(LEFT, 1, False), (RIGHT, 0, True)]))
    figures = metric.compute()
    assert figures["classes"] == {"absent": None, "car": {"cluster": 0, "ap50": 1.0, "ap": 1.0}}
    assert (figures["ap50"], figures["ap"]) == (1.0, 1.0)


def test_more_classes_than_clusters_leave_some_without() -> None:
    metric = ClusterAP(["dog", "car"], 1)
    metric.update(make_image([(LEFT, 0.9, 0)], [(LEFT, 1, False), (RIGHT, 0, False)]))
    assert metric.compute()["classes"]["dog"] == {"cluster": None, "ap50": 0.0, "ap": 0.0}


@pytest.mark.parametrize("ids", [(-1, 0), (3, 0), (0, 2)])
def test_numbers_beyond_the_clusters_and_classes_are_refused(ids: tuple[int, int]) -> None:
    image = make_image([(LEFT, 0.9, ids[0])], [(LEFT, ids[1], False)])
    with pytest.raises(InputError, match="must be one of 0 to"):
        class_ap([image], 2, 3)


def test_incomplete_images_are_refused() -> None:
    with pytest.raises(InputError, match="1 boxes, 0 scores"):
        ClusteredImage(np.zeros((1, 4)), np.zeros(0), np.zeros(1, int), np.zeros((0, 4)), np.zeros(0, int))
    with pytest.raises(InputError, match="2 true boxes, 1 classes"):
        ClusteredImage(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), np.zeros((2, 4)), np.zeros(1, int))
