"""What heads are given and what they return: images and features; boxes, and masks brought to the image's size."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.io.drawing import hatch, label_overlay, overlay
from objloc_ros.methods.found import corloc_box
from objloc_ros.ops.areas import Area
from objloc_ros.ops.geometry import Geometry, boxes_to_source, map_to_source
from objloc_ros.ops.regions import components
from objloc_ros.types import CLASS_FREE, UNLABELLED, Detections, Features, Image, LabelSet, Size, size_of

if TYPE_CHECKING:  # these import what takes seconds; a node reads the options of methods before it needs them
    from objloc_ros.engine.prompts import ActivePrompts
    from objloc_ros.engine.temporal import Memory

Pixels = npt.NDArray[Any]
"""A map, whatever it holds."""


class Maps(Mapping[str, npt.NDArray[Any]]):
    """Maps of a result by name, each brought to the source size when it is asked for, and only then.

    Args:
        makers: What makes each map.
    """

    def __init__(self, **makers: Callable[[], npt.NDArray[Any]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


@dataclass(frozen=True)
class HeadResult:
    """The objects that one method found in one image.

    Args:
        detections: Boxes in source pixels with scores, best first.
        geometry: Maps the processed size to the source image.
        mask: bool [h', w'] at the processed size, the union of the objects.
        ignored: Where nothing was to be reported: what maps hold nothing in, and pictures are hatched in.
    """

    detections: Detections
    geometry: Geometry
    mask: npt.NDArray[np.bool_]
    ignored: Area = field(default=Area(), kw_only=True)

    @property
    def prompts(self) -> LabelSet | None:
        """The prompts, and the ids that stand for them in `label_map`; None for methods without prompts."""
        return None

    @property
    def mask_labels(self) -> LabelSet | None:
        """What the ids in the map `mask` stand for, UNLABELLED aside; None where there is no such map."""
        return CLASS_FREE

    def maps(self) -> Maps:
        """Return the maps that a node publishes, uint8 or uint16 [H, W], by the names of their topics."""
        return Maps(mask=self.label_map)

    def files(self) -> Maps:
        """Return the maps that `objloc detect` writes, by the ends of their files' names."""
        return Maps(mask=self.mask_u8)

    def label_map(self) -> npt.NDArray[Any]:
        """Return what each pixel of the source image belongs to.

        Returns:
            Integers [H, W]: 1 on objects and 0 elsewhere; of a method with a mask for each object the places of the
            detections from 1 on, and 0 elsewhere; of one with prompts their ids, and UNLABELLED elsewhere.
        """
        return self._to_source(self.mask.astype(np.uint8))

    def mask_u8(self) -> Image:
        """Foreground 255, background 0, a picture for people: uint8 [H, W] at the source size."""
        return self._to_source(self.mask.astype(np.uint8) * np.uint8(255))

    def instances_u16(self) -> npt.NDArray[np.uint16]:
        """Return the pixels of each detection: uint16 [H, W] at the source size, i + 1 on the i-th, 0 elsewhere.

        The objects of FOUND and of the open-vocabulary methods are 4-connected regions, and are found again by their
        boxes: no two regions of a mask have the same, as both would reach from left to right and from top to bottom,
        and cross.
        """
        return self._to_source(self._regions())

    def masks(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Yield the pixels of each detection at the source size, bool [H, W], also those that a better one covers."""
        ids = self.instances_u16()
        for number in range(1, len(self.detections) + 1):
            yield ids == number

    def soft_map(self) -> npt.NDArray[np.float32]:
        """Return how surely each pixel is an object's: float32 [H, W] in [0, 1], 0 or 1 where there is only a mask."""
        return self.mask_u8().astype(np.float32) / np.float32(255)

    def main_box(self) -> npt.NDArray[np.float32]:
        """Return the box of the one object that CorLoc asks for: float32 [n, 4] with n of 0 or 1."""
        return self.detections.boxes[:1]

    def shares(self) -> dict[str, float]:
        """Return the part of the image that each prompt covers; empty for methods without prompts."""
        return {}

    def draw(self, image: Image) -> Image:
        """Draw the result into its image, as the nodes do: RGB uint8 [H, W, 3], a new one."""
        return overlay(self._ground(image), self.label_map(), self.detections)

    def best(self, count: int, min_score: float = 0.0) -> HeadResult:
        """Keep at most `count` detections, none with a lower score than `min_score`; maps without instances stay."""
        return replace(self, detections=self.detections.select(range(self._count_best(count, min_score))))

    def with_ids(self, ids: tuple[str, ...]) -> HeadResult:
        """Return the same result with these track ids of its detections."""
        return replace(self, detections=replace(self.detections, ids=ids))

    def _to_source(self, values: Pixels, interpolation: int = cv2.INTER_NEAREST, empty: int = 0) -> Pixels:
        """Bring a map [h', w'] to the source size [H, W], with `empty` in the very pixels that are ignored."""
        pixels = map_to_source(values, self.geometry, interpolation)
        if not self.ignored:
            return pixels
        return np.where(self.ignored.mask(self.geometry.source), pixels.dtype.type(empty), pixels)

    def _ground(self, image: Image) -> Image:
        """Return what is drawn on: the image, hatched where it is ignored."""
        return hatch(image, self.ignored.mask(size_of(image))) if self.ignored else image

    def _count_best(self, count: int, min_score: float) -> int:
        return int((self.detections.scores[:count] >= min_score).sum())  # the best come first

    def _regions(self) -> npt.NDArray[np.uint16]:
        """Return the regions of the detections at the processed size, numbered like them."""
        labels, boxes = self.detections.labels, self.detections.boxes.tolist()
        places = {(label, tuple(box)): i for i, (label, box) in enumerate(zip(labels, boxes, strict=True), start=1)}
        drawn: npt.NDArray[np.uint16] = np.zeros(self.geometry.resized, np.uint16)
        for label in dict.fromkeys(labels):
            parts = components(self._where(label))
            part_boxes = boxes_to_source(parts.boxes.astype(np.float32), self.geometry).tolist()
            table = np.array([0, *(places.get((label, tuple(box)), 0) for box in part_boxes)], np.uint16)
            drawn = np.maximum(drawn, table[parts.labels])
        return drawn

    def _where(self, label: str) -> npt.NDArray[np.bool_]:
        """Return the pixels of a label, bool [h', w']."""
        return self.mask


@dataclass(frozen=True)
class SaliencyResult(HeadResult):
    """Objects read from a map.

    Args:
        saliency: float32 [h', w'] in [0, 1] at the processed size.
        logits: float32 on the patch grid or a finer one, from which the saliency was interpolated.
    """

    saliency: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]

    def maps(self) -> Maps:
        """Return ids and saliency."""
        return Maps(mask=self.label_map, confidence=self.saliency_u8)

    def saliency_u8(self) -> Image:
        """Return the saliency scaled to 0-255: uint8 [H, W] at the source size."""
        return self._to_source(np.rint(self.saliency * 255).astype(np.uint8), cv2.INTER_LINEAR)

    def soft_map(self) -> npt.NDArray[np.float32]:
        """Return the saliency."""
        return np.clip(self._to_source(self.saliency, cv2.INTER_LINEAR), 0, 1)

    def main_box(self) -> npt.NDArray[np.float32]:
        """Return the box of the largest region at the resolution of the logits, as in FOUND's paper."""
        cell = self.geometry.padded[0] // len(self.logits)
        box = corloc_box(self.logits, cell, self.geometry.resized)
        rows = np.array([] if box is None else box, np.float32).reshape(-1, 4)
        return boxes_to_source(rows, self.geometry)


@dataclass(frozen=True)
class InstanceResult(HeadResult):
    """Objects with a mask each.

    Args:
        instances: uint16 [h', w'] at the processed size: 0 on the background, i + 1 on the i-th detection, the best one
            where several overlap.
        draw_mask: Draws all pixels of the i-th detection, bool [h', w']; None where no two overlap.
    """

    instances: npt.NDArray[np.uint16]
    draw_mask: Callable[[int], npt.NDArray[np.bool_]] | None = None

    @property
    def mask_labels(self) -> None:
        """None: there are instances, which have numbers, not labels."""
        return None

    def maps(self) -> Maps:
        """Return the instances."""
        return Maps(instance_mask=self.instances_u16)

    def files(self) -> Maps:
        """Return mask and instances."""
        return Maps(mask=self.mask_u8, instances=self.instances_u16)

    def label_map(self) -> npt.NDArray[Any]:
        """Return the instances."""
        return self.instances_u16()

    def instances_u16(self) -> npt.NDArray[np.uint16]:
        """Return the instances at the source size, uint16 [H, W]."""
        return self._to_source(self.instances)

    def masks(self) -> Iterator[npt.NDArray[np.bool_]]:
        """Yield the pixels of each detection at the source size, bool [H, W], also those that a better one covers."""
        if self.draw_mask is None:
            yield from super().masks()
            return
        for place in range(len(self.detections)):
            yield self._to_source(self.instance(place))

    def instance(self, place: int) -> npt.NDArray[np.bool_]:
        """Return the pixels of the i-th detection from 0 on, also those that a better one covers: bool [h', w']."""
        return self.instances == place + 1 if self.draw_mask is None else self.draw_mask(place)

    def best(self, count: int, min_score: float = 0.0) -> InstanceResult:
        """Keep at most `count` objects, none with a lower score than `min_score`, with their pixels."""
        kept = self._count_best(count, min_score)
        if kept == len(self.detections):
            return self
        instances = np.where(self.instances <= kept, self.instances, 0).astype(np.uint16)
        detections = self.detections.select(range(kept))
        return replace(self, detections=detections, mask=instances > 0, instances=instances)


@dataclass(frozen=True)
class SemanticResult(HeadResult):
    """A prompt for each pixel; the detections are the connected regions of each prompt.

    Args:
        labels: The prompts and the ids that stand for them.
        classes: uint8 [h', w'] ids at the processed size, UNLABELLED (255) where no prompt fits.
        confidence: float32 [h', w'] in [0, 1] of the label, 0 where there is none.
    """

    labels: LabelSet
    classes: Image
    confidence: npt.NDArray[np.float32]

    @property
    def prompts(self) -> LabelSet | None:
        """The labels."""
        return self.labels

    @property
    def mask_labels(self) -> LabelSet:
        """The labels."""
        return self.labels

    def maps(self) -> Maps:
        """Return ids and confidence."""
        return Maps(mask=self.classes_u8, confidence=self.confidence_u8)

    def files(self) -> Maps:
        """Return mask and ids."""
        return Maps(mask=self.mask_u8, labels=self.classes_u8)

    def label_map(self) -> npt.NDArray[Any]:
        """Return the ids."""
        return self.classes_u8()

    def classes_u8(self) -> Image:
        """Return the ids at the source size, uint8 [H, W]."""
        return self._to_source(self.classes, empty=UNLABELLED)

    def confidence_u8(self) -> Image:
        """Confidence scaled to 0-255: uint8 [H, W] at the source size."""
        return self._to_source(np.rint(self.confidence * 255).astype(np.uint8))

    def shares(self) -> dict[str, float]:
        """Return the part of the image that each prompt covers."""
        return {prompt: float((self.classes == number).mean()) for number, prompt in self.labels.names().items()}

    def draw(self, image: Image) -> Image:
        """Return the image coloured by its labels, with their names."""
        return label_overlay(self._ground(image), self.classes_u8(), self.labels.names())

    def _where(self, label: str) -> npt.NDArray[np.bool_]:
        ids = {prompt: number for number, prompt in self.labels.names().items()}
        return np.asarray(self.classes == ids[label])


@dataclass(frozen=True)
class Result:
    """What every head said about one image.

    Args:
        source: Height and width of the image.
        heads: One `HeadResult` per method: a `SaliencyResult` of found, an `InstanceResult` of the discovery methods, a
            `SemanticResult` of the open-vocabulary methods.
        timings_ms: Milliseconds per stage: `pre`, `vit` and one entry per method; those of a batch are shared out.
            Fine ones also have their parts: `upload` of `pre`, on a GPU, and `METHOD.pixels` of each method: masks at
            pixels, boxes and regions.
    """

    source: Size
    heads: Mapping[str, HeadResult]
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, method: str) -> HeadResult:
        """The result of one method."""
        return self.heads[method]


@dataclass(frozen=True)
class Batch:
    """Images of one padded size on their way through the heads.

    Args:
        images: RGB uint8 [H, W, 3] each.
        geometries: How each became the backbone's input.
        features: The backbone's; None where no head reads them.
        prompts: What to look for; None where nobody said.
        memories: What is known from the earlier frames of the video whose next one this is, by method; updated.
        area: Where nothing is to be reported.
    """

    images: Sequence[Image]
    geometries: Sequence[Geometry]
    features: Features | None = None
    prompts: ActivePrompts | None = None
    memories: Mapping[str, Memory] = field(default_factory=dict)
    area: Area = field(default=Area())

    def ignored(self, geometry: Geometry) -> npt.NDArray[np.bool_] | None:
        """Return the pixels in which nothing is to be reported, bool [h', w']; None where there are none."""
        return self.area.mask(geometry.resized) if self.area else None

    def require_features(self) -> Features:
        """Return the backbone's features, for a head whose `reads_features` is true."""
        if self.features is None:
            raise RuntimeError("the backbone has not run")
        return self.features


class Head(Protocol):
    """A method behind the shared backbone pass."""

    default_options: Any

    def reads_features(self, options: Any) -> bool:
        """Return whether it needs the backbone's features."""
        ...

    def __call__(self, batch: Batch, options: Any) -> Sequence[HeadResult]:
        """Return one result per image of the batch."""
        ...


class ImageHead(abc.ABC):
    """A method with a network of its own. Its results carry the geometry of that network, not the backbone's.

    Attributes:
        default_options: Options that hold until others are chosen.
        short_side: What the shorter side of an image becomes, in pixels; None: it stays as it is.
        precision: What the network computes in.
    """

    default_options: Any
    short_side: int | None
    precision: str = "float32"

    def reads_features(self, options: Any) -> bool:
        """Return False: it reads the images."""
        return False

    @abc.abstractmethod
    def __call__(self, batch: Batch, options: Any) -> Sequence[HeadResult]:
        """Return one result per image of the batch."""
