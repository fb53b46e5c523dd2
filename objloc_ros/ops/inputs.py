"""A camera frame as the tensor that a network on a CPU takes; for other devices see `device_input`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.ops.geometry import Geometry, Triple, normalise_array, resize


def to_input(
    image_u8: npt.NDArray[np.uint8], geometry: Geometry, mean: Triple, std: Triple, *, black: bool = False
) -> Tensor:
    """Resize, normalise and pad one RGB image: the ViT's input.

    Args:
        image_u8: RGB uint8 [H, W, 3] of the geometry's source size.
        geometry: From `plan`.
        mean: Channel means in [0, 1] units.
        std: Channel standard deviations in [0, 1] units.
        black: Pad before normalisation, as CLIP-DINOiser does; else after it, as the methods on DINO do.

    Returns:
        float32 [1, 3, Hp, Wp]; outside the resized image zeros, or the values of black pixels.
    """
    return torch.from_numpy(normalise_array(resize(image_u8, geometry), geometry, mean, std, black=black))
