"""R-CNNs of released checkpoints as a head: boxes, and masks pasted into the image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from objloc_ros.engine.ignored import MIN_DETECTION_LEFT, cut_objects
from objloc_ros.engine.results import Batch, ImageHead, InstanceResult
from objloc_ros.engine.timings import stage
from objloc_ros.methods.options import RcnnOptions
from objloc_ros.ops.geometry import Geometry, boxes_to_source
from objloc_ros.types import Detections, Image, Size, size_of

if TYPE_CHECKING:  # imports torchvision, which a node's parameters need not wait for
    from objloc_ros.methods.rcnn import Rcnn, RcnnObjects

Where = tuple[slice, slice]
"""Rows and columns of an image."""

MASK_THRESHOLD = 0.5
"""Least probability of a pixel of a mask."""


class RcnnHead(ImageHead):
    """An R-CNN. It sees images at the sizes of its paper's tests, small ones enlarged.

    Args:
        network: On its device and in eval mode.
        short_side: What the shorter side of an image becomes, in pixels; None for the paper's 800.
    """

    default_options = RcnnOptions()
    short_side: int

    def __init__(self, network: Rcnn, short_side: int | None = None) -> None:
        from objloc_ros.methods.rcnn import SHORT_SIDE

        self.short_side = short_side or SHORT_SIDE
        self._network = network

    def __call__(self, batch: Batch, options: RcnnOptions) -> list[InstanceResult]:
        """Return one result per image of the batch, of its full size; each image is seen alone."""
        return [self._find(image, batch, options) for image in batch.images]

    def _find(self, image: Image, batch: Batch, options: RcnnOptions) -> InstanceResult:
        from objloc_ros.methods.rcnn import choose_size

        spec, source = self._network.spec, size_of(image)
        size = choose_size(source, self.short_side)
        objects = self._network.detect(
            image,
            size,
            threshold=spec.threshold if options.threshold is None else options.threshold,
            nms_iou=spec.nms_iou if options.nms_iou is None else options.nms_iou,
            limit=options.max_detections,
        )
        with stage("rcnn.pixels", is_part=True):
            result = paste_objects(objects, spec.class_names, source, size)
            ignored = batch.ignored(result.geometry)
            return result if ignored is None else cut_objects(result, ignored, min_left=MIN_DETECTION_LEFT)


def load_rcnn_head(name: str, path: Path | None, short_side: int | None, device: torch.device) -> RcnnHead:
    """Load a network as a head, see `methods.rcnn_weights.load_rcnn`."""
    from objloc_ros.methods.rcnn_weights import load_rcnn

    return RcnnHead(load_rcnn(name, path=path, device=device), short_side)


def read_rcnn_labels(name: str, path: Path | None) -> tuple[str, ...]:
    """Read the names of a network's classes, see `methods.rcnn_weights.find_state`."""
    from objloc_ros.methods.rcnn_weights import find_state, read_spec

    file, state = find_state(name, path)
    return read_spec(state, file).class_names


def paste_objects(objects: RcnnObjects, names: tuple[str, ...], source: Size, size: Size) -> InstanceResult:
    """Bring detections to an image.

    A network without masks has its boxes for masks. Where masks overlap, the better object stays.

    Args:
        objects: Boxes in pixels of the network's input.
        names: Names of the classes.
        source: Height and width of the image.
        size: Height and width of the network's input.
    """
    native = Geometry(source, source, source, 1)
    boxes = boxes_to_source(objects.boxes.cpu().numpy(), Geometry(source, size, size, 1))
    rows = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
    boxes, scores = boxes[rows], objects.scores.cpu().numpy()[rows].clip(0, 1)
    labels = tuple(names[number] for number in objects.classes.cpu().numpy()[rows].tolist())
    probabilities = None if objects.masks is None else objects.masks.cpu()[rows]

    def paste(place: int) -> tuple[Where, npt.NDArray[np.bool_]]:
        return paste_mask(None if probabilities is None else probabilities[place], boxes[place], source)

    def draw_mask(place: int) -> npt.NDArray[np.bool_]:
        where, mask = paste(place)
        drawn = np.zeros(source, np.bool_)
        drawn[where] = mask
        return drawn

    instances = np.zeros(source, np.uint16)
    for place in reversed(range(len(rows))):
        where, mask = paste(place)
        instances[where][mask] = place + 1
    return InstanceResult(Detections(boxes, scores, labels), native, instances > 0, instances, draw_mask)


def paste_mask(
    probabilities: torch.Tensor | None, box: npt.NDArray[np.float32], source: Size
) -> tuple[Where, npt.NDArray[np.bool_]]:
    """Enlarge a mask to its box, bilinearly.

    Args:
        probabilities: float32 [m, m] over the box; None fills the box.
        box: float32 [4] as (x1, y1, x2, y2) in pixels of the image.
        source: Height and width of the image.

    Returns:
        Rows and columns of the image around the box, and what belongs to the object there, bool.
    """
    x1, y1, x2, y2 = box.tolist()
    left, top = max(0, int(np.floor(x1)) - 1), max(0, int(np.floor(y1)) - 1)
    right, bottom = min(source[1], int(np.ceil(x2)) + 1), min(source[0], int(np.ceil(y2)) + 1)
    x = (torch.arange(left, right) + 0.5 - x1) / (x2 - x1) * 2 - 1  # -1 to 1 inside the box
    y = (torch.arange(top, bottom) + 0.5 - y1) / (y2 - y1) * 2 - 1
    where = slice(top, bottom), slice(left, right)
    if probabilities is None:
        return where, ((y.abs() < 1)[:, None] & (x.abs() < 1)).numpy()
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None]  # 1 h w 2
    sampled = F.grid_sample(probabilities[None, None].float(), grid.float(), align_corners=False)
    return where, (sampled[0, 0] >= MASK_THRESHOLD).numpy()
