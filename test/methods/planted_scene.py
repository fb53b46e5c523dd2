"""Three planted objects, and features in which they are easy to see."""

import numpy as np
import torch


def as_map(text):
    """Rows of digits as an array."""
    return np.array([[int(letter) for letter in row] for row in text.split()])


def planted(label_map, noise=0.05, channels=12, seed=0):
    """Features [1, N, C] with one direction per label, those of objects pointing away from the ground's."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(channels, channels, generator=generator)).Q
    directions[1:] -= 0.4 * directions[0]
    labels = torch.from_numpy(label_map.ravel())
    return directions[labels][None] + noise * torch.randn(1, labels.numel(), channels, generator=generator)


SCENE = as_map("000000000 011100000 011100000 000000220 000000220 000000000 000333300 000333300")
GRID = SCENE.shape
