"""Token detectors on disk: float16 tensors, and in the metadata whose tokens they read.

A detector means something only on the tokens that it was trained on, so its file names the backbone and the fingerprint
of its parameters, and is refused beside any other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from objloc_ros.backbones.onnx_file import SUFFIX, read_exported_info
from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.backbones.store import check_file
from objloc_ros.backbones.vit import ViT
from objloc_ros.backbones.weights import conform, find_verified, fingerprint
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.methods.token_detector import TokenDetector

FORMAT = "objloc token detector 1"
"""First entry of a file's metadata; its number is raised when the network or the metadata change their meaning."""

FACET = "keys"
"""The facet of a backbone's last block that detectors read."""


@dataclass(frozen=True, kw_only=True)
class DetectorInfo:
    """What a file says about its detector.

    Args:
        backbone: Name of the backbone whose tokens it reads.
        fingerprint: Of that backbone's parameters, see `backbones.weights.fingerprint`.
        patch: Patch side in pixels.
        facet: Facet of the last block that it reads.
        classes: What its objects are called.
        trained_on: How it was trained, as JSON values.
    """

    backbone: str
    fingerprint: str
    patch: int
    classes: tuple[str, ...]
    facet: str = FACET
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """Return the strings for a file's metadata."""
        return {
            "format": FORMAT,
            "backbone": self.backbone,
            "fingerprint": self.fingerprint,
            "patch": str(self.patch),
            "facet": self.facet,
            "classes": json.dumps(self.classes),
            "trained_on": json.dumps(dict(self.trained_on), sort_keys=True),
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> DetectorInfo:
        """Read the strings back.

        Args:
            metadata: All of the file's metadata.
            path: The file, for messages.

        Raises:
            WeightsError: A string is missing or does not hold what it should.
        """
        if (written := metadata.get("format")) != FORMAT:
            raise WeightsError(f"{path} is not a token detector: its metadata says format {written!r}, not {FORMAT!r}")
        absent = [name for name in ("backbone", "fingerprint", "patch", "facet", "classes") if not metadata.get(name)]
        if absent:
            raise WeightsError(f"{path} does not say in its metadata of which {', '.join(absent)} it is")
        classes = _parse(metadata, "classes", path)
        if not isinstance(classes, list) or not classes or not all(name and isinstance(name, str) for name in classes):
            raise WeightsError(f"{path} has classes {classes!r}, expected one or more names")
        patch, trained_on = _parse(metadata, "patch", path), _parse(metadata, "trained_on", path)
        if type(patch) is not int or patch < 1:
            raise WeightsError(f"{path} has patch {patch!r}, expected a number of pixels")
        return cls(
            backbone=metadata["backbone"],
            fingerprint=metadata["fingerprint"],
            patch=patch,
            facet=metadata["facet"],
            classes=tuple(classes),
            trained_on=trained_on if isinstance(trained_on, dict) else {},
        )

    def check_backbone(self, name: str, backbone: ViT) -> None:
        """Make sure that the tokens of a backbone are those that the detector has learned to read.

        Args:
            name: The backbone's name.
            backbone: The backbone.

        Raises:
            WeightsError: They are others.
        """
        if self.backbone != name:
            raise WeightsError(
                f"this detector reads the tokens of {self.backbone}, not of {name}: choose --backbone {self.backbone}, "
                f"or train a detector with `objloc train detector --backbone {name}`"
            )
        if (self.patch, self.facet) != (backbone.patch, FACET):
            raise WeightsError(
                f"this detector reads the {self.facet} of patches of {self.patch} pixels, expected {FACET} of patches "
                f"of {backbone.patch} as {name} has them"
            )
        if (found := fingerprint(backbone)) != self.fingerprint:
            raise WeightsError(
                f"this detector was trained on other weights of {name}: their fingerprint is {self.fingerprint[:12]}, "
                f"that of those in use is {found[:12]}"
            )


def _parse(metadata: Mapping[str, str], name: str, path: Path) -> object:
    try:
        value: object = json.loads(metadata.get(name, "null"))
    except ValueError as error:
        raise WeightsError(f"{path} has the metadata {name!r} = {metadata[name]!r}, expected JSON") from error
    return value


def save_detector(path: Path, detector: TokenDetector, info: DetectorInfo) -> None:
    """Write a detector as float16 safetensors, with what it reads in the metadata."""
    tensors = {key: value.detach().half().cpu().contiguous() for key, value in detector.state_dict().items()}
    save_file(tensors, path, metadata=info.to_metadata())


def load_detector(path: str | Path) -> tuple[TokenDetector, DetectorInfo]:
    """Load a detector, frozen and in eval mode, on the CPU; and what its file says about it.

    Raises:
        WeightsError: The file is missing, has another hash than the one recorded beside it, cannot be read or is no
            token detector.
    """
    file = check_file(Path(path).expanduser()).path
    info = read_info(file)
    state: dict[str, Any] = load_file(file)
    shapes = {name: state[name].shape for name in ("mean", "trunk.0.weight", "pixels.weight") if name in state}
    if len(shapes) < 3 or len(shapes["mean"]) != 1 or not all(map(all, shapes.values())):
        raise WeightsError(f"{file} is not a token detector: it lacks mean, trunk.0.weight or pixels.weight")
    try:
        detector = TokenDetector(
            shapes["mean"][0], info.classes, width=shapes["trunk.0.weight"][0], embedding=shapes["pixels.weight"][0]
        )
    except ParameterError as error:
        raise WeightsError(f"{file} is not a token detector: {error}") from error
    state = conform(state, detector.state_dict(), f"{file} is not a token detector for {len(info.classes)} classes")
    wrong = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if wrong or not (state["std"] > 0).all():
        raise WeightsError(f"{file} holds values that are no numbers, or not positive: {wrong[0] if wrong else 'std'}")
    detector.load_state_dict(state)
    return detector.requires_grad_(False).eval(), info


def read_info(path: Path) -> DetectorInfo:
    """Read what a file says about its detector, and nothing else of it.

    Raises:
        WeightsError: The file cannot be read or is no token detector.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
    return DetectorInfo.from_metadata(metadata, path)


def read_exported_detector(weights: Path) -> DetectorInfo | None:
    """Read what a backbone's file says about a detector that was exported with it; None where there is none.

    Raises:
        WeightsError: It is an exported model that cannot be read.
    """
    if weights.suffix != SUFFIX:
        return None
    info = read_exported_info(weights)
    return DetectorInfo.from_metadata(info.head, weights) if info.head else None


def find_detector(backbone: str, path: str | Path | None = None) -> Path:
    """Return the file of the detector for a backbone: the one given, the embedded or the fetched one.

    Raises:
        WeightsError: There is none.
    """
    name = f"{backbone}_detector"
    if path is None and name not in REGISTRY:
        raise WeightsError(
            f"there is no detector for {backbone}; train one with `objloc train detector --backbone {backbone}`"
        )
    return find_verified(name, path)
