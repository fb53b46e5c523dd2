"""CLIP-DIY against the outputs of the original implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_cases import decode_image, find_cases, load_case, to_device

from objloc_ros.backbones.clip import CLIP_MEAN, CLIP_STD
from objloc_ros.methods.clip_diy import (
    fuse,
    gate_by_saliency,
    resized_windows,
    similarity,
    split_windows,
    windows_per_row,
)

CASES = find_cases("clipdiy")
NEAR = 1e-6
"""Two best values closer than this are a tie that rounding decides."""


def ours(case: dict[str, np.ndarray]) -> torch.Tensor:
    """The similarity maps from the original's window embeddings."""
    size, patches, stride = int(case["size"]), case["patch_sizes"].tolist(), int(case["stride"])
    flat = torch.cat([to_device(case[f"patch_embeds_{k}"].astype(np.float32)) for k in range(len(patches))])
    scales = split_windows(flat, int(case["batch"]), windows_per_row(size, patches, stride))
    texts = to_device(case["class_embeddings"])
    placement = "tiled" if case["interpolate"] else "nearest"
    return similarity(scales, texts, size=size, weights=case["weights"].tolist(), placement=placement, stride=stride)


def apart(values: torch.Tensor) -> np.ndarray:
    """Pixels whose best class is not a matter of rounding."""
    first, second = values.topk(2, dim=1).values.unbind(1)
    return (first - second > NEAR).numpy(force=True)


def test_cases_differ_in_placement_and_batch() -> None:
    cases = [load_case(path) for path in CASES]
    assert {bool(case["interpolate"]) for case in cases} == {True, False}
    assert {int(case["batch"]) for case in cases} == {1, 2}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_maps(path: Path) -> None:
    case = load_case(path)
    maps = ours(case)
    assert maps.shape == (int(case["batch"]), int(case["n_classes"]), int(case["size"]), int(case["size"]))
    assert case["logits_sub8"].std() > 1e-3
    np.testing.assert_allclose(maps[:, :, ::8, ::8].cpu(), case["logits_sub8"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_classes(path: Path) -> None:
    case = load_case(path)
    maps, saliency = ours(case), to_device(case["saliency"].astype(np.float32))
    products = gate_by_saliency(maps, saliency)
    for name, values, classes in (
        ("clip_argmax", maps, maps.argmax(1)),
        ("fused_argmax_demo", products, fuse(maps, saliency)),
        ("fused_argmax_eval", products, fuse(maps, saliency)),
    ):
        differs = classes.numpy(force=True) != case[name]
        assert not (differs & apart(values)).any(), name
        assert differs.sum() <= case["n_near_tie"], name


@pytest.mark.parametrize("path", [path for path in CASES if "image_png" in load_case(path)], ids=lambda p: p.stem)
def test_windows(path: Path) -> None:
    """The pixels that the original hands to CLIP, within one grey level, and in a few places two."""
    case = load_case(path)
    size, stride = int(case["size"]), int(case["stride"])
    image = decode_image(case)
    assert image.shape == (size, size, 3)
    pixels = to_device(image).permute(2, 0, 1)[None]
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (CLIP_MEAN, CLIP_STD))
    for k, patch in enumerate(case["patch_sizes"].tolist()):
        cut = resized_windows(pixels, 224, [patch], stride)
        assert len(cut) == case[f"crop_count_{k}"]
        window = cut[int(case[f"crop_index_{k}"])].numpy(force=True)[:, ::2, ::2].astype(int)
        expected = np.rint((case[f"crop_pixels_sub2_{k}"] * std + mean) * 255).astype(int)
        difference = np.abs(window - expected)
        assert difference.max() <= 2
        assert (difference > 1).mean() < 1e-4
        assert (difference > 0).mean() < 0.02
