"""Image messages in every encoding, against slow per-pixel references and cv_bridge."""

from __future__ import annotations

import sys
from array import array

import numpy as np
import pytest
from counting import count_calls
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from objloc_ros.errors import InputError
from objloc_ros.nodes import conversions
from objloc_ros.nodes.conversions import (
    ENCODINGS,
    ImageMessageError,
    decode,
    image_to_rgb,
    mask_to_image,
    rgb_to_compressed,
    rgb_to_image,
    stretch,
)


def message(encoding, data, width, height, *, step=None, bigendian=0):
    data = bytes(data)
    step = len(data) // height if step is None else step
    return Image(
        encoding=encoding, data=array("B", data), width=width, height=height, step=step, is_bigendian=bigendian
    )


def random_message(encoding, width, height, *, pad=0, seed=0):
    layout = ENCODINGS[encoding]
    step = width * layout.channels * np.dtype(layout.dtype).itemsize + pad
    data = np.random.default_rng(seed).integers(0, 256, step * height * layout.half_planes // 2, np.uint8)
    return message(encoding, data.tobytes(), width, height, step=step)


def yuv_pixel(y, u, v):
    """BT.601 studio range, as in the fourcc definitions of YUYV and NV12."""
    y, u, v = 1.164 * (y - 16), u - 128, v - 128
    return [min(max(x, 0), 255) for x in (y + 1.596 * v, y - 0.813 * v - 0.391 * u, y + 2.018 * u)]


@pytest.mark.parametrize(
    ("encoding", "width", "data", "expected"),
    [
        ("rgb8", 2, [1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]),
        ("bgr8", 2, [1, 2, 3, 4, 5, 6], [[3, 2, 1], [6, 5, 4]]),
        ("8UC3", 1, [1, 2, 3], [[3, 2, 1]]),
        ("rgba8", 1, [1, 2, 3, 77], [[1, 2, 3]]),
        ("bgra8", 1, [1, 2, 3, 77], [[3, 2, 1]]),
        ("8UC4", 1, [1, 2, 3, 77], [[3, 2, 1]]),
        ("mono8", 2, [7, 255], [[7] * 3, [255] * 3]),
        ("8UC1", 1, [9], [[9] * 3]),
        ("mono16", 3, [0x00, 0x80, 0xFF, 0xFF, 129, 0], [[128] * 3, [255] * 3, [1] * 3]),  # 32768, 65535, 129 / 257
        ("mono16", 1, [128, 0], [[0] * 3]),  # 128 / 257 rounds down
        ("16UC1", 3, [0, 0, 232, 3, 208, 7], [[0] * 3, [0] * 3, [255] * 3]),  # no return, nearest, farthest
        ("16UC1", 2, [5, 0, 5, 0], [[0] * 3, [0] * 3]),  # flat
    ],
)
def test_literal_pixels(encoding, width, data, expected):
    assert image_to_rgb(message(encoding, data, width, 1)).tolist() == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1.0, 0.5], [0, 255, 128]),
        ([np.nan, 2.0, 4.0], [0, 0, 255]),
        ([np.inf, -np.inf, 3.0, 1.0], [0, 0, 255, 0]),
        ([np.nan, np.nan], [0, 0]),
        ([7.0, 7.0], [0, 0]),
        ([-3e38, 3e38], [0, 255]),
    ],
)
def test_float_images_are_stretched_and_nan_becomes_zero(values, expected):
    msg = message("32FC1", np.array(values, "<f4").tobytes(), len(values), 1)
    assert image_to_rgb(msg)[0].tolist() == [[v] * 3 for v in expected]


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("uyvy", "uyvy"), ("yuv422", "uyvy"), ("yuyv", "yuyv"), ("yuv422_yuy2", "yuyv")],
)
def test_yuv422_against_the_formula(encoding, order):
    y0, y1, u, v = 50, 200, 90, 170
    luma = iter((y0, y1))
    data = [{"y": lambda: next(luma), "u": lambda: u, "v": lambda: v}[c]() for c in order]
    rgb = image_to_rgb(message(encoding, data, 2, 1))
    np.testing.assert_allclose(rgb[0], [yuv_pixel(y0, u, v), yuv_pixel(y1, u, v)], atol=1)


@pytest.mark.parametrize(("encoding", "chroma"), [("nv12", (90, 170)), ("nv21", (170, 90))])
def test_nv12_and_nv21_against_the_formula(encoding, chroma):
    luma = [30, 60, 120, 240]
    rgb = image_to_rgb(message(encoding, [*luma, *chroma], 2, 2, step=2))
    expected = [yuv_pixel(y, 90, 170) for y in luma]
    np.testing.assert_allclose(rgb.reshape(4, 3), expected, atol=1)


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_recovers_a_uniform_colour(pattern):
    colour = {"r": 200, "g": 120, "b": 40}
    mosaic = np.array([[colour[c] for c in pattern[:2]], [colour[c] for c in pattern[2:]]], np.uint8)
    rgb = image_to_rgb(message(f"bayer_{pattern}8", np.tile(mosaic, (3, 4)).tobytes(), 8, 6))
    assert (rgb == [200, 120, 40]).all()


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@settings(max_examples=15, deadline=None)
@given(rows=st.integers(2, 6), cols=st.integers(2, 6), pad=st.integers(0, 5), seed=st.integers(0, 99))
def test_row_padding_is_ignored(encoding, rows, cols, pad, seed):
    padded = random_message(encoding, 2 * cols, 2 * rows, pad=pad, seed=seed)
    lines = np.frombuffer(padded.data, np.uint8).reshape(-1, padded.step)
    tight = message(
        encoding, lines[:, : padded.step - pad].tobytes(), padded.width, padded.height, step=padded.step - pad
    )
    rgb = image_to_rgb(padded)
    assert rgb.flags.c_contiguous
    assert rgb.dtype == np.uint8
    assert rgb.shape == (2 * rows, 2 * cols, 3)
    np.testing.assert_array_equal(rgb, image_to_rgb(tight))


@pytest.mark.parametrize(("encoding", "dtype"), [("mono16", "u2"), ("16UC1", "u2"), ("32FC1", "f4")])
@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.integers(0, 65535), min_size=1, max_size=12), pad=st.integers(0, 3))
def test_byte_order_does_not_change_the_pixels(encoding, dtype, values, pad):
    def build(order, bigendian):
        return message(
            encoding, np.array(values, order + dtype).tobytes() + b"\xab" * pad, len(values), 1, bigendian=bigendian
        )

    np.testing.assert_array_equal(image_to_rgb(build("<", 0)), image_to_rgb(build(">", 1)))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8"])
@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9), seed=st.integers(0, 99))
def test_rgb_round_trip(encoding, height, width, seed):
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    header = Header(frame_id="cam")
    msg = rgb_to_image(rgb, header, encoding)
    assert (msg.encoding, msg.header.frame_id, msg.step) == (encoding, "cam", 3 * width)
    np.testing.assert_array_equal(image_to_rgb(msg), rgb)


@pytest.mark.parametrize(("dtype", "encoding"), [(np.uint8, "mono8"), (np.uint16, "mono16")])
def test_masks_keep_their_values(dtype, encoding):
    mask = np.array([[0, 1, 255], [254, 2, 128]], dtype) * (1 if dtype == np.uint8 else 256)
    msg = mask_to_image(mask[:, ::-1], Header())  # not contiguous
    assert msg.encoding == encoding
    np.testing.assert_array_equal(np.frombuffer(msg.data, dtype).reshape(2, 3), mask[:, ::-1])


def test_the_result_is_independent_of_the_message():
    msg = message("rgb8", [1, 2, 3], 1, 1)
    image_to_rgb(msg)[:] = 0
    assert list(msg.data) == [1, 2, 3]


@pytest.mark.parametrize(
    ("fields", "cause", "words"),
    [
        ({"encoding": "rgb10"}, "encoding", r"'rgb10'.*supported: rgb8, .*nv12"),
        ({"encoding": ""}, "encoding", "''"),
        ({"height": 0, "data": array("B")}, "size", "2x0.*at least 1"),
        ({"width": 0}, "size", "0x2"),
        ({"data": array("B", bytes(11))}, "size", "holds 11 bytes, expected 12"),
        ({"data": array("B", bytes(13))}, "size", "holds 13 bytes, expected 12"),
        ({"data": array("B")}, "size", "holds 0 bytes"),
        ({"step": 5, "data": array("B", bytes(10))}, "size", "step is 5 bytes, a row needs at least 6"),
        ({"step": 0}, "size", "step is 0"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "size", "4294967295x4294967295"),
        ({"encoding": "nv12", "width": 3, "step": 3}, "size", "3x2.*width and height must be even"),
        ({"encoding": "nv21", "height": 3}, "size", "2x3.*must be even"),
        ({"encoding": "nv12", "step": 2, "data": array("B", bytes(4))}, "size", "4 bytes, expected 6"),
        ({"encoding": "yuyv", "width": 3}, "size", "3x2.*width must be even"),
        ({"encoding": "bayer_rggb8"}, "size", "2x2.*at least 3"),
    ],
)
def test_bad_messages_are_named_and_counted_by_cause(fields, cause, words):
    good = {"encoding": "rgb8", "height": 2, "width": 2, "step": 6, "data": array("B", bytes(12))}
    with pytest.raises(ImageMessageError, match=words) as error:
        image_to_rgb(Image(**{**good, **fields}))
    assert error.value.cause == cause
    assert isinstance(error.value, InputError)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: rgb_to_image(np.zeros((2, 2), np.uint8), Header()), "RGB uint8"),
        (lambda: rgb_to_image(np.zeros((2, 2, 3), np.uint8), Header(), "yuv422"), "'yuv422'"),
        (lambda: mask_to_image(np.zeros((2, 2), bool), Header()), "bool"),
        (lambda: mask_to_image(np.zeros((0, 2), np.uint8), Header()), "non-empty"),
        (lambda: rgb_to_compressed(np.zeros((1, 70000, 3), np.uint8), Header()), "70000x1"),
    ],
)
def test_what_cannot_be_sent_is_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
def test_smallest_and_large_images(encoding):
    layout = ENCODINGS[encoding]
    small = max(layout.minimum, 2 if any(layout.even) else 1)
    for width, height in ((small, small), (4000, 3000)):
        assert image_to_rgb(random_message(encoding, width, height)).shape == (height, width, 3)


def test_stretch_against_a_loop():
    values = np.array([[3, 0, 9], [5, 0, 200]], np.uint16)
    measured = [v for v in values.ravel() if v]
    slow = [
        round((v - min(measured)) * 255 / (max(measured) - min(measured))) if v else 0 for v in values.ravel().tolist()
    ]
    assert stretch(values, values > 0).ravel().tolist() == slow


def test_filling_a_message_is_quick():
    """An ndarray assigned to `data` is checked element by element, 80 ms and more for this size; an array is not."""
    few, many = (np.zeros((*size, 3), np.uint8) for size in ((4, 6), (48, 64)))
    rgb_to_image(few, Header())
    assert count_calls(lambda: rgb_to_image(few, Header())) == count_calls(lambda: rgb_to_image(many, Header()))


@pytest.mark.parametrize("encoding", sorted(conversions.CV_BRIDGE_ENCODINGS))
def test_same_pixels_as_cv_bridge(encoding):
    conversions._find_cv_bridge.cache_clear()
    bridge = conversions._find_cv_bridge()
    if bridge is None:
        pytest.skip("cv_bridge does not import cleanly here")
    msg = random_message(encoding, 32, 24)
    own = decode(np.frombuffer(msg.data, np.uint8), encoding, height=24, width=32, step=msg.step)
    np.testing.assert_array_equal(own, bridge.imgmsg_to_cv2(msg, "rgb8"))


def test_a_broken_cv_bridge_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "cv_bridge.py").write_text("raise AttributeError('_ARRAY_API not found')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)
    conversions._find_cv_bridge.cache_clear()
    try:
        assert conversions._find_cv_bridge() is None
        assert image_to_rgb(message("bgr8", [1, 2, 3], 1, 1)).tolist() == [[[3, 2, 1]]]
    finally:
        conversions._find_cv_bridge.cache_clear()
        sys.modules.pop("cv_bridge", None)
