"""sensor_msgs/Image pixel encodings to RGB, in NumPy and OpenCV only.

The rows of a message are `step` bytes apart and hold `width` pixels; NV12 and NV21 append half as many rows of
interleaved chroma. The pixels are those of cv_bridge's `imgmsg_to_cv2(msg, "rgb8")` for every encoding it converts.
The encodings without a colour meaning are read by these rules:

- `8UC1` is grey, `8UC3` and `8UC4` are OpenCV's order, BGR and BGRA; alpha is dropped.
- `mono16` is an intensity: 0..65535 to 0..255, rounded.
- `16UC1` and `32FC1` are measurements such as depth (REP 118): the valid values of the image are stretched to 0..255
  (a single value throughout becomes 0); what is no measurement becomes 0: zero in `16UC1`, NaN and infinity in `32FC1`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError

Pixels = npt.NDArray[Any]
RgbImage = npt.NDArray[np.uint8]


class ImageMessageError(InputError):
    """A message that holds no usable image.

    Args:
        cause: Why, as the node counts it: "encoding", "size" or "decode".
        message: The value and the constraint it breaks.
    """

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


@dataclass(frozen=True)
class Encoding:
    """How the bytes of one encoding become RGB.

    Args:
        channels: Samples per pixel in a row (of the luma plane for NV12 and NV21).
        convert: [H, W] or [H, W, channels] samples to RGB uint8 [H, W, 3].
        dtype: Type of one sample.
        even: Whether (height, width) must be even, because chroma is shared by neighbours.
        minimum: Shortest side that the conversion can handle.
        half_planes: Planes of `height / 2` rows in the data: 2 for a plane of full height, 3 with NV12's chroma.
    """

    channels: int
    convert: Callable[[Pixels], RgbImage]
    dtype: type[np.generic] = np.uint8
    even: tuple[bool, bool] = (False, False)
    minimum: int = 1
    half_planes: int = 2


def _cvt(code: int) -> Callable[[Pixels], RgbImage]:
    return lambda pixels: cv2.cvtColor(pixels, code).astype(np.uint8, copy=False)


def _mono16(pixels: Pixels) -> RgbImage:
    return _grey_to_rgb(cv2.convertScaleAbs(pixels, alpha=255 / 65535))


def _depth16(pixels: Pixels) -> RgbImage:
    return _grey_to_rgb(stretch(pixels, pixels > 0))


def _float32(pixels: Pixels) -> RgbImage:
    return _grey_to_rgb(stretch(pixels, np.isfinite(pixels)))


_grey_to_rgb = _cvt(cv2.COLOR_GRAY2RGB)


def stretch(values: Pixels, valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Map the valid values linearly from their own range to 0..255, rounded; all else, and a flat image, to 0.

    Args:
        values: Any real dtype [H, W].
        valid: bool [H, W], where `values` are measurements.

    Returns:
        uint8 [H, W].
    """
    if not valid.any():
        return np.zeros(values.shape, np.uint8)
    low, high, _, _ = cv2.minMaxLoc(values, valid.view(np.uint8))
    grey = np.where(valid, values, low).astype(np.float64)
    grey -= low
    grey *= 255.0 / (high - low) if high > low else 0.0
    return np.rint(grey, out=grey).astype(np.uint8)


_BGR = Encoding(3, _cvt(cv2.COLOR_BGR2RGB))
_BGRA = Encoding(4, _cvt(cv2.COLOR_BGRA2RGB))
_GREY = Encoding(1, _grey_to_rgb)
_UYVY = Encoding(2, _cvt(cv2.COLOR_YUV2RGB_UYVY), even=(False, True))
_YUYV = Encoding(2, _cvt(cv2.COLOR_YUV2RGB_YUY2), even=(False, True))


def _bayer(code: int) -> Encoding:
    # OpenCV returns black below 3x3, where there is nothing to interpolate from.
    return Encoding(1, _cvt(code), minimum=3)


def _semi_planar(code: int) -> Encoding:
    return Encoding(1, _cvt(code), even=(True, True), half_planes=3)


ENCODINGS: dict[str, Encoding] = {
    "rgb8": Encoding(3, np.ascontiguousarray),
    "bgr8": _BGR,
    "rgba8": Encoding(4, _cvt(cv2.COLOR_RGBA2RGB)),
    "bgra8": _BGRA,
    "mono8": _GREY,
    "mono16": Encoding(1, _mono16, np.uint16),
    "8UC1": _GREY,
    "8UC3": _BGR,
    "8UC4": _BGRA,
    "16UC1": Encoding(1, _depth16, np.uint16),
    "32FC1": Encoding(1, _float32, np.float32),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _semi_planar(cv2.COLOR_YUV2RGB_NV12),
    "nv21": _semi_planar(cv2.COLOR_YUV2RGB_NV21),
    "bayer_rggb8": _bayer(cv2.COLOR_BayerRGGB2RGB),
    "bayer_bggr8": _bayer(cv2.COLOR_BayerBGGR2RGB),
    "bayer_gbrg8": _bayer(cv2.COLOR_BayerGBRG2RGB),
    "bayer_grbg8": _bayer(cv2.COLOR_BayerGRBG2RGB),
}


def check_layout(encoding: str, height: int, width: int, step: int, length: int) -> Encoding:
    """Look up an encoding and check that an image of these sizes fits it.

    Args:
        encoding: Name as in sensor_msgs/image_encodings.
        height: Rows of the picture.
        width: Pixels in a row.
        step: Bytes from one row to the next.
        length: Bytes of data.

    Raises:
        ImageMessageError: Unknown encoding, an empty image, or sizes that contradict each other.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise ImageMessageError("encoding", f"unknown encoding {encoding!r}, supported: {', '.join(ENCODINGS)}")
    size = f"{encoding} image of {width}x{height} pixels"
    if min(height, width) < layout.minimum:
        raise ImageMessageError("size", f"{size}: each side must be at least {layout.minimum}")
    if (layout.even[0] and height % 2) or (layout.even[1] and width % 2):
        sides = "width and height" if layout.even[0] else "width"
        raise ImageMessageError("size", f"{size}: {sides} must be even")
    row = width * layout.channels * np.dtype(layout.dtype).itemsize
    if step < row:
        raise ImageMessageError("size", f"{size}: step is {step} bytes, a row needs at least {row}")
    expected = step * height * layout.half_planes // 2
    if length != expected:
        raise ImageMessageError("size", f"{size}, step {step}: data holds {length} bytes, expected {expected}")
    return layout


def decode(
    data: npt.NDArray[np.uint8], encoding: str, *, height: int, width: int, step: int, big_endian: bool = False
) -> RgbImage:
    """Convert the bytes of a sensor_msgs/Image to RGB.

    Args:
        data: uint8 [n], the message's data.
        encoding: A key of `ENCODINGS`.
        height: Rows of the picture.
        width: Pixels in a row.
        step: Bytes from one row to the next; padding at the end of a row is ignored.
        big_endian: Byte order of samples wider than a byte.

    Returns:
        Contiguous uint8 [height, width, 3], independent of `data`.

    Raises:
        ImageMessageError: See `check_layout`.
    """
    layout = check_layout(encoding, height, width, step, data.size)
    itemsize = np.dtype(layout.dtype).itemsize
    rows = data.reshape(-1, step)[:, : width * layout.channels * itemsize]
    if itemsize > 1:
        rows = np.ascontiguousarray(rows).view(layout.dtype)
        if big_endian != (sys.byteorder == "big"):
            rows = rows.byteswap()
    pixels = rows.reshape(len(rows), width, layout.channels) if layout.channels > 1 else rows
    rgb = layout.convert(pixels)
    return rgb.copy() if np.shares_memory(rgb, data) else rgb
