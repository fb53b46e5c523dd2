"""A discovery node in a process of its own, around a small real engine: every bright region is an object.

Run as `discovery_process.py --ros-args ...`. The score is the brightness; "lost" finds only the best object. A memory
marks that it was used by dimming all scores by a tenth. The gate "engine" holds it up.
"""

import sys
from dataclasses import replace

import numpy as np
from gate import Gate

from objloc_ros.engine.results import InstanceResult, Result
from objloc_ros.methods.options import MaskCutOptions
from objloc_ros.nodes import diagnostics, process
from objloc_ros.nodes.discovery import DiscoveryAdapter
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.ops.geometry import plan
from objloc_ros.ops.regions import components
from objloc_ros.types import Detections


class BrightEngine:
    device = "cpu"

    def __init__(self):
        self.gate, self.maskcut = Gate("engine"), MaskCutOptions()

    def configure(self, method, **options):
        if method == "maskcut":
            self.maskcut = replace(self.maskcut, **options)

    def warm_up(self, size):
        pass

    def run(self, rgb, methods, key=None, memories=()):
        found = {method: self.find(rgb, method, 0.9 if method in memories else 1.0) for method in methods}
        return Result(rgb.shape[:2], found)

    def find(self, rgb, method, factor):
        if rgb[0, 0].tolist() == [1, 2, 3]:
            raise ArithmeticError("the engine does not like this frame")
        self.gate.go_through()
        grey = rgb.max(axis=2).astype(np.float32) / 255
        regions = components(grey >= 0.5)
        scores = (regions.mean(grey) * factor).astype(np.float32)
        order = np.argsort(-scores, kind="stable")[: 1 if method == "lost" else self.maskcut.n_masks]
        instances = np.zeros(grey.shape, np.uint16)
        for rank, region in enumerate(order, start=1):
            instances[regions.labels == region + 1] = rank
        found = Detections.class_free(regions.boxes[order].astype(np.float32), scores[order])
        return InstanceResult(found, plan(grey.shape, patch=8, short_side=None), instances > 0, instances)


if __name__ == "__main__":
    diagnostics.PERIOD_S = 0.1
    sys.exit(process.run(lambda: PerceptionNode(DiscoveryAdapter(lambda config: BrightEngine()))))
