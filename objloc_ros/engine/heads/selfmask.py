"""SelfMask as a head: its own network makes the saliency, which becomes mask and boxes as FOUND's does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from objloc_ros.engine.ignored import lower_logits
from objloc_ros.engine.results import Batch, ImageHead, SaliencyResult
from objloc_ros.engine.timings import stage
from objloc_ros.engine.transfers import transfers_of
from objloc_ros.methods.found import localise_saliency
from objloc_ros.methods.options import FoundOptions
from objloc_ros.ops.geometry import boxes_to_source, plan
from objloc_ros.types import Detections, Image, size_of

if TYPE_CHECKING:  # imports timm, which a node's parameters need not wait for
    from objloc_ros.methods.selfmask import SelfMask


class SelfMaskHead(ImageHead):
    """SelfMask with FOUND's way from saliency to objects.

    Args:
        network: On `device` and in eval mode.
        device: Where it runs.
        short_side: Images are scaled down until their shorter side has this many pixels, never up; None takes the
            encoder's own size, which for the released networks is that of the image.
    """

    default_options = FoundOptions()

    def __init__(self, network: SelfMask, device: torch.device, short_side: int | None = None) -> None:
        self.short_side = short_side or network.spec.short_side
        self._network, self._transfers = network, transfers_of(device)

    def __call__(self, batch: Batch, options: FoundOptions) -> list[SaliencyResult]:
        """Return saliency, mask and boxes of each image; each is seen alone."""
        return [self._find(image, batch, options) for image in batch.images]

    def _find(self, image: Image, batch: Batch, options: FoundOptions) -> SaliencyResult:
        from objloc_ros.methods.selfmask import upsample

        geometry = plan(size_of(image), patch=self._network.patch, short_side=self.short_side)
        pixels = self._transfers.prepare([image], [geometry], self._network.mean, self._network.std)
        logits = self._network.predict(pixels)  # 1 2h 2w
        with stage("selfmask.pixels", is_part=True):
            height, width = geometry.resized
            saliency = upsample(logits, self._network.patch)[0, :height, :width].cpu().numpy()
            ignored = batch.ignored(geometry)
            found = localise_saliency(saliency, geometry=geometry, options=options, image=image, ignored=ignored)
            detections = Detections.class_free(boxes_to_source(found.boxes, geometry), found.scores)
            logits_map = lower_logits(logits[0].float().cpu().numpy(), geometry, batch.area)
            return SaliencyResult(detections, geometry, found.mask, found.saliency, logits_map)


def load_selfmask_head(name: str, path: Path | None, short_side: int | None, device: torch.device) -> SelfMaskHead:
    """Load a network as a head, see `methods.selfmask.load_selfmask`."""
    from objloc_ros.methods.selfmask import load_selfmask

    return SelfMaskHead(load_selfmask(name, path=path).to(device), device, short_side)
