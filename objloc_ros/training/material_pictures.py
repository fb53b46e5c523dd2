"""Cut-outs and grounds in the packages of `material_packages`: which they are, what they show, and their pixels."""

from __future__ import annotations

import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_atomically
from objloc_ros.training.material_packages import Source, find_licence
from objloc_ros.training.material_views import RenderProcess, spread_viewpoints
from objloc_ros.types import Image

CUTOUT_SIDE_PX, GROUND_SIDE_PX = 256, 1024
"""Longest sides of cut-outs and of grounds."""

VIEW_SIDE_PX = 224
"""Longest side of a rendered view."""

OPAQUE_LEVEL = 127
"""Alpha above which a pixel belongs to a cut-out."""


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


def read_items(source: Source, content: Path, folder: Path, views: int) -> Iterator[Item]:
    """Yield what is taken from an extracted package.

    Args:
        source: The package.
        content: Its folder of pictures, extracted.
        folder: The material's folder; views of models that lie there are not rendered again.
        views: Views of each 3D model.

    Raises:
        InputError: If nothing of what the source keeps is there.
    """
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
        licence = find_licence(source, content, path)
        yield Item(name, title, "/".join(place.parts[:-1]), licence, partial(read_cutout, path))


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
        yield Item(name, name, "", find_licence(source, content, path), partial(read_ground, path))


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
    renderer: RenderProcess | None = None
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
                renderer = renderer or RenderProcess(folder / "packages" / "python", side=VIEW_SIDE_PX)
                viewpoints = spread_viewpoints(np.random.default_rng([len(text), number]), views)
                pictures = renderer.render(content / model.path, viewpoints, rotation=model.rotation)
            for view, name in enumerate(names):
                read = partial(pictures.__getitem__, view)
                yield Item(name, model.title, model.category, licence, read, model.creator)
