"""FOUND as heads: what its network says of each patch becomes saliency, mask and boxes, with torch or without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from objloc_ros.backbones.onnx_file import FOUND, INPUT, ExportedModel, has_found_head, open_exported
from objloc_ros.backbones.specs import SPECS
from objloc_ros.engine.ignored import lower_logits
from objloc_ros.engine.results import Batch, ImageHead, SaliencyResult
from objloc_ros.engine.timings import stage
from objloc_ros.errors import ParameterError
from objloc_ros.methods.found import localise
from objloc_ros.methods.options import FoundOptions
from objloc_ros.ops.geometry import Geometry, boxes_to_source, normalise_array, plan, resize
from objloc_ros.types import Detections, Features, Image, size_of

if TYPE_CHECKING:
    import torch

Logits = npt.NDArray[np.float32]
"""Raw answers [h, w] on the patch grid, positive on objects."""


class FoundHead:
    """FOUND on the features of the shared pass.

    Args:
        logits: Reads features; raw answers float32 [B, h, w] on the patch grid, positive on objects.
        fetch: Brings them to the CPU, see `Transfers`.
    """

    default_options = FoundOptions()

    def __init__(
        self, logits: Callable[[Features], torch.Tensor], fetch: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self.logits, self._fetch = logits, fetch

    def reads_features(self, options: FoundOptions) -> bool:
        """Return True: FOUND's head reads keys."""
        return True

    def __call__(self, batch: Batch, options: FoundOptions) -> list[SaliencyResult]:
        """Return saliency, mask and boxes of each image.

        What leaves a device are the logits: fewer bytes than the mask at pixels has bits, and all the rest follows.
        """
        logits = self._fetch(self.logits(batch.require_features()).float()).numpy()  # B h w
        with stage("found.pixels", is_part=True):
            return [
                _find_objects(image_logits, image, geometry, batch, options)
                for image_logits, image, geometry in zip(logits, batch.images, batch.geometries, strict=True)
            ]


class ExportedFoundHead(ImageHead):
    """FOUND by an exported backbone that holds its head, all of it in ONNX Runtime: torch is not imported.

    Args:
        model: The exported model, with FOUND's head.
        device: Where it runs.
        short_side: Images are scaled down until their shorter side has this many pixels, never up; None takes the
            backbone's own size.
        precision: "auto", or what the model was exported in.

    Raises:
        ParameterError: Another precision is asked for.
    """

    default_options = FoundOptions()

    def __init__(
        self, model: ExportedModel, device: str, short_side: int | None = None, precision: str = "auto"
    ) -> None:
        self._model, self.device = model, device
        self.precision = model.choose_precision(precision)
        self.short_side = short_side or SPECS[model.info.backbone].short_side

    def __call__(self, batch: Batch, options: FoundOptions) -> list[SaliencyResult]:
        """Return saliency, mask and boxes of each image; each is seen alone."""
        results = []
        for image in batch.images:
            geometry = plan(size_of(image), patch=self._model.info.patch, short_side=self.short_side)
            logits = self._see(image, geometry)
            with stage("found.pixels", is_part=True):
                results.append(_find_objects(logits, image, geometry, batch, options))
        return results

    def _see(self, image: Image, geometry: Geometry) -> Logits:
        info = self._model.info
        pixels = normalise_array(resize(image, geometry), geometry, info.mean, info.std)  # 1 3 Hp Wp
        self._model.check_shape(pixels.shape)
        logits: Logits = self._model.session.run([FOUND], {INPUT: pixels})[0][0]
        return logits


def load_found(backbone: str, *, path: Path | None, weights: Path | None = None, device: torch.device) -> FoundHead:
    """Load the head for a backbone.

    Args:
        backbone: The backbone's name.
        path: File of the head; None takes that in the exported backbone, else the registered one.
        weights: File of the backbone; None for the registered one.
        device: Where the head runs.

    Raises:
        WeightsError: If there is no such file, or it is no FOUND head.
    """
    from objloc_ros.engine.transfers import transfers_of

    fetch = transfers_of(device).fetch
    if path is None and has_found_head(weights):
        return FoundHead(lambda features: features.answers[FOUND], fetch)
    from objloc_ros.backbones.weights import load_found_head
    from objloc_ros.methods.found_network import head_logits

    weight, bias = (tensor.to(device) for tensor in load_found_head(backbone, path=path))
    return FoundHead(lambda features: head_logits(features.keys, weight, bias, features.grid), fetch)


def open_found(backbone: str, weights: Path, device: str, short_side: int | None, precision: str) -> ExportedFoundHead:
    """Open an exported backbone that holds FOUND's head, see `open_exported`; "auto" takes CUDA where it starts."""
    if device != "auto":
        return ExportedFoundHead(open_exported(weights, device, backbone=backbone), device, short_side, precision)
    try:
        return open_found(backbone, weights, "cuda", short_side, precision)
    except ParameterError:
        return open_found(backbone, weights, "cpu", short_side, precision)


def _find_objects(
    logits: Logits, image: Image, geometry: Geometry, batch: Batch, options: FoundOptions
) -> SaliencyResult:
    ignored = batch.ignored(geometry)
    found = localise(logits, geometry=geometry, options=options, image=image, ignored=ignored)
    detections = Detections.class_free(boxes_to_source(found.boxes, geometry), found.scores)
    logits_map = lower_logits(logits, geometry, batch.area)
    return SaliencyResult(detections, geometry, found.mask, found.saliency, logits_map)
