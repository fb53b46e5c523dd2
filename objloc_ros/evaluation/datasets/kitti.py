"""KITTI's 2D objects (Geiger et al., CVPR 2012): every kind of object is one.

Every labelled object counts, whatever its occlusion and truncation: the levels "easy", "moderate" and "hard" are for
detectors of cars, pedestrians and cyclists that were trained on them. "DontCare" marks regions in which nothing was
labelled: what is found there is neither right nor wrong, and CorLoc has no object there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from objloc_ros.errors import InputError
from objloc_ros.evaluation.datasets.base import Dataset, Kind, Object, Sample, folder_in

FIELDS = 15
"""Words of a line: type, truncation, occlusion, angle, left, top, right, bottom, and seven about space."""

DONT_CARE = "DontCare"


@dataclass(frozen=True)
class KittiObjects(Dataset):
    """Boxes in pixels from 0, with fractions."""

    @property
    def kind(self) -> Kind:
        """Boxes."""
        return "boxes"

    def objects(self, sample: Sample) -> list[Object]:
        """True objects, and the regions not to care about; `InputError` if a line is no label."""
        try:
            lines = sample.truth.read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the labels {sample.truth}: {error}") from error
        return [_object(sample.truth, number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def open_kitti(root: Path) -> Dataset:
    """The 7,481 labelled images, as the archives unpack: `training/image_2` and `training/label_2`."""
    images = folder_in(root, ("training/image_2", "image_2", "data_object_image_2/training/image_2"))
    labels = folder_in(root, ("training/label_2", "label_2", "data_object_label_2/training/label_2"))
    names = sorted({path.stem for path in (*images.glob("*.png"), *labels.glob("*.txt"))})
    if not names:
        raise InputError(f"the folders {images} and {labels} hold no .png and no .txt")
    samples = tuple(Sample(name, images / f"{name}.png", labels / f"{name}.txt") for name in names)
    return KittiObjects("kitti", "", samples)


def _object(path: Path, number: int, line: str) -> Object:
    words = line.split()
    if len(words) < FIELDS:
        raise InputError(f"{path}, line {number}: a label has {FIELDS} words, this one {len(words)}")
    try:
        x1, y1, x2, y2 = (float(word) for word in words[4:8])
    except ValueError as error:
        raise InputError(f"{path}, line {number}: the box {words[4:8]} must be four numbers") from error
    if not (all(map(math.isfinite, (x1, y1, x2, y2))) and x1 < x2 and y1 < y2):
        raise InputError(f"{path}, line {number}: the box {[x1, y1, x2, y2]} is empty or swapped")
    return Object((x1, y1, x2, y2), words[0], ignored=words[0] == DONT_CARE)
