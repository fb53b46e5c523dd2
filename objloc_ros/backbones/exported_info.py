"""What an exported model says about itself: a few strings in the ONNX file's metadata, checked when it is loaded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from objloc_ros.backbones.vit import SPECS
from objloc_ros.errors import WeightsError

SUFFIX = ".onnx"
"""By this ending a weights file is known as an exported model."""

FORMAT = 1
"""Raised when the inputs, the outputs or the metadata change their meaning."""

INPUT = "images"

FACETS = ("keys", "queries", "values", "cls_attention")
"""The outputs: the fields of `types.Features` in their order."""

Triple = tuple[float, float, float]

_PREFIX = "objloc."


@dataclass(frozen=True, kw_only=True)
class ExportedInfo:
    """Description of an exported backbone.

    Args:
        backbone: Its architecture, a key of `vit.SPECS`.
        patch: Patch side in pixels.
        mean: Channel means in [0, 1] units that its input is normalised with.
        std: Channel standard deviations in [0, 1] units.
        weights_sha256: Hash of the weights file that it was exported from.
    """

    backbone: str
    patch: int
    mean: Triple
    std: Triple
    weights_sha256: str

    def to_metadata(self) -> dict[str, str]:
        """The strings for the file's metadata."""
        values = {
            "format": FORMAT,
            "backbone": self.backbone,
            "patch": self.patch,
            "mean": list(self.mean),
            "std": list(self.std),
            "weights_sha256": self.weights_sha256,
        }
        texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
        return {_PREFIX + key: text for key, text in texts.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], path: Path) -> ExportedInfo:
        """Read the strings back.

        Args:
            metadata: All of the file's metadata.
            path: The file, for messages.

        Raises:
            WeightsError: If a string is missing or does not hold what it should.
        """
        if (written := _value(metadata, "format", path)) != FORMAT:
            raise WeightsError(f"{path} has format {written!r}, this version reads {FORMAT}: export it anew")
        name = _text(metadata, "backbone", path)
        if name not in SPECS:
            raise WeightsError(f"{path} holds the unknown backbone {name!r}; known: {', '.join(SPECS)}")
        patch = _value(metadata, "patch", path)
        if patch != SPECS[name].patch:
            raise WeightsError(f"{path} has patch size {patch!r}, but {name} has {SPECS[name].patch}")
        mean, std = (_triple(_value(metadata, key, path), key, path) for key in ("mean", "std"))
        if min(std) <= 0:
            raise WeightsError(f"{path} has std {list(std)}, expected positive numbers")
        digest = _text(metadata, "weights_sha256", path)
        return cls(backbone=name, patch=SPECS[name].patch, mean=mean, std=std, weights_sha256=digest)


def _text(metadata: Mapping[str, str], key: str, path: Path) -> str:
    if _PREFIX + key not in metadata:
        raise WeightsError(f"{path} lacks the metadata {_PREFIX + key!r}: it was not written by `objloc export`")
    return metadata[_PREFIX + key]


def _value(metadata: Mapping[str, str], key: str, path: Path) -> object:
    text = _text(metadata, key, path)
    try:
        value: object = json.loads(text)
    except ValueError as error:
        raise WeightsError(f"{path} has the metadata {_PREFIX + key!r} = {text!r}, expected JSON") from error
    return value


def _triple(value: object, key: str, path: Path) -> Triple:
    if (
        not isinstance(value, list)
        or len(value) != 3
        or not all(type(number) in (int, float) and math.isfinite(number) for number in value)
    ):
        raise WeightsError(f"{path} has {key} {value!r}, expected three numbers")
    first, second, third = map(float, value)
    return first, second, third
