"""Image messages to RGB arrays and back.

cv_bridge converts where it works (it is not on PyPI, and its builds for NumPy 1 break under NumPy 2); `encodings.py`
gives the same pixels elsewhere, and what cv_bridge lacks: padded rows, byte order, encodings without colour, NV12.
"""

from __future__ import annotations

import functools
from array import array
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import numpy.typing as npt
from sensor_msgs.msg import CompressedImage, Image

from objloc_ros.errors import InputError
from objloc_ros.nodes.encodings import ENCODINGS, ImageMessageError, RgbImage, check_layout, decode
from objloc_ros.types import check_image

if TYPE_CHECKING:
    from std_msgs.msg import Header

__all__ = [
    "ImageMessageError",
    "compressed_to_rgb",
    "image_to_rgb",
    "mask_to_image",
    "rgb_to_compressed",
    "rgb_to_image",
]

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
        msg: Any encoding of `encodings.ENCODINGS`; `step` and `is_bigendian` are honoured.

    Returns:
        Contiguous uint8 [H, W, 3] that shares no memory with the message.

    Raises:
        ImageMessageError: Unknown encoding or sizes that contradict each other.
    """
    data = np.frombuffer(msg.data, np.uint8)
    bridge = _cv_bridge() if msg.encoding in CV_BRIDGE_ENCODINGS else None
    if bridge is not None and not msg.is_bigendian:
        layout = check_layout(msg.encoding, msg.height, msg.width, msg.step, data.size)
        if msg.step == msg.width * layout.channels * np.dtype(layout.dtype).itemsize:
            return np.array(bridge.imgmsg_to_cv2(msg, "rgb8"), np.uint8)
    return decode(
        data, msg.encoding, height=msg.height, width=msg.width, step=msg.step, big_endian=bool(msg.is_bigendian)
    )


@functools.cache
def _cv_bridge() -> Any | None:
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
    _check_complete(data.tobytes(), msg.format)
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


def _check_complete(data: bytes, name: str) -> None:
    """OpenCV decodes a truncated JPEG to a partly grey picture: refuse data without their end marker."""
    if not data:
        raise ImageMessageError("decode", f"compressed image of format {name!r} holds 0 bytes")
    if data.startswith(_JPEG_SOI):
        complete = data.find(_JPEG_EOI, _jpeg_scan(data)) >= 0
    elif data.startswith(_PNG_SIGNATURE):
        complete = data.rfind(_PNG_END) >= 0
    else:
        raise ImageMessageError("encoding", f"compressed format {name!r} is not supported: expected JPEG or PNG data")
    if not complete:
        raise ImageMessageError("decode", f"truncated {name!r} image: {len(data)} bytes without an end marker")


def _jpeg_scan(data: bytes) -> int:
    """Offset of the first scan, behind the header segments: an EXIF thumbnail there has an end marker of its own."""
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
    return _image(rgb if encoding == "rgb8" else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), header, encoding)


def mask_to_image(mask: npt.NDArray[np.uint8] | npt.NDArray[np.uint16], header: Header) -> Image:
    """Wrap a mask or id map in a message: uint8 [H, W] becomes mono8, uint16 [H, W] mono16.

    Raises:
        InputError: Another dtype or shape, or an empty mask.
    """
    encoding = {np.dtype(np.uint8): "mono8", np.dtype(np.uint16): "mono16"}.get(mask.dtype)
    if encoding is None or mask.ndim != 2 or not mask.size:
        raise InputError(f"a mask must be a non-empty uint8 or uint16 array [H, W], got {mask.dtype} {mask.shape}")
    return _image(mask, header, encoding)


def _image(pixels: npt.NDArray[Any], header: Header, encoding: str) -> Image:
    height, width = pixels.shape[:2]
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return Image(
        header=header,
        height=height,
        width=width,
        encoding=encoding,
        is_bigendian=0,
        step=data.nbytes // height,
        data=_bytes(data),
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
    return CompressedImage(header=header, format="bgr8; jpeg compressed bgr8", data=_bytes(jpeg))


def _bytes(values: npt.NDArray[Any]) -> array[int]:
    """Bytes of a contiguous array in the one type that rclpy takes over without a look at every element."""
    data = array("B")
    data.frombytes(cast(bytes, values.data.cast("B")))
    return data
