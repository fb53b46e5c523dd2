"""Predictions against truth, counted by hand, of a recording as of results in memory; reports, limits and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
import bag_making as making

from objloc_ros.bags.predictions import MAX_INCOMPLETE, Prediction, read_predictions
from objloc_ros.bags.score import (
    Scorer,
    find_broken_limits,
    format_table,
    make_coverage,
    make_report,
    score_predictions,
)
from objloc_ros.bags.truth import Classes, FrameTruth
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.nodes.conversions import mask_to_image

A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


def prediction(*boxes: Any, ids: Any = None, mask: Any = None, prompts: Any = None) -> Prediction:
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(rows)).astype(np.float32)
    return Prediction(rows, scores, ids, mask, prompts)


def truth(tracked: bool = True, **objects: Any) -> FrameTruth:
    return FrameTruth(dict(objects), tracked)


def scored(*frames: tuple[Prediction, FrameTruth | None], **options: Any) -> Scorer:
    scorer = Scorer(**options)
    for predicted, true in frames:
        scorer.update(predicted, true)
    return scorer


def test_boxes() -> None:
    got = scored(
        (prediction(A, FAR), truth(a=A, b=B)),
        (prediction(FAR, B), truth(a=A, b=B)),  # the best box is on nothing
        (prediction(FAR), truth()),  # nothing to find
        (prediction(A), None),  # nobody knows
    )
    assert (got.predictions, got.objects, got.frames_with_truth) == (4, 6, 3)
    figures = got.compute()
    assert figures["corloc"] == 1 / 2, "frames without objects do not count"
    assert (figures["recall"], figures["precision"]) == (2 / 4, 2 / 5)
    assert figures["flicker"] == 2 / 2, "a was lost, b appeared"
    assert "switches" not in figures
    assert set(figures) == {"corloc", "ap", "ap50", "ar100", "recall", "precision", "flicker"}


def test_perfect_answers() -> None:
    figures = scored(*[(prediction(A, B, ids=("1", "2")), truth(a=A, b=B))] * 3).compute()
    assert figures == {
        "corloc": 1.0,
        "ap": pytest.approx(1.0),
        "ap50": pytest.approx(1.0),
        "ar100": 1.0,
        "recall": 1.0,
        "precision": 1.0,
        "flicker": 0.0,
        "switches": 0.0,
    }


def test_switches_and_cuts() -> None:
    scorer = scored((prediction(A, ids=("1",)), truth(a=A)), (prediction(A, ids=("2",)), truth(a=A)))
    assert scorer.compute()["switches"] == 50.0
    scorer.start_video()
    scorer.update(prediction(A, ids=("3",)), truth(a=A))
    assert scorer.compute()["switches"] == pytest.approx(100 / 3)


def test_objects_without_lasting_names_do_not_flicker() -> None:
    figures = scored((prediction(A), truth(False, a=A)), (prediction(), truth(False, a=A))).compute()
    assert figures["recall"] == 1 / 2
    assert "flicker" not in figures


def test_masks() -> None:
    left, half = np.array([[1, 0], [2, 0]], np.uint16), np.array([[True, False], [False, False]])
    plain = FrameTruth(foreground=half)
    got = scored((prediction(A, mask=left), plain), (prediction(mask=left * 0), FrameTruth(foreground=half & False)))
    figures = got.compute()
    assert figures == {"mask_flicker": 1.0, "mask_iou": (1 / 2 + 1) / 2}, "no boxes are known, none are judged"
    with pytest.raises(InputError, match="the prediction has 2x2 pixels, the truth 3x2"):
        scored((prediction(mask=left), FrameTruth(foreground=np.zeros((2, 3), bool))))


CLASSES = Classes({0: "background", 1: "Car", 2: "cone"})


def test_class_maps() -> None:
    true = FrameTruth(classes=np.array([[1, 1, 2, 0, 255, 0]], np.uint8))
    said = prediction(mask=np.array([[7, 7, 255, 255, 7, 9]], np.uint8), prompts={7: "car", 9: "dog"})
    got = scored((said, true), classes=CLASSES)
    assert got.per_class() == {"background": 1 / 3, "car": 1.0, "cone": 0.0}
    assert got.compute() == {"miou": pytest.approx(4 / 9), "accuracy": 3 / 5}
    renamed = prediction(mask=said.mask, prompts={7: "automobile", 9: "dog"})
    assert scored((renamed, true), classes=CLASSES).per_class()["car"] == 0.0
    class_names = {"automobile": "Car", "dog": "cone"}
    assert scored((renamed, true), classes=CLASSES, class_names=class_names).per_class()["car"] == 1.0


def test_classes_that_never_occur_do_not_count() -> None:
    true = FrameTruth(classes=np.array([[1, 0]], np.uint8))
    said = prediction(mask=np.array([[7, 255]], np.uint8), prompts={7: "car"})
    got = scored((said, true), classes=CLASSES)
    assert got.summary()["per_class"] == {"background": 1.0, "car": 1.0, "cone": None}
    assert got.compute()["miou"] == 1.0


def test_nothing_was_answered() -> None:
    assert Scorer().summary() == {"answers": 0, "objects": 0, "frames_with_truth": 0, "metrics": {}}


class Known:
    """Truth by stamp."""

    classes = None

    def __init__(self, **frames: FrameTruth) -> None:
        self._frames = {int(key[1:]): frame for key, frame in frames.items()}

    def take(self, key: int) -> FrameTruth | None:
        return self._frames.pop(key, None)


def recorded(path: Path, *messages: tuple[str, int, Any]) -> Path:
    return making.write(path, [(f"/cam/found/{name}", when, message) for name, when, message in messages])


def test_a_recording_is_scored_like_results_in_memory(tmp_path: Path) -> None:
    mask = np.zeros((4, 4), np.uint8)
    mask[:2] = 255
    path = recorded(
        tmp_path / "bag",
        ("detections", 10, making.boxes(1, A, FAR, ids=["1", "2"])),
        ("mask", 11, mask_to_image(mask, making.header(1))),
        ("mask", 20, mask_to_image(mask, making.header(2))),  # before its detections
        ("detections", 21, making.boxes(2, B, ids=["2"])),
        ("detections", 30, making.boxes(3, A)),  # its mask was lost
    )
    predictions = list(read_predictions(path, "/cam/found"))
    assert [key for key, _ in predictions] == [1, 2]
    assert [predicted.ids for _, predicted in predictions] == [("1", "2"), ("2",)]
    assert all(predicted.mask is not None and np.array_equal(predicted.mask, mask) for _, predicted in predictions)
    truths = {"_1": FrameTruth({"a": A}, True, mask > 0), "_2": FrameTruth({"a": A}, True, mask > 0)}
    known = [
        (prediction(A, FAR, ids=("1", "2"), mask=mask), truths["_1"]),
        (prediction(B, ids=("2",), mask=mask), truths["_2"]),
    ]
    assert score_predictions(iter(predictions), Known(**truths), Scorer()) == scored(*known).summary()


def test_prompts_of_a_recording(tmp_path: Path) -> None:
    path = recorded(
        tmp_path / "bag",
        ("label_info", 9, making.label_info(1, {4: "car"})),
        ("detections", 10, making.boxes(1)),
        ("mask", 11, mask_to_image(np.full((2, 2), 4, np.uint8), making.header(1))),
    )
    ((_, predicted),) = read_predictions(path, "/cam/found", has_prompts=True)
    assert predicted.prompts == {4: "car"}
    assert predicted.ids == (), "of no object every one has a name"
    foreground = predicted.foreground()
    assert foreground is not None
    assert foreground.all()


@pytest.mark.parametrize("value", [1, 255], ids=["ids", "as they were until 0.1"])
def test_the_names_of_a_class_free_node_are_no_prompts(tmp_path: Path, value: int) -> None:
    mask = np.array([[0, value], [0, 0]], np.uint8)
    path = recorded(
        tmp_path / "bag",
        ("label_info", 9, making.label_info(1, {0: "background", 1: "object"})),
        ("detections", 10, making.boxes(1)),
        ("mask", 11, mask_to_image(mask, making.header(1))),
    )
    ((_, predicted),) = read_predictions(path, "/cam/found")
    assert predicted.prompts is None
    assert np.array_equal(predicted.foreground(), mask > 0)


def test_answers_whose_masks_are_lost_do_not_pile_up(tmp_path: Path) -> None:
    lost = [("detections", i, making.boxes(i, A)) for i in range(1, 3 * MAX_INCOMPLETE)]
    last = ("mask", 9999, mask_to_image(np.ones((2, 2), np.uint8), making.header(3 * MAX_INCOMPLETE - 1)))
    first = ("mask", 9998, mask_to_image(np.ones((2, 2), np.uint8), making.header(1)))
    path = recorded(tmp_path / "bag", *lost, first, last)
    assert [key for key, _ in read_predictions(path, "/cam/found")] == [3 * MAX_INCOMPLETE - 1]


def test_a_recording_without_the_node(tmp_path: Path) -> None:
    path = recorded(tmp_path / "bag", ("detections", 1, making.boxes(1)))
    with pytest.raises(InputError, match="has no topic /cam/discovery/detections"):
        next(read_predictions(path, "/cam/discovery"))


def test_a_recorded_box_that_is_none(tmp_path: Path) -> None:
    path = recorded(tmp_path / "bag", ("detections", 1, making.boxes(1, (0, 0, float("nan"), 5))))
    with pytest.raises(InputError, match=r"/cam/found at 0.000 s: a box must have finite numbers"):
        next(read_predictions(path, "/cam/found"))


def test_a_jump_of_time_is_another_video() -> None:
    left, right = np.eye(2, dtype=np.uint8), np.eye(2, dtype=np.uint8)[::-1]  # nothing in common
    second = 1_000_000_000

    def flicker(*stamps: int) -> float | None:
        found = score_predictions(
            [(stamps[0], prediction(mask=left)), (stamps[1], prediction(mask=right))], None, Scorer()
        )
        return found["metrics"].get("mask_flicker")

    assert flicker(10 * second, 11 * second) == 1.0
    assert flicker(10 * second, 9 * second) is None
    assert flicker(10 * second, 16 * second) is None


def report(bag: str = "b1", **methods: dict[str, float]) -> dict[str, Any]:
    rows = {name: {"metrics": metrics} for name, metrics in methods.items()}
    cameras = {"/front/image": {"frames": make_coverage(10, 8, {"decode": 2}, 0), "methods": rows}}
    return make_report("lockstep", bag, cameras, {"threads": 1})


def test_a_report() -> None:
    got = report(found={"ap": 0.5})
    assert list(got) == ["format", "mode", "bag", "cameras", "settings"]
    assert (got["format"], got["mode"]) == ("objloc_ros bag 1", "lockstep")
    assert got["cameras"]["/front/image"]["frames"] == {"in": 10, "processed": 8, "dropped": {"decode": 2}, "late": 0}


def test_causes_are_in_one_order() -> None:
    assert list(make_coverage(3, 0, {"size": 1, "decode": 2}, 0, unstamped=1)["dropped"]) == ["decode", "size"]
    assert make_coverage(3, 3, {}, 1, unstamped=2)["unstamped"] == 2


def test_limits_hold_for_every_row_that_has_the_metric() -> None:
    reports = [report(found={"corloc": 0.9}, lost={"corloc": 0.4, "flicker": 0.3}), report("b2", lost={"flicker": 0.1})]
    assert find_broken_limits(reports, {"corloc": 0.4}, {"flicker": 0.3}) == []
    assert find_broken_limits(reports, {"corloc": 0.5}, {"flicker": 0.2}) == [
        "corloc of lost on /front/image of b1 is 0.4000, below 0.5",
        "flicker of lost on /front/image of b1 is 0.3000, above 0.2",
    ]
    with pytest.raises(ParameterError, match="there is no metric miou; there are corloc, flicker"):
        find_broken_limits(reports, {"miou": 0.1}, {})
    with pytest.raises(ParameterError, match="there is no metric ap; there are none"):
        find_broken_limits([report(found={})], {}, {"ap": 0.1})


def test_the_table() -> None:
    text = format_table([report(found={"corloc": 0.9, "ap": 0.1}), report("long name", lost={"flicker": 0.25})])
    assert text.splitlines() == [
        "bag        camera        method  frames  corloc  flicker",
        "b1         /front/image  found     8/10   0.900",
        "long name  /front/image  lost      8/10            0.250",
    ]
