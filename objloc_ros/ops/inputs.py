"""A camera frame as a tensor that a network takes, on the network's device; sizes and arrays are `geometry`'s."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.ops.geometry import Geometry, Triple, lookup, normalise_array, resize


def to_input(
    image_u8: npt.NDArray[np.uint8],
    geometry: Geometry,
    mean: Triple,
    std: Triple,
    device: torch.device | str,
    *,
    black: bool = False,
) -> Tensor:
    """Resize, upload and normalise one RGB image: the ViT's input.

    Args:
        image_u8: RGB uint8 [H, W, 3] of the geometry's source size.
        geometry: From `plan`.
        mean: Channel means in [0, 1] units.
        std: Channel standard deviations in [0, 1] units.
        device: Where the tensor shall live.
        black: Pad before normalisation, as CLIP-DINOiser does; else after it, as the methods on DINO do.

    Returns:
        float32 [1, 3, Hp, Wp]; outside the resized image zeros, or the values of black pixels.
    """
    pixels = resize(image_u8, geometry)
    on_cpu = torch.device(device).type == "cpu"
    return normalise(pixels if on_cpu else upload(pixels, device), geometry, mean, std, black=black)


def upload(pixels_u8: npt.NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """Send pixels uint8 [h', w', 3] to a GPU: they travel as bytes and are normalised there."""
    return torch.from_numpy(np.ascontiguousarray(pixels_u8)).to(device, non_blocking=True)


def normalise(
    pixels_u8: npt.NDArray[np.uint8] | Tensor, geometry: Geometry, mean: Triple, std: Triple, *, black: bool = False
) -> Tensor:
    """Normalise and pad pixels uint8 [h', w', 3], where they are: float32 [1, 3, Hp, Wp], see `to_input`.

    Arrays and tensors look up the same 256 values per channel.
    """
    if isinstance(pixels_u8, np.ndarray):
        return torch.from_numpy(normalise_array(pixels_u8, geometry, mean, std, black=black))
    height, width = geometry.resized
    below_right = (0, geometry.padded[1] - width, 0, geometry.padded[0] - height)
    planes = pixels_u8.permute(2, 0, 1).int()  # 3 h' w'
    if black:
        planes = F.pad(planes, below_right)  # 3 Hp Wp
    values = torch.from_numpy(lookup(mean, std)).to(planes.device)
    normalised = torch.stack([values[c][planes[c]] for c in range(3)])
    return (normalised if black else F.pad(normalised, below_right))[None]  # 1 3 Hp Wp
