"""COCO-Object: 80 kinds of things and a background on val2017, from two sources that give different truths.

CLIP-DIY draws the annotated instances; GroupViT and, after it, CLIP-DINOiser take COCO-Stuff's maps (Caesar et al.,
CVPR 2018). Their numbers cannot be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from objloc_ros.data.base import Convention, Dataset, Kind, Sample, SemanticSet, find_folder
from objloc_ros.data.coco import find_annotations, find_coco, list_image_folders, list_samples
from objloc_ros.data.coco_index import CocoIndex, fingerprint, load_index
from objloc_ros.errors import InputError
from objloc_ros.io.rle import area, decode, union
from objloc_ros.types import Image, Size

THINGS = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
"""COCO's names, in the order of their ids; CLIP-DIY's prompts."""

THING_IDS = tuple(i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
"""COCO's category ids: ten of the first 90 were never used."""

MIN_PIXELS = 1000
"""CLIP-DIY leaves out images with fewer annotated pixels."""


@dataclass(frozen=True)
class PaintedInstances(Dataset):
    """Class maps drawn from instances: in the order of the annotations, the first stays; crowds too."""

    @property
    def kind(self) -> Kind:
        """Semantic."""
        return "semantic"

    def mask(self, sample: Sample) -> Image:
        """Return class ids, uint8 [H, W]; `InputError` if an annotation is damaged."""
        index = load_index(sample.truth)
        return paint(index, sample.key, {number: i for i, number in enumerate(THING_IDS, start=1)})

    def size(self, sample: Sample) -> Size | None:
        """Return height and width by the document."""
        return load_index(sample.truth).size(sample.key)


def open_instances(root: Path, *, convention: Convention = "clip_diy") -> Dataset:
    """Open COCO-Object as in CLIP-DIY: the images of val2017 with at least 1,000 pixels of objects.

    Raises:
        InputError: If the folder has another layout, or an annotation is damaged.
    """
    base = find_coco(root)
    images = find_folder(base, list_image_folders("val2017"))
    path = find_annotations(base, "val2017")
    large = _find_large(path, fingerprint(path))
    if not large:
        raise InputError(f"{path} has no image with {MIN_PIXELS} pixels of objects")
    samples = tuple(sample for sample in list_samples(load_index(path), images) if sample.key in large)
    return PaintedInstances("coco_object_instances", "val2017", samples, ("background", *THINGS), convention)


class StuffMaps(SemanticSet):
    """Class maps made of COCO-Stuff's."""

    def mask(self, sample: Sample) -> Image:
        """Return class ids, uint8 [H, W]: COCO-Stuff counts COCO's ids from 0; what is no thing is background."""
        return _FROM_STUFF[super().mask(sample)]


def open_stuff(root: Path, *, convention: Convention = "mmseg") -> Dataset:
    """Open COCO-Object as in CLIP-DINOiser: all 5,000 images of val2017, at full size."""
    base = find_coco(root)
    images = find_folder(base, list_image_folders("val2017"))
    maps = find_folder(base, (f"{folder}/val2017" for folder in ("stuffthingmaps", "annotations")))
    files = sorted(images.glob("*.jpg"))
    if not files:
        raise InputError(f"the folder {images} holds no .jpg")
    samples = tuple(Sample(file.name, file, maps / f"{file.stem}.png") for file in files)
    names = ("aeroplane" if name == "airplane" else name for name in THINGS)
    return StuffMaps("coco_object_stuff", "val2017", samples, ("background", *names), convention)


def paint(index: CocoIndex, name: str, classes: dict[int, int]) -> Image:
    """Draw the annotations of an image in their order; pixels keep the first.

    Args:
        index: The document.
        name: The image.
        classes: The value of each category id; annotations of others are left out.

    Returns:
        uint8 [H, W], 0 where nothing was drawn.

    Raises:
        InputError: If a mask is damaged, or the document does not say how large the image is.
    """
    size = index.size(name)
    if size is None:
        raise InputError(f"{index.path}: image {name!r} has no height and width")
    drawn = np.zeros(size, np.uint8)
    for annotation in index.annotations[name]:
        if annotation["category_id"] in classes:
            drawn[decode(index.mask(name, annotation)) & (drawn == 0)] = classes[annotation["category_id"]]
    return drawn


@lru_cache(maxsize=2)
def _find_large(path: Path, _: object) -> frozenset[str]:
    """Find the images with enough pixels of objects; it takes seconds, once per process and state of the file."""
    index = load_index(path)
    return frozenset(name for name in index.images if _count_pixels(index, name) >= MIN_PIXELS)


def _count_pixels(index: CocoIndex, name: str) -> int:
    """Count the pixels of any object of an image."""
    things = [annotation for annotation in index.annotations[name] if annotation["category_id"] in THING_IDS]
    masks = [index.mask(name, annotation) for annotation in things]
    return area(union(masks)) if masks else 0


_FROM_STUFF = np.zeros(256, np.uint8)
_FROM_STUFF[[number - 1 for number in THING_IDS]] = range(1, len(THINGS) + 1)
