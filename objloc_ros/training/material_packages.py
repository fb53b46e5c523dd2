"""Packages of registries that carry pictures: the table of them, fetching, extracting."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_atomically

SOURCES = Path(__file__).with_name("material_sources.yaml")


@dataclass(frozen=True)
class Source:
    """A package and what is taken from it; `material_sources.yaml` explains the fields.

    Args:
        package: Name in its registry.
        registry: `debian` or `npm`.
        licence: Licence of its pictures.
        makes: `stamps`, `emoji`, `models` or `grounds`.
        folder: Where the pictures lie in the package.
        keep: Patterns of files to take, below `folder`.
        leave: Patterns of files to leave out of these.
        shows_objects: Patterns of files that were looked at and are no grounds.
        code_points: Emoji to take: ranges of code points by category.
        catalogues: Licence of each catalogue of models.
        leave_categories: Categories of models to leave out.
    """

    package: str
    registry: str
    licence: str
    makes: str
    folder: str
    keep: Sequence[str]
    leave: Sequence[str] = ()
    shows_objects: Sequence[str] = ()
    code_points: dict[str, str] | None = None
    catalogues: dict[str, str] | None = None
    leave_categories: Sequence[str] = ()

    @property
    def folder_name(self) -> str:
        """The package's name without what npm puts before it."""
        return self.package.rpartition("/")[2]


def load_sources(path: Path = SOURCES) -> list[Source]:
    """Read the table of sources."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Source(package, **fields) for package, fields in table.items()]


def fetch_package(source: Source, folder: Path) -> Path:
    """Return the package's file in a folder, fetched by apt-get or npm unless it is there.

    Raises:
        InputError: If the tool is missing or fails, for one for want of a network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if source.registry == "debian":
        pattern, command = f"{source.package}_*.deb", ["apt-get", "download", source.package]
    elif source.registry == "npm":
        pattern = source.package.removeprefix("@").replace("/", "-") + "-[0-9]*.tgz"
        command = ["npm", "pack", source.package]
    else:
        raise ParameterError(f"registry {source.registry!r} of {source.package}: debian or npm")
    if not (found := sorted(folder.glob(pattern))):
        by_hand = f"or put {pattern} into {folder} by hand"
        _run(command, folder, f"fetch {source.package} ({source.registry})", by_hand)
        found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"{' '.join(command)} left no {pattern} in {folder}")
    return found[-1]


def extract_package(source: Source, archive: Path, folder: Path) -> Path:
    """Return the folder with a package's content, extracted unless it is there.

    Raises:
        InputError: If the archive is damaged, or dpkg-deb is missing.
    """
    content = folder / f"{archive.stem}.content"
    if content.exists():
        return content
    with write_atomically(content) as scratch:
        if source.registry == "debian":
            _run(["dpkg-deb", "-x", str(archive), str(scratch)], folder, f"extract {archive.name}", "or fetch it anew")
        else:
            try:
                with tarfile.open(archive) as packed:
                    packed.extractall(scratch, filter="data")
            except tarfile.TarError as error:
                raise InputError(f"cannot extract {archive}: {error}; delete it to fetch it anew") from error
    return content


def read_version(source: Source, archive: Path) -> str:
    """Return a package's version as its registry writes it."""
    if source.registry == "debian":
        return _run(["dpkg-deb", "-f", str(archive), "Version"], archive.parent, f"read {archive.name}", "").strip()
    with tarfile.open(archive) as packed, packed.extractfile("package/package.json") as file:  # type: ignore[union-attr]
        return str(json.load(file)["version"])


def find_licence(source: Source, content: Path, path: Path) -> str:
    """Return the licence of a file of an extracted package.

    Args:
        source: The package.
        content: Its folder of pictures.
        path: A file below `content`.

    Returns:
        What Debian's copyright file says of it, by its last paragraph that fits, else the licence of the source.
    """
    root = content.parents[len(Path(source.folder).parts) - 1]
    name = path.relative_to(content).as_posix()
    found = source.licence
    for patterns, licence in _read_copyright(root / "usr/share/doc" / source.package / "copyright"):
        if any(fnmatch(name, pattern) for pattern in patterns):
            found = licence
    return found


@cache
def _read_copyright(path: Path) -> list[tuple[list[str], str]]:
    """Return the patterns and the licence of each paragraph, patterns also without their leading folders.

    They count from the root of the sources, while a package may keep its pictures anywhere.
    """
    if not path.exists():
        return []
    paragraphs = re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace"))
    result = []
    for paragraph in paragraphs:
        files = re.search(r"^Files:(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE)
        licence = re.search(r"^License:[ \t]*(\S.*)$", paragraph, re.MULTILINE)
        if files and licence:
            patterns = files[1].split()
            parts = [pattern.split("/") for pattern in patterns]
            shorter = ["/".join(names[skipped:]) for names in parts for skipped in range(1, len(names))]
            patterns += [pattern for pattern in shorter if not pattern.startswith("*")]  # `*` alone is every file
            result.append((patterns, licence[1].strip()))
    return result


def _run(command: list[str], folder: Path, purpose: str, cure: str) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InputError(f"cannot {purpose}: {command[0]} is not installed; install it, {cure}") from None
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise InputError(f"cannot {purpose}: {last}; is there a network? Try again, {cure}")
    return done.stdout
