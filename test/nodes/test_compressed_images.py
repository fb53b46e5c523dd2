"""JPEG and PNG in messages: exact or close, and refused where they are cut off, damaged or something else."""

from __future__ import annotations

from array import array

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from objloc_ros.nodes.conversions import ImageMessageError, compressed_to_rgb, rgb_to_compressed


def compressed(extension, pixels, *, cut=None, name="jpeg"):
    data = cv2.imencode(extension, pixels)[1].tobytes()
    return CompressedImage(format=name, data=array("B", data[:cut]))


PICTURE = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (64, 48, 3), np.uint8), (0, 0), 4)


def test_png_is_exact_and_jpeg_close():
    np.testing.assert_array_equal(compressed_to_rgb(compressed(".png", PICTURE)), PICTURE[..., ::-1])
    assert np.abs(compressed_to_rgb(compressed(".jpg", PICTURE)).astype(int) - PICTURE[..., ::-1]).mean() < 2


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (np.array([[0, 200]], np.uint8), [[0] * 3, [200] * 3]),
        (np.array([[0, 65535, 129]], np.uint16), [[0] * 3, [255] * 3, [1] * 3]),
        (np.array([[[1, 2, 3, 4]]], np.uint8), [[3, 2, 1]]),
    ],
)
def test_png_of_other_depths(pixels, expected):
    assert compressed_to_rgb(compressed(".png", pixels)).tolist() == [expected]


def test_jpeg_message_round_trip():
    msg = rgb_to_compressed(PICTURE, Header(frame_id="cam"))
    assert msg.format == "bgr8; jpeg compressed bgr8"
    assert np.abs(compressed_to_rgb(msg).astype(int) - PICTURE).mean() < 2


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("keep", [0.02, 0.3, 0.9, 0.999])
def test_truncated_pictures_are_refused(extension, keep):
    whole = compressed(extension, PICTURE)
    msg = CompressedImage(format="x", data=whole.data[: int(len(whole.data) * keep)])
    with pytest.raises(ImageMessageError) as error:
        compressed_to_rgb(msg)
    assert error.value.cause in ("decode", "encoding")  # too short even for a signature: not known to be JPEG


def test_a_thumbnail_does_not_hide_a_truncated_jpeg():
    data = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    thumbnail = cv2.imencode(".jpg", PICTURE[:8, :8])[1].tobytes()
    exif = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    whole = data[:2] + exif + data[2:]
    assert compressed_to_rgb(CompressedImage(data=array("B", whole + b"\0" * 9))).shape == PICTURE.shape
    with pytest.raises(ImageMessageError, match="without an end marker"):
        compressed_to_rgb(CompressedImage(data=array("B", whole[:-20])))


@pytest.mark.parametrize(
    ("data", "cause", "words"),
    [
        (b"", "decode", "0 bytes"),
        (b"GIF89a....", "encoding", "expected JPEG or PNG"),
        (b"\xff\xd8\xff\xd9", "decode", "cannot decode 4 bytes"),
        (b"\xff\xd8" + b"\xff" * 9, "decode", "without an end marker"),
    ],
)
def test_bad_compressed_data(data, cause, words):
    with pytest.raises(ImageMessageError, match=words) as error:
        compressed_to_rgb(CompressedImage(format="jpeg", data=array("B", data)))
    assert error.value.cause == cause
