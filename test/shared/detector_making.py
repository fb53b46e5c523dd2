"""Files of token detectors that nobody has trained, for tests of the way through them."""

from __future__ import annotations

from pathlib import Path

import torch

from objloc_ros.backbones.weights import fingerprint, load_backbone
from objloc_ros.methods.detector_file import DetectorInfo, save_detector
from objloc_ros.methods.token_detector import TokenDetector


def make_detector(file: Path, *, classes: tuple[str, ...] = ("object",), of: str = "") -> Path:
    """Write a detector for the embedded backbone: random, and sure of something in every image.

    Args:
        file: Where to.
        classes: What its objects are called.
        of: The fingerprint that it claims; the embedded backbone's unless one is given.
    """
    backbone = load_backbone("tiny")
    torch.manual_seed(0)
    detector = TokenDetector(backbone.embed_dim, classes, width=16, embedding=4)
    torch.nn.init.zeros_(detector.objectness.bias)
    torch.nn.init.normal_(detector.objectness.weight, std=0.5)
    info = DetectorInfo(backbone="tiny", fingerprint=of or fingerprint(backbone), patch=backbone.patch, classes=classes)
    save_detector(file, detector, info)
    return file
