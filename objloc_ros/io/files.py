"""Files that appear under their names only when they are whole: a full disk or a killed process leaves no halves."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from objloc_ros.errors import InputError

T = TypeVar("T", bound=Hashable)


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Write a file or a folder under a temporary name beside `path`, which it takes when the block ends.

    Args:
        path: What to write. An older file or folder of that name stays until the new one is whole.

    Yields:
        A path that does not exist yet, with the suffix of `path`; whatever is there when the block fails is removed.

    Raises:
        InputError: If the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            yield scratch / path.name
            _replace(scratch / path.name, path, scratch)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        InputError: If it cannot be written.
    """
    with write_atomically(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file, whole or not at all; the same document always gives the same bytes.

    Raises:
        InputError: If it cannot be written, or holds a number that JSON has not: NaN or infinity.
    """
    try:
        text = json.dumps(document, indent=1, allow_nan=False)
    except ValueError as error:
        raise InputError(f"cannot write {path}: {error}") from error
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: If it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"cannot read {path}: not JSON: {error}") from error


def is_number(value: Any) -> bool:
    """Whether a value of a JSON document is a finite number that a float can hold; true and false are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _replace(made: Path, path: Path, scratch: Path) -> None:
    """Give what was made its name; a folder cannot replace another, which steps aside first."""
    if not made.exists():
        raise FileNotFoundError(f"nothing was made for {path.name}")
    if not path.is_dir():
        made.replace(path)
        return
    aside = path.rename(scratch / f"{path.name}.replaced")
    try:
        made.replace(path)
    except OSError:
        aside.rename(path)
        raise


def find_duplicate(names: Iterable[T]) -> T | None:
    """Return the first name that has stood before; None if all are different."""
    seen: set[T] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
