"""PASCAL VOC (Everingham et al., IJCV 2010): boxes of VOC07 and VOC12, and class maps of VOC12."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from objloc_ros.errors import InputError
from objloc_ros.evaluation.coco_files import HARD
from objloc_ros.evaluation.datasets.base import (
    Convention,
    Dataset,
    Kind,
    Object,
    Sample,
    SemanticSet,
    folder_in,
    read_names,
)

CLASSES = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor"),
)
"""As CLIP-DIY writes them."""


@dataclass(frozen=True)
class VocBoxes(Dataset):
    """Boxes, those of difficult and truncated objects included unless `no_hard`."""

    no_hard: bool = False

    @property
    def kind(self) -> Kind:
        """Boxes."""
        return "boxes"

    def objects(self, sample: Sample) -> list[Object]:
        """True objects: VOC counts pixels from 1 and includes the last, so that the low sides lose 1.

        Raises:
            InputError: If the annotation is damaged or has a box that is none.
        """
        return [one for one in _read_objects(sample.truth) if not (self.no_hard and one.flags)]


def open_boxes(year: int) -> Callable[..., Dataset]:
    """How VOC07 or VOC12 is opened; splits may be joined: "trainval+test"."""

    def opened(root: Path, *, split: str = "trainval", no_hard: bool = False) -> Dataset:
        base = _base(root, year)
        samples = [
            Sample(name, base / "JPEGImages" / f"{name}.jpg", base / "Annotations" / f"{name}.xml")
            for part in split.split("+")
            for name in read_names(base / "ImageSets" / "Main" / f"{part}.txt")
        ]
        dataset = VocBoxes(f"voc{year % 100:02}", split, tuple(samples), no_hard=no_hard)
        if not no_hard:
            return dataset
        dataset.check()
        kept = tuple(sample for sample in samples if len(dataset.boxes(sample)))
        return VocBoxes(dataset.name, split, kept, no_hard=True)

    return opened


def open_segmentation(root: Path, *, split: str = "val", convention: Convention | None = None) -> Dataset:
    """The class maps of VOC12, as palettes: 0 the background, 255 not annotated."""
    base = _base(root, 2012)
    samples = [
        Sample(name, base / "JPEGImages" / f"{name}.jpg", base / "SegmentationClass" / f"{name}.png")
        for name in read_names(base / "ImageSets" / "Segmentation" / f"{split}.txt")
    ]
    return SemanticSet("voc_seg", split, tuple(samples), CLASSES, convention)


def _base(root: Path, year: int) -> Path:
    if root.name == f"VOC{year}" and (root / "ImageSets").is_dir():
        return root
    return folder_in(root, (f"VOCdevkit/VOC{year}", f"VOC{year}"))


def _read_objects(path: Path) -> list[Object]:
    try:
        found = ElementTree.parse(path).getroot().findall("object")
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"cannot read the annotation {path}: {error}") from error
    return [_object(path, number, one) for number, one in enumerate(found)]


def _object(path: Path, number: int, one: ElementTree.Element) -> Object:
    try:
        low_x, low_y, x2, y2 = (float(one.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax"))
    except ValueError as error:
        raise InputError(f"{path}: object {number} has no bndbox with four numbers") from error
    if not (x2 > low_x - 1 >= 0 and y2 > low_y - 1 >= 0):
        raise InputError(
            f"{path}: object {number} has the box {[low_x, low_y, x2, y2]}: empty, swapped or before pixel 1"
        )
    flags = tuple(flag for flag in HARD if one.findtext(flag, "0").strip() == "1")
    return Object((low_x - 1, low_y - 1, x2, y2), one.findtext("name", "object").strip(), flags=flags)
