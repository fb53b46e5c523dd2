"""What bench/open_vocab.py runs on: towers with embedded or random weights, frames, texts and prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
import torch
from open_clip.transformer import TextTransformer
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.clip import ClipImage, build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import SPECIAL_TOKENS, Tokenizer
from objloc_ros.backbones.registry import find_entry
from objloc_ros.backbones.weights import KNOWN, VISUAL, load_backbone
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.heads.found import load_found
from objloc_ros.engine.heads.segmentation import SegmentationHead, Towers
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.prompts import EncodedPrompts
from objloc_ros.methods import clip_dinoiser as dinoiser
from objloc_ros.methods.clip_dinoiser import DinoiserHead
from objloc_ros.methods.clip_diy import PATCH_SIZES, SIDE, fuse, resized_windows, similarity, split_windows
from objloc_ros.methods.clip_diy import windows_per_row as per_row
from objloc_ros.methods.maskclip import value_features
from objloc_ros.scenes.attributes import COLOURS, PATTERNS, SHAPES
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import BACKGROUND, Image, Size

CPU = torch.device("cpu")

AT_ONCE = 20
"""Prompts that change together."""

CLASSES = (
    BACKGROUND, "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv/monitor",
)  # fmt: skip
"""Pascal VOC's, as CLIP-DIY names them."""

SENTENCES = ("{} {} {}", "picture of a {} {} {}", "photo of the {} {} {}")
"""Around a colour, a pattern and a shape: prompts of words that the embedded pair knows."""


class Model(NamedTuple):
    """Both towers of a CLIP model."""

    image: ClipImage
    text: TextTransformer
    tokenizer: Tokenizer


def build_model(name: str) -> Model:
    """Both towers: the embedded weights of `tiny_clip`, random ones of any other."""
    image = build_clip_image(name).eval()
    if name != "tiny_clip":
        return Model(image, build_text_transformer(name).eval(), Tokenizer(image.spec.context))
    state = load_file(find_entry(name).path)
    known = state.pop(KNOWN)
    text = build_text_transformer(name, len(known) + SPECIAL_TOKENS).eval()
    image.visual.load_state_dict({k.removeprefix(VISUAL): v for k, v in state.items() if k.startswith(VISUAL)})
    text.load_state_dict({k: v for k, v in state.items() if k in text.state_dict()})
    return Model(image, text, Tokenizer(image.spec.context, known))


def build_towers(name: str, device: torch.device = CPU) -> Towers:
    """What the heads run on; CLIP-DINOiser's convolutions are random."""
    clip = build_model(name).image if name == "tiny_clip" else build_clip_image(name).eval()
    found = load_found("tiny", path=None, device=device)
    return Towers(clip.to(device), found, DinoiserHead(clip.spec.width).eval().to(device))


def build_pipeline(towers: Towers, methods: Sequence[str], texts: Tensor, device: torch.device = CPU) -> Pipeline:
    """An engine around the embedded backbone and any towers, without a file for them.

    Args:
        towers: What the heads run on.
        methods: The heads.
        texts: Unit vectors [1 + P, D], the background's first; the prompts are named like `CLASSES`.
        device: Where it runs.
    """
    vit = load_backbone("tiny", device=device)
    heads = {method: SegmentationHead(method, towers, device) for method in methods}
    backbone = Backbone(vit, name="tiny", device=device, short_side=vit.spec.short_side)
    pipeline = Pipeline(backbone, heads)
    pipeline.use_prompts(EncodedPrompts(tuple(CLASSES[1 : len(texts)]), texts))
    return pipeline


def diy_classes(
    pixels: Tensor,
    tower: ClipImage,
    texts: Tensor,
    saliency: Tensor,
    *,
    scales: Sequence[int] = PATCH_SIZES,
    bfloat16: bool = False,
) -> Tensor:
    """CLIP-DIY as the product computes it, laid out as in the original: int64 [B, SIDE, SIDE].

    Args:
        pixels: uint8 [B, 3, SIDE, SIDE].
        tower: CLIP's image tower.
        texts: Unit vectors [C, D], the background's first.
        saliency: float32 [B, SIDE, SIDE].
        scales: Sides of the windows.
        bfloat16: Run the tower in it.
    """
    cut = resized_windows(pixels, tower.side, scales).float()
    mean, std = (torch.tensor(value, device=pixels.device)[:, None, None] * 255 for value in (tower.mean, tower.std))
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=bfloat16):
        embedded = tower((cut - mean) / std)
    scattered = split_windows(embedded, len(pixels), per_row(patch_sizes=scales))
    return fuse(similarity(scattered, texts, size=SIDE), saliency)


def dinoiser_classes(
    inputs: Tensor, tower: ClipImage, head: DinoiserHead, texts: Tensor, *, bfloat16: bool = False
) -> Tensor:
    """CLIP-DINOiser with its background as the product computes it, one pass per image: int64 [B, H, W]."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=bfloat16):
        tokens = tower.tokens(inputs)
        features = value_features(tower, tokens)
    correlations, objects = head(tokens.middle, tokens.grid)
    found = dinoiser.compute_probabilities(dinoiser.pool_features(features, correlations), texts).unflatten(
        2, tokens.grid
    )
    found = dinoiser.apply_background(found, objects <= 0)
    return F.interpolate(found, size=inputs.shape[-2:], mode="bilinear", align_corners=False).argmax(1)


def random_texts(towers: Towers, device: torch.device = CPU) -> Tensor:
    """Unit vectors in the place of `CLASSES`."""
    return F.normalize(torch.randn(len(CLASSES), towers.clip.embed_dim, device=device), dim=-1)


def fresh_prompts() -> Iterator[tuple[str, ...]]:
    """Sets of prompts, no prompt in two of them."""
    captions = (sentence.format(*words) for sentence in SENTENCES for words in product(COLOURS, PATTERNS, SHAPES))
    return zip(*(captions,) * AT_ONCE, strict=False)


def frames(count: int, size: Size = (480, 640)) -> list[Image]:
    """Frames of the procedural drive."""
    return [image for image, _ in drive_video(seed=3, size=size, frames=count)]


def squares(images: Sequence[Image]) -> Tensor:
    """Images as CLIP-DIY takes them, uint8 [B, 3, SIDE, SIDE]."""
    resized = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for image in images])
    return torch.from_numpy(resized).permute(0, 3, 1, 2)


def smooth_saliency(count: int) -> Tensor:
    """Something in the place of FOUND's maps: float32 [B, SIDE, SIDE] in [0, 1]."""
    coarse = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=False)[:, 0]
