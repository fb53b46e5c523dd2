"""Which data sets can be opened."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from objloc_ros.data.base import Dataset
from objloc_ros.data.coco import open_coco20k, open_val2017
from objloc_ros.data.coco_json import open_coco_json
from objloc_ros.data.coco_object import open_instances, open_stuff
from objloc_ros.data.voc_kitti_saliency import (
    LAYOUTS,
    make_saliency_opener,
    make_voc_opener,
    open_kitti,
    open_segmentation,
)
from objloc_ros.errors import InputError, ParameterError

DATASETS: dict[str, Callable[..., Dataset]] = {
    "voc07": make_voc_opener(2007),
    "voc12": make_voc_opener(2012),
    "voc_seg": open_segmentation,
    **{name: make_saliency_opener(name) for name in LAYOUTS},
    "coco20k": open_coco20k,
    "coco_val2017": open_val2017,
    "coco_object_instances": open_instances,
    "coco_object_stuff": open_stuff,
    "kitti": open_kitti,
    "coco_json": open_coco_json,
}
"""By name, what opens a data set in a folder."""


def open_dataset(name: str, root: Path, **options: Any) -> Dataset:
    """Open a data set; nothing is read yet but lists of names and COCO's documents.

    Args:
        name: A key of `DATASETS`.
        root: The folder that it was unpacked in.
        options: Those of the function that opens it: `list_options`.

    Raises:
        ParameterError: If the name or an option is unknown.
        InputError: If the folder has another layout.
    """
    if name not in DATASETS:
        raise ParameterError(f"data set must be one of {', '.join(DATASETS)}, got {name!r}")
    if not root.is_dir():
        raise InputError(f"there is no folder {root}")
    unknown = sorted(set(options) - set(list_options(name)))
    if unknown:
        raise ParameterError(f"{name} has no such option: {', '.join(unknown)}")
    return DATASETS[name](root, **options)


def list_options(name: str) -> tuple[str, ...]:
    """What a data set can be opened with, beside its folder."""
    return tuple(inspect.signature(DATASETS[name]).parameters)[1:]
