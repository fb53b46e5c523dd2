"""CLIP-DINOiser: dense CLIP features pooled over patches that belong together.

Wysoczanska, Siméoni, Ramamonjisoa, Bursuc, Trzcinski and Pérez, "CLIP-DINOiser: Teaching CLIP a Few DINO Tricks for
Open-Vocabulary Semantic Segmentation", ECCV 2024. MaskCLIP's features (`objloc_ros.methods.maskclip`) are noisy; DINO
knows which patches belong together, and FOUND which are background. Two convolutions on an intermediate feature of CLIP
learn both (`objloc_ros.training.dinoiser`), so that one pass of CLIP is enough.

Images are padded to multiples of the patch by the caller, right and bottom, with 0 before normalisation (black).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.clip import find_clip_spec
from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.backbones.weights import conform, find_verified, read_state
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.types import Grid

STATE_KEY = "model_state_dict"
"""Where the released checkpoint keeps its tensors, beside the number of its last epoch."""


def load_dinoiser_head(clip_name: str = "tiny_clip", *, path: str | Path | None = None) -> DinoiserHead:
    """Load the head for an image tower, frozen and in eval mode, on the CPU.

    Args:
        clip_name: Architecture of the tower, a key of `clip.CLIP_SPECS`.
        path: Weights file; None for the embedded or the fetched one. Accepts the released layout,
            `{"model_state_dict": {...}}`, and a flat one, with `obj_proj.weight` [256, W, 3, 3], `obj_proj.bias` [256],
            `bkg_decoder.weight` [1, W, 1, 1] and `bkg_decoder.bias` [1]. Whatever else a file holds is ignored, such
            as the frozen networks of a whole training state.

    Raises:
        ParameterError: If the tower is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    head = DinoiserHead(find_clip_spec(clip_name).width)
    name = f"{clip_name}_dinoiser_head"
    if path is None and name not in REGISTRY:
        raise WeightsError(
            f"no CLIP-DINOiser head is released for {clip_name!r}; train one with `objloc train dinoiser --clip "
            f"{clip_name}`"
        )
    file = find_verified(name, path)
    state = read_state(file)
    inner = state.get(STATE_KEY, state)
    expected = head.state_dict()
    known = {key: inner[key] for key in expected if key in inner} if isinstance(inner, Mapping) else inner
    head.load_state_dict(conform(known, expected, f"{file} is not a CLIP-DINOiser head for {clip_name}"))
    return head.requires_grad_(False).eval()


def save_dinoiser_head(path: Path, head: DinoiserHead) -> None:
    """Write a head as float16 safetensors under the names that the released one uses."""
    save_file({key: value.half().cpu().contiguous() for key, value in head.state_dict().items()}, path)


PROJECTED_CHANNELS = 256
"""Channels in which patches are compared."""

LOGIT_SCALE = 100.0
"""CLIP's factor of cosines before the softmax."""


class DinoiserHead(nn.Module):
    """Two convolutions that read from CLIP which patches belong together and which are background.

    Args:
        width: Token width W of the image tower.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.obj_proj = nn.Conv2d(width, PROJECTED_CHANNELS, kernel_size=3, padding=1, padding_mode="replicate")
        self.bkg_decoder = nn.Conv2d(width, 1, kernel_size=1)

    @property
    def width(self) -> int:
        """Token width W that the head reads."""
        return self.obj_proj.in_channels

    def forward(self, middle: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
        """Compare patches, and tell objects from the background.

        Args:
            middle: `ClipTokens.middle`, float32 [B, N, W].
            grid: Patch rows and columns (h, w), N = h * w.

        Returns:
            Correlations float32 [B, N, N] in [0, 1], 1 on the diagonal, and logits float32 [B, h, w]: positive on
            objects, despite the decoder's name; the background is where they are not.

        Raises:
            InputError: If the shapes disagree.
        """
        _, n, width = middle.shape
        if n != grid[0] * grid[1] or width != self.width:
            raise InputError(
                f"features {tuple(middle.shape)} do not fit a grid of {grid[0]}x{grid[1]} patches of width {self.width}"
            )
        feature_map = middle.mT.unflatten(2, grid)
        correlations = _compute_cosines(self.obj_proj(feature_map).flatten(2).mT).relu()
        logits: Tensor = self.bkg_decoder(F.normalize(feature_map, dim=1))
        return correlations, logits[:, 0]


def dino_correlations(values: Tensor) -> Tensor:
    """Return correlations without any training: cosines of DINO's values, float32 [B, N, N] in [-1, 1].

    Args:
        values: Values of DINO's last block, float32 [B, N, C], heads concatenated.
    """
    return _compute_cosines(values)


def pool_features(features: Tensor, correlations: Tensor, *, gamma: float = 0.2) -> Tensor:
    """Replace each patch's feature by the mean over the patches that belong with it.

    Args:
        features: MaskCLIP's features, float32 [B, N, D], not normalised.
        correlations: float32 [B, N, N]; left as they are.
        gamma: Correlations below this count as 0, in [0, 1].

    Returns:
        float32 [B, N, D].

    Raises:
        InputError: If the shapes disagree.
        ParameterError: If gamma is out of range.
    """
    batch, n, _ = features.shape
    if correlations.shape != (batch, n, n):
        raise InputError(f"correlations {tuple(correlations.shape)} do not fit features {tuple(features.shape)}")
    if not 0 <= gamma <= 1:
        raise ParameterError(f"gamma must lie in [0, 1], got {gamma}")
    weights = correlations.masked_fill(correlations < gamma, 0.0)
    return weights @ features / (weights.sum(-1, keepdim=True) + 1e-6)


def compute_probabilities(features: Tensor, text: Tensor, *, logit_scale: float = LOGIT_SCALE) -> Tensor:
    """Return the probability of each text at each patch: float32 [B, C, N], a softmax over the texts.

    Args:
        features: float32 [B, N, D], of any length.
        text: float32 [C, D], of any length.
        logit_scale: The tower's factor of cosines.

    Raises:
        InputError: If the widths disagree.
    """
    if features.shape[-1] != text.shape[-1]:
        raise InputError(f"text {tuple(text.shape)} is not as wide as features {tuple(features.shape)}")
    cosines = F.normalize(features, dim=-1) @ F.normalize(text, dim=-1).T
    return (logit_scale * cosines).softmax(-1).mT


def apply_background(probabilities: Tensor, background: Tensor, *, index: int = 0, delta: float = 0.99) -> Tensor:
    """Give the background to one class, except where some class is (almost) sure.

    Args:
        probabilities: float32 [B, C, h, w]; left as they are.
        background: bool [B, h, w], True on the background.
        index: The class that gets it; it competes with its own probability everywhere else.
        delta: Where a class is at least this probable nothing changes, in [0, 1].

    Returns:
        float32 [B, C, h, w]; the class has 1 on the background, the others keep their probabilities.

    Raises:
        InputError: If the shapes disagree.
        ParameterError: If there is no such class, or delta is out of range.
    """
    batch, classes, *grid = probabilities.shape
    if background.shape != (batch, *grid):
        raise InputError(
            f"background {tuple(background.shape)} does not fit probabilities {tuple(probabilities.shape)}"
        )
    if not 0 <= index < classes:
        raise ParameterError(f"index must lie in [0, {classes - 1}] for {classes} classes, got {index}")
    if not 0 <= delta <= 1:
        raise ParameterError(f"delta must lie in [0, 1], got {delta}")
    certain = probabilities.amax(1) >= delta
    changed = probabilities.clone()
    changed[:, index].masked_fill_(background & ~certain, 1.0)
    return changed


def _compute_cosines(vectors: Tensor) -> Tensor:
    """Return the cosine of every pair: [B, N, C] to [B, N, N]."""
    units = F.normalize(vectors, dim=-1)
    return torch.bmm(units, units.mT)
