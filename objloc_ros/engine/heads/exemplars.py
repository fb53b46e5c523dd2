"""Classes that were shown, in the label map of those that were said."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.methods.exemplar import MIN_CONTRAST, Exemplar, describe_patches, find_exemplar, learn_exemplar
from objloc_ros.ops.geometry import Geometry, resize
from objloc_ros.types import Features, Image

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in source pixels, maximum exclusive."""


def show(image: Image, features: Features, geometry: Geometry, box: Box) -> Exemplar:
    """Learn what is inside a box of an image.

    Args:
        image: RGB uint8 [H, W, 3].
        features: Its own.
        geometry: How it came to be the backbone's input.
        box: Patches with their centre in it are the thing's; at least the one at its centre.

    Raises:
        InputError: If nothing of the image is left around the box.
    """
    (height, width), (rows, columns) = geometry.source, geometry.grid
    scale_y, scale_x = (resized / side for resized, side in zip(geometry.resized, (height, width), strict=True))
    centres_y, centres_x = ((np.arange(n) + 0.5) * geometry.patch for n in (rows, columns))
    left, top, right, bottom = box
    inside = np.outer(
        (centres_y >= top * scale_y) & (centres_y < bottom * scale_y),
        (centres_x >= left * scale_x) & (centres_x < right * scale_x),
    )
    centre_y, centre_x = (top + bottom) / 2 * scale_y, (left + right) / 2 * scale_x
    inside[int(centre_y) // geometry.patch, int(centre_x) // geometry.patch] = True
    patches = _describe(image, features, geometry)
    return learn_exemplar(patches, torch.from_numpy(inside.ravel()).to(patches.device))


def mark_exemplars(
    classes: Tensor,
    confidence: Tensor,
    exemplars: Sequence[Exemplar],
    image: Image,
    features: Features,
    geometry: Geometry,
    *,
    first: int,
) -> tuple[Tensor, Tensor]:
    """Give pixels that look like something shown its class, whatever else they were taken for.

    Args:
        classes: int64 [h', w'].
        confidence: float32 [h', w'].
        exemplars: What was shown.
        image: RGB uint8 [H, W, 3].
        features: Its own.
        geometry: How it came to be the backbone's input; of another size than the classes.
        first: Class of the first exemplar; the others follow.

    Returns:
        Both maps, changed where an exemplar's contrast is large enough; that is the confidence there.
    """
    patches = _describe(image, features, geometry)
    scores = torch.stack([find_exemplar(patches, exemplar) for exemplar in exemplars])  # E N
    maps = scores.unflatten(1, geometry.grid)[None]  # 1 E h w
    maps = F.interpolate(maps, size=geometry.padded, mode="bilinear", align_corners=False)
    maps = maps[..., : geometry.resized[0], : geometry.resized[1]]
    maps = F.interpolate(maps, size=classes.shape, mode="bilinear", align_corners=False)[0]  # E h' w'
    best, which = maps.to(classes.device).max(0)
    found = best >= MIN_CONTRAST
    return torch.where(found, which + first, classes), torch.where(found, best, confidence)


def _describe(image: Image, features: Features, geometry: Geometry) -> Tensor:
    """Describe the patches of one image: unit vectors float32 [N, D]."""
    (height, width), (padded_height, padded_width) = geometry.resized, geometry.padded
    lab = cv2.cvtColor(resize(image, geometry), cv2.COLOR_RGB2LAB)
    lab = cv2.copyMakeBorder(lab, 0, padded_height - height, 0, padded_width - width, cv2.BORDER_REPLICATE)
    means = cv2.resize(lab.astype(np.float32), geometry.grid[::-1], interpolation=cv2.INTER_AREA) / 255  # h w 3
    values = features.values[0]
    return describe_patches(values, torch.from_numpy(means.reshape(-1, 3)).to(values.device))
