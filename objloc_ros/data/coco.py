"""COCO (Lin et al., ECCV 2014): the objects of val2017, and of the 19,817 images of train2014 that are COCO20k."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from objloc_ros.data.base import Dataset, Kind, Object, Sample, find_file, find_folder
from objloc_ros.data.coco_index import CocoIndex, load_index
from objloc_ros.types import Size

LIST_NAME = "coco_20k_filenames.txt"

SELECTION_NAME = "instances_train2014_sel20k.json"
"""What LOST makes of the annotations of train2014: the chosen images alone, a quarter of the memory to read."""


@dataclass(frozen=True)
class CocoObjects(Dataset):
    """Boxes of a COCO document, and masks where all have them. Crowds are ignored.

    Args:
        chosen: The list of the images that count; all of the document by default.
        no_hard: Leave out objects with a flag "difficult" or "truncated".
    """

    chosen: Path | None = None
    no_hard: bool = False

    @property
    def kind(self) -> Kind:
        """Boxes."""
        return "boxes"

    def objects(self, sample: Sample) -> list[Object]:
        """Return true objects, and crowds as ignored regions; `InputError` if a mask is damaged."""
        found = self._index(sample).objects(sample.key, masks=self.masks)
        return [item for item in found if not (self.no_hard and item.flags)]

    def size(self, sample: Sample) -> Size | None:
        """Return height and width by the document."""
        return self._index(sample).size(sample.key)

    def _index(self, sample: Sample) -> CocoIndex:
        return load_index(sample.truth, self.chosen)


def open_val2017(root: Path) -> Dataset:
    """Open the 5,000 images of val2017, with masks, as in CutLER's evaluation: all categories are one."""
    base = find_coco(root)
    images = find_folder(base, list_image_folders("val2017"))
    index = load_index(find_annotations(base, "val2017"))
    return CocoObjects("coco_val2017", "val2017", list_samples(index, images), masks=index.masks)


def open_coco20k(root: Path, *, chosen: str | None = None) -> Dataset:
    """Open COCO20k, as LOST (Siméoni et al., BMVC 2021) chose and reads it.

    CorLoc is about boxes rounded to whole pixels, without those of crowds; average precision about the boxes and masks
    as they are, with crowds ignored.

    Args:
        root: With images and annotations of train2014, or LOST's selection of the latter, which is read faster.
        chosen: The list of the images, that of LOST's repository; `coco_20k_filenames.txt` in `root` by default.
    """
    base = find_coco(root)
    images = find_folder(base, list_image_folders("train2014"))
    if chosen is None:
        listed = find_file(root, (LIST_NAME, f"annotations/{LIST_NAME}"), "the list of images, from LOST's repository")
    else:
        listed = Path(chosen)
    selected = next(
        (place / SELECTION_NAME for place in (root, base / "annotations") if (place / SELECTION_NAME).is_file()), None
    )
    index = load_index(selected or find_annotations(base, "train2014"), listed)
    samples = list_samples(index, images)
    return CocoObjects("coco20k", "", samples, masks=index.masks, rounded=True, chosen=listed)


def find_coco(root: Path) -> Path:
    """Find the folder of COCO itself: `root`, or "COCO" in it, as LOST has it."""
    return root / "COCO" if (root / "COCO").is_dir() else root


def list_image_folders(split: str) -> tuple[str, str]:
    """List where people keep the images of a split."""
    return split, f"images/{split}"


def find_annotations(base: Path, split: str) -> Path:
    """Find the instances of a split.

    Raises:
        InputError: If they are not where COCO's archive puts them.
    """
    return find_file(base, (f"annotations/instances_{split}.json",), f"the annotations of {split}, from COCO's site")


def list_samples(index: CocoIndex, images: Path) -> tuple[Sample, ...]:
    """List a sample per image of a document, below a folder."""
    return tuple(Sample(name, images / name, index.path) for name in index.images)
