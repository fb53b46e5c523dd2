"""The values that travel between layers refuse what contradicts itself."""

import numpy as np
import pytest
import torch

from objloc_ros.errors import InputError, ObjlocError
from objloc_ros.types import Detections, Features, check_image, size_of

BOX = [[0.0, 0.0, 2.0, 1.0]]


def features(n=6, grid=(2, 3), values=6, attention=(1, 2, 6)):
    keys = torch.zeros(1, n, 4)
    return Features(keys, keys, torch.zeros(1, values, 4), torch.zeros(attention), grid)


def test_features_that_agree_are_accepted():
    assert features().grid == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (2, 2)}, "6 patches but the grid 2x2 has 4"),
        ({"values": 5}, "values have shape"),
        ({"attention": (1, 2, 7)}, r"expected \[1, heads, 6\]"),
        ({"attention": (2, 2, 6)}, "cls_attention has shape"),
    ],
)
def test_features_that_disagree_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        features(**arguments)


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "message"),
    [
        (BOX, [0.5], (), "0 labels"),
        (BOX, [0.5, 0.5], ("object",), "scores"),
        ([[2.0, 0.0, 2.0, 1.0]], [0.5], ("object",), "x2 > x1"),
        ([[0.0, 0.0, np.nan, 1.0]], [0.5], ("object",), "finite"),
        (BOX, [1.5], ("object",), r"\[0, 1\], got \[1.5\]"),
        (BOX, [np.nan], ("object",), r"\[0, 1\]"),
    ],
)
def test_detections_that_contradict_themselves_are_refused(boxes, scores, labels, message):
    with pytest.raises(InputError, match=message):
        Detections(np.array(boxes, np.float32), np.array(scores, np.float32), labels)


@pytest.mark.parametrize("ids", [(), ("1",), ("1", "1"), ("1", ""), ("1", "2", "3")])
def test_ids_are_one_for_each_detection_and_all_different(ids):
    boxes, scores = np.array(BOX * 2, np.float32), np.array([0.5, 0.5], np.float32)
    with pytest.raises(InputError, match="2 detections need as many different, non-empty ids or None, got"):
        Detections(boxes, scores, ("object", "object"), ids)


def test_selected_detections_keep_their_ids():
    boxes, scores = np.array([[0, 0, i, i] for i in (1, 2, 3)], np.float32), np.array([0.9, 0.5, 0.1], np.float32)
    some = Detections(boxes, scores, ("dog", "cat", "cow"), ("7", "8", "9")).select([2, 0])
    assert some.boxes.tolist() == [[0, 0, 3, 3], [0, 0, 1, 1]]
    assert some.scores.tolist() == [np.float32(0.1), np.float32(0.9)]
    assert (some.labels, some.ids) == (("cow", "dog"), ("9", "7"))
    none = Detections(boxes, scores, ("dog", "cat", "cow")).select([])
    assert (none.boxes.shape, none.scores.shape, len(none), none.ids) == ((0, 4), (0,), 0, None)


def test_class_free_detections_are_objects():
    found = Detections.class_free(np.array(BOX, np.float32), np.array([1.0], np.float32))
    assert found.labels == ("object",)
    assert len(found) == 1
    assert len(Detections.class_free(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))) == 0


@pytest.mark.parametrize(
    "image", [None, np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3)), np.zeros((2, 0, 3), np.uint8)]
)
def test_only_rgb_bytes_are_an_image(image):
    with pytest.raises(ObjlocError, match="expected"):
        check_image(image)
    check_image(np.zeros((1, 1, 3), np.uint8))


def test_size_is_height_and_width():
    assert size_of(np.zeros((2, 5, 3), np.uint8)) == (2, 5)
