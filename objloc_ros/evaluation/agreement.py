"""Whether another precision decides alike: what methods find on the same scenes in it, and in float32."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult
from objloc_ros.evaluation.held_out_scenes import HeldOutScene
from objloc_ros.metrics import CorLoc, Mean, Metric
from objloc_ros.ops.boxes import Boxes
from objloc_ros.ops.regions import mask_iou


class Agreement(Metric):
    """How far one method's decisions in two precisions agree, and how good they are."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self._mask_iou, self._pixels, self._boxes = Mean(), Mean(), Mean()
        self._corloc = CorLoc(), CorLoc()

    def update(self, truth: Boxes, exact: HeadResult, reduced: HeadResult) -> None:
        """Add an image.

        Args:
            truth: Boxes of its objects, [n, 4].
            exact: What was found in float32.
            reduced: What was found in the other precision.
        """
        self._mask_iou.update(mask_iou(exact.mask_u8() > 0, reduced.mask_u8() > 0))
        self._pixels.update(float((exact.label_map() == reduced.label_map()).mean()))
        self._boxes.update(float(np.array_equal(exact.detections.boxes, reduced.detections.boxes)))
        for corloc, result in zip(self._corloc, (exact, reduced), strict=True):
            corloc.update([next(iter(result.main_box().tolist()), None)], [truth])

    def compute(self) -> dict[str, float]:
        """Return fractions in [0, 1].

        "mask_iou" and "worst_mask_iou" of what is an object at all; "pixels": those with the same object or label;
        "boxes": images in which all boxes are the same to the last pixel; "corloc_float32" and "corloc".
        """
        return {
            "mask_iou": self._mask_iou.compute(),
            "worst_mask_iou": min(self._mask_iou.values, default=0.0),
            "pixels": self._pixels.compute(),
            "boxes": self._boxes.compute(),
            "corloc_float32": self._corloc[0].compute(),
            "corloc": self._corloc[1].compute(),
        }


def compare_precisions(
    exact: Pipeline,
    reduced: Pipeline,
    scenes: Iterable[HeldOutScene],
    on_progress: Callable[[], object] = lambda: None,
) -> tuple[dict[str, dict[str, float]], tuple[float, float]]:
    """Run two pipelines in turns.

    Args:
        exact: In float32.
        reduced: Of the same methods, in another precision.
        scenes: What to look at.
        on_progress: Called after each.

    Returns:
        The figures of each method, see `Agreement.compute`; and the medians of the milliseconds of a backbone's pass in
        float32 and in the other precision, 0 where there is none.
    """
    agreements: defaultdict[str, Agreement] = defaultdict(Agreement)
    passes_ms: list[tuple[float, float]] = []
    for scene in scenes:
        results = exact.run(scene.image), reduced.run(scene.image)
        for method in exact.methods:
            agreements[method].update(scene.boxes(), results[0][method], results[1][method])
        passes_ms.append((results[0].timings_ms.get("vit", 0.0), results[1].timings_ms.get("vit", 0.0)))
        on_progress()
    exact_ms, reduced_ms = np.median(passes_ms, axis=0).tolist()
    return {method: agreement.compute() for method, agreement in agreements.items()}, (exact_ms, reduced_ms)
