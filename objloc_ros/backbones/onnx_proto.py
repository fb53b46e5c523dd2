"""What an ONNX file says before anything runs it: its metadata, that it is whole, and that its weights are in it.

An ONNX file is one protocol buffer. Reading four of its fields takes neither the package `onnx` nor a session, which
would load all of it first, and cannot be had for a file that was compiled for another machine.
Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from objloc_ros.errors import WeightsError

_GRAPH, _METADATA = 7, 14
"""Fields of a model."""

_KEY, _VALUE = 1, 2
"""Fields of an entry of the metadata."""

_INITIALIZER = 5
"""Field of a graph."""

_NAME, _LOCATION, _EXTERNAL = 8, 14, 1
"""Fields of a tensor, and where its values are if they are in another file."""

_VARINT, _EIGHT_BYTES, _COUNTED, _FOUR_BYTES = 0, 1, 2, 5
"""How a field is written."""


def read_metadata(file: Path) -> dict[str, str]:
    """Read the metadata of an ONNX file.

    Raises:
        WeightsError: If the file is cut off or no ONNX model, or keeps weights in another file.
    """
    try:
        metadata: dict[str, str] = {}
        for field, value in _read_fields(memoryview(file.read_bytes())):
            if field == _METADATA:
                entry = {key: bytes(text).decode() for key, text in _read_fields(_message(value))}
                metadata[entry.get(_KEY, "")] = entry.get(_VALUE, "")
            elif field == _GRAPH:
                _check_weights(_message(value), file)
    except OSError as error:
        raise WeightsError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WeightsError(f"{file} cannot be read as an ONNX model: {error}") from error
    return metadata


def _check_weights(graph: memoryview, file: Path) -> None:
    for field, value in _read_fields(graph):
        if field == _INITIALIZER:
            tensor = dict(_read_fields(_message(value)))
            if tensor.get(_LOCATION) == _EXTERNAL:
                name = bytes(_message(tensor.get(_NAME, memoryview(b"")))).decode()
                raise WeightsError(
                    f"{file} keeps the weights {name!r} in another file, expected one file with all of them, as "
                    "`objloc export` writes it"
                )


def _read_fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field: a number, or bytes.

    Raises:
        ValueError: If a field does not end within the message, or is written in no way that there is.
    """
    at = 0
    while at < len(message):
        start = at
        tag, at = _read_varint(message, at)
        field, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            number, at = _read_varint(message, at)
            yield field, number
            continue
        if field == 0 or kind not in (_EIGHT_BYTES, _COUNTED, _FOUR_BYTES):
            raise ValueError(f"at byte {start} of {len(message)} there is no field of it")
        size = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}.get(kind, 0)
        if kind == _COUNTED:
            size, at = _read_varint(message, at)
        if at + size > len(message):
            raise ValueError(f"it is cut off, a field needs {at + size - len(message)} bytes more")
        yield field, message[at : at + size]
        at += size


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return the number that is written from a byte on, seven bits in each, and where it ends."""
    number = 0
    for place, byte in enumerate(message[at : at + 10]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError(f"it is cut off, or no number begins at byte {at}")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("it has a number where a message should be")
    return value
