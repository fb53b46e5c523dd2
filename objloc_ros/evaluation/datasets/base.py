"""What all data sets have in common: images in a fixed order, and a truth for each."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.evaluation.map_files import read_map
from objloc_ros.types import Image

Kind = Literal["boxes", "saliency", "semantic"]
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
class Dataset:
    """Images and truth; opened twice, it has the same samples in the same order.

    Args:
        name: Its name in the registry.
        split: Which part of it.
        samples: The images, in the order of the published list, or by name where there is none.
        classes: Names of the classes of a semantic data set, the background first.
    """

    name: str
    split: str
    samples: tuple[Sample, ...]
    classes: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What its truth is."""
        raise NotImplementedError

    def boxes(self, sample: Sample) -> Boxes:
        """True boxes [n, 4] as (x1, y1, x2, y2), max side exclusive; of data sets of the kind "boxes"."""
        raise InputError(f"{self.name} has no boxes")

    def mask(self, sample: Sample) -> Image:
        """The true map, uint8 [H, W]: saliency 0-255, or class ids with 255 where there is no truth.

        Raises:
            InputError: If the file cannot be read.
        """
        return read_map(sample.truth)

    def first(self, count: int) -> Dataset:
        """The first images only."""
        return replace(self, samples=self.samples[:count])

    def check(self) -> None:
        """Look whether every image and its truth are there.

        Raises:
            InputError: Something is missing: how much, and the first names.
        """
        wanted = [path for sample in self.samples for path in (sample.image, sample.truth)]
        there = {folder: set(_listed(folder)) for folder in {path.parent for path in wanted}}
        missing = [path for path in wanted if path.name not in there[path.parent]]
        if missing:
            names = ", ".join(str(path) for path in missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise InputError(f"{self.name} {self.split}: {len(missing)} of {len(wanted)} files are missing: {names}")


class SaliencySet(Dataset):
    """Images with a map of what is salient."""

    @property
    def kind(self) -> Kind:
        """Saliency."""
        return "saliency"


class SemanticSet(Dataset):
    """Images with a class for each pixel."""

    @property
    def kind(self) -> Kind:
        """Semantic."""
        return "semantic"


def folder_in(root: Path, candidates: Iterable[str]) -> Path:
    """The first of some folders below `root` that exists.

    Raises:
        InputError: None of them does.
    """
    tried = list(candidates)
    for name in tried:
        if (root / name).is_dir():
            return root / name
    raise InputError(f"{root} has none of the folders {', '.join(tried)}")


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
        raise InputError(f"the list of images {path} has {_twice(names)!r} twice")
    return names


def _listed(folder: Path) -> Sequence[str]:
    return os.listdir(folder) if folder.is_dir() else ()


def _twice(names: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
