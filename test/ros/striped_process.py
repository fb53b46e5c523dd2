"""A segmentation node in a process of its own, around a real pipeline with simple heads: every prompt is a stripe.

Run as `striped_process.py FRAME_MS ENCODE_MS --ros-args ...`, which is how long both take at least; the gates "frame"
and "prompts" hold them up. The prompts share the columns of the image in their order, and the confidence tells the
method; dark pixels are background for "found". A top-left pixel of (1, 2, 3) makes the heads fail, the
prompt "unspeakable" makes the text tower fail the first time that it comes.
"""

import sys
import time
from types import SimpleNamespace

import torch
from gate import Gate

from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.heads.labelling import label_pixels
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.nodes import diagnostics, process
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.nodes.segmentation import SegmentationAdapter

SURE = {"clip_diy": 0.2, "maskclip": 0.4, "clip_dinoiser": 0.6}
CPU = torch.device("cpu")


class StripedHead:
    def __init__(self, method, delay_s):
        self.default_options, self.sure, self.delay_s = SEGMENTATION[method](), SURE[method], delay_s

    def reads_features(self, options):
        return False

    def __call__(self, batch, options):
        Gate("frame").go_through()
        time.sleep(self.delay_s)
        return [
            self.answer(image, geometry, batch.prompts.labels, options)
            for image, geometry in zip(batch.images, batch.geometries, strict=True)
        ]

    def answer(self, image, geometry, labels, options):
        if image[0, 0].tolist() == [1, 2, 3]:
            raise ArithmeticError("the heads do not like this frame")
        height, width = image.shape[:2]
        classes = (1 + torch.arange(width) * len(labels) // width).repeat(height, 1)
        if options.background == "found":
            classes[torch.from_numpy(image.max(axis=2) < 128)] = 0
        return label_pixels(classes, torch.full((height, width), self.sure), labels, geometry, options)


class SlowEncoder(PromptEncoder):
    def __init__(self, delay_s):
        super().__init__("tiny_clip", device=CPU)
        self.delay_s, self.failed = delay_s, False

    def encode(self, prompts, *others):
        encoded = super().encode(prompts, *others)
        Gate("prompts").go_through()
        time.sleep(self.delay_s)
        if "unspeakable" in prompts and not self.failed:
            self.failed = True
            raise ArithmeticError("the text tower does not like this prompt")
        return encoded


def load(frame_s, encode_s):
    """A pipeline; no backbone, since no head reads its features."""
    heads = {method: StripedHead(method, frame_s) for method in SEGMENTATION}
    vit = SimpleNamespace(patch=8, spec=SimpleNamespace(bfloat16=False))
    encoder = SlowEncoder(encode_s)
    return Pipeline(Backbone(vit, name="none", device=CPU, short_side=None), heads, encoder)


if __name__ == "__main__":
    diagnostics.PERIOD_S = 0.1
    frame_s, encode_s = (float(word) / 1e3 for word in sys.argv[1:3])
    sys.exit(process.run(lambda: PerceptionNode(SegmentationAdapter(lambda config: load(frame_s, encode_s)))))
