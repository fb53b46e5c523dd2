"""Methods whose own network looks at the image: no backbone runs, or is loaded, for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from objloc_ros.engine.results import ImageHead
from objloc_ros.methods.options import FoundOptions, RcnnOptions
from objloc_ros.options import Options

if TYPE_CHECKING:
    import torch

LoadHead = Callable[[str, "Path | None", "int | None", "torch.device"], ImageHead]
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


def _load_rcnn(name: str, path: Path | None, short_side: int | None, device: torch.device) -> ImageHead:
    from objloc_ros.engine.heads.rcnn import load_rcnn_head

    return load_rcnn_head(name, path, short_side, device)


def _read_rcnn_labels(name: str, path: Path | None) -> tuple[str, ...]:
    from objloc_ros.engine.heads.rcnn import read_rcnn_labels

    return read_rcnn_labels(name, path)


def _load_selfmask(name: str, path: Path | None, short_side: int | None, device: torch.device) -> ImageHead:
    from objloc_ros.engine.heads.selfmask import load_selfmask_head

    return load_selfmask_head(name, path, short_side, device)


IMAGE_METHODS: Mapping[str, ImageMethod] = {
    "rcnn": ImageMethod(RcnnOptions, "cutler_cascade", "discovery", _load_rcnn, _read_rcnn_labels),
    "selfmask": ImageMethod(FoundOptions, "selfmask_nq20", "found", _load_selfmask),
}
"""Methods with networks of their own, by name."""
