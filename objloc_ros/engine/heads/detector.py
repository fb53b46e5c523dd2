"""The token detector as a head: the keys of the shared pass become scored boxes and instance masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.heads.discovery import paint_objects
from objloc_ros.engine.ignored import MIN_DETECTION_LEFT, cut_objects
from objloc_ros.engine.results import Batch, InstanceResult
from objloc_ros.engine.timings import stage
from objloc_ros.methods.detector_file import DetectorInfo, find_detector, load_detector, read_exported_detector
from objloc_ros.methods.options import DetectorOptions
from objloc_ros.methods.refinement import refine
from objloc_ros.methods.token_detector import PIXELS_PER_PATCH, Decoded, Dense, TokenDetector, decode
from objloc_ros.ops.geometry import Geometry, resize
from objloc_ros.ops.regions import BoolMap
from objloc_ros.types import Features, Image


class DetectorHead:
    """A token detector. An object's score is the detector's own: the overlap that it expects of its box.

    Args:
        detector: The network; None where it was exported with the backbone, whose features hold its answers.
        info: What its file says about it.
    """

    default_options = DetectorOptions()

    def __init__(self, detector: TokenDetector | None, info: DetectorInfo) -> None:
        self._detector = detector
        self.info = info

    def check_backbone(self, backbone: Backbone) -> None:
        """Raise WeightsError unless the detector was trained on the tokens of this backbone."""
        self.info.check_backbone(backbone.name, backbone.vit)

    def reads_features(self, options: DetectorOptions) -> bool:
        """Return True: the detector reads keys."""
        return True

    def see(self, features: Features) -> Dense:
        """Return what the network says about each patch."""
        if self._detector is None:
            return Dense(**{name: features.answers[name] for name in Dense._fields if name in features.answers})
        dense: Dense = self._detector(features.keys.mT.unflatten(2, features.grid))
        return dense

    def __call__(self, batch: Batch, options: DetectorOptions) -> list[InstanceResult]:
        """Return one result per image of the batch."""
        dense = self.see(batch.require_features())
        decoded = decode(dense, threshold=options.threshold, limit=options.max_detections)
        with stage("detector.pixels", is_part=True):
            results = [
                self._paint(objects, image, geometry, options)
                for objects, image, geometry in zip(decoded, batch.images, batch.geometries, strict=True)
            ]
            if not batch.area:
                return results
            return [
                cut_objects(result, batch.area.mask(result.geometry.resized), min_left=MIN_DETECTION_LEFT)
                for result in results
            ]

    def _paint(self, objects: Decoded, image: Image, geometry: Geometry, options: DetectorOptions) -> InstanceResult:
        masks = _to_pixels(objects, geometry)
        if options.post != "none":
            masks = refine(masks, resize(image, geometry), options.post, device=objects.masks.device)
        labels = [self.info.classes[category] for category in objects.categories.tolist()]
        return paint_objects(masks, objects.scores.cpu().numpy(), labels, geometry)


def load_detector_head(backbone: str, *, path: Path | None, weights: Path | None, device: torch.device) -> DetectorHead:
    """Load the detector for a backbone.

    Args:
        backbone: The backbone's name.
        path: File of the detector; None takes that in the exported backbone, else the registered one.
        weights: File of the backbone; None for the registered one.
        device: Where the detector runs.

    Raises:
        WeightsError: There is no such file, or it is no token detector.
    """
    if path is None and weights is not None and (exported := read_exported_detector(weights)) is not None:
        return DetectorHead(None, exported)
    detector, info = load_detector(find_detector(backbone, path))
    return DetectorHead(detector.to(device), info)


def _to_pixels(objects: Decoded, geometry: Geometry) -> list[BoolMap]:
    """Return the masks at the processed size, bool [h', w'] each."""
    masks = objects.masks.cpu().numpy()
    rows, columns = (np.arange(side) * PIXELS_PER_PATCH // geometry.patch for side in geometry.resized)
    return list(masks[:, rows[:, None], columns])
