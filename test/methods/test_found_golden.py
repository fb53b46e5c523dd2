"""Outputs of the original implementation, where the reference folder lies beside this checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from objloc_ros.methods.found import FoundOptions, background_mask, background_seed, head_logits, head_weights, localise
from objloc_ros.ops.geometry import plan

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
BACKGROUND = sorted((GOLDEN / "found_bkg").glob("case*.npz"))
HEAD = sorted((GOLDEN / "found_head").glob("case*.npz"))

pytestmark = pytest.mark.skipif(not BACKGROUND, reason="golden vectors are not beside this checkout")


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as data:
        return {key: data[key] for key in data.files}


def test_no_case_is_missing() -> None:
    assert len(BACKGROUND) >= 26
    assert len(HEAD) >= 13


@pytest.mark.parametrize("path", BACKGROUND, ids=lambda path: path.stem)
def test_background(path: Path) -> None:
    case = load(path)
    inputs = load(GOLDEN / "features" / f"case{int(case['features_case']):02d}.npz")
    features = torch.from_numpy(inputs["features"].astype(np.float32))[None]
    attention = torch.from_numpy(case["cls_attention"])[None, :, 1:]
    grid, n_heads = tuple(case["grid"].tolist()), int(case["n_heads"])
    betas = head_weights(attention)
    if "error" in case:  # the original raises: ours must still answer
        assert background_mask(features, attention, grid, n_heads=n_heads).shape == (1, *grid)
        return
    np.testing.assert_allclose(betas[0], case["beta"], rtol=1e-5)
    assert background_seed(attention, betas).item() == case["ref_pixel"]
    allowed = int(case["n_near_th"])
    threshold = float(case["th_bkg"])
    for weights, expected in ((None, case["bkg_mask"]), (torch.ones_like(betas), case["bkg_mask_noweights"])):
        mask = background_mask(features, attention, grid, n_heads=n_heads, threshold=threshold, betas=weights)
        assert np.count_nonzero(mask[0].numpy() != expected) <= allowed


@pytest.mark.parametrize(
    "path", [path for path in HEAD if "features" in np.load(path).files], ids=lambda path: path.stem
)
def test_head(path: Path) -> None:
    case = load(path)
    released = load(GOLDEN / "found_head" / "case99.npz")
    features = torch.from_numpy(case["features"].astype(np.float32))[None]
    weight, bias = torch.from_numpy(released["weight"]), torch.from_numpy(released["bias"])
    grid, size = tuple(case["grid"].tolist()), tuple(case["image_size"].tolist())
    logits = head_logits(features, weight, bias, grid)[0]
    np.testing.assert_allclose(logits, case["preds"], rtol=1e-5, atol=1e-4)
    geometry = plan(size, patch=int(case["patch"]), short_side=None)
    assert geometry.grid == grid
    result = localise(logits, geometry=geometry, options=FoundOptions(min_area=0))
    up = case["preds_up"].astype(np.float32)
    np.testing.assert_allclose(result.saliency, 1 / (1 + np.exp(-up)), rtol=0, atol=2e-3)
    expected = np.unpackbits(case["sal_mask"])[: size[0] * size[1]].reshape(size).astype(bool)
    assert np.count_nonzero(result.mask != expected) <= np.count_nonzero(np.abs(up) < 1e-4)
    single = localise(logits, geometry=geometry, options=FoundOptions(mode="single", min_area=0))
    assert single.boxes.astype(int).flatten().tolist() == case["box_upsampled"].astype(int).tolist()
