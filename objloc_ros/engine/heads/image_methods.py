"""Methods whose own network looks at the image: no backbone runs, or is loaded, for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from objloc_ros.engine.heads.rcnn import RcnnOptions, load_rcnn_head, read_rcnn_labels
from objloc_ros.engine.heads.selfmask import load_selfmask_head
from objloc_ros.engine.results import ImageHead
from objloc_ros.methods.found import FoundOptions
from objloc_ros.options import Options

LoadHead = Callable[[str, "Path | None", "int | None", torch.device], ImageHead]
"""Loads a head: the network's name in the weights registry, a file in place of the registered one, the shorter side of
images in pixels (None for the network's own), and the device. Raises WeightsError or ParameterError."""


@dataclass(frozen=True)
class ImageMethod:
    """One such method.

    Args:
        options: The dataclass of its options.
        network: Name of its network in the weights registry, unless another is chosen.
        node: Name of the node that runs it.
        load: Loads its head.
        read_labels: Reads what its objects may be called, of a network's name and a file; None for "object" alone.
    """

    options: type[Options]
    network: str
    node: Literal["found", "discovery"]
    load: LoadHead
    read_labels: Callable[[str, Path | None], tuple[str, ...]] | None = None


IMAGE_METHODS: Mapping[str, ImageMethod] = {
    "rcnn": ImageMethod(RcnnOptions, "cutler_cascade", "discovery", load_rcnn_head, read_rcnn_labels),
    "selfmask": ImageMethod(FoundOptions, "selfmask_nq20", "found", load_selfmask_head),
}
"""Methods with networks of their own, by name."""
