"""Train FOUND's head on a folder of pictures: python examples/train_found_head.py photos/ head.safetensors [STEPS]."""

import sys
from pathlib import Path

from objloc_ros import load_pipeline
from objloc_ros.training.found_data import image_files
from objloc_ros.training.found_head import save_head, train_head

folder, target, *steps = sys.argv[1:]
if __name__ == "__main__":  # workers that augment the pictures import this file
    backbone = load_pipeline(methods=("found",), device="cpu").backbone.vit
    weight, bias, log = train_head(
        backbone,
        image_files(Path(folder)),
        steps=int(steps[0]) if steps else 501,  # the paper's; two hours on a laptop
        batch=8,
        on_progress=lambda step, losses: print(f"step {step}: {losses}", flush=True),
    )
    save_head(Path(target), weight, bias)
    print(f"use it: objloc detect {folder} --method found --head-weights {target}")
