"""COCO's average precision and recall, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from objloc_ros.io.rle import count_pixels
from objloc_ros.metrics.base import Metric
from objloc_ros.ops.boxes import Boxes

STAT_INDEX = {"ap": 0, "ap50": 1, "ap75": 2, "ar1": 6, "ar10": 7, "ar100": 8}
"""Places of our figures among COCO's twelve."""

IouType = Literal["bbox", "segm"]


@dataclass(frozen=True)
class ScoredImage:
    """The objects that a method has found in one image, and the true ones.

    Args:
        boxes: [n, 4].
        scores: [n].
        truth: [m, 4].
        ignored: [k, 4], regions in which finding something is neither right nor wrong.
        masks: Run lengths of each found object, where masks are compared.
        true_masks: Run lengths of each true object, and after them of each ignored region.
    """

    boxes: Boxes
    scores: npt.NDArray[np.floating]
    truth: Boxes
    ignored: Boxes = field(default_factory=lambda: np.zeros((0, 4)))
    masks: Sequence[Mapping[str, Any]] = ()
    true_masks: Sequence[Mapping[str, Any]] = ()


def average_precision(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    iou_type: IouType = "bbox",
    class_agnostic: bool = True,
) -> dict[str, float]:
    """Compute COCO's metrics with up to 100 objects per image.

    Args:
        truth: COCO document: `images`, `annotations` (bbox [x, y, width, height], area, iscrowd; for masks also
            `segmentation`) and `categories`.
        results: COCO results: image_id, category_id, score, and bbox or `segmentation` as RLE.
        iou_type: Compare boxes or masks.
        class_agnostic: Whether all categories are one, as in CutLER's evaluation.

    Returns:
        Fractions: "ap" averaged over the IoU thresholds 0.5 to 0.95, "ap50", "ap75", "ar1", "ar10" and "ar100" with so
        many objects per image, and "recall50" at the threshold 0.5. All zero where nothing was found.
    """
    if not results:
        return dict.fromkeys((*STAT_INDEX, "recall50"), 0.0)
    import faster_coco_eval as coco  # what only finds objects does not need it

    with contextlib.redirect_stdout(io.StringIO()):
        expected = coco.COCO()
        # Ids of our own: 0 would mean "matched with nothing" there, and annotations of one id would be one.
        numbered = [{**annotation, "id": i} for i, annotation in enumerate(truth["annotations"], start=1)]
        expected.dataset = {**truth, "annotations": numbered}
        expected.createIndex()
        found = expected.loadRes([dict(result) for result in results])
        evaluation = coco.COCOeval_faster(expected, found, iou_type)
        evaluation.params.useCats = int(not class_agnostic)
        evaluation.run()
    figures = {name: max(0.0, float(evaluation.stats[place])) for name, place in STAT_INDEX.items()}
    recalls = evaluation.eval["recall"][0, :, 0, 2]
    known = recalls[recalls > -1]
    return {**figures, "recall50": float(known.mean()) if known.size else 0.0}


class AveragePrecision(Metric):
    """COCO's average precision and recall of objects without classes.

    Args:
        iou_type: Compare boxes or masks. A mask without any pixel is no found object.
    """

    def __init__(self, iou_type: IouType = "bbox") -> None:
        self.iou_type = iou_type
        self.images: list[ScoredImage] = []

    def update(self, image: ScoredImage) -> None:
        """Add an image; it is kept, since the figures rank the objects of all images together."""
        self.images.append(image)

    def compute(self) -> dict[str, float]:
        """Return the figures of `average_precision`; all zero without images."""
        truth: list[dict[str, Any]] = []
        results: list[dict[str, Any]] = []
        for number, image in enumerate(self.images):
            annotations = self._annotations(image)
            truth += [{"id": len(truth) + i, "image_id": number, **a} for i, a in enumerate(annotations, start=1)]
            results += [{"image_id": number, **result} for result in self._results(image)]
        document = {
            "info": {},
            "images": [{"id": number, **_size(image)} for number, image in enumerate(self.images)],
            "categories": [{"id": 1, "name": "object"}],
            "annotations": truth,
        }
        return average_precision(document, results, iou_type=self.iou_type)

    def reset(self) -> None:
        """Forget all images."""
        self.images = []

    def _annotations(self, image: ScoredImage) -> Iterator[dict[str, Any]]:
        """The true objects, and the ignored regions as crowds."""
        crowds = [0] * len(image.truth) + [1] * len(image.ignored)
        for place, (box, crowd) in enumerate(zip((*image.truth, *image.ignored), crowds, strict=True)):
            bbox = _xywh(box)
            mask = {"segmentation": image.true_masks[place]} if self.iou_type == "segm" else {}
            yield {"category_id": 1, "bbox": bbox, "iscrowd": crowd, "area": bbox[2] * bbox[3], **mask}

    def _results(self, image: ScoredImage) -> Iterator[dict[str, Any]]:
        """The found objects."""
        for place, (box, score) in enumerate(zip(image.boxes, image.scores, strict=True)):
            if self.iou_type == "bbox":
                yield {"category_id": 1, "score": float(score), "bbox": _xywh(box)}
            elif count_pixels(image.masks[place]):
                yield {"category_id": 1, "score": float(score), "segmentation": image.masks[place]}


def _size(image: ScoredImage) -> dict[str, int]:
    """Height and width of an image with masks."""
    sizes = [mask["size"] for mask in (*image.true_masks, *image.masks)]
    return dict(zip(("height", "width"), sizes[0], strict=True)) if sizes else {}


def _xywh(box: npt.NDArray[np.floating | np.integer]) -> list[float]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]
