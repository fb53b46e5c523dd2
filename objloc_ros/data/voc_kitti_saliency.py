"""Data sets in folders of their own layout: PASCAL VOC, KITTI, and saliency sets.

PASCAL VOC (Everingham et al., IJCV 2010): boxes of VOC07 and VOC12, and class maps of VOC12.

KITTI's 2D objects (Geiger et al., CVPR 2012): every kind of object is one. Every labelled object counts, whatever its
occlusion and truncation: the levels "easy", "moderate" and "hard" are for detectors of cars, pedestrians and cyclists
that were trained on them. "DontCare" marks regions in which nothing was labelled: what is found there is neither right
nor wrong, and CorLoc has no object there.

Saliency sets: a folder of images and one of maps with the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from objloc_ros.data.base import (
    Convention,
    Dataset,
    Kind,
    Object,
    SaliencySet,
    Sample,
    SemanticSet,
    find_folder,
    read_names,
)
from objloc_ros.data.coco_document import HARD_FLAGS
from objloc_ros.errors import InputError
from objloc_ros.io.media import IMAGE_SUFFIXES

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
        """The kind of its truth: boxes."""
        return "boxes"

    def objects(self, sample: Sample) -> list[Object]:
        """Return true objects: VOC counts pixels from 1 and includes the last, so that the low sides lose 1.

        Raises:
            InputError: If the annotation is damaged or has an invalid box.
        """
        return [item for item in read_voc_objects(sample.truth) if not (self.no_hard and item.flags)]


def make_voc_opener(year: int) -> Callable[..., Dataset]:
    """Make the function that opens VOC07 or VOC12; splits may be joined: "trainval+test"."""

    def open_files(root: Path, *, split: str = "trainval", no_hard: bool = False) -> Dataset:
        base = _find_voc(root, year)
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

    return open_files


def open_segmentation(root: Path, *, split: str = "val", convention: Convention | None = None) -> Dataset:
    """Open the class maps of VOC12, as palettes: 0 the background, 255 not annotated."""
    base = _find_voc(root, 2012)
    samples = [
        Sample(name, base / "JPEGImages" / f"{name}.jpg", base / "SegmentationClass" / f"{name}.png")
        for name in read_names(base / "ImageSets" / "Segmentation" / f"{split}.txt")
    ]
    return SemanticSet("voc_seg", split, tuple(samples), CLASSES, convention)


def _find_voc(root: Path, year: int) -> Path:
    if root.name == f"VOC{year}" and (root / "ImageSets").is_dir():
        return root
    return find_folder(root, (f"VOCdevkit/VOC{year}", f"VOC{year}"))


def find_voc_annotations(root: Path) -> list[Path]:
    """Find the folders of annotations, one per year, in a folder of PASCAL VOC: the root, a year, or themselves.

    Raises:
        InputError: There is none.
    """
    places = [root / "Annotations", *sorted(root.glob("VOC*/Annotations")), *sorted(root.glob("VOC*/VOC*/Annotations"))]
    found = [place for place in places if place.is_dir()]
    if not found and next(root.glob("*.xml"), None) is not None:
        return [root]
    if not found:
        raise InputError(f"{root} has no folder Annotations, VOC*/Annotations or VOCdevkit/VOC*/Annotations")
    return found


def read_voc_objects(path: Path) -> list[Object]:
    """Read the objects of an image; VOC counts pixels from 1 and includes the last, so that the low sides lose 1.

    Raises:
        InputError: The annotation is damaged or has an invalid box.
    """
    try:
        found = ElementTree.parse(path).getroot().findall("object")
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"cannot read the annotation {path}: {error}") from error
    return [_parse_voc_object(path, number, element) for number, element in enumerate(found)]


def _parse_voc_object(path: Path, number: int, element: ElementTree.Element) -> Object:
    try:
        low_x, low_y, x2, y2 = (
            float(element.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
    except ValueError as error:
        raise InputError(f"{path}: object {number} has no bndbox with four numbers") from error
    if not (x2 > low_x - 1 >= 0 and y2 > low_y - 1 >= 0):
        raise InputError(
            f"{path}: object {number} has the box {[low_x, low_y, x2, y2]}: empty, swapped or before pixel 1"
        )
    flags = tuple(flag for flag in HARD_FLAGS if element.findtext(flag, "0").strip() == "1")
    return Object((low_x - 1, low_y - 1, x2, y2), element.findtext("name", "object").strip(), flags=flags)


LABEL_WORDS = 15
"""Words of a line: type, truncation, occlusion, angle, left, top, right, bottom, and seven about space."""

DONT_CARE = "DontCare"


@dataclass(frozen=True)
class KittiObjects(Dataset):
    """Boxes in pixels from 0, with fractions."""

    @property
    def kind(self) -> Kind:
        """The kind of its truth: boxes."""
        return "boxes"

    def objects(self, sample: Sample) -> list[Object]:
        """Return true objects, and the regions not to care about; `InputError` if a line is not a label."""
        try:
            lines = sample.truth.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the labels {sample.truth}: {error}") from error
        return [
            _parse_kitti_object(sample.truth, number, line)
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]


def open_kitti(root: Path) -> Dataset:
    """Open the 7,481 labelled images, as the archives unpack: `training/image_2` and `training/label_2`."""
    images = find_folder(root, ("training/image_2", "image_2", "data_object_image_2/training/image_2"))
    labels = find_folder(root, ("training/label_2", "label_2", "data_object_label_2/training/label_2"))
    names = sorted({path.stem for path in (*images.glob("*.png"), *labels.glob("*.txt"))})
    if not names:
        raise InputError(f"the folders {images} and {labels} hold no .png and no .txt")
    samples = tuple(Sample(name, images / f"{name}.png", labels / f"{name}.txt") for name in names)
    return KittiObjects("kitti", "", samples)


def _parse_kitti_object(path: Path, number: int, line: str) -> Object:
    words = line.split()
    if len(words) < LABEL_WORDS:
        raise InputError(f"{path}, line {number}: a label has {LABEL_WORDS} words, this one {len(words)}")
    try:
        x1, y1, x2, y2 = (float(word) for word in words[4:8])
    except ValueError as error:
        raise InputError(f"{path}, line {number}: the box {words[4:8]} must be four numbers") from error
    if not (all(map(math.isfinite, (x1, y1, x2, y2))) and x1 < x2 and y1 < y2):
        raise InputError(f"{path}, line {number}: the box {[x1, y1, x2, y2]} is empty or swapped")
    return Object((x1, y1, x2, y2), words[0], ignored=words[0] == DONT_CARE)


LAYOUTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "ecssd": ("", ("images",), ("ground_truth_mask",)),
    "dut_omron": ("", ("DUT-OMRON-image",), ("pixelwiseGT-new-PNG",)),
    "duts_tr": ("train", ("DUTS-TR/DUTS-TR-Image", "DUTS-TR-Image"), ("DUTS-TR/DUTS-TR-Mask", "DUTS-TR-Mask")),
    "duts_te": ("test", ("DUTS-TE/DUTS-TE-Image", "DUTS-TE-Image"), ("DUTS-TE/DUTS-TE-Mask", "DUTS-TE-Mask")),
}
"""Per data set its split, and where images and maps may lie: ECSSD (Yan et al., CVPR 2013), DUT-OMRON (Yang et al.,
CVPR 2013), DUTS (Wang et al., CVPR 2017)."""


def make_saliency_opener(name: str) -> Callable[[Path], Dataset]:
    """Make the function that opens one of `LAYOUTS`."""
    split, images, maps = LAYOUTS[name]

    def open_files(root: Path) -> Dataset:
        pictures, truth = find_folder(root, images), find_folder(root, maps)
        files = sorted(path for path in pictures.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise InputError(f"the folder {pictures} holds no image")
        samples = [Sample(path.stem, path, truth / f"{path.stem}.png") for path in files]
        if len({sample.key for sample in samples}) != len(samples):
            raise InputError(f"the folder {pictures} has images of the same name with different suffixes")
        return SaliencySet(name, split, tuple(samples))

    return open_files
