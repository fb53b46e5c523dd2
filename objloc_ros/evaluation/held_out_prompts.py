"""Open-vocabulary quality on held-out procedural scenes: what crops are called, and which pixels a prompt finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.clip import ImageTower
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.evaluation.held_out_scenes import BATCH_IMAGES, COUNT_PROBABILITIES, SEED, SIZE, batches
from objloc_ros.metrics import MeanIoU
from objloc_ros.metrics.semantic import confusion_matrix
from objloc_ros.scenes.attributes import COLOURS, KEPT_OUT, PATTERNS, SHAPES, AttributeBank, Attributes, attribute_scene
from objloc_ros.scenes.compose import Camera, Window, render
from objloc_ros.types import UNLABELLED, Image

CAMERA = Camera(strength=0.6, grey=0.0)
CROP_MARGIN = 1.3
"""Side of a crop over the size of the object in it."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "CLIP-DIY": ("clip_diy", {"background": "found", "placement": "centred"}),
    "CLIP-DIY, windows tiled as published": ("clip_diy", {"background": "found", "placement": "tiled"}),
    "window CLIP without FOUND": ("clip_diy", {"background": "prompt", "placement": "centred"}),
    "window CLIP without FOUND, tiled": ("clip_diy", {"background": "prompt", "placement": "tiled"}),
    "MaskCLIP": ("maskclip", {"background": "found"}),
    "MaskCLIP without FOUND": ("maskclip", {"background": "prompt"}),
    "CLIP-DINOiser": ("clip_dinoiser", {"background": "found", "correlations": "head"}),
    "CLIP-DINOiser without its ground": ("clip_dinoiser", {"background": "prompt", "correlations": "head"}),
    "CLIP-DINOiser without training": ("clip_dinoiser", {"background": "found", "correlations": "dino"}),
}
"""What is compared: a method and its options."""

Scores = dict[str, float]


@dataclass(frozen=True)
class CaptionedScene:
    """A picture and what is in it.

    Args:
        image: RGB uint8 [H, W, 3].
        identities: uint8 [H, W], 0 for the background, i + 1 for the i-th object.
        objects: The objects' attributes.
    """

    image: Image
    identities: Image
    objects: tuple[Attributes, ...]


def make_bank(seed: int = SEED) -> AttributeBank:
    """Make backgrounds and sprites that no training sees."""
    return AttributeBank(seed + 2, backgrounds=200, copies=3)


def make_captioned_scenes(bank: AttributeBank, count: int, seed: int = SEED) -> Iterator[CaptionedScene]:
    """Make scenes of one to three objects; the pairs of attributes kept out of training occur as often as others."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        scene = attribute_scene(rng, bank, aspect=SIZE[1] / SIZE[0], counts=COUNT_PROBABILITIES, sizes=(0.25, 0.8))
        objects = tuple(bank.attributes[placed.index] for placed in scene.objects)
        yield CaptionedScene(*render(rng, bank, scene, SIZE, camera=CAMERA), objects)


def make_crops(bank: AttributeBank, count: int, side: int, seed: int = SEED) -> Iterator[tuple[Image, Attributes]]:
    """Make crops of one object each, half of them of pairs kept out of training: RGB uint8 [side, side, 3]."""
    rng = np.random.default_rng([seed, 1])
    everything = frozenset((colour, shape) for colour in COLOURS for shape in SHAPES)
    for number in range(count):
        avoid = everything - KEPT_OUT if number % 2 else KEPT_OUT
        scene = attribute_scene(rng, bank, counts=(1.0,), sizes=(0.25, 0.8), kept_out=avoid)
        (placed,) = scene.objects
        extent = CROP_MARGIN * placed.size
        window = Window(placed.x - extent / 2, placed.y - extent / 2, extent)
        image, _ = render(rng, bank, scene, (side, side), window=window, camera=CAMERA)
        yield np.ascontiguousarray(image), bank.attributes[placed.index]


def evaluate_crops(
    tower: ImageTower, encoder: PromptEncoder, crops: Sequence[tuple[Image, Attributes]], device: torch.device
) -> Scores:
    """Compute the zero-shot accuracy: which prompt is closest to a crop.

    Args:
        tower: The image tower.
        encoder: The text tower.
        crops: Pictures of the tower's size, and what they show.
        device: Where the towers are.

    Returns:
        Fractions in [0, 1]: "colour" (of 9), "pattern" (of 4), "shape" (of 6) and "pair" of colour and shape (of 54) on
        pairs that were trained; the same with "unseen_" before it on those that were not.
    """
    embeddings = torch.cat([_embed(tower, [image for image, _ in part], device) for part in batches(crops, 50)])
    unseen = np.array([(truth.colour, truth.shape) in KEPT_OUT for _, truth in crops])
    pairs = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]
    questions: dict[str, tuple[list[str], Callable[[Attributes], str]]] = {
        "colour": ([f"{colour} object" for colour in COLOURS], lambda a: f"{a.colour} object"),
        "pattern": ([f"{pattern} object" for pattern in PATTERNS], lambda a: f"{a.pattern} object"),
        "shape": (list(SHAPES), lambda a: a.shape),
        "pair": (pairs, lambda a: f"{a.colour} {a.shape}"),
    }
    scores: Scores = {}
    for name, (prompts, name_truth) in questions.items():
        texts = encoder.encode(prompts).texts[1:]
        closest = (embeddings @ texts.T).argmax(1).tolist()
        right = np.array([prompts[i] == name_truth(truth) for i, (_, truth) in zip(closest, crops, strict=True)])
        scores[name] = float(right[~unseen].mean())
        scores[f"unseen_{name}"] = float(right[unseen].mean())
    return scores


def evaluate_maps(
    pipeline: Pipeline,
    scenes: Sequence[CaptionedScene],
    rows: Mapping[str, tuple[str, dict[str, Any]]],
    on_progress: Callable[[], object] = lambda: None,
) -> dict[str, Scores]:
    """Compute the mean IoU (mIoU) of the six shapes and the background over all scenes, with the shapes as prompts.

    Args:
        pipeline: With the methods of `rows`.
        scenes: Pictures and truth.
        rows: A method and its options per name; what is in force afterwards are those of the last row.
        on_progress: Called after each scene of each row.

    Returns:
        Per row "miou", "ground" (the IoU of the background) and "shapes" (mean IoU of the others), in [0, 1].
    """
    labels = pipeline.set_prompts(SHAPES)
    order = {number: SHAPES.index(prompt) + 1 for number, prompt in labels.names().items()}
    table = np.zeros(256, np.int64)
    table[list(order)] = list(order.values())
    table[UNLABELLED] = 0
    scores = {}
    for name, (method, options) in rows.items():
        pipeline.configure(method, **options)
        metric = MeanIoU(len(SHAPES) + 1, absent="zero")
        for batch in batches(scenes, BATCH_IMAGES):
            results = pipeline.run([scene.image for scene in batch], (method,))
            for scene, result in zip(batch, results, strict=True):
                metric.update(confusion_matrix(_draw_truth(scene), table[result[method].label_map()], len(SHAPES) + 1))
                on_progress()
        ious = metric.compute()["per_class"]
        scores[name] = {"miou": float(np.mean(ious)), "ground": ious[0], "shapes": float(np.mean(ious[1:]))}
    return scores


def _draw_truth(scene: CaptionedScene) -> npt.NDArray[np.int64]:
    """Return the number of each pixel's shape, 0 on the background."""
    return np.array([0, *(SHAPES.index(attributes.shape) + 1 for attributes in scene.objects)])[scene.identities]


@torch.inference_mode()
def _embed(tower: ImageTower, images: Sequence[Image], device: torch.device) -> Tensor:
    mean, std = (torch.tensor(values, device=device)[:, None, None] * 255 for values in (tower.mean, tower.std))
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float()
    return F.normalize(tower((pixels - mean) / std), dim=-1)
