"""A backbone of colours and labelled pictures of rectangles, on which a token detector trains in seconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import torch
from torch import nn

from objloc_ros.io.rle import encode
from objloc_ros.methods.token_detector import TokenDetector
from objloc_ros.training.detector_data import (
    DetectorTraining,
)
from objloc_ros.training.detector_labels import ImageLabels, Labels
from objloc_ros.types import Features, Size

COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


class ColourBackbone(nn.Module):
    """Keys are the mean colours of patches of 8 pixels."""

    patch, embed_dim, n_heads = 8, 3, 1
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    spec = SimpleNamespace(short_side=None)

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.vit = nn.Module()
        self.vit.gain = nn.Parameter(torch.full((1,), gain), requires_grad=False)

    def forward(self, images: torch.Tensor) -> Features:
        colours = nn.functional.avg_pool2d(images, 8) * self.vit.gain
        keys = colours.flatten(2).transpose(1, 2).contiguous()
        return Features(keys, keys, keys, keys[:, None, :, 0].softmax(-1), tuple(colours.shape[2:]))


def make_labels(
    folder: Path,
    count: int = 6,
    *,
    sizes: tuple[Size, ...] = ((64, 80),),
    box_only: bool = False,
    empty: int = -1,
    write: bool = True,
) -> Labels:
    """Pictures of one or two rectangles on green, red ones of the first class and blue ones of the second."""
    folder.mkdir(exist_ok=True)
    images = []
    for number in range(count):
        rng = np.random.default_rng(number)
        size = sizes[number % len(sizes)]
        picture = np.full((*size, 3), (30, 120, 50), np.uint8) + rng.integers(0, 9, (*size, 3)).astype(np.uint8)
        masks, boxes, categories = [], [], []
        for left, colour in ((0, "red"), (size[1] // 2, "blue"))[: 0 if number == empty else 1 + number % 2]:
            x, y = left + int(rng.integers(2, 10)), int(rng.integers(2, 20))
            mask = np.zeros(size, bool)
            mask[y : y + 32, x : x + 26] = True
            picture[mask] = COLOURS[colour]
            masks.append(None if box_only else encode(mask))
            boxes.append((x, y, x + 26, y + 32))
            categories.append(list(COLOURS).index(colour))
        file = folder / f"{number}.png"
        if write:
            cv2.imwrite(str(file), picture[..., ::-1])
        n = len(boxes)
        images.append(
            ImageLabels(
                file,
                file.name,
                size,
                tuple(masks),
                np.array(boxes, np.float64).reshape(-1, 4),
                np.array(categories, np.int64),
                np.ones(n),
                np.full(n, -1, np.int64),
            )
        )
    return Labels(folder / "labels.json", tuple(COLOURS), tuple(images))


def join_classes(labels: Labels) -> Labels:
    """The same labels without categories."""
    images = tuple(dataclasses.replace(one, categories=np.zeros_like(one.categories)) for one in labels.images)
    return dataclasses.replace(labels, classes=("object",), images=images)


def weights(detector: TokenDetector) -> torch.Tensor:
    return torch.cat([value.flatten() for value in detector.state_dict().values()])


SHORT = DetectorTraining(steps=6, batch=4, variants=2)

MODES = ("cached", "fresh")
"""Of tokens."""


def shared_settings(mode: str) -> DetectorTraining:
    """The settings of what two processes train."""
    return dataclasses.replace(SHORT, tokens=mode, pastes=1)
