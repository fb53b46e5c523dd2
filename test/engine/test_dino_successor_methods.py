"""LOST, TokenCut, MaskCut and FOUND on DINOv2 and DINOv3: an object whose box is known, through the whole pipeline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import objloc_ros
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import build_vit
from objloc_ros.errors import WeightsError
from objloc_ros.training.found_head import save_head

NAMES = [name for name in SPECS if name.startswith(("dinov2", "dinov3"))]
METHODS = ("lost", "tokencut", "maskcut", "found")
GROUND = (124, 116, 104)
"""The mean colour of ImageNet, which padding has, too."""


@pytest.fixture(params=NAMES)
def files(request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, dict[str, Path]]]:
    """Weights of the true shapes, of two blocks, whose keys of bright patches are the opposite of those of others.

    The patch embedding weighs brightness against a bias, along one random direction; layer scale is zero, so that
    nothing is added to it; positions are zero. FOUND's head looks in that direction.
    """
    name, generator = request.param, torch.Generator().manual_seed(0)
    monkeypatch.setitem(SPECS, name, dataclasses.replace(SPECS[name], depth=2))
    vit = build_vit(name).requires_grad_(False).vit
    width, patch = SPECS[name].embed_dim, SPECS[name].patch
    direction = torch.randn(width, generator=generator)
    direction -= direction.mean()
    vit.patch_embed.proj.weight.copy_(
        (direction / patch**2)[:, None, None, None].expand_as(vit.patch_embed.proj.weight)
    )
    vit.patch_embed.proj.bias.copy_(-3 * direction)
    for block in vit.blocks:
        block.ls1.gamma.zero_()
        block.ls2.gamma.zero_()
        block.attn.qkv.bias.zero_()
    if vit.pos_embed is not None:
        vit.pos_embed.zero_()
    of_bright = vit.blocks[-1].attn.qkv.weight[width : 2 * width] @ (direction / direction.std())
    weights, head = tmp_path / "vit.safetensors", tmp_path / "head.safetensors"
    save_file(vit.state_dict(), weights)
    save_head(head, (8 * of_bright / of_bright.square().sum())[None, :, None, None], torch.zeros(1))
    yield name, {"weights": weights, "head_weights": head}
    weights.unlink()  # up to 59 MB, which pytest would keep


@pytest.mark.parametrize(("height", "width", "short_side"), [(200, 310, None), (400, 620, 200)])
def test_the_box_of_an_object_comes_back_in_pixels(files, height: int, width: int, short_side: int | None) -> None:
    name, paths = files
    pipeline = objloc_ros.load_pipeline(METHODS, name, "cpu", short_side=short_side, **paths)
    for method in METHODS[:3]:
        pipeline.configure(method, post="none")
    scale, patch = height // 200, SPECS[name].patch
    box = scale * patch * np.array([4, 3, 9, 8])
    image = np.full((height, width, 3), GROUND, np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    result = pipeline.run(image)
    for method in METHODS:
        detections = result[method].detections
        assert len(detections.boxes) == 1, method
        # boxes of patches are exact; FOUND's ends where saliency, interpolated between patches, passes its threshold
        np.testing.assert_allclose(detections.boxes[0], box, atol=scale * patch / 2 if method == "found" else 0)


def test_a_head_for_another_width_is_refused(files, tmp_path: Path) -> None:
    name, paths = files
    save_head(tmp_path / "other.safetensors", torch.zeros(1, 160, 1, 1), torch.zeros(1))
    with pytest.raises(WeightsError, match=f"is not a FOUND head for {name}: 1 mis-shaped"):
        objloc_ros.load_pipeline(
            ("found",), name, "cpu", weights=paths["weights"], head_weights=tmp_path / "other.safetensors"
        )
