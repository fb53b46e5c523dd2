"""What the heads of a pipeline are given: images, and what is known of them already."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from objloc_ros.engine.prompts import EncodedPrompts
from objloc_ros.engine.results import HeadResult
from objloc_ros.engine.timings import timed_part
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import Features, Image


@dataclass(frozen=True)
class Batch:
    """Images of one padded size on their way through the heads.

    Args:
        images: RGB uint8 [H, W, 3] each.
        geometries: How each became the backbone's input.
        features: The backbone's; None where no head reads them.
        prompts: What to look for; None where nobody said.
        timings: Where heads note how long the parts of their work take, if anywhere; see `timed_part`.
    """

    images: Sequence[Image]
    geometries: Sequence[Geometry]
    features: Features | None = None
    prompts: EncodedPrompts | None = None
    timings: dict[str, float] | None = None

    def post(self, method: str) -> AbstractContextManager[None]:
        """Entered by a head around what follows its answer: masks at pixels, boxes, regions."""
        return timed_part(self.timings, f"{method}.post", len(self.images))

    def seen(self) -> Features:
        """The backbone's features, for a head that said it reads them."""
        if self.features is None:
            raise RuntimeError("the backbone has not run")
        return self.features


class Head(Protocol):
    """A method behind the shared backbone pass."""

    default_options: Any

    def reads_features(self, options: Any) -> bool:
        """Whether it needs the backbone's features."""
        ...

    def __call__(self, batch: Batch, options: Any) -> Sequence[HeadResult]:
        """One result per image of the batch."""
        ...
