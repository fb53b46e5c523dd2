"""COCO (Lin et al., ECCV 2014): the objects of val2017, and of the 19,817 images of train2014 that are COCO20k."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from objloc_ros.data.base import Dataset, Kind, Object, Sample, file_in, folder_in
from objloc_ros.data.coco_index import CocoIndex, coco_index
from objloc_ros.types import Size

LIST = "coco_20k_filenames.txt"

SELECTED = "instances_train2014_sel20k.json"
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
        """True objects, and crowds as ignored regions; `InputError` if a mask is damaged."""
        found = self._index(sample).objects(sample.key, masks=self.masks)
        return [one for one in found if not (self.no_hard and one.flags)]

    def size(self, sample: Sample) -> Size | None:
        """Height and width by the document."""
        return self._index(sample).size(sample.key)

    def _index(self, sample: Sample) -> CocoIndex:
        return coco_index(sample.truth, self.chosen)


def open_val2017(root: Path) -> Dataset:
    """The 5,000 images of val2017, with masks, as in CutLER's evaluation: all categories are one."""
    base = coco_base(root)
    images = folder_in(base, image_folders("val2017"))
    index = coco_index(annotations_in(base, "val2017"))
    return CocoObjects("coco_val2017", "val2017", samples_of(index, images), masks=index.masks)


def open_coco20k(root: Path, *, chosen: str | None = None) -> Dataset:
    """COCO20k, as LOST (Siméoni et al., BMVC 2021) chose and reads it.

    CorLoc is about boxes rounded to whole pixels, without those of crowds; average precision about the boxes and masks
    as they are, with crowds ignored.

    Args:
        root: With images and annotations of train2014, or LOST's selection of the latter, which is read faster.
        chosen: The list of the images, that of LOST's repository; `coco_20k_filenames.txt` in `root` by default.
    """
    base = coco_base(root)
    images = folder_in(base, image_folders("train2014"))
    if chosen is None:
        listed = file_in(root, (LIST, f"annotations/{LIST}"), "the list of images, from LOST's repository")
    else:
        listed = Path(chosen)
    selected = next((place / SELECTED for place in (root, base / "annotations") if (place / SELECTED).is_file()), None)
    index = coco_index(selected or annotations_in(base, "train2014"), listed)
    samples = samples_of(index, images)
    return CocoObjects("coco20k", "", samples, masks=index.masks, rounded=True, chosen=listed)


def coco_base(root: Path) -> Path:
    """The folder of COCO itself: `root`, or "COCO" in it, as LOST has it."""
    return root / "COCO" if (root / "COCO").is_dir() else root


def image_folders(split: str) -> tuple[str, str]:
    """Where people keep the images of a split."""
    return split, f"images/{split}"


def annotations_in(base: Path, split: str) -> Path:
    """The instances of a split.

    Raises:
        InputError: If they are not where COCO's archive puts them.
    """
    return file_in(base, (f"annotations/instances_{split}.json",), f"the annotations of {split}, from COCO's site")


def samples_of(index: CocoIndex, images: Path) -> tuple[Sample, ...]:
    """A sample per image of a document, below a folder."""
    return tuple(Sample(name, images / name, index.path) for name in index.images)
