"""Images through a ViT: resized, normalised, batched, one pass, on the device that was asked for."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from objloc_ros.backbones.onnx_graph import with_graph
from objloc_ros.backbones.onnx_runtime import ExportedViT
from objloc_ros.backbones.reduced import reduced
from objloc_ros.backbones.vit import ViT
from objloc_ros.engine.precision import choose_dtype, name_dtype
from objloc_ros.engine.timings import stage
from objloc_ros.engine.transfers import transfers_of
from objloc_ros.errors import ParameterError
from objloc_ros.ops.geometry import Geometry, plan
from objloc_ros.types import Features, Image, Size, check_image, size_of


def resolve_device(device: str) -> torch.device:
    """Return the torch device behind "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ParameterError: If the name is not one of these or there is no such GPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ParameterError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ParameterError(f"device {device!r} is not there: {torch.cuda.device_count()} CUDA devices found")
    return torch.device(device)


class Encoded(NamedTuple):
    """Features of a batch, and how each image became the backbone's input."""

    features: Features
    geometries: list[Geometry]


class Backbone:
    """A ViT with the sizes that it sees images at.

    Args:
        vit: On `device` and in eval mode; in float32 on a CPU it runs by its graph where it has one, see `onnx_graph`.
        name: Its name in the weights registry.
        device: Where it runs.
        short_side: Images are scaled down until their shorter side has this many pixels, never up; None keeps the
            native resolution.
        precision: What passes compute in, see `choose_dtype`; features are float32.

    Raises:
        ParameterError: If the backbone or the device has no passes of this precision.
    """

    def __init__(
        self, vit: ViT, *, name: str, device: torch.device, short_side: int | None, precision: str = "auto"
    ) -> None:
        self.vit, self._dtype = _choose_pass(vit, name, device, precision)
        self.name = name
        self.device = device
        self.transfers = transfers_of(device)
        self.short_side = short_side

    @property
    def precision(self) -> str:
        """What passes compute in: "float32", "bfloat16" or "float16"."""
        return self.vit.model.info.precision if isinstance(self.vit, ExportedViT) else name_dtype(self._dtype)

    def geometry(self, source: Size) -> Geometry:
        """Return how an image of this height and width is resized and padded."""
        return plan(source, patch=self.vit.patch, short_side=self.short_side)

    def encode(self, images: Sequence[Image], key: Hashable | None = None) -> Encoded:
        """Return the features of images that share one padded size; stages `pre` and `vit`.

        Args:
            images: RGB uint8 [H, W, 3] each.
            key: What stands for the images where passes are shared, see `SharedBackbone`; here they are not.

        Raises:
            InputError: If an image is empty or not RGB uint8.
        """
        with stage("pre"):
            inputs, geometries = self.prepare(images)
        with stage("vit"):
            return Encoded(self.forward(inputs), geometries)

    def prepare(self, images: Sequence[Image]) -> tuple[Tensor, list[Geometry]]:
        """Prepare images of one padded size as the ViT takes them, float32 [B, 3, Hp, Wp] on the device.

        Args:
            images: RGB uint8 [H, W, 3] each.

        Returns:
            The inputs, and how each image became one.

        Raises:
            InputError: If an image is empty or not RGB uint8.
        """
        for image in images:
            check_image(image)
        geometries = [self.geometry(size_of(image)) for image in images]
        return self.transfers.prepare(images, geometries, self.vit.mean, self.vit.std), geometries

    @torch.inference_mode()
    def forward(self, inputs: Tensor) -> Features:
        """Run one pass over float32 [B, 3, Hp, Wp]."""
        with reduced(self.device, self._dtype):
            features: Features = self.vit(inputs)
        return features


def _choose_pass(vit: ViT, name: str, device: torch.device, precision: str) -> tuple[ViT, torch.dtype]:
    """Return what runs the passes, and in what."""
    if isinstance(vit, ExportedViT):
        vit.model.choose_precision(precision)
        return vit, torch.float32
    if device.type == "cpu" and precision in ("auto", "float32"):
        vit = with_graph(vit, name)
    return vit, choose_dtype(precision, device, pays_on_cpu=vit.spec.bfloat16)
