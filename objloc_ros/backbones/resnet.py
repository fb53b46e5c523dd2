"""ResNet-50 (He et al., CVPR 2016) and the feature pyramid on it (Lin et al., CVPR 2017).

Modules are called as in detectron2, so that its checkpoints load: a convolution owns its norm (`conv1.norm`), and the
stages are `res2` to `res5`. A stage's stride is in its first 3 x 3 convolution, as in torchvision and in DINO's ResNet.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

DEPTHS = (3, 4, 6, 3)
"""Blocks of `res2` to `res5` in ResNet-50."""

STRIDES = {"res2": 4, "res3": 8, "res4": 16, "res5": 32}
"""Pixels per cell of each stage."""

PYRAMID_CHANNELS = 256


class Conv(nn.Conv2d):
    """A convolution without bias, followed by batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 [B, outputs, h, w]."""
        normed: Tensor = self.norm(super().forward(x))
        return normed


class Stem(nn.Module):
    """The first convolution and the maximum pooling: a quarter of the resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv(3, 64, 7, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 [B, 64, H / 4, W / 4]."""
        return F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut."""

    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut: nn.Module = Conv(inputs, outputs, 1, stride) if inputs != outputs else nn.Identity()
        self.conv1 = Conv(inputs, width, 1)
        self.conv2 = Conv(width, width, 3, stride)
        self.conv3 = Conv(width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 [B, outputs, h / stride, w / stride]."""
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(y) + self.shortcut(x))


def make_stage(number: int, blocks: int) -> nn.Sequential:
    """Make a stage: `res2` for 2, which has 256 channels, up to `res5` for 5, which has 2048."""
    width, stride = 64 << (number - 2), 1 if number == 2 else 2
    outputs, inputs = 4 * width, 64 if number == 2 else 2 * width
    first = Bottleneck(inputs, width, outputs, stride)
    return nn.Sequential(first, *(Bottleneck(outputs, width, outputs, 1) for _ in range(blocks - 1)))


class ResNet(nn.Module):
    """The stem and some stages.

    Args:
        depths: Blocks of each stage, from `res2` on.
    """

    def __init__(self, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        self.stem = Stem()
        self._stages = tuple(STRIDES)[: len(depths)]
        for number, (name, blocks) in enumerate(zip(self._stages, depths, strict=True), start=2):
            self.add_module(name, make_stage(number, blocks))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return the output of each stage, by its name; `STRIDES` says how many pixels a cell of it has."""
        x = self.stem(x)
        outputs: dict[str, Tensor] = {}
        for name in self._stages:
            outputs[name] = x = getattr(self, name)(x)
        return outputs


PYRAMID_STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
"""Pixels per cell of each level."""


class FeaturePyramid(nn.Module):
    """Maps of one width at five scales, with batch norm in its convolutions."""

    def __init__(self, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        for number in range(2, 6):
            self.add_module(f"fpn_lateral{number}", Conv(128 << (number - 1), PYRAMID_CHANNELS, 1))
            self.add_module(f"fpn_output{number}", Conv(PYRAMID_CHANNELS, PYRAMID_CHANNELS, 3))
        self.bottom_up = ResNet(depths)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Return float32 [B, 256, H / stride, W / stride] for p2 to p6; H and W are multiples of 32."""
        stages = self.bottom_up(x)
        top: Tensor | None = None
        outputs: dict[str, Tensor] = {}
        for number in range(5, 1, -1):
            lateral = getattr(self, f"fpn_lateral{number}")(stages[f"res{number}"])
            top = lateral if top is None else lateral + F.interpolate(top, scale_factor=2.0, mode="nearest")
            outputs[f"p{number}"] = getattr(self, f"fpn_output{number}")(top)
        outputs["p6"] = F.max_pool2d(outputs["p5"], 1, 2)  # every second cell
        return {name: outputs[name] for name in PYRAMID_STRIDES}
