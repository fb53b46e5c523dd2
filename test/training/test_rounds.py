"""Labels of the next round, of several teachers and of tracks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_cases import Case, find_cases, load_case

from objloc_ros.errors import InputError
from objloc_ros.io.rle import encode
from objloc_ros.training.detector_labels import NO_TRACK, ImageLabels, Labels
from objloc_ros.training.rounds import (
    check_tracks,
    choose_threshold,
    keep_consistent,
    merge_labels,
    merge_rounds,
    unite_labels,
)

SIZE = (20, 30)


def square(x: int, y: int, side: int = 6) -> np.ndarray:
    drawn = np.zeros(SIZE, np.bool_)
    drawn[y : y + side, x : x + side] = True
    return drawn


def image(
    name: str, *masks: np.ndarray, scores: float | list[float] = 1.0, tracks: list[int] | None = None
) -> ImageLabels:
    n = len(masks)
    boxes = [[*np.argwhere(drawn).min(0)[::-1], *(np.argwhere(drawn).max(0)[::-1] + 1)] for drawn in masks]
    return ImageLabels(
        Path(name),
        name,
        SIZE,
        tuple(encode(drawn) for drawn in masks),
        np.array(boxes, float).reshape(-1, 4),
        np.zeros(n, np.int64),
        np.full(n, scores) if isinstance(scores, float) else np.array(scores),
        np.full(n, NO_TRACK) if tracks is None else np.array(tracks),
    )


def labels(*images: ImageLabels, classes: tuple[str, ...] = ("object",)) -> Labels:
    return Labels(Path("labels.json"), classes, images)


def unpack(case: Case, name: str) -> list[np.ndarray]:
    """The masks of all images: one line of bits, mask after mask and row after row."""
    sizes = [tuple(case["sizes"][number]) for number in case[f"{name}_image"]]
    bits = np.unpackbits(case[f"{name}_masks"]).astype(bool)
    ends = np.cumsum([height * width for height, width in sizes])
    return [part.reshape(size) for part, size in zip(np.split(bits, ends), sizes, strict=False)]


@pytest.mark.parametrize("path", find_cases("cutler_merge"), ids=lambda path: path.stem)
def test_the_original_merges_the_same(path: Path) -> None:
    case = load_case(path)
    previous, predicted = unpack(case, "prev"), unpack(case, "pred")
    merged = []
    for number in dict.fromkeys([*case["prev_image"].tolist(), *case["pred_image"].tolist()]):  # unlabelled images last
        (mine,), (theirs,) = np.nonzero(case["prev_image"] == number), np.nonzero(case["pred_image"] == number)
        size = case["sizes"][number]
        before, found = (
            np.array([masks[place] for place in places], bool).reshape(-1, *size)
            for masks, places in ((previous, mine), (predicted, theirs))
        )
        kept, stay = merge_rounds(before, found, case["pred_scores"][theirs], threshold=float(case["threshold"]))
        merged += [(False, place) for place in theirs[kept]] + [(True, place) for place in mine[stay]]
    assert merged == list(zip(case["merged_from_prev"].tolist(), case["merged_index"].tolist(), strict=True))


def test_no_label_is_lost_that_no_prediction_overlaps() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        previous, predicted = (
            np.array([square(rng.integers(25), rng.integers(15), rng.integers(3, 9)) for _ in range(count)])
            for count in (5, 6)
        )
        scores = rng.random(6)
        kept, stay = merge_rounds(previous, predicted, scores, threshold=0.4)
        assert kept.tolist() == np.flatnonzero(scores >= 0.4).tolist()
        for place, before in enumerate(previous):
            worst = max((before & new).sum() / (before | new).sum() for new in [*predicted[kept], np.zeros(SIZE, bool)])
            assert (place in stay) == (worst < 0.5)


def test_a_prediction_replaces_a_label_from_one_half_on() -> None:
    before = np.stack([square(0, 0, 6), square(12, 0, 6)])
    half, less = before[0].copy(), before[1].copy()
    half[:, :3] = False  # IoU 1/2
    less[:, :16] = False  # IoU 1/3
    kept, stay = merge_rounds(before, np.stack([half, less]), np.array([0.9, 0.9]), threshold=0.9)
    assert (kept.tolist(), stay.tolist()) == ([0, 1], [1])
    none = np.zeros((0, *SIZE), bool)
    assert [places.tolist() for places in merge_rounds(none, before, np.ones(2), threshold=0.5)] == [[0, 1], []]
    assert [places.tolist() for places in merge_rounds(before, none, np.ones(0), threshold=0.5)] == [[], [0, 1]]


def test_the_next_round_keeps_images_without_predictions_and_learns_from_unlabelled_ones() -> None:
    previous = labels(image("a", square(0, 0), square(20, 10)), image("b", square(5, 5)), image("empty"))
    predicted = labels(
        image("new", square(3, 3), square(9, 9), scores=[0.9, 0.1]),
        image("empty", square(1, 1), scores=[0.8]),
        image("a", square(1, 0), square(20, 0), scores=[0.7, 0.2]),
        image("b", scores=[]),
    )
    threshold = choose_threshold(predicted, 3)
    assert threshold == 0.7
    merged = merge_labels(previous, predicted, threshold=threshold)
    assert {one.name: one.boxes[:, :2].tolist() for one in merged.images} == {
        "a": [[1, 0], [20, 10]],
        "b": [[5, 5]],
        "empty": [[1, 1]],
        "new": [[3, 3]],
    }
    assert merged.images[0].scores.tolist() == [0.7, 1.0]
    assert [choose_threshold(predicted, count) for count in (0, 1, 5, 9)] == [np.inf, 0.9, 0.1, 0.1]
    assert choose_threshold(labels(), 5) == np.inf


def test_of_two_teachers_the_earlier_wins_whatever_its_score() -> None:
    first = labels(image("a", square(0, 0), scores=[0.1]))
    second = labels(image("a", square(1, 0), square(20, 10), scores=[0.9, 0.8]), image("b", square(5, 5)))
    third = labels(image("b", square(5, 6), square(20, 10)))
    united = unite_labels([first, second, third])
    assert {one.name: one.boxes[:, :2].tolist() for one in united.images} == {
        "a": [[0, 0], [20, 10]],
        "b": [[5, 5], [20, 10]],
    }
    assert {one.name: one.scores.tolist() for one in united.images}["a"] == [0.1, 0.8]
    assert unite_labels([second]) == second


def test_classes_of_one_name_are_one() -> None:
    first = labels(image("a", square(0, 0)), classes=("car",))
    second = labels(image("a", square(20, 10)), classes=("dog", "car"))
    united = unite_labels([first, second])
    assert [united.classes[number] for number in united.images[0].categories] == ["car", "dog"]


def test_pictures_of_different_sizes_are_not_merged() -> None:
    other = labels(image("a"))
    smaller = Labels(
        other.document, other.classes, tuple(ImageLabels(**(vars(one) | {"size": (10, 30)})) for one in other.images)
    )
    with pytest.raises(InputError, match=r"image 'a' has \[10, 30\].*\[20, 30\].*same pictures"):
        merge_labels(smaller, other, threshold=0)


def test_consistent_objects_are_followed_over_frames() -> None:
    frames = [
        image(f"{i}", square(i, 0), square(20, 10), square(9, 9), tracks=[1, 2 if i < 2 else 3, NO_TRACK])
        for i in range(4)
    ]
    kept = keep_consistent(labels(*frames), 3)
    assert [one.tracks.tolist() for one in kept.images] == [[1]] * 4
    assert [one.tracks.tolist() for one in keep_consistent(labels(*frames), 2).images] == [
        [1, 2],
        [1, 2],
        [1, 3],
        [1, 3],
    ]
    check_tracks(labels(*frames), 4)
    with pytest.raises(InputError, match="longest track has 4 images, fewer than 5: lower --consistent"):
        check_tracks(labels(*frames), 5)
    with pytest.raises(InputError, match=r"no object has a track.*--tracks, or leave --consistent out"):
        check_tracks(labels(image("a", square(0, 0))), 2)


def test_tracks_of_different_labels_stay_apart() -> None:
    first = labels(image("a", square(0, 0), square(10, 10), tracks=[0, NO_TRACK]), image("b"))
    second = labels(image("a", square(20, 10), tracks=[0]), image("b", square(20, 10), tracks=[0]))
    united = unite_labels([first, second])
    one, untracked, other = united.images[0].tracks.tolist()
    assert untracked == NO_TRACK
    assert one != other
    assert united.images[1].tracks.tolist() == [other]
