"""An exported backbone behind the call of an eager one: the same features, computed by ONNX Runtime.

It works on the memory of torch's tensors, on the CPU and on CUDA alike, so nothing is copied on the way in or out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from objloc_ros.backbones.onnx_file import FACETS, INPUT, ExportedModel, open_exported
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import ViT
from objloc_ros.types import Features


class ExportedViT(ViT):
    """A ViT whose pass is in an ONNX file: `(B, 3, H, W) -> Features`, float32. It has no parameters of its own.

    Args:
        model: The file.
        device: Where images are and features shall be.
    """

    def __init__(self, model: ExportedModel, device: torch.device) -> None:
        nn.Module.__init__(self)  # not ViT's: there is no torch transformer to hold
        self.spec = replace(SPECS[model.info.backbone], bfloat16=False)
        self.patch = self.spec.patch
        self.embed_dim = self.spec.embed_dim
        self.n_heads = self.spec.n_heads
        self.mean, self.std = model.info.mean, model.info.std
        self.model = model
        self.device = device

    def forward(self, images: Tensor) -> Features:
        """Return the facets of the last block, and the answers of heads in the same file.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; H and W multiples of `patch`.

        Raises:
            InputError: If a side is not a positive multiple of the patch size, or the model was exported for another
                size or number of images.
        """
        rows, columns = grid = self.model.check_shape(images.shape)
        images = images.to(self.device, torch.float32).contiguous()
        count, answers = len(images), self.model.info.answers
        shapes = facet_shapes(self, count, rows * columns)
        shapes |= {name: answer.expand(count, grid) for name, answer in answers.items()}
        outputs = run_session(self.model.session, images, shapes)
        return Features(**{name: outputs.pop(name) for name in FACETS}, grid=grid, answers=outputs)


def facet_shapes(vit: ViT, count: int, patches: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a pass's outputs, by name, for so many images of so many patches."""
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(FACETS, (count, patches, vit.embed_dim))
    return shapes | {"cls_attention": (count, vit.n_heads, patches)}


def run_session(session: Any, images: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Run a session on the memory of tensors.

    Args:
        session: ONNX Runtime's session, on the device of the images.
        images: float32 [B, 3, H, W], contiguous.
        shapes: Of its outputs, by name.

    Returns:
        float32 outputs by name, on the device of the images.
    """
    outputs = {name: torch.empty(shape, device=images.device) for name, shape in shapes.items()}
    binding = session.io_binding()
    binding.bind_input(INPUT, **_memory(images))
    for name, output in outputs.items():
        binding.bind_output(name, **_memory(output))
    if images.device.type == "cuda":  # ONNX Runtime works on a stream of its own
        torch.cuda.current_stream(images.device).synchronize()
    session.run_with_iobinding(binding)
    return outputs


def load_exported(path: str | Path, device: str | torch.device = "cpu", *, backbone: str | None = None) -> ExportedViT:
    """Load a model that `objloc export` wrote, see `open_exported`; it computes on torch's threads of this moment."""
    model = open_exported(path, str(device), backbone=backbone, threads=torch.get_num_threads())
    return ExportedViT(model, torch.device(device))


def _memory(tensor: Tensor) -> dict[str, Any]:
    """Return where a contiguous float32 tensor lies, in ONNX Runtime's words."""
    return {
        "device_type": tensor.device.type,
        "device_id": tensor.device.index or 0,
        "element_type": np.float32,
        "shape": tuple(tensor.shape),
        "buffer_ptr": tensor.data_ptr(),
    }
