"""Steadiness counted by hand, and the temporal mode better than none."""

import numpy as np
import pytest

from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.evaluation import held_out_scenes as module
from objloc_ros.evaluation.held_out_scenes import VIDEO_FRAMES, HeldOutScene, VideoMetrics, evaluate_videos, make_videos
from objloc_ros.scenes.compose import Bank
from objloc_ros.types import Detections


@pytest.fixture(autouse=True)
def small_bank(monkeypatch):
    """Few pictures: drawing those for thousands of scenes would take most of the time."""
    monkeypatch.setattr(module, "Bank", lambda seed, **numbers: Bank(seed, backgrounds=30, sprites=80))


def frame(*places, size=(40, 100)):
    """A frame whose i-th object is a square of 10 pixels at (x, y); None where it is not to be seen."""
    identities = np.zeros(size, np.uint8)
    for identity, place in enumerate(places, start=1):
        if place is not None:
            x, y = place
            identities[y : y + 10, x : x + 10] = identity
    return HeldOutScene(np.zeros((*size, 3), np.uint8), identities)


def answer(*named):
    """Boxes of 10 pixels as (id, x, y)."""
    boxes = np.array([(x, y, x + 10, y + 10) for _, x, y in named], np.float32).reshape(-1, 4)
    scores, labels = np.full(len(boxes), 0.5, np.float32), ("object",) * len(boxes)
    return Detections(boxes, scores, labels, tuple(name for name, *_ in named))


def measured(video, answers):
    metrics = VideoMetrics()
    metrics.update(video, answers)
    return metrics


def count(video, answers):
    return measured(video, answers).steadiness


def test_a_steady_answer_is_perfect():
    video = [frame((5 * t, 5), (60, 20)) for t in range(5)]
    answers = [answer(("a", 5 * t, 5), ("b", 60, 20)) for t in range(5)]
    assert measured(video, answers).compute() == {
        "recall": 1.0,
        "precision": 1.0,
        "flicker": 0.0,
        "switches": 0.0,
        "lag": 0.0,
    }


def test_an_object_that_comes_and_goes_in_the_answers_flickers():
    video = [frame((5, 5))] * 5
    got = count(video, [answer(("a", 5, 5)) if t in (0, 1, 3) else answer() for t in range(5)])
    assert (got.seen, got.found, got.pairs, got.flickers) == (5, 3, 4, 3)


def test_objects_out_of_sight_do_not_flicker():
    video = [frame((5, 5)), frame(None), frame((5, 5))]
    got = count(video, [answer(("a", 5, 5)), answer(), answer(("a", 5, 5))])
    assert (got.seen, got.found, got.pairs, got.flickers, got.switches) == (2, 2, 0, 0, 0)


def test_another_id_is_a_switch_also_after_a_gap():
    video = [frame((5, 5))] * 4
    got = count(video, [answer(("a", 5, 5)), answer(("b", 5, 5)), answer(), answer(("c", 5, 5))])
    assert got.switches == 2


def test_wrong_boxes_lower_the_precision_only():
    got = count([frame((5, 5))], [answer(("a", 5, 5), ("b", 70, 20))])
    assert (got.boxes, got.right, got.found) == (2, 1, 1)


def test_small_objects_are_not_looked_for():
    identities = np.zeros((100, 100), np.uint8)
    identities[:9, :11] = 1  # 99 of 10,000 pixels
    got = count([HeldOutScene(np.zeros((100, 100, 3), np.uint8), identities)], [answer()])
    assert got.seen == 0


@pytest.mark.parametrize("lag", [0, 1, 2, 3])
def test_answers_that_come_late_are_told_by_how_much(lag):
    video = [frame((t, 5)) for t in range(12)]
    answers = [answer(("a", max(t - lag, 0), 5)) for t in range(12)]
    assert measured(video, answers).compute()["lag"] == lag


def test_videos_come_from_their_seed_and_move():
    first, again = (next(make_videos(1, seed=5)) for _ in range(2))
    assert len(first) == VIDEO_FRAMES
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.identities, b.identities)
    assert not np.array_equal(first[0].identities, first[-1].identities)
    assert not np.array_equal(first[0].image, first[1].image)


def test_the_temporal_mode_flickers_less_and_finds_more_without_lagging():
    pipeline = load_pipeline(("tokencut",), device="cpu")
    steps = []
    scores = evaluate_videos(pipeline, ("tokencut",), make_videos(2, seed=5), lambda: steps.append(1))
    alone, together = (scores["tokencut"][mode] for mode in ("frame by frame", "temporal"))
    assert len(steps) == 2
    assert together["flicker"] < alone["flicker"]
    assert together["recall"] > alone["recall"]
    assert together["lag"] == 0
