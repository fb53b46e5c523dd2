"""CLIP-DIY: open-vocabulary segmentation from CLIP's view of many windows, guided by an objectness map.

Wysoczanska, Ramamonjisoa, Trzcinski and Simeoni, "CLIP-DIY: CLIP Dense Inference Yields Open-Vocabulary Semantic
Segmentation For-Free", WACV 2024. Windows of three scales are embedded by CLIP and compared with the prompts (their
section 3.1); FOUND's saliency decides between the prompts and the background (section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.options import Placement

SIDE = 256
"""Images are resized to this square, whatever their aspect ratio."""

PATCH_SIZES = (256, 128, 64)
"""Sides of the windows in pixels."""

STRIDE = 2
"""Windows of side P are P // STRIDE pixels apart: 1, 9 and 49 of them."""


def windows(images: Tensor, patch_size: int, stride: int = STRIDE) -> Tensor:
    """Cut square windows out of square images.

    Args:
        images: [B, 3, S, S].
        patch_size: Side P of a window in pixels, at most S.
        stride: Windows are P // stride pixels apart.

    Returns:
        [B, n, n, 3, P, P]: a view of the images, in rows from the top left corner.

    Raises:
        ParameterError: If no window fits.
    """
    if not 1 <= stride <= patch_size <= images.shape[-1]:
        raise ParameterError(f"windows of {patch_size} px with stride {stride} do not fit {images.shape[-1]} px")
    step = patch_size // stride
    cut = images.unfold(2, patch_size, step).unfold(3, patch_size, step)
    return cut.permute(0, 2, 3, 1, 4, 5)


def resized_windows(
    images: Tensor,
    side: int,
    patch_sizes: Sequence[int] = PATCH_SIZES,
    stride: int = STRIDE,
    *,
    interpolation: str = "bicubic",
) -> Tensor:
    """Return all windows of all images, resized as CLIP's preprocessing does.

    With antialiasing on bytes, as Pillow does it, through which the original takes each window: a few values in
    a hundred thousand differ by two grey levels, all others by one or none.

    Args:
        images: uint8 [B, 3, S, S] RGB.
        side: Side in pixels that the image tower takes.
        patch_sizes: Sides of the windows.
        stride: See `windows`.
        interpolation: "bicubic", or "bilinear" for towers that learned with it.

    Returns:
        uint8 [B * (n_1^2 + n_2^2 + ...), 3, side, side], scale after scale.
    """
    resized = []
    for patch_size in patch_sizes:
        cut = windows(images, patch_size, stride).flatten(0, 2)
        if patch_size != side:
            pixels = cut.contiguous() if cut.device.type == "cpu" else cut.float()  # CUDA has no such kernel for bytes
            fine = F.interpolate(pixels, size=(side, side), mode=interpolation, antialias=True)
            cut = fine if fine.dtype == torch.uint8 else fine.clamp(0, 255).round().to(torch.uint8)
        resized.append(cut)
    return torch.cat(resized)


def windows_per_row(size: int = SIDE, patch_sizes: Sequence[int] = PATCH_SIZES, stride: int = STRIDE) -> list[int]:
    """Return how many windows of each scale lie side by side: 1, 3 and 7."""
    return [(size - patch_size) // (patch_size // stride) + 1 for patch_size in patch_sizes]


def split_windows(embeddings: Tensor, batch: int, sides: Sequence[int]) -> list[Tensor]:
    """Give the embeddings of `resized_windows` their places back.

    Args:
        embeddings: float32 [B * (n_1^2 + n_2^2 + ...), D].
        batch: Number of images B.
        sides: Windows per row n_k of each scale.

    Returns:
        Per scale [B, n_k, n_k, D].
    """
    parts = embeddings.split([batch * n * n for n in sides])
    return [part.unflatten(0, (batch, n, n)) for part, n in zip(parts, sides, strict=True)]


def similarity(
    window_embeddings: Sequence[Tensor],
    text_embeddings: Tensor,
    *,
    size: int,
    weights: Sequence[float] | None = None,
    placement: Placement = "tiled",
    stride: int = STRIDE,
) -> Tensor:
    """Return maps of how well each prompt describes the surroundings of each pixel, averaged over the scales.

    Args:
        window_embeddings: One [B, n_k, n_k, D] per scale, not yet normalised.
        text_embeddings: [C, D].
        size: Side of the maps in pixels.
        weights: A factor for each scale; the sum is divided by the number of scales, not by theirs, as in the original.
        placement: "tiled" interpolates as if the windows lay side by side, as the original does; "centred" puts each
            value at the centre of its window; "nearest" tiles without interpolation.
        stride: Windows of side P are P // stride apart; read for "centred" only.

    Returns:
        float32 [B, C, size, size], cosines in [-1, 1] for weights of 1.

    Raises:
        InputError: If there is no scale, or as many weights as scales are not given.
    """
    if not window_embeddings or (weights is not None and len(weights) != len(window_embeddings)):
        raise InputError(f"expected a weight for each of 1 or more scales, got {len(window_embeddings)} and {weights}")
    texts = F.normalize(text_embeddings.float(), dim=-1)
    maps = []
    for embeddings, weight in zip(window_embeddings, weights or [1.0] * len(window_embeddings), strict=True):
        cosines = (F.normalize(embeddings.float(), dim=-1) @ texts.T).permute(0, 3, 1, 2)
        maps.append(weight * _spread(cosines, size, placement, stride))
    return torch.stack(maps).sum(0) / len(maps)


def fuse(similarity: Tensor, saliency: Tensor, *, background: int = 0) -> Tensor:
    """Return the best class of each pixel, objects where there is an object and background elsewhere.

    The original takes a softmax in between; it changes no order.

    Args:
        similarity: [B, C, size, size].
        saliency: [B, size, size] in [0, 1].
        background: The class whose map is multiplied by 1 - saliency; the others' are by the saliency.

    Returns:
        int64 [B, size, size].

    Raises:
        InputError: If the sizes differ.
        ParameterError: If there is no such class.
    """
    return gate_by_saliency(similarity, saliency, background=background).argmax(1)


def gate_by_saliency(similarity: Tensor, saliency: Tensor, *, background: int = 0) -> Tensor:
    """Return the maps of `fuse` before the choice: [B, C, size, size]."""
    if similarity.shape[:1] + similarity.shape[2:] != saliency.shape:
        raise InputError(f"saliency {list(saliency.shape)} does not fit a similarity of {list(similarity.shape)}")
    if not 0 <= background < similarity.shape[1]:
        raise ParameterError(f"background must be one of {similarity.shape[1]} classes, got {background}")
    objects = similarity * saliency[:, None]
    objects[:, background] = similarity[:, background] * (1 - saliency)
    return objects


def _spread(cosines: Tensor, size: int, placement: Placement, stride: int) -> Tensor:
    """Bring the values of one scale's windows [B, C, n, n] to pixels."""
    if placement == "centred":
        hats = _hats(cosines.shape[-1], size, stride).to(cosines)
        return hats @ cosines @ hats.T
    if placement == "nearest":
        return F.interpolate(cosines, size=(size, size), mode="nearest")
    return F.interpolate(cosines, size=(size, size), mode="bilinear", align_corners=False)


def _hats(windows: int, size: int, stride: int) -> Tensor:
    """Return weights of linear interpolation between window centres over `size` pixels, flat beyond: [size, n]."""
    step = size / (windows - 1 + stride)  # a window is `stride` steps wide
    pixels = (torch.arange(size) + 0.5) / step - stride / 2
    places = pixels.clamp(0, windows - 1)
    return (1 - (places[:, None] - torch.arange(windows)).abs()).clamp(min=0)
