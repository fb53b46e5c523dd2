"""The head of a serialised message, read without deserialising the rest: a stamp costs microseconds."""

from __future__ import annotations

import struct

from objloc_ros.errors import InputError


def stamp_ns(data: bytes) -> int:
    """Read `header.stamp` of a message that begins with a std_msgs/Header.

    Args:
        data: CDR: four bytes of preamble, the second of which tells the byte order (1 = little endian), then the
            fields, an int32 of seconds and a uint32 of nanoseconds first.

    Returns:
        Nanoseconds.

    Raises:
        InputError: Too short to hold a stamp, or no CDR.
    """
    if len(data) < 12 or data[0] != 0 or data[1] > 1:
        raise InputError(f"no serialised message with a header: {len(data)} bytes, {bytes(data[:4]).hex(' ')!r}")
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
