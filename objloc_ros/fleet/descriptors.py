"""Descriptors of objects: vectors that are near each other where things look alike, computed in blocks of images.

`tokens` is the mean key of the patches under the object's mask, of one pass over the image; `moments` adds their
standard deviation, which tells textures apart whose means are alike. `crop` is that of LOST's class-aware detection
(Siméoni et al., "Localizing Objects with Self-Supervised Transformers and no Labels", BMVC 2021): the CLS token of a
pass over the object's crop. Images get a descriptor of the same kind, as if they were one object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.onnx_runtime import ExportedViT
from objloc_ros.backbones.weights import load_backbone
from objloc_ros.engine.backbone import Backbone, resolve_device
from objloc_ros.engine.shared_backbone import use_threads
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.fleet.objects import Fleet, FleetImage
from objloc_ros.io.media import read_image
from objloc_ros.jobs.shards import Outcome, Shard, claim_folder, cut_blocks
from objloc_ros.ops.geometry import Geometry, plan
from objloc_ros.types import Image, size_of
from objloc_ros.version import __version__

Describe = Literal["tokens", "moments", "crop"]

PARTS: dict[Describe, int] = {"tokens": 1, "moments": 2, "crop": 1}
"""Of how many vectors of one length, each normalised, a descriptor is made."""

BLOCK_IMAGES = 500
"""Images per shard."""

CROP_SHORT_SIDE = 256
"""Shorter side in pixels to which a crop is scaled, up or down."""

CROP_LONG_SIDE = 2048
"""Greatest longer side in pixels: a crop of 5 x 400 pixels would be 20480 long, and is squeezed instead."""

ROWS_AT_ONCE = 65536
"""Descriptors that are held in float32 at a time."""


@dataclass(frozen=True)
class Descriptors:
    """Of all objects and images of a fleet, in its order.

    Args:
        objects: float16 [n, d] of length 1; zeros where an object has no pixel or its image could not be used.
        images: float16 [I, d], likewise.
        digests: bytes [I], equal for files of equal content; empty where a file could not be read.
        problems: str [I]: why an image could not be used, "" for all others.
    """

    objects: npt.NDArray[np.float16]
    images: npt.NDArray[np.float16]
    digests: npt.NDArray[np.bytes_]
    problems: npt.NDArray[np.str_]

    @property
    def usable(self) -> npt.NDArray[np.bool_]:
        """Which objects have a descriptor, bool [n]."""
        return np.any(self.objects, axis=1)


@dataclass(frozen=True, kw_only=True)
class DescribeTask:
    """Describes the objects of a block of images: the `ShardTask` of a tuple of `FleetImage`.

    Args:
        describe: Which descriptor.
        backbone: By its name in the weights registry.
        weights: File of the backbone's weights; None for the registered ones.
        device: "auto", "cpu", "cuda" or "cuda:N".
        short_side: Shorter side at which all but `crop` see images, pixels; None for the backbone's own.
        threads: Processor threads.

    Raises:
        ParameterError: A value is out of range.
    """

    describe: Describe = "tokens"
    backbone: str = "tiny"
    weights: Path | None = None
    device: str = "auto"
    short_side: int | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if self.describe not in PARTS:
            raise ParameterError(f"describe must be one of {', '.join(PARTS)}; got {self.describe!r}")
        if self.threads < 1:
            raise ParameterError(f"threads must be at least 1, got {self.threads}")

    def settings(self) -> dict[str, Any]:
        """What descriptors depend on, as JSON values; the machine is not among it."""
        settings = {"software": f"objloc_ros {__version__}", "describe": self.describe, "backbone": self.backbone}
        settings |= {"weights": str(self.weights)} if self.weights is not None else {}
        return settings | ({"short_side": self.short_side} if self.describe != "crop" else {})

    def load(self) -> Backbone:
        """Load the backbone.

        Raises:
            ParameterError: It is unknown, or has no CLS token for `crop`.
            WeightsError: Weights are missing or refused.
        """
        use_threads(self.threads)
        device = resolve_device(self.device)
        vit = load_backbone(self.backbone, path=self.weights, device=device)
        if self.describe == "crop" and isinstance(vit, ExportedViT):
            raise ParameterError(f"{self.weights} is an exported backbone without CLS token: describe by tokens")
        return Backbone(vit, name=self.backbone, device=device, short_side=self.short_side or vit.spec.short_side)

    def run(self, backbone: Backbone, images: Sequence[FleetImage], target: Path) -> None:
        """Describe a block of images.

        Args:
            backbone: What `load` has returned.
            images: With their objects.
            target: File to write, see `read_part`.
        """
        use_threads(self.threads)
        parts = [self._describe_image(backbone, image) for image in images]
        with target.open("wb") as file:
            np.savez(
                file,
                objects=np.concatenate([part.objects for part in parts]),
                images=np.concatenate([part.images for part in parts]),
                digests=np.concatenate([part.digests for part in parts]),
                problems=np.concatenate([part.problems for part in parts]),
            )

    def _describe_image(self, backbone: Backbone, image: FleetImage) -> Descriptors:
        describe = DESCRIBERS[self.describe]
        digest, problem = b"", ""
        shape = (1 + len(image.objects), PARTS[self.describe] * backbone.vit.embed_dim)
        vectors: npt.NDArray[np.float16] = np.zeros(shape, np.float16)
        try:
            pixels = read_image(image.file)
            digest = hashlib.sha256(image.file.read_bytes()).hexdigest()[:32].encode()
            if size_of(pixels) != image.size:
                raise InputError(f"it has {size_of(pixels)} rows and columns, by its labels {image.size}")
            described = describe(backbone, pixels, image)
            if not np.isfinite(described).all():
                raise InputError("the backbone's features are not finite")
            vectors = described.astype(np.float16)
        except InputError as error:
            problem = f"{image.name}: {error}"
        return Descriptors(vectors[1:], vectors[:1], np.array([digest], "S32"), np.array([problem]))


def describe_by_tokens(backbone: Backbone, pixels: Image, image: FleetImage) -> npt.NDArray[np.float32]:
    """Describe an image and its objects by the mean key under each, patches weighted by how much of them is covered.

    Args:
        backbone: Looks once.
        pixels: RGB uint8 [H, W, 3].
        image: Whose objects they are.

    Returns:
        float32 [1 + objects, d] of length 1, the image first; zeros for an object without any pixel.
    """
    return F.normalize(_measure_keys(backbone, pixels, image)[0], dim=1).cpu().numpy()


def describe_by_moments(backbone: Backbone, pixels: Image, image: FleetImage) -> npt.NDArray[np.float32]:
    """Describe an image and its objects by mean and standard deviation of the keys under each.

    Returns:
        float32 [1 + objects, 2d] of length 1, mean and deviation weighted alike; else as `describe_by_tokens`.
    """
    parts = [F.normalize(part, dim=1) for part in _measure_keys(backbone, pixels, image)]
    return F.normalize(torch.cat(parts, dim=1), dim=1).cpu().numpy()


@torch.inference_mode()
def _measure_keys(backbone: Backbone, pixels: Image, image: FleetImage) -> tuple[Tensor, Tensor]:
    """Measure mean and standard deviation of the keys of an image and under each mask: float32 [1 + objects, d]."""
    features, (geometry,) = backbone.encode([pixels])
    masks = [np.ones(image.size, bool), *(fleet_object.decode_mask(image.size) for fleet_object in image.objects)]
    weights = torch.from_numpy(np.stack([cover_patches(mask, geometry) for mask in masks])).flatten(1)  # 1+n N
    weights = F.normalize(weights.to(features.keys), p=1, dim=1)
    keys = features.keys[0]  # N d
    mean = weights @ keys
    variance = torch.stack([row @ (keys - own).square() for row, own in zip(weights, mean, strict=True)])
    return mean, variance.sqrt()


def cover_patches(mask: npt.NDArray[np.bool_], geometry: Geometry) -> npt.NDArray[np.float32]:
    """Compute which part of each patch a mask covers.

    Args:
        mask: bool [H, W] of the source image.
        geometry: How the image became the backbone's input.

    Returns:
        float32 [h, w] in [0, 1].
    """
    (height, width), (rows, columns) = geometry.resized, geometry.grid
    padded = np.zeros(geometry.padded, np.float32)
    padded[:height, :width] = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    cover: npt.NDArray[np.float32] = padded.reshape(rows, geometry.patch, columns, geometry.patch).mean((1, 3))
    return cover


@torch.inference_mode()
def describe_by_crops(backbone: Backbone, pixels: Image, image: FleetImage) -> npt.NDArray[np.float32]:
    """Describe an image and its objects by the CLS token of a pass over each one's crop.

    Args:
        backbone: Looks once at the image and once at each object.
        pixels: RGB uint8 [H, W, 3].
        image: Whose objects they are.

    Returns:
        float32 [1 + objects, d] of length 1, the image first; zeros for an object without any pixel.
    """
    vit = backbone.vit
    geometry = plan(image.size, patch=1, short_side=None)
    inputs = backbone.transfers.prepare([pixels], [geometry], vit.mean, vit.std)  # 1 3 H W
    height, width = image.size
    boxes = [(0.0, 0.0, float(width), float(height))] + [fleet_object.box for fleet_object in image.objects]
    vectors = torch.zeros(len(boxes), vit.embed_dim, device=backbone.device)
    for row, box in zip(vectors, boxes, strict=True):
        crop = crop_box(inputs, box)
        if crop.numel():
            row[:] = F.normalize(vit.encode_cls(resize_crop(crop, vit.patch))[0], dim=0)
    return vectors.cpu().numpy()


def crop_box(inputs: Tensor, box: Sequence[float]) -> Tensor:
    """Cut a box (x1, y1, x2, y2), rounded to whole pixels, out of an image [1, 3, H, W]."""
    x1, y1, x2, y2 = (max(0, round(side)) for side in box)
    return inputs[..., y1:y2, x1:x2]


def resize_crop(crop: Tensor, patch: int) -> Tensor:
    """Scale a crop to a shorter side of 256 pixels, bicubic without antialiasing, and cut it to whole patches.

    DINO's patch embedding leaves out what is beyond the last whole patch, too.

    Args:
        crop: float32 [1, 3, H, W], normalised.
        patch: Side of a patch in pixels.
    """
    shorter = min(crop.shape[-2:])
    height, width = (min(CROP_LONG_SIDE, int(CROP_SHORT_SIDE * side / shorter)) for side in crop.shape[-2:])
    scaled = F.interpolate(crop, (height, width), mode="bicubic", align_corners=False)
    return scaled[..., : height // patch * patch, : width // patch * patch]


DESCRIBERS: dict[Describe, Callable[[Backbone, Image, FleetImage], npt.NDArray[np.float32]]] = {
    "tokens": describe_by_tokens,
    "moments": describe_by_moments,
    "crop": describe_by_crops,
}


def compute_descriptors(
    fleet: Fleet,
    task: DescribeTask,
    folder: Path,
    engine: Callable[..., Outcome],
    *,
    block: int = BLOCK_IMAGES,
    on_done: Callable[[Shard], None] = lambda shard: None,
) -> Descriptors:
    """Describe all objects, here or on a cluster; blocks that an earlier run has left in the folder are read.

    Args:
        fleet: The objects.
        task: How to describe them.
        folder: Where the blocks go.
        engine: `run_here` or its counterpart on a cluster.
        block: Images per shard; results do not depend on it.
        on_done: Called after each shard that was done now.

    Raises:
        InputError: The folder holds descriptors made otherwise, or a shard failed every time.
    """
    shards = [Shard(f"{start:08d}.npz", tuple(part)) for start, part in cut_blocks(fleet.images, block)]
    made_of = {shard.name: _hash_images(shard.input) for shard in shards}
    claim_folder(folder, {"made with": task.settings(), "made of": made_of}, holds="descriptors")
    outcome = engine(shards, task, folder, on_done=on_done)
    for name, reason in outcome.failed.items():
        raise InputError(f"descriptors {name} could not be computed: {reason}")
    parts = [read_part(folder / shard.name) for shard in shards]
    return Descriptors(
        objects=np.concatenate([part.objects for part in parts]),
        images=np.concatenate([part.images for part in parts]),
        digests=np.concatenate([part.digests for part in parts]),
        problems=np.concatenate([part.problems for part in parts]),
    )


def read_part(path: Path) -> Descriptors:
    """Read the descriptors of a block.

    Raises:
        InputError: The file is damaged.
    """
    try:
        with np.load(path) as arrays:
            return Descriptors(**{name: arrays[name] for name in ("objects", "images", "digests", "problems")})
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"cannot read {path}: {error}; remove it and go on with the same command") from error


def centre(descriptors: npt.NDArray[np.float16], parts: int = 1) -> npt.NDArray[np.float16]:
    """Take the mean of all descriptors away from each: what all things have in common tells none of them apart.

    Args:
        descriptors: float16 [n, d]; rows of zeros are no descriptors and stay.
        parts: Of how many vectors a descriptor is made, see `PARTS`; they are weighted alike afterwards.

    Returns:
        float16 [n, d] of length 1, or zeros.

    Raises:
        InputError: A value is not finite.
    """
    check_finite(descriptors)
    usable = np.any(descriptors, axis=1)
    blocks = [slice(start, start + ROWS_AT_ONCE) for start in range(0, len(descriptors), ROWS_AT_ONCE)]
    total = sum((descriptors[block].sum(0, dtype=np.float64) for block in blocks), np.zeros(descriptors.shape[1]))
    mean = (total / max(1, usable.sum())).astype(np.float32)
    centred = np.zeros_like(descriptors)
    for block in blocks:
        rows = (descriptors[block].astype(np.float32) - mean) * usable[block, None]
        vectors = _normalise(rows.reshape(len(rows), parts, -1))
        centred[block] = _normalise(vectors.reshape(rows.shape))
    return centred


def _normalise(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Bring vectors [..., d] to length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    normalised: npt.NDArray[np.float32] = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalised


def check_finite(descriptors: npt.NDArray[Any]) -> None:
    """Raise InputError, naming the first row, unless all descriptors [n, d] are finite."""
    for start in range(0, len(descriptors), ROWS_AT_ONCE):
        finite = np.isfinite(descriptors[start : start + ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            row = start + int(finite.argmin())
            raise InputError(f"descriptor {row} of {len(descriptors)} is not finite: describe its image again")


def _hash_images(images: Sequence[FleetImage]) -> str:
    """Hash the names, masks and boxes of a block."""
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.file}\0{image.size}\0".encode(errors="surrogateescape"))
        for fleet_object in image.objects:
            digest.update(f"{fleet_object.box}{fleet_object.segmentation}\0".encode())
    return digest.hexdigest()
