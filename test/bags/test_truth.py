"""Truth of frames from messages and masks."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
import bag_making as making
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from objloc_ros.bags.truth import Classes, decode_mask, find_boxes, parse_detections, parse_mask
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.nodes.conversions import mask_to_image

MASK = np.array([[0, 3, 3], [7, 0, 3]], np.uint8)


def test_identities_become_boxes() -> None:
    truth = parse_mask(MASK)
    assert truth.boxes == {3: (1, 0, 3, 2), 7: (0, 1, 1, 2)}
    assert truth.tracked
    assert truth.classes is None
    assert truth.foreground is not None
    assert np.array_equal(truth.foreground, MASK > 0)
    big = np.zeros((4, 5), np.uint16)
    big[2, 1:4] = 65535
    assert find_boxes(big) == {65535: (1, 2, 4, 3)}
    assert find_boxes(np.zeros((2, 2), np.uint8)) == {}


def test_a_mask_of_just_object_has_no_boxes() -> None:
    truth = parse_mask(np.where(MASK > 0, 255, 0).astype(np.uint8))
    assert truth.boxes is None
    assert np.array_equal(truth.foreground, MASK > 0)
    assert parse_mask(np.full((1, 1), 255, np.uint16)).boxes == {255: (0, 0, 1, 1)}, "16 bits have no such value"


def test_classes_are_numbered_from_the_background() -> None:
    named = Classes({0: "Background", 3: "Car", 7: "traffic  cone"})
    assert named.order == ["background", "car", "traffic cone"]
    truth = parse_mask(np.array([[0, 3, 7, 255]], np.uint8), named)
    assert truth.classes is not None
    assert truth.classes.tolist() == [[0, 1, 2, 255]]
    assert truth.foreground is not None
    assert truth.foreground.tolist() == [[False, True, True, False]]
    own = Classes({0: "car", 1: "cone"}, void=False)
    assert own.order == ["background", "car", "cone"]
    assert own.index_mask(np.array([[0, 1, 255]], np.uint8)).tolist() == [[1, 2, 0]], "this package's own masks"


def test_classes_that_are_none() -> None:
    with pytest.raises(InputError, match=r"class id 5, but names are known of \[1\]"):
        Classes({1: "car"}).index_mask(np.array([[0, 1, 5]], np.uint8))
    with pytest.raises(ParameterError, match="different names"):
        Classes({1: "car", 2: "Car "})
    with pytest.raises(ParameterError, match="different names"):
        Classes({})


def test_detections_become_boxes() -> None:
    rows = [(0, 0, 10, 5), (3, 4, 8, 9)]
    named = parse_detections(making.boxes(1, *rows, ids=["a", "b"]))
    assert (named.boxes, named.tracked) == ({"a": (0, 0, 10, 5), "b": (3, 4, 8, 9)}, True)
    for ids in (["a", "a"], ["a", ""], ()):
        plain = parse_detections(making.boxes(1, *rows, ids=ids))
        assert (plain.boxes, plain.tracked) == ({0: (0, 0, 10, 5), 1: (3, 4, 8, 9)}, False)
    assert parse_detections(making.boxes(1)).tracked, "no boxes do not break a video"


@pytest.mark.parametrize("box", [(0, 0, float("nan"), 5), (10, 0, 0, 5), (0, 9, 5, 3)])
def test_boxes_that_are_none(box: Any) -> None:
    with pytest.raises(InputError, match="finite numbers and no negative size"):
        parse_detections(making.boxes(1, box))


def compressed(pixels: np.ndarray, suffix: str = ".png") -> CompressedImage:
    return CompressedImage(format=suffix[1:], data=cv2.imencode(suffix, pixels)[1].tobytes())


def test_masks_of_messages_keep_their_values() -> None:
    big = np.array([[0, 300], [65535, 1]], np.uint16)
    for mask in (MASK, big):
        assert np.array_equal(decode_mask(mask_to_image(mask, Header())), mask)
        assert np.array_equal(decode_mask(compressed(mask)), mask)
        assert decode_mask(compressed(mask)).dtype == mask.dtype
    padded = Image(height=2, width=1, step=3, encoding="8UC1", data=b"\x05..\x06..")
    assert decode_mask(padded).tolist() == [[5], [6]]
    swapped = Image(height=1, width=2, step=4, encoding="mono16", is_bigendian=1, data=b"\x01\x00\x00\x02")
    assert decode_mask(swapped).tolist() == [[256, 2]]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Image(encoding="rgb8"), "a mask must be mono8, 8UC1, mono16, 16UC1, got 'rgb8'"),
        (Image(height=2, width=2, step=2, encoding="mono8", data=b"abc"), "rows of 2 bytes; got 3 bytes in rows of 2"),
        (Image(height=1, width=2, step=2, encoding="mono16", data=b"ab"), "needs rows of 4 bytes"),
        (Image(encoding="mono8"), "a mask of 0x0 pixels"),
        (CompressedImage(format="png"), "must be a grey PNG, got 0 bytes"),
        (compressed(np.zeros((4, 4), np.uint8), ".jpg"), "must be a grey PNG"),
        (compressed(np.zeros((4, 4, 3), np.uint8)), "must be a grey PNG"),
    ],
)
def test_masks_that_are_none(message: Any, text: str) -> None:
    with pytest.raises(InputError, match=text):
        decode_mask(message)
