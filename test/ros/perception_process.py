"""The perception process around a stub backbone: bright patches are objects.

Run as `perception_process.py --ros-args ...`: the gate "pass" holds up every forward pass, "discovery" that head. A
top-left pixel of (1, 2, 3) makes discovery fail. The sizes of all batches go to the log.
"""

import sys
import time
from functools import partial
from types import SimpleNamespace

import torch
from gate import Gate
from torch.nn import functional as F

from objloc_ros.engine import shared_backbone
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.heads.discovery import DiscoveryHead
from objloc_ros.engine.heads.found import FoundHead
from objloc_ros.engine.loader import Loader, SharedLoader
from objloc_ros.engine.results import InstanceResult
from objloc_ros.methods.options import DetectorOptions
from objloc_ros.nodes import diagnostics, perception, process
from objloc_ros.types import Features

PATCH = 8

PASS_S = 0.02
"""Seconds that a pass takes at least, whatever its batch: so that cameras meet."""


class BrightViT:
    """Keys are the mean brightness of each patch, once positive and once negative."""

    patch, mean, std = PATCH, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    spec = SimpleNamespace(bfloat16=False, short_side=None)

    def __init__(self):
        self.gate = Gate("pass")

    def __call__(self, inputs):
        self.gate.go_through()
        time.sleep(PASS_S)
        print(f"pass of {len(inputs)}", flush=True)
        brightness = F.avg_pool2d(inputs.mean(1, keepdim=True), PATCH)
        keys = torch.cat([brightness, -brightness], 1).flatten(2).mT
        attention = torch.ones(len(inputs), 1, keys.shape[1])
        return Features(keys, keys, keys, attention, tuple(brightness.shape[2:]))


class BrightHead(FoundHead):
    def __init__(self):
        super().__init__(lambda features: 20 * features.keys[..., 0].unflatten(1, features.grid), torch.Tensor.cpu)


class BrightDiscovery(DiscoveryHead):
    def __init__(self, method):
        super().__init__(method)
        self.gate, self.found = Gate("discovery"), BrightHead()

    def __call__(self, batch, options):
        if batch.images[0][0, 0].tolist() == [1, 2, 3]:
            raise ArithmeticError("discovery does not like this frame")
        self.gate.go_through()
        (found,) = self.found(batch, BrightHead.default_options)
        instances = found.mask.astype("uint16")
        return [InstanceResult(found.detections, found.geometry, found.mask, instances)]


class BrightDetector(BrightDiscovery):
    def __init__(self):
        super().__init__("maskcut")
        self.default_options = DetectorOptions()


class StubLoader(Loader):
    def load_backbone(self, config):
        if config.backbone == "missing":
            raise ValueError("this backbone cannot be loaded")
        return Backbone(BrightViT(), name=config.backbone, device=torch.device(config.device), short_side=None)

    def load_heads(self, config):
        make = {"found": BrightHead, "detector": BrightDetector}
        return {method: make.get(method, partial(BrightDiscovery, method))() for method in config.methods}


if __name__ == "__main__":
    shared_backbone.batches_pay = lambda device: True  # as on a GPU
    diagnostics.PERIOD_S = 0.1
    groups = partial(perception.make_groups, lambda max_batch: SharedLoader(max_batch, StubLoader()))
    sys.exit(process.run_groups(groups))
