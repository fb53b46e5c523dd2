"""Weights files on disk: hashing, verification and the one command that downloads."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO

from objloc_ros.backbones.registry import WeightsEntry, find_entry
from objloc_ros.errors import WeightsError

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes received so far and the expected total, if the server states one."""

_CHUNK = 1 << 20
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Verification:
    """What is known of a weights file on disk.

    Args:
        path: The file.
        sha256: Its hash.
        expected: The hash it was held against; None where none is known or recorded yet.
    """

    path: Path
    sha256: str
    expected: str | None


def hash_file(path: Path) -> str:
    """Hash a file: SHA-256 as 64 lower-case hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sidecar(path: Path) -> Path:
    """Name the file beside `path` that records its hash, in the format of the sha256sum command."""
    return path.with_name(path.name + ".sha256")


def record_hash(path: Path) -> None:
    """Write the hash of `path` beside it; from then on a file with other content is refused."""
    sidecar(path).write_text(f"{hash_file(path)}  {path.name}\n")


def read_recorded_hash(path: Path) -> str | None:
    """Read the hash recorded beside `path`, if any.

    Raises:
        WeightsError: If the record is not one.
    """
    record = sidecar(path)
    if not record.is_file():
        return None
    digest = (record.read_text().split() or [""])[0].lower()
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise WeightsError(f"{record} does not hold a SHA-256 hash; delete it or write it anew with sha256sum")
    return digest


def read_named_hash(path: Path) -> str | None:
    """Read the first digits of a hash out of a file's name, which Meta's and PyTorch's end in: `NAME-0123abcd.pth`."""
    name = re.fullmatch(r".+-([0-9a-f]{8})\.pth", path.name)
    return name and name[1]


def check_file(path: Path, known: str | None = None) -> Verification:
    """Hold a file against the hash in the registry, else the one recorded beside it, else the one in its name.

    Raises:
        WeightsError: If the file is missing or its hash differs.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}")
    expected = known or read_recorded_hash(path) or read_named_hash(path)
    found = hash_file(path)
    if expected is not None and not found.startswith(expected):
        raise WeightsError(f"{path} has SHA-256 {found}, expected {expected}: it is damaged or not what it claims")
    return Verification(path, found, expected)


def verify(name: str) -> Verification:
    """Check the file of a registry entry, embedded or cached.

    Raises:
        WeightsError: If it is missing or its hash differs.
        ParameterError: If the name is unknown.
    """
    entry = find_entry(name)
    if not entry.path.is_file():
        raise WeightsError(describe_missing(entry))
    return check_file(entry.path, entry.sha256)


def describe_missing(entry: WeightsEntry) -> str:
    """Say in one line which file is missing and how to get it."""
    if entry.embedded:
        return f"the embedded weights {entry.name!r} are missing ({entry.path}): the installation is incomplete"
    word = " --accept-licence" if entry.agreement else " --non-commercial" if entry.non_commercial else ""
    return (
        f"the weights {entry.name!r} are not on this machine ({entry.path}): run `objloc weights fetch {entry.name}"
        f"{word}` ({entry.terms}, {entry.url}); nothing is downloaded without that command"
    )


def check_terms(name: str, *, non_commercial: bool, accept_licence: bool = False) -> None:
    """Raise WeightsError if nobody said the word that the licence of a registry entry asks for.

    Args:
        name: Key in the registry.
        non_commercial: Whether the weights are fetched for non-commercial use.
        accept_licence: Whether an agreement was read and is accepted.
    """
    entry = find_entry(name)
    if entry.agreement is not None and not accept_licence:
        raise WeightsError(
            f"{name} is under {entry.licence}: read {entry.agreement}, and if you accept it, add --accept-licence; "
            "nothing was fetched"
        )
    if entry.non_commercial and not non_commercial:
        raise WeightsError(
            f"{name} is licensed {entry.licence}, for NON-COMMERCIAL use only: if yours is, add --non-commercial; "
            "nothing was fetched"
        )


def fetch(
    name: str, *, progress: Progress | None = None, non_commercial: bool = False, accept_licence: bool = False
) -> Path:
    """Download the file of a registry entry into the cache, unless a good one is there.

    The download goes to a temporary name, is verified and only then renamed, so the cache never holds a partial file.

    Args:
        name: Key in the registry.
        progress: Told how far the download is.
        non_commercial: Whether the weights are for non-commercial use; some licences allow no other.
        accept_licence: Whether the licence was read and is accepted; some have to be.

    Raises:
        WeightsError: If the licence forbids the use or was not accepted, the server cannot be reached, what it sends
            has the wrong size or hash, or the cache cannot be written.
        ParameterError: If the name is unknown.
    """
    entry = find_entry(name)
    if entry.embedded or _is_good(entry):
        return verify(name).path
    check_terms(name, non_commercial=non_commercial, accept_licence=accept_licence)
    target = entry.path
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            digest = _download(entry, file, progress)
        _check_download(entry, digest)
        partial.replace(target)
        record_hash(target)
    except OSError as error:
        raise WeightsError(f"cannot write {target}: {error.strerror}") from error
    finally:
        if partial.exists():
            partial.unlink()
    return target


def _is_good(entry: WeightsEntry) -> bool:
    """Return whether the cached file matches the known or recorded hash; a damaged one is fetched again."""
    if not entry.path.is_file():
        return False
    expected = entry.sha256 or read_recorded_hash(entry.path)
    return expected is not None and hash_file(entry.path) == expected


def _download(entry: WeightsEntry, file: BinaryIO, progress: Progress | None) -> str:
    """Copy the entry's URL into `file` and return its hash."""
    digest = hashlib.sha256()
    received = 0
    try:
        with urllib.request.urlopen(str(entry.url), timeout=_TIMEOUT_S) as response:
            length = response.headers.get("Content-Length") or ""
            total = int(length) if length.isdigit() else None
            if entry.size_bytes and total and total != entry.size_bytes:
                raise WeightsError(f"{entry.url} offers {total} bytes, but {entry.name!r} has {entry.size_bytes}")
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                if progress:
                    progress(received, total)
    except (urllib.error.URLError, HTTPException, ConnectionError, TimeoutError) as error:
        raise WeightsError(_unreachable(entry, error)) from error
    expected = entry.size_bytes or total
    if expected is not None and received != expected:
        raise WeightsError(f"{entry.url} broke off: {received} of {expected} bytes arrived; try again")
    return digest.hexdigest()


def _check_download(entry: WeightsEntry, digest: str) -> None:
    expected = entry.sha256 or read_recorded_hash(entry.path)
    if expected is not None and digest != expected:
        where = "the registry" if entry.sha256 else f"the first download ({sidecar(entry.path)})"
        raise WeightsError(f"{entry.url} has SHA-256 {digest}, but {where} says {expected}; the download was discarded")


def _unreachable(entry: WeightsEntry, error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError) and error.code in (401, 403):
        page = str(entry.url).partition("/resolve/")[0]
        return (
            f"cannot download {entry.name!r} from {entry.url}: {error}; its publisher lets in only who has an account "
            f"and access: download it in a browser from {page} to {entry.path}, or name another file of these weights "
            "where they are loaded (weights:=FILE on a node, --weights FILE on the command line)"
        )
    reason = error if isinstance(error, urllib.error.HTTPError) else getattr(error, "reason", error)
    return (
        f"cannot download {entry.name!r} from {entry.url}: {reason}; on a machine without a network, place the file "
        f"by hand at {entry.path}"
    )
