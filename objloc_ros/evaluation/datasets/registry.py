"""Which data sets can be opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.datasets.base import Dataset
from objloc_ros.evaluation.datasets.saliency_sets import LAYOUTS, open_saliency
from objloc_ros.evaluation.datasets.voc import open_boxes, open_segmentation

DATASETS: dict[str, Callable[..., Dataset]] = {
    "voc07": open_boxes(2007),
    "voc12": open_boxes(2012),
    "voc_seg": open_segmentation,
    **{name: open_saliency(name) for name in LAYOUTS},
}
"""By name, what opens a data set in a folder."""


def open_dataset(name: str, root: Path, **options: Any) -> Dataset:
    """Open a data set; nothing but lists of names is read yet.

    Args:
        name: A key of `DATASETS`.
        root: The folder that it was unpacked in.
        options: `split` and `no_hard` of VOC.

    Raises:
        ParameterError: If the name or an option is unknown.
        InputError: If the folder has another layout.
    """
    if name not in DATASETS:
        raise ParameterError(f"data set must be one of {', '.join(DATASETS)}, got {name!r}")
    if not root.is_dir():
        raise InputError(f"there is no folder {root}")
    try:
        return DATASETS[name](root, **options)
    except TypeError as error:
        raise ParameterError(f"{name} has no such option: {error}") from error
