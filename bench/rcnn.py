"""Released R-CNNs on one image of 640x480: processor seconds of the whole way, on one thread, and memory.

    python bench/rcnn.py            two minutes on a free core
    python bench/rcnn.py --smoke    a small image, one round; shows that everything runs

The weights are random: as many proposals are judged as with the released ones, and as many detections get masks.
Seconds are the process's own, which others on the machine disturb less than the clock's.
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import torch
from harness import machine, write_json

from objloc_ros.backbones.resnet import DEPTHS
from objloc_ros.engine.heads.rcnn import RcnnHead
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.io.tables import text_table
from objloc_ros.methods.rcnn import Rcnn, RcnnSpec

NETWORKS = {
    "Cascade Mask R-CNN (CutLER)": RcnnSpec(DEPTHS, pyramid=True, stages=3, classes=1, box_classes=1, masks=True),
    "Mask R-CNN (CutLER)": RcnnSpec(DEPTHS, pyramid=True, stages=1, classes=1, box_classes=1, masks=True),
    "Faster R-CNN, C4 (LOST + CAD)": RcnnSpec(DEPTHS, pyramid=False, stages=1, classes=1, box_classes=1, masks=False),
}


def main() -> None:
    """Measure every network at both sizes, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a small image, one round")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}, 1 thread")
    sides, rounds = ((64,), 1) if args.smoke else ((480, 800), 2)
    rows = [(name, side, measure(spec, side, rounds)) for name, spec in NETWORKS.items() for side in sides]
    print(
        text_table([("network", "shorter side", "CPU-s"), *((name, str(side), f"{s:.1f}") for name, side, s in rows)])
    )
    print(f"most resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")
    if args.json:
        write_json(args.json, machine=machine(), smoke=args.smoke, rows=rows)


def measure(spec: RcnnSpec, short_side: int, rounds: int) -> float:
    """Return the fewest processor seconds that one image of 640x480 took."""
    torch.manual_seed(0)
    head = RcnnHead(Rcnn(spec).requires_grad_(False).eval(), short_side)
    pipeline = Pipeline(None, {"rcnn": head}, device=torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    seconds = []
    for _ in range(rounds):
        began = time.process_time()
        pipeline.run(image)
        seconds.append(time.process_time() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
