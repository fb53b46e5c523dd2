"""A COCO document beside a folder of images as a data set: anybody's own, or one that `to_coco` wrote.

Maps are objects with masks:

- Saliency: an object per image, its mask from the true value 128 on. Where a map has values other than 0 and 255, the
  object has "levels" too: masks of the pixels from 1, 129 and 255 on. No rule of the papers tells values in between
  apart.
- Classes: an object per class; pixels without truth are a crowd of the category "unlabelled" with "ignore" 1. In other
  documents instances may overlap: they are drawn in their order, and the first stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.data.base import Convention, Dataset, Kind, Sample
from objloc_ros.data.coco import CocoObjects, list_samples
from objloc_ros.data.coco_index import CocoIndex, Record, load_index
from objloc_ros.data.coco_object import paint
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.rle import decode, encode, to_rle
from objloc_ros.types import UNLABELLED, Image, Size

ABOUT = "objloc"
"""Member of "info" that says what the data set was: its kind, and the conventions of its metrics."""

NO_CLASS = {"id": UNLABELLED, "name": "unlabelled"}

LEVELS = (1, 129, 255)
"""Values from which on pixels differ by some rule, beside 128 (`metrics.saliency.RULES`)."""

Mask = npt.NDArray[np.bool_]

KINDS: tuple[Kind, ...] = ("boxes", "saliency", "semantic")


@dataclass(frozen=True)
class CocoMaps(Dataset):
    """Maps drawn from the objects of a document."""

    drawn: Kind = "semantic"

    @property
    def kind(self) -> Kind:
        """Saliency or semantic."""
        return self.drawn

    def mask(self, sample: Sample) -> Image:
        """Return the map, uint8 [H, W]; `InputError` if a mask is damaged or the document gives no size."""
        index = load_index(sample.truth)
        if self.drawn == "semantic":
            return paint(index, sample.key, _number_classes(index))
        size = index.size(sample.key)
        if size is None:
            raise InputError(f"{index.path}: image {sample.key!r} has no height and width")
        shown: Image = np.zeros(size, np.uint8)
        for annotation in index.annotations[sample.key]:
            solid = decode(index.mask(sample.key, annotation))
            shown = np.maximum(shown, from_levels(solid, annotation.get("levels"), size))
        return shown

    def size(self, sample: Sample) -> Size | None:
        """Return height and width by the document."""
        return load_index(sample.truth).size(sample.key)


def open_coco_json(
    root: Path,
    *,
    annotations: str | None = None,
    kind: Kind | None = None,
    convention: Convention | None = None,
    no_hard: bool = False,
) -> Dataset:
    """Open a document; what is not said here, its "info" may say, and else it is about boxes.

    Args:
        root: The folder below which the images are, by their `file_name`.
        annotations: The document.
        kind: What its truth is.
        convention: Of mIoU.
        no_hard: Leave out objects with a flag "difficult" or "truncated", and images that have no other.
    """
    if annotations is None:
        raise ParameterError("coco_json needs its annotations: a COCO document")
    if kind is not None and kind not in KINDS:
        raise ParameterError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    index = load_index(Path(annotations))
    said = index.info.get(ABOUT)
    about: dict[str, Any] = said if isinstance(said, dict) else {}
    samples, split = list_samples(index, root), Path(annotations).stem
    kind = kind or _choose(about.get("kind"), KINDS, "boxes")
    if kind == "boxes":
        kept = tuple(sample for sample in samples if not (no_hard and _has_only_hard(index, sample.key)))
        rounded = about.get("rounded") is True
        return CocoObjects("coco_json", split, kept, masks=index.masks, rounded=rounded, no_hard=no_hard)
    if no_hard:
        raise ParameterError("no_hard is for boxes")
    classes = ("background", *_list_classes(index)) if kind == "semantic" else ()
    convention = convention or _choose(about.get("convention"), ("mmseg", "clip_diy"), None)
    return CocoMaps("coco_json", split, samples, classes, convention, drawn=kind)


def to_levels(shown: Image) -> tuple[Mask, Record]:
    """Split a saliency map into the mask of an object, bool [H, W], and its fields beyond COCO."""
    if set(np.unique(shown).tolist()) <= {0, 255}:
        return shown == 255, {}
    return shown >= 128, {"levels": {str(level): encode(shown >= level) for level in LEVELS}}


def from_levels(solid: Mask, levels: Any, size: Size) -> Image:
    """Make a map that every rule of the papers reads as before; values in between are lost by `to_levels`."""
    if levels is None:
        return np.where(solid, np.uint8(255), np.uint8(0))
    if not isinstance(levels, dict) or not all(name in levels for name in map(str, LEVELS)):
        raise InputError(f"levels must have the masks {', '.join(map(str, LEVELS))}, got {levels!r}")
    masks = {**{level: decode(to_rle(levels[str(level)], size)) for level in LEVELS}, 128: solid}
    return np.max([np.where(mask, np.uint8(level), np.uint8(0)) for level, mask in masks.items()], axis=0)


def _list_classes(index: CocoIndex) -> tuple[str, ...]:
    """Return the names of the classes but the background."""
    names = tuple(name for name in index.categories.values() if name not in ("background", NO_CLASS["name"]))
    if not 1 <= len(names) < UNLABELLED:
        raise InputError(f"{index.path}: there must be 1 to {UNLABELLED - 1} categories, got {len(names)}")
    if len(set(names)) != len(names):
        raise InputError(f"{index.path}: two categories have the same name")
    return names


def _number_classes(index: CocoIndex) -> dict[Any, int]:
    """Return the value of each category's pixels; the background is not drawn."""
    order = {name: i for i, name in enumerate(_list_classes(index), start=1)}
    order[str(NO_CLASS["name"])] = UNLABELLED
    return {number: order[name] for number, name in index.categories.items() if name in order}


def _has_only_hard(index: CocoIndex, name: str) -> bool:
    flagged = [bool(item.flags) for item in index.objects(name, masks=False) if not item.ignored]
    return bool(flagged) and all(flagged)


def _choose(value: Any, known: tuple[Any, ...], default: Any) -> Any:
    return value if value in known else default
