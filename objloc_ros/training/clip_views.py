"""Crops and scenes of objects with known attributes, and the captions that are true of them, for the embedded CLIP.

Every batch depends only on the seed and the step, so a resumed training sees what an uninterrupted one would have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.scenes.attributes import KEPT_OUT, AttributeBank, Attributes, attribute_scene
from objloc_ros.scenes.compose import Camera, Scene, Window, render
from objloc_ros.training.captions import GROUPS, make_captions, match_captions
from objloc_ros.training.views import UNCLEAR, Stream, label_tokens, random_window
from objloc_ros.types import Image

CAMERA = Camera(strength=0.6, grey=0.0)
EASY_BLUR = 28.0
"""Standard deviation of the blur of easy backgrounds in pixels of the bank."""

IGNORED = -1
"""Kind of a token that straddles an object's edge."""


@dataclass(frozen=True)
class ClipBatch:
    """One training step's pictures and captions; all lists have an entry per group of `captions.GROUPS`.

    Args:
        crops: uint8 [B, S, S, 3] RGB.
        truth: float32 [B, kinds + 1], rows summing to 1: the captions that are true of each crop.
        scenes: uint8 [C, H, W, 3] RGB.
        tokens: int64 [C, N], the kind that each token shows, or IGNORED.
        captions: kinds + 1 texts.
    """

    crops: Tensor
    truth: list[Tensor]
    scenes: Tensor
    tokens: list[Tensor]
    captions: list[list[str]]


class ClipBatches(Stream[ClipBatch]):
    """An endless stream of `ClipBatch` from step `start` on.

    Args:
        bank: Pictures to compose.
        seed: Seed of the stream.
        start: First step.
        easy: Steps at the beginning with backgrounds so blurred that contours are all there is to see.
        crops: Crops per step.
        scenes: Scenes per step.
        crop_side: Side of a crop in pixels.
        scene_side: Side of a scene in pixels.
        patch: Token side in pixels.
    """

    def __init__(
        self,
        bank: AttributeBank,
        *,
        seed: int,
        start: int,
        easy: int,
        crops: int,
        scenes: int,
        crop_side: int = 48,
        scene_side: int = 128,
        patch: int = 8,
    ) -> None:
        super().__init__(start)
        self.bank, self.seed, self.easy = bank, seed, easy
        self._easy_bank = bank.blurred(EASY_BLUR)
        self.crops, self.scenes, self.patch = crops, scenes, patch
        self.crop_side, self.scene_side = crop_side, scene_side

    def batch(self, step: int) -> ClipBatch:
        """Return the batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        bank = self._easy_bank if step < self.easy else self.bank
        crops, visible = self._crops(rng, bank)
        scenes, tokens = zip(*(self._scene(rng, bank) for _ in range(self.scenes)), strict=True)
        return ClipBatch(
            torch.from_numpy(crops),
            [torch.from_numpy(table) for table in match_captions(GROUPS, visible)],
            torch.from_numpy(np.stack(scenes)),
            [torch.from_numpy(np.stack(kinds)) for kinds in zip(*tokens, strict=True)],
            [make_captions(rng, group) for group in GROUPS],
        )

    def _crops(self, rng: np.random.Generator, bank: AttributeBank) -> tuple[Image, list[list[Attributes]]]:
        """Crops of several scenes, up to three of each, and the objects that each one shows."""
        images: list[Image] = []
        visible: list[list[Attributes]] = []
        while len(images) < self.crops:
            scene = attribute_scene(rng, bank, kept_out=KEPT_OUT)
            for _ in range(3):
                window = crop_window(rng, scene)
                image, identities = render(
                    rng, bank, scene, (self.crop_side,) * 2, window=window, mirrored=rng.random() < 0.5, camera=CAMERA
                )
                objects = find_visible(scene, identities, window)
                if objects or np.count_nonzero(identities) < 0.03 * identities.size:
                    images.append(image)
                    visible.append([bank.attributes[scene.objects[i].index] for i in objects])
        return np.stack(images[: self.crops]), visible[: self.crops]

    def _scene(self, rng: np.random.Generator, bank: AttributeBank) -> tuple[Image, list[npt.NDArray[np.int64]]]:
        """Return a scene, and for each group the kind of every token."""
        scene = attribute_scene(rng, bank, kept_out=KEPT_OUT)
        window = random_window(rng, scene, (0.5, 1.0))
        size = (self.scene_side,) * 2
        image, identities = render(rng, bank, scene, size, window=window, mirrored=rng.random() < 0.5, camera=CAMERA)
        labels = label_tokens(identities, self.patch)
        shown = [None, *(bank.attributes[placed.index] for placed in scene.objects)]
        return np.ascontiguousarray(image), [
            _kinds(labels, [group.index(attributes) for attributes in shown]) for group in GROUPS
        ]


def crop_window(rng: np.random.Generator, scene: Scene) -> Window:
    """Sample a square window, which may leave the canvas: an object in its middle, one somewhere in it, or any part."""
    kind = rng.random()
    if scene.objects and kind < 0.8:
        target = scene.objects[int(rng.integers(len(scene.objects)))]
        zoom, shift = ((1.1, 1.6), 0.05) if kind < 0.5 else ((0.75, 2.2), 0.15)
        height = float(target.size * rng.uniform(*zoom))
        x, y = np.array([target.x, target.y]) + rng.normal(0, shift, 2) * target.size - height / 2
        return Window(float(x), float(y), height)
    height = float(rng.uniform(0.2, 1.0))
    x, y = rng.uniform(0, 1 - height, 2)
    return Window(float(x), float(y), height)


def find_visible(scene: Scene, identities: Image, window: Window) -> list[int]:
    """Return numbers of the objects that a crop shows: a good part of each, and large enough to be what it is about."""
    found = []
    for number, placed in enumerate(scene.objects, start=1):
        share = np.count_nonzero(identities == number) / identities.size
        whole = 0.5 * (placed.size / window.height) ** 2  # about what its outline covers
        if share > 0.06 and share > 0.3 * min(whole, 1.0):
            found.append(number - 1)
    return found


def _kinds(labels: npt.NDArray[np.uint8], numbers: Sequence[int]) -> npt.NDArray[np.int64]:
    """Replace the layers of `label_tokens` by the numbers of their kinds."""
    table = np.full(256, IGNORED, np.int64)
    table[: len(numbers)] = numbers
    table[UNCLEAR] = IGNORED
    return table[labels]
