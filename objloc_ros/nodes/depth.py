"""Depth images, masks of ids and camera descriptions, from messages: what their numbers mean is kept.

Depth is what REP 118 says: `16UC1` holds millimetres, 0 where there is none; `32FC1` metres, NaN or infinity where
there is none. `compressedDepth` is the format of image_transport_plugins' compressed_depth_image_transport (read in its
codec.cpp at 0b0e019): `format` names the encoding, then "compressedDepth png" or "compressedDepth rvl", or nothing for
PNG; the data begin with 12 bytes, an int32 and two float32 `a` and `b`, little endian. 16UC1 follows as it is. 32FC1 is
quantised: a sample `q` stands for `a / (q - b)` metres, 0 for none.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from objloc_ros.errors import InputError
from objloc_ros.nodes.conversions import ImageMessageError, check_complete, check_layout, read_rows
from objloc_ros.ops.point_clouds import CameraModel

Depth = npt.NDArray[np.float32]

DEPTH_ENCODINGS = ("16UC1", "32FC1")
MASK_ENCODINGS = ("mono8", "8UC1", "mono16", "16UC1")

HEADER = np.dtype([("format", "<i4"), ("a", "<f4"), ("b", "<f4")])
"""Of compressedDepth, before the picture."""

MAX_PIXELS = 1 << 26
"""Of a picture whose size its data do not bound."""

CAMERA_INFO = "camera_info"


def decode_depth(msg: Image | CompressedImage) -> Depth:
    """Read a depth image.

    Args:
        msg: 16UC1 or 32FC1, or compressedDepth of either.

    Returns:
        Metres, float32 [H, W]; 0, NaN or infinity where there is no measurement.

    Raises:
        ImageMessageError: Another encoding, sizes that contradict each other, or data that cannot be decoded.
    """
    if isinstance(msg, CompressedImage):
        return _decompress(np.frombuffer(msg.data, np.uint8), msg.format)
    return to_metres(_read_samples(msg, "a depth image", DEPTH_ENCODINGS))


def decode_mask(msg: Image) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Read a mask of ids, uint8 or uint16 [H, W].

    Raises:
        ImageMessageError: Another encoding than mono8 and mono16 (8UC1, 16UC1), or sizes that contradict each other.
    """
    return _read_samples(msg, "a mask", MASK_ENCODINGS)


def to_metres(samples: npt.NDArray[Any]) -> Depth:
    """Return uint16 millimetres [H, W] as metres; float32 metres as they are."""
    return samples * np.float32(1e-3) if samples.dtype == np.uint16 else samples.astype(np.float32, copy=False)


def make_camera(msg: CameraInfo, *, rectified: bool) -> CameraModel:
    """Describe the camera of an image of the full sensor, or of a binned one.

    Args:
        msg: K and D are of the image as it comes, P is of the rectified one.
        rectified: Whether the image is rectified.

    Raises:
        ImageMessageError: With the cause "camera_info": no calibration, an unknown distortion, or a part of the sensor.
    """
    region = msg.roi
    if region.width and (region.width, region.height) != (msg.width, msg.height):
        size = f"{region.width}x{region.height}"
        raise ImageMessageError(
            CAMERA_INFO, f"camera_info has a region of interest of {size}: the whole image is needed"
        )
    k = [float(value) for value in (msg.p if rectified else msg.k)]
    fx, cx, fy, cy = (k[0], k[2], k[5], k[6]) if rectified else (k[0], k[2], k[4], k[5])
    if not any(k):
        raise ImageMessageError(
            CAMERA_INFO, f"camera_info has a {'P' if rectified else 'K'} of zeros: calibrate the camera"
        )
    x, y = max(msg.binning_x, 1), max(msg.binning_y, 1)
    distortion = () if rectified else tuple(float(value) for value in msg.d)
    model = "" if rectified else msg.distortion_model
    try:
        return CameraModel(msg.width // x, msg.height // y, fx / x, fy / y, cx / x, cy / y, distortion, model)
    except InputError as error:
        raise ImageMessageError(CAMERA_INFO, f"camera_info: {error}") from error


def _read_samples(msg: Image, what: str, encodings: tuple[str, ...]) -> npt.NDArray[Any]:
    if msg.encoding not in encodings:
        raise ImageMessageError("encoding", f"{what} must be {' or '.join(encodings)}, got {msg.encoding!r}")
    data = np.frombuffer(msg.data, np.uint8)
    layout = check_layout(msg.encoding, msg.height, msg.width, msg.step, data.size)
    return read_rows(data, layout, width=msg.width, step=msg.step, big_endian=bool(msg.is_bigendian))


def _decompress(data: npt.NDArray[np.uint8], name: str) -> Depth:
    encoding, _, rest = (part.strip() for part in name.partition(";"))
    codecs = {
        "": _read_png,
        "compressedDepth": _read_png,
        "compressedDepth png": _read_png,
        "compressedDepth rvl": read_rvl,
    }
    if encoding not in DEPTH_ENCODINGS or rest not in codecs:
        raise ImageMessageError(
            "encoding",
            f"depth of format {name!r} must be 16UC1 or 32FC1 as 'compressedDepth png' or 'compressedDepth rvl'",
        )
    if data.size <= HEADER.itemsize:
        raise ImageMessageError(
            "decode", f"compressed depth of {data.size} bytes: its header alone has {HEADER.itemsize}"
        )
    header = data[: HEADER.itemsize].view(HEADER)[0]
    samples = codecs[rest](data[HEADER.itemsize :])
    if encoding == "16UC1":
        return to_metres(samples)
    valid = (samples > 0) & (samples != header["b"])
    depth = np.full(samples.shape, np.nan, np.float32)
    depth[valid] = header["a"] / (samples[valid].astype(np.float32) - header["b"])
    return depth


def _read_png(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    check_complete(data.tobytes(), "compressedDepth png")
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        pixels = None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        what = "no picture" if pixels is None else f"{pixels.dtype} {pixels.shape}"
        raise ImageMessageError("decode", f"compressed depth must be a PNG of one channel of 16 bits, got {what}")
    return pixels.astype(np.uint16, copy=False)


def read_rvl(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    """Decode RVL (Wilson, "Fast lossless depth image compression", ISS 2017).

    Runs of zeros and of other values take turns; values are differences from the one before. Every number is a chain of
    nibbles, three bits each, the lowest first, whose fourth bit says that more follow; eight nibbles make a word.

    Args:
        data: uint8 [n]: width and height as uint32, then 32-bit words, little endian.

    Returns:
        uint16 [H, W].

    Raises:
        ImageMessageError: Truncated, or no such data.
    """
    width, height = (int(side) for side in data[:8].view("<u4")) if data.size >= 8 else (0, 0)
    count = width * height
    if not 0 < count <= MAX_PIXELS:
        raise ImageMessageError("decode", f"RVL of {data.size} bytes says it is an image of {width}x{height} pixels")
    numbers = _read_chains(data[8:])
    deltas, is_set = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    at = position = 0
    while position < count and at + 1 < len(numbers):
        start, run = position + int(numbers[at]), int(numbers[at + 1])
        position, given = start + run, numbers[at + 2 : at + 2 + run]
        if position > count or len(given) < run:
            break
        deltas[start:position] = (given >> 1) ^ -(given & 1)
        is_set[start:position] = True
        at += 2 + run
    values = np.cumsum(deltas) * is_set
    if position != count or values.min() < 0 or values.max() > np.iinfo(np.uint16).max:
        raise ImageMessageError("decode", f"RVL of {data.size} bytes is truncated or damaged: {width}x{height} pixels")
    return values.astype(np.uint16).reshape(height, width)


def _read_chains(data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the numbers in the words of RVL data, int64 [n]; a chain that does not end is left out."""
    words = data[: data.size // 4 * 4].view("<u4")
    nibbles = (words[:, None] >> np.arange(28, -1, -4, dtype=np.uint32) & 15).ravel()
    ends = np.flatnonzero(nibbles < 8)
    if not len(ends):
        return np.zeros(0, np.int64)
    starts = np.concatenate(([0], ends[:-1] + 1))
    within = np.arange(ends[-1] + 1) - np.repeat(starts, ends - starts + 1)
    shifts = np.minimum(3 * within, 33)
    return np.add.reduceat((nibbles[: ends[-1] + 1] & 7).astype(np.int64) << shifts, starts)
