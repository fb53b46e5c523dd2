"""FOUND against the outputs of the original implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_cases import GOLDEN, find_cases, load_case, load_features, to_device, unpack_masks

from objloc_ros.methods.found import localise
from objloc_ros.methods.found_network import background_mask, background_seed, head_logits, head_weights
from objloc_ros.methods.options import FoundOptions
from objloc_ros.ops.geometry import plan


@pytest.mark.parametrize("path", find_cases("found_bkg"), ids=lambda path: path.stem)
def test_background(path: Path) -> None:
    case = load_case(path)
    features = load_features(case)
    attention = to_device(case["cls_attention"])[None, :, 1:]
    grid, n_heads = tuple(case["grid"].tolist()), int(case["n_heads"])
    betas = head_weights(attention)
    np.testing.assert_allclose(betas[0].cpu(), case["beta"], rtol=1e-5)
    assert background_seed(attention, betas).item() == case["ref_pixel"]
    allowed = int(case["n_near_th"])
    threshold = float(case["th_bkg"])
    for weights, expected in ((None, case["bkg_mask"]), (torch.ones_like(betas), case["bkg_mask_noweights"])):
        mask = background_mask(features, attention, grid, n_heads=n_heads, threshold=threshold, betas=weights)
        assert np.count_nonzero(mask[0].numpy(force=True) != expected) <= allowed


@pytest.mark.parametrize("path", find_cases("found_head"), ids=lambda path: path.stem)
def test_head(path: Path) -> None:
    case = load_case(path)
    released = load_case(GOLDEN / "found_head" / "released.npz")
    features = to_device(case["features"].astype(np.float32))[None]
    weight, bias = to_device(released["weight"]), to_device(released["bias"])
    grid, size = tuple(case["grid"].tolist()), tuple(case["image_size"].tolist())
    logits = head_logits(features, weight, bias, grid)[0].cpu().numpy()
    np.testing.assert_allclose(logits, case["preds"], rtol=1e-5, atol=1e-4)
    geometry = plan(size, patch=int(case["patch"]), short_side=None)
    assert geometry.grid == grid
    result = localise(logits, geometry=geometry, options=FoundOptions(min_area=0))
    up = case["preds_up"].astype(np.float32)
    np.testing.assert_allclose(result.saliency, 1 / (1 + np.exp(-up)), rtol=0, atol=2e-3)
    (expected,) = unpack_masks(case["sal_mask"][None], size)
    assert np.count_nonzero(result.mask != expected) <= np.count_nonzero(np.abs(up) < 1e-4)
    single = localise(logits, geometry=geometry, options=FoundOptions(mode="single", min_area=0))
    assert single.boxes.astype(int).flatten().tolist() == case["box_upsampled"].astype(int).tolist()
