"""What all data sets have in common: images in a fixed order, and a truth for each, maps of PNG files among them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import PIL.Image

from objloc_ros.data.coco_document import DIFFICULT
from objloc_ros.errors import InputError
from objloc_ros.io.files import find_duplicate
from objloc_ros.io.media import read_image_size
from objloc_ros.io.rle import Rle
from objloc_ros.types import Image, Size


def pair_maps(predictions: Path, truth: Path) -> list[tuple[str, Path, Path]]:
    """Find the prediction of each true map, by name without suffix.

    Returns:
        Name, prediction and truth of each map, by name.

    Raises:
        InputError: If a folder is missing or empty, or a true map has no prediction or the other way round.
    """
    found, truths = _list_maps(predictions), _list_maps(truth)
    for missing, folder in ((set(truths) - set(found), predictions), (set(found) - set(truths), truth)):
        if missing:
            names = ", ".join(sorted(missing)[:3])
            raise InputError(
                f"{folder} lacks {len(missing)} of {len(truths)} maps: {names}{', ...' * (len(missing) > 3)}"
            )
    return [(name, found[name], truths[name]) for name in sorted(truths)]


def read_map(path: Path) -> Image:
    """Read an 8-bit map [H, W] with the values that the file holds: palettes are not turned into colours.

    Raises:
        InputError: If it is not a whole image, or has no single channel of 8 bits.
    """
    try:
        with PIL.Image.open(path) as image:
            if image.mode not in ("L", "P", "1"):
                image = _to_single_channel(path, image)
            pixels = np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return pixels.astype(np.uint8) * np.uint8(255) if pixels.dtype == np.bool_ else pixels


def _to_single_channel(path: Path, image: PIL.Image.Image) -> PIL.Image.Image:
    """Return one channel of a grey picture saved in colour, as some published masks are."""
    pixels = np.array(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or (pixels[..., :3] != pixels[..., :1]).any():
        raise InputError(f"{path} is not a map of one channel of 8 bits, but {image.mode}")
    return PIL.Image.fromarray(np.ascontiguousarray(pixels[..., 0]))


def _list_maps(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    maps = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".png", ".bmp")}
    if not maps:
        raise InputError(f"the folder {folder} holds no PNG file")
    return maps


Kind = Literal["boxes", "saliency", "semantic"]
Convention = Literal["mmseg", "clip_diy"]
Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One image.

    Args:
        key: Its name, different from all others'.
        image: The picture.
        truth: The file with its truth.
    """

    key: str
    image: Path
    truth: Path


@dataclass(frozen=True)
class Object:
    """A true object, or an ignored region.

    Args:
        box: (x1, y1, x2, y2), max side exclusive.
        label: What it is called.
        ignored: Whether it neither has to be found nor is wrong to find: crowds of COCO, "DontCare" of KITTI.
        flags: VOC's "difficult" and "truncated", where they are set.
        mask: Its pixels, where the data set has them.
    """

    box: tuple[float, float, float, float]
    label: str = "object"
    ignored: bool = False
    flags: tuple[str, ...] = ()
    mask: Rle | None = None

    @property
    def difficult(self) -> bool:
        """Whether it is flagged difficult: CorLoc is about such objects, too, average precision is not."""
        return DIFFICULT in self.flags


@dataclass(frozen=True)
class Dataset(ABC):
    """Images and their truth; a data set that is opened twice has the same samples in the same order.

    Args:
        name: Its name in the registry.
        split: Which part of it.
        samples: The images, in the order of the published list, or by name where there is none.
        classes: Names of the classes of a semantic data set, the background first.
        convention: How mIoU is computed: "mmseg" at full size, absent classes left out; "clip_diy" at a shorter side
            of 448 pixels, absent classes counting as 0; None: as in the paper of the method.
        masks: Whether every object has a mask.
        rounded: Whether CorLoc is about boxes rounded to whole pixels, halves to even, as LOST does with COCO.
    """

    name: str
    split: str
    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()
    convention: Convention | None = None
    masks: bool = False
    rounded: bool = False

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """The kind of its truth."""

    @property
    def title(self) -> str:
        """Its name and split, for people."""
        return f"{self.name} {self.split}".strip()

    def objects(self, sample: Sample) -> list[Object]:
        """Return true objects and ignored regions; of data sets of the kind "boxes".

        Raises:
            InputError: If the annotation is damaged or has an invalid box.
        """
        raise InputError(f"{self.name} has no boxes")

    def boxes(self, sample: Sample) -> Boxes:
        """Return the boxes of the objects that count, float64 [n, 4]; `InputError` as in `objects`."""
        return stack_boxes(self.objects(sample))

    def size(self, sample: Sample) -> Size | None:
        """Return height and width that the truth is for; None where it does not say."""
        return None

    def mask(self, sample: Sample) -> Image:
        """Return the true map, uint8 [H, W]: saliency 0-255, or class ids with 255 where there is no truth.

        Raises:
            InputError: If the file cannot be read.
        """
        return read_map(sample.truth)

    def first(self, count: int) -> Dataset:
        """Return the data set of the first images only."""
        return replace(self, samples=self.samples[:count])

    def check(self) -> None:
        """Look whether every image and its truth are there.

        Raises:
            InputError: Something is missing: how much, and the first names.
        """
        wanted = list(dict.fromkeys(path for sample in self.samples for path in (sample.image, sample.truth)))
        there = {folder: set(_list_files(folder)) for folder in {path.parent for path in wanted}}
        missing = [path for path in wanted if path.name not in there[path.parent]]
        if missing:
            names = ", ".join(str(path) for path in missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise InputError(f"{self.title}: {len(missing)} of {len(wanted)} files are missing: {names}")


class MapSet(Dataset):
    """Images with a map of the same size each."""

    def check(self) -> None:
        """Look whether every image and its map are there, and of one size by their headers.

        Files that are no images pass here: each is named as its turn comes, and the others count.

        Raises:
            InputError: Something is missing or of another size: how much, and the first names.
        """
        super().check()
        with ThreadPoolExecutor() as pool:
            wrong = [text for text in pool.map(_describe_other_size, self.samples) if text]
        if wrong:
            names = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            raise InputError(
                f"{self.title}: {len(wrong)} of {len(self.samples)} maps are not of their image's size: {names}"
            )


class SaliencySet(MapSet):
    """Images with a map of what is salient."""

    @property
    def kind(self) -> Kind:
        """The kind of its truth: saliency."""
        return "saliency"


class SemanticSet(MapSet):
    """Images with a class for each pixel."""

    @property
    def kind(self) -> Kind:
        """The kind of its truth: semantic."""
        return "semantic"


def stack_boxes(objects: Iterable[Object], *, ignored: bool = False) -> Boxes:
    """Stack the boxes of the objects that count, or of the ignored regions: float64 [n, 4]."""
    return np.array([item.box for item in objects if item.ignored == ignored], np.float64).reshape(-1, 4)


def check_size(dataset: Dataset, sample: Sample, size: Size) -> None:
    """Compare the size of an image, (H, W), with what its truth is for.

    Raises:
        InputError: They differ.
    """
    wanted = dataset.size(sample)
    if wanted is not None and wanted != size:
        raise InputError(
            f"{sample.image} has {format_size(size)} pixels, by {sample.truth} it has {format_size(wanted)}"
        )


def format_size(size: Sequence[int]) -> str:
    """Write (H, W) as people do, width first."""
    return f"{size[1]}x{size[0]}"


def find_folder(root: Path, candidates: Iterable[str]) -> Path:
    """Return the first of some folders below `root` that exists.

    Raises:
        InputError: None of them does.
    """
    tried = list(candidates)
    for name in tried:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root} has none of the folders {', '.join(tried)}")


def find_file(root: Path, candidates: Iterable[str], what: str) -> Path:
    """Return the first of some files below `root` that exists.

    Raises:
        InputError: None of them does; `what` says what it is and where to get it.
    """
    tried = list(candidates)
    for name in tried:
        if (root / name).is_file():
            return root / name
    raise InputError(f"{root} has no {' or '.join(tried)}: {what}")


def read_names(path: Path) -> list[str]:
    """Read the first word of each line of a list of images.

    Raises:
        InputError: If the list is missing, empty, or has a name twice.
    """
    try:
        names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the list of images {path}: {error}") from error
    if not names:
        raise InputError(f"the list of images {path} is empty")
    if len(set(names)) != len(names):
        raise InputError(f"the list of images {path} has {find_duplicate(names)!r} twice")
    return names


def _describe_other_size(sample: Sample) -> str:
    """Say how a map differs from its image; nothing if it does not, or one of them has no header to tell."""
    try:
        image, truth = read_image_size(sample.image), read_image_size(sample.truth)
    except InputError:
        return ""
    return "" if image == truth else f"{sample.truth} ({format_size(truth)}, its image {format_size(image)})"


def _list_files(folder: Path) -> Sequence[str]:
    return os.listdir(folder) if folder.is_dir() else ()
