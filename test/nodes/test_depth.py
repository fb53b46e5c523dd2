"""Depth images and cameras from messages: metres, and plain words about what cannot be read."""

import struct

import cv2
import numpy as np
import pytest

pytest.importorskip("sensor_msgs")
from rvl_making import rvl
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest

from objloc_ros.nodes.conversions import ImageMessageError
from objloc_ros.nodes.depth import decode_depth, decode_mask, make_camera

MILLIMETRES = np.array([[0, 1, 1500, 1500], [65535, 0, 0, 700], [700, 700, 42, 0]], np.uint16)
METRES = np.array([[np.nan, 0.5, 2.25], [np.inf, 0, 9.75]], np.float32)


def image(samples, encoding, **changes):
    msg = Image(height=samples.shape[0], width=samples.shape[1], encoding=encoding, step=samples.nbytes // len(samples))
    msg.data = samples.tobytes()
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def compressed(form, payload, a=0.0, b=0.0):
    return CompressedImage(format=form, data=struct.pack("<iff", 0, a, b) + payload)


def png(samples):
    return cv2.imencode(".png", samples)[1].tobytes()


def quantise(metres, depth_max=10.0, quantization=100.0):
    """32FC1 as compressed_depth_image_transport stores it: (samples, a, b)."""
    a = quantization * (quantization + 1)
    b = 1 - a / depth_max
    known = np.isfinite(metres) & (metres > 0) & (metres < depth_max)
    return np.where(known, a / np.where(known, metres, 1) + b, 0).astype(np.uint16), a, b


def test_millimetres_become_metres():
    depth = decode_depth(image(MILLIMETRES, "16UC1"))
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, MILLIMETRES / 1000, rtol=1e-6)


def test_metres_stay_with_what_is_no_measurement():
    np.testing.assert_array_equal(decode_depth(image(METRES, "32FC1")), METRES)


def test_padded_rows_and_the_other_byte_order_are_read():
    padded = np.zeros((3, 6), ">u2")
    padded[:, :4] = MILLIMETRES
    depth = decode_depth(image(padded, "16UC1", width=4, is_bigendian=1))
    np.testing.assert_allclose(depth, MILLIMETRES / 1000, rtol=1e-6)


@pytest.mark.parametrize("codec", ["", "; compressedDepth", "; compressedDepth png", "; compressedDepth rvl"])
def test_compressed_millimetres_are_those_that_were_sent(codec):
    payload = rvl(MILLIMETRES) if "rvl" in codec else png(MILLIMETRES)
    np.testing.assert_allclose(decode_depth(compressed(f"16UC1{codec}", payload)), MILLIMETRES / 1000, rtol=1e-6)


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_compressed_metres_are_those_of_the_inverse_depth(codec):
    samples, a, b = quantise(METRES)
    depth = decode_depth(compressed(f"32FC1; compressedDepth {codec}", {"png": png, "rvl": rvl}[codec](samples), a, b))
    known = np.isfinite(METRES) & (METRES > 0)
    np.testing.assert_allclose(depth[known], METRES[known], atol=0.01)  # one step at 9.75 m is 9 mm
    assert np.isnan(depth[~known]).all()


@pytest.mark.parametrize("empty", [True, False])
def test_rvl_of_a_whole_image(empty):
    rng = np.random.default_rng(0)
    samples = (2000 + 500 * np.sin(np.arange(640) / 50) + rng.integers(-3, 4, (480, 640))).astype(np.uint16)
    samples[rng.random((480, 640)) < 0.2] = 0
    samples[:, 600:] = 0
    samples *= not empty
    depth = decode_depth(compressed("16UC1; compressedDepth rvl", rvl(samples)))
    np.testing.assert_allclose(depth, samples / 1000, rtol=1e-6)


@pytest.mark.parametrize(
    ("msg", "cause", "words"),
    [
        (image(np.zeros((2, 2, 3), np.uint8), "bgr8"), "encoding", "must be 16UC1 or 32FC1, got 'bgr8'"),
        (image(MILLIMETRES, "16UC1", data=b"\0" * 23), "size", "data holds 23 bytes, expected 24"),
        (compressed("bgr8; jpeg compressed bgr8", b"\xff\xd8"), "encoding", "of format 'bgr8; jpeg compressed bgr8'"),
        (compressed("16UC1; compressedDepth zstd", b"\0"), "encoding", "'16UC1; compressedDepth zstd'"),
        (CompressedImage(format="16UC1; compressedDepth png", data=b"\0" * 12), "decode", "12 bytes: its header alone"),
        (CompressedImage(format="16UC1; compressedDepth png"), "decode", "0 bytes"),
        (compressed("16UC1; compressedDepth png", png(MILLIMETRES)[:-20]), "decode", "truncated"),
        (compressed("16UC1; compressedDepth png", b"no picture"), "encoding", "expected JPEG or PNG"),
        (compressed("16UC1; compressedDepth png", png(np.zeros((2, 2), np.uint8))), "decode", "got uint8 (2, 2)"),
        (compressed("16UC1; compressedDepth rvl", rvl(MILLIMETRES)[:-4]), "decode", "truncated or damaged: 4x3"),
        (compressed("16UC1; compressedDepth rvl", b"\1\2\3"), "decode", "an image of 0x0"),
        (compressed("16UC1; compressedDepth rvl", b"\xff" * 40), "decode", "an image of 4294967295x4294967295"),
        (compressed("16UC1; compressedDepth rvl", struct.pack("<II", 4, 3) + b"\xff" * 40), "decode", "damaged"),
        (compressed("16UC1; compressedDepth rvl", struct.pack("<II", 4, 3) + b"\x77" * 40), "decode", "damaged"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_cause(msg, cause, words):
    with pytest.raises(ImageMessageError) as caught:
        decode_depth(msg)
    assert caught.value.cause == cause
    assert words in str(caught.value)


def test_damaged_png_of_the_right_ends_is_refused():
    data = bytearray(png(MILLIMETRES))
    data[45:55] = bytes(10)
    with pytest.raises(ImageMessageError) as caught:
        decode_depth(compressed("16UC1; compressedDepth png", bytes(data)))
    assert caught.value.cause == "decode"


@pytest.mark.parametrize(("encoding", "dtype"), [("mono8", np.uint8), ("8UC1", np.uint8), ("mono16", np.uint16)])
def test_masks_keep_their_ids(encoding, dtype):
    ids = np.array([[0, 1, 255]], dtype)
    got = decode_mask(image(ids, encoding))
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, ids)


def test_a_mask_of_colours_is_refused():
    with pytest.raises(ImageMessageError, match="a mask must be mono8 or 8UC1 or mono16 or 16UC1, got 'rgb8'"):
        decode_mask(image(np.zeros((1, 1, 3), np.uint8), "rgb8"))


def info(**changes):
    msg = CameraInfo(width=640, height=480, distortion_model="plumb_bob", d=[0.1, -0.2, 0.001, 0.002, 0.0])
    msg.k = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
    msg.p = [480.0, 0, 310, 0, 0, 490, 230, 0, 0, 0, 1, 0]
    for name, value in changes.items():
        setattr(msg, name, value)
    return msg


def test_raw_images_have_k_and_d_and_rectified_ones_p():
    camera = make_camera(info(), rectified=False)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 510, 320, 240)
    assert camera.distortion_model == "plumb_bob"
    assert camera.distortion == (0.1, -0.2, 0.001, 0.002, 0.0)
    camera = make_camera(info(), rectified=True)
    assert (camera.fx, camera.fy, camera.cx, camera.cy, camera.distortion) == (480, 490, 310, 230, ())


def test_binned_images_have_fewer_pixels():
    camera = make_camera(info(binning_x=2, binning_y=4), rectified=False)
    assert (camera.width, camera.height) == (320, 120)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (250, 127.5, 160, 60)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"k": [0.0] * 9}, "a K of zeros"),
        ({"k": [float("nan")] * 9}, "fx"),
        ({"k": [-500.0, 0, 320, 0, 510, 240, 0, 0, 1]}, "-500"),
        ({"width": 0}, "width"),
        ({"distortion_model": "kannala_brandt"}, "kannala_brandt"),
        ({"d": [0.1, 0.2]}, "plumb_bob"),
        ({"roi": RegionOfInterest(width=100, height=80)}, "region of interest of 100x80"),
    ],
)
def test_cameras_that_say_nothing_usable_are_refused(changes, words):
    with pytest.raises(ImageMessageError, match=words) as caught:
        make_camera(info(**changes), rectified=False)
    assert caught.value.cause == "camera_info"


def test_a_rectified_camera_needs_a_p():
    with pytest.raises(ImageMessageError, match="a P of zeros"):
        make_camera(info(p=[0.0] * 12), rectified=True)


@pytest.mark.parametrize(
    ("model", "count"), [("plumb_bob", 5), ("rational_polynomial", 8), ("equidistant", 4), ("plumb_bob", 0)]
)
def test_ros_models_of_distortion_are_known(model, count):
    camera = make_camera(info(distortion_model=model, d=[0.01] * count), rectified=False)
    assert len(camera.distortion) == count
