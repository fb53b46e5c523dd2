"""Labels of CLIP-DIY and MaskCLIP against maps that are computed window by window and patch by patch."""

import cv2
import numpy as np
import pytest
import torch
from segmentation_making import BOTH, PROMPTS, normalised, picture, scene
from torch.nn import functional as F

from objloc_ros.backbones.weights import load_clip_image
from objloc_ros.methods.maskclip import value_features
from objloc_ros.types import UNLABELLED


@torch.inference_mode()
def diy_maps(weights, image, texts):
    """CLIP-DIY's cosines, window by window and tiled: float32 [C, 256, 256]."""
    tower = load_clip_image("tiny_clip", path=weights)
    square = cv2.resize(image, (256, 256), interpolation=cv2.INTER_LINEAR)
    total = torch.zeros(len(texts), 256, 256)
    for side in (256, 128, 64):
        per_row = {256: 1, 128: 3, 64: 7}[side]
        grid = torch.zeros(1, len(texts), per_row, per_row)
        for row in range(per_row):
            for column in range(per_row):
                y, x = row * side // 2, column * side // 2
                window = torch.from_numpy(square[y : y + side, x : x + side].copy()).permute(2, 0, 1)[None]
                small = (
                    F.interpolate(window, (tower.side, tower.side), mode="bicubic", antialias=True)[0]
                    .permute(1, 2, 0)
                    .numpy()
                )
                grid[0, :, row, column] = F.cosine_similarity(tower(normalised(small)), texts, dim=1)
        total += F.interpolate(grid, (256, 256), mode="bilinear", align_corners=False)[0]
    return total / 3


@torch.inference_mode()
def maskclip_maps(weights, image, texts):
    """MaskCLIP's cosines of an image that needs no scaling: float32 [C, h, w]."""
    tower = load_clip_image("tiny_clip", path=weights)
    height, width = image.shape[:2]
    black = np.zeros((-(-height // 8) * 8, -(-width // 8) * 8, 3), np.uint8)
    black[:height, :width] = image
    tokens = tower.tokens(normalised(black))
    features = value_features(tower, tokens)[0]
    cosines = torch.stack([F.cosine_similarity(features, text[None], dim=1) for text in texts])
    fine = F.interpolate(cosines.view(1, len(texts), *tokens.grid), black.shape[:2], mode="bilinear")
    return fine[0, :, :height, :width]


@pytest.mark.parametrize("method", BOTH)
def test_without_a_background_the_best_prompt_wins(load, weights, method):
    image = picture(90, 130, 8)
    pipeline = load(method, background="none", **({"placement": "tiled"} if method == "clip_diy" else {}))
    found = pipeline.run(image)[method]
    texts = pipeline.encode_prompts(PROMPTS).texts
    maps = (diy_maps if method == "clip_diy" else maskclip_maps)(weights, image, texts)[1:]
    assert len(np.unique(found.classes)) > 1
    assert (found.classes == maps.argmax(0).numpy()).mean() > 0.998
    np.testing.assert_allclose(found.confidence, (100 * maps).softmax(0).amax(0), atol=2e-3)


@pytest.mark.parametrize("method", BOTH)
def test_founds_saliency_decides_between_prompts_and_ground(load, weights, method):
    """The embedded model's cosines may be negative, so that (1 + cosine) / 2 is weighed."""
    image = scene(90, 130)
    pipeline = load("found", method, **({"placement": "tiled"} if method == "clip_diy" else {}))
    result = pipeline.run(image)
    found, saliency = result[method], result["found"].saliency
    maps = (diy_maps if method == "clip_diy" else maskclip_maps)(weights, image, pipeline.encode_prompts(PROMPTS).texts)
    resized = cv2.resize(saliency, maps.shape[:0:-1], interpolation=cv2.INTER_LINEAR)
    fitting = (1 + maps.numpy()) / 2 * resized
    fitting[0] = (1 + maps[0].numpy()) / 2 * (1 - resized)
    expected = np.array([UNLABELLED, 0, 1, 2])[fitting.argmax(0)]
    assert len(np.unique(expected)) > 1
    assert (found.classes == expected).mean() > 0.995
