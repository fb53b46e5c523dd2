"""A found node in a process of its own, around a small real engine: bright pixels are the object.

Run as `found_process.py --ros-args ...`. A top-left pixel of (1, 2, 3) makes the engine fail; the gate "engine" holds
it up. Diagnostics come ten times as often as else.
"""

import sys

import numpy as np
from gate import Gate

from objloc_ros.engine.results import Result, SaliencyResult
from objloc_ros.methods.options import FoundOptions
from objloc_ros.nodes import diagnostics, process
from objloc_ros.nodes.found import FoundAdapter
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.ops.geometry import plan
from objloc_ros.types import Detections


def find(rgb, options):
    saliency = rgb.max(axis=2).astype(np.float32) / 255
    mask = saliency >= options.threshold
    boxes = np.zeros((0, 4), np.float32)
    if mask.any() and mask.mean() >= options.min_area:
        ys, xs = np.nonzero(mask)
        boxes = np.array([[xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]], np.float32)
    scores = np.full(len(boxes), saliency[mask].mean() if len(boxes) else 0, np.float32)
    geometry = plan(saliency.shape, patch=8, short_side=None)
    return SaliencyResult(Detections.class_free(boxes, scores), geometry, mask, saliency, saliency)


class BrightEngine:
    device = "cpu"

    def __init__(self):
        self.gate, self.options = Gate("engine"), FoundOptions()

    def configure(self, method, **options):
        assert method == "found"
        self.options = FoundOptions(**options)

    def warm_up(self, size):
        pass

    def run(self, rgb, methods, key=None, memories=()):
        assert methods == ("found",)
        options = self.options
        if rgb[0, 0].tolist() == [1, 2, 3]:
            raise ArithmeticError("the engine does not like this frame")
        self.gate.go_through()
        return Result(rgb.shape[:2], {"found": find(rgb, options)})


class FlakyFactory:
    """Fails once where the backbone is called "flaky", as a disk that is mounted late would."""

    def __init__(self):
        self.failed = False

    def __call__(self, config):
        if config.backbone == "flaky" and not self.failed:
            self.failed = True
            raise FileNotFoundError("weights are not there yet")
        return BrightEngine()


if __name__ == "__main__":
    diagnostics.PERIOD_S = 0.1
    factory = FlakyFactory()
    sys.exit(process.run(lambda: PerceptionNode(FoundAdapter(factory))))
