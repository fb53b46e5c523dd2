"""Procedural scenes as a sequence of training images, and the photographed surfaces mixed into their textures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np

from objloc_ros.scenes.compose import Bank, random_scene, render
from objloc_ros.scenes.textures import Array
from objloc_ros.types import Image, Size

SIZES = (0.3, 1.2)
"""Objects up to larger than the picture: photographs show them from close by, and a head learns how much to expect."""


class SceneImages(Sequence[Image]):
    """`count` scenes, each composed anew from its index whenever it is asked for: RGB uint8 [H, W, 3].

    Args:
        bank: Pictures to compose from.
        seed: Seed of the scenes.
        count: Number of scenes.
        size: Height and width in pixels.
    """

    def __init__(self, bank: Bank, *, seed: int, count: int, size: Size = (240, 320)) -> None:
        self._bank, self._seed, self._count, self._size = bank, seed, count, size

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        """The scene of an index; the same one every time."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        rng = np.random.default_rng([self._seed, index % self._count])
        scene = random_scene(rng, self._bank, aspect=self._size[1] / self._size[0], sizes=SIZES)
        return np.ascontiguousarray(render(rng, self._bank, scene, self._size, mirrored=rng.random() < 0.5)[0])


def surface_photographs() -> list[Array]:
    """Brick, grass and gravel as scikit-image ships them: float32 [512, 512] in [0, 1], grey.

    Raises:
        ModuleNotFoundError: If scikit-image is not installed.
    """
    from skimage import data

    return [surface().astype(np.float32) / 255 for surface in (data.brick, data.grass, data.gravel)]
