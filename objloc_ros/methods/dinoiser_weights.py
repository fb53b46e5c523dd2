"""CLIP-DINOiser's two convolutions from and to weights files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file

from objloc_ros.backbones.clip import clip_spec
from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.backbones.weights import conform, read_state, verified
from objloc_ros.errors import WeightsError
from objloc_ros.methods.clip_dinoiser import DinoiserHead

WRAPPER = "model_state_dict"
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
    head = DinoiserHead(clip_spec(clip_name).width)
    name = f"{clip_name}_dinoiser_head"
    if path is None and name not in REGISTRY:
        raise WeightsError(
            f"no CLIP-DINOiser head is released for {clip_name!r}; train one with `objloc train dinoiser --clip "
            f"{clip_name}`"
        )
    file = verified(name, path)
    state = read_state(file)
    inner = state.get(WRAPPER, state)
    expected = head.state_dict()
    known = {key: inner[key] for key in expected if key in inner} if isinstance(inner, Mapping) else inner
    head.load_state_dict(conform(known, expected, f"{file} is not a CLIP-DINOiser head for {clip_name}"))
    return head.requires_grad_(False).eval()


def save_dinoiser_head(path: Path, head: DinoiserHead) -> None:
    """Write a head as float16 safetensors under the names that the released one uses."""
    save_file({key: value.half().cpu().contiguous() for key, value in head.state_dict().items()}, path)
