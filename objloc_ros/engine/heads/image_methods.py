"""Methods whose own network looks at the image: no backbone runs, or is loaded, for them."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from objloc_ros.engine.results import Batch, HeadResult
from objloc_ros.options import Options


class ImageHead(abc.ABC):
    """A method with a network of its own. Its results carry the geometry of that network, not the backbone's.

    Attributes:
        default_options: Options that hold until others are chosen.
        short_side: What the shorter side of an image becomes, in pixels.
    """

    default_options: Any
    short_side: int

    def reads_features(self, options: Any) -> bool:
        """Return False: it reads the images."""
        return False

    @abc.abstractmethod
    def __call__(self, batch: Batch, options: Any) -> Sequence[HeadResult]:
        """Return one result per image of the batch."""


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
    """

    options: type[Options]
    network: str
    node: Literal["found", "discovery"]
    load: LoadHead


IMAGE_METHODS: Mapping[str, ImageMethod] = {}
"""Methods with networks of their own, by name."""
