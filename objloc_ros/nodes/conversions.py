"""Image messages to RGB arrays and back.

cv_bridge converts where it works (it is not on PyPI, and its builds for NumPy 1 break under NumPy 2). Elsewhere,
`decode` gives the same pixels in NumPy and OpenCV, and reads what cv_bridge lacks: padded rows, byte order, NV12, and
the encodings without a colour meaning, by these rules:

- `8UC1` is grey, `8UC3` and `8UC4` are OpenCV's order, BGR and BGRA; alpha is dropped.
- `mono16` is an intensity: 0..65535 to 0..255, rounded.
- `16UC1` and `32FC1` are measurements such as depth (REP 118): the valid values of the image are stretched to 0..255
  (a single value throughout becomes 0); what is no measurement becomes 0: zero in `16UC1`, NaN and infinity in `32FC1`.

The rows of a message are `step` bytes apart and hold `width` pixels; NV12 and NV21 append half as many rows of
interleaved chroma.
"""

from __future__ import annotations

import functools
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage, Image

from objloc_ros.errors import InputError
from objloc_ros.types import check_image

if TYPE_CHECKING:
    from std_msgs.msg import Header

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
    rows = read_rows(data, layout, width=width, step=step, big_endian=big_endian)
    pixels = rows.reshape(len(rows), width, layout.channels) if layout.channels > 1 else rows
    rgb = layout.convert(pixels)
    return rgb.copy() if np.shares_memory(rgb, data) else rgb


def read_rows(data: npt.NDArray[np.uint8], layout: Encoding, *, width: int, step: int, big_endian: bool) -> Pixels:
    """Return the samples of an image that fits its encoding, [rows, width * channels] of the encoding's dtype.

    Args:
        data: uint8 [n], the message's data.
        layout: The encoding, as `check_layout` returned it.
        width: Pixels in a row.
        step: Bytes from one row to the next.
        big_endian: Byte order of samples wider than a byte.
    """
    itemsize = np.dtype(layout.dtype).itemsize
    rows: Pixels = data.reshape(-1, step)[:, : width * layout.channels * itemsize]
    if itemsize > 1:
        rows = np.ascontiguousarray(rows).view(layout.dtype)
        if big_endian != (sys.byteorder == "big"):
            rows = rows.byteswap()
    return rows


CV_BRIDGE_ENCODINGS = frozenset(
    {"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "mono16", "yuv422", "yuv422_yuy2"}
    | {name for name in ENCODINGS if name.startswith("bayer_")}
)
"""What every cv_bridge from Humble on converts to rgb8."""

_JPEG_SOI, _JPEG_EOI = b"\xff\xd8", b"\xff\xd9"
_PNG_SIGNATURE, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"


def image_to_rgb(msg: Image) -> RgbImage:
    """Convert an image message to RGB.

    Args:
        msg: Any encoding of `ENCODINGS`; `step` and `is_bigendian` are honoured.

    Returns:
        Contiguous uint8 [H, W, 3] that shares no memory with the message.

    Raises:
        ImageMessageError: Unknown encoding or sizes that contradict each other.
    """
    data = np.frombuffer(msg.data, np.uint8)
    bridge = _find_cv_bridge() if msg.encoding in CV_BRIDGE_ENCODINGS else None
    if bridge is not None and not msg.is_bigendian:
        layout = check_layout(msg.encoding, msg.height, msg.width, msg.step, data.size)
        if msg.step == msg.width * layout.channels * np.dtype(layout.dtype).itemsize:
            return np.array(bridge.imgmsg_to_cv2(msg, "rgb8"), np.uint8)
    return decode(
        data, msg.encoding, height=msg.height, width=msg.width, step=msg.step, big_endian=bool(msg.is_bigendian)
    )


@functools.cache
def _find_cv_bridge() -> Any | None:
    """Find this machine's CvBridge; None unless it converts a pixel correctly."""
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        probe = Image(height=1, width=1, encoding="bgr8", step=3, data=array("B", (1, 2, 3)))
        works = bridge.imgmsg_to_cv2(probe, "rgb8").tolist() == [[[3, 2, 1]]]
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError):
        return None
    return bridge if works else None


def compressed_to_rgb(msg: CompressedImage) -> RgbImage:
    """Decode a JPEG or PNG message, in the orientation of its pixels (EXIF is ignored: boxes refer to pixels).

    Args:
        msg: `format` is only used in messages: the data say what they are. 16-bit PNG is scaled like `mono16`.

    Returns:
        Contiguous uint8 [H, W, 3].

    Raises:
        ImageMessageError: Neither JPEG nor PNG, truncated, or not decodable.
    """
    data = np.frombuffer(msg.data, np.uint8)
    check_complete(data.tobytes(), msg.format)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageMessageError("decode", f"cannot decode {data.size} bytes of {msg.format!r}: {error.err}") from error
    if pixels is None:
        raise ImageMessageError("decode", f"cannot decode {data.size} bytes of {msg.format!r}")
    if pixels.dtype == np.uint16:
        pixels = cv2.convertScaleAbs(pixels, alpha=255 / 65535)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return ENCODINGS[{1: "mono8", 3: "bgr8", 4: "bgra8"}[channels]].convert(pixels)


def check_complete(data: bytes, name: str) -> None:
    """OpenCV decodes a truncated JPEG to a partly grey picture: refuse data without their end marker."""
    if not data:
        raise ImageMessageError("decode", f"compressed image of format {name!r} holds 0 bytes")
    if data.startswith(_JPEG_SOI):
        complete = data.find(_JPEG_EOI, _find_jpeg_scan(data)) >= 0
    elif data.startswith(_PNG_SIGNATURE):
        complete = data.rfind(_PNG_END) >= 0
    else:
        raise ImageMessageError("encoding", f"compressed format {name!r} is not supported: expected JPEG or PNG data")
    if not complete:
        raise ImageMessageError("decode", f"truncated {name!r} image: {len(data)} bytes without an end marker")


def _find_jpeg_scan(data: bytes) -> int:
    """Return where the first scan begins, behind the header: an EXIF thumbnail there has an end marker of its own."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big") if data[at + 1] != 0xFF else 1
    return at


def rgb_to_image(rgb: RgbImage, header: Header, encoding: str = "bgr8") -> Image:
    """Wrap an RGB array in a message.

    Args:
        rgb: uint8 [H, W, 3].
        header: Used as it is.
        encoding: "bgr8" or "rgb8".

    Raises:
        InputError: Not an RGB image, or another encoding.
    """
    check_image(rgb)
    if encoding not in ("bgr8", "rgb8"):
        raise InputError(f"encoding must be 'bgr8' or 'rgb8', got {encoding!r}")
    return _make_image(rgb if encoding == "rgb8" else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), header, encoding)


def mask_to_image(mask: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], header: Header) -> Image:
    """Wrap a mask or id map in a message: uint8 [H, W] becomes mono8, uint16 [H, W] mono16.

    Raises:
        InputError: Another dtype or shape, or an empty mask.
    """
    encoding = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16"}.get(mask.dtype)
    if encoding is None or mask.ndim != 2 or not mask.size:
        raise InputError(f"a mask must be a non-empty uint8 or uint16 array [H, W], got {mask.dtype} {mask.shape}")
    return _make_image(mask, header, encoding)


def _make_image(pixels: npt.NDArray[Any], header: Header, encoding: str) -> Image:
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.nbytes // height,
        data=_copy_bytes(data),
    )


def rgb_to_compressed(rgb: RgbImage, header: Header, quality: int = 90) -> CompressedImage:
    """Compress an RGB array to a JPEG message.

    Args:
        rgb: uint8 [H, W, 3].
        header: Used as it is.
        quality: JPEG quality, 1 to 100.

    Raises:
        InputError: Not an RGB image, or a side beyond JPEG's 65535 pixels.
    """
    check_image(rgb)
    if max(rgb.shape) > 65535:
        raise InputError(f"JPEG holds at most 65535 pixels a side, got {rgb.shape[1]}x{rgb.shape[0]}")
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return CompressedImage(header=header, format="bgr8; jpeg compressed bgr8", data=_copy_bytes(jpeg))


def _copy_bytes(values: npt.NDArray[Any]) -> array[int]:
    """Return the bytes of a contiguous array in the one type that rclpy takes over without checking every element."""
    data = array("B")
    data.frombytes(cast(bytes, values.data.cast("B")))
    return data
