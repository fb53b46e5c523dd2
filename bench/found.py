"""FOUND against its literal formulation, and what a frame costs around the model.

    python bench/found.py            full size, minutes on two cores
    python bench/found.py --smoke    seconds; shows that everything runs and agrees

Nothing is asserted about time. Single-threaded by default: on a shared machine that is what compares.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import Pair, compare, machine, print_pairs, wall_ms, write_json
from literal import background_mask as literal_background
from literal import bilateral_solve, vit_keys
from safetensors.torch import save_file

from objloc_ros.backbones.positions import dino_pos_embed
from objloc_ros.backbones.registry import find_entry
from objloc_ros.backbones.vit import build_vit
from objloc_ros.engine.frame_stats import FrameStats
from objloc_ros.engine.latest_slot import LatestSlot
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.methods.found_network import background_mask
from objloc_ros.ops.bilateral import solve
from objloc_ros.scenes.video import drive_video

CAMERA_FPS = 15

LIVE_FRAMES = 300
"""Frames of the run at the camera's rate; the run flat out has as many as asked for."""


def main() -> None:
    """Run every part, print the tables and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small sizes, a few seconds in all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument("--threads", type=int, default=1, help="torch and OpenCV threads (default: 1)")
    parser.add_argument("--frames", type=int, default=300, help="frames of the run flat out (default: 300)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    torch.manual_seed(0)
    where = f"{machine()}, {args.threads} thread(s)"
    print(where)
    pairs = []
    for pair in (*vit_pairs(args.smoke), *background_pairs(args.smoke), *bilateral_pairs(args.smoke)):
        pairs.append(pair)
        print(f"  {pair.name}: {pair.ratio:.1f}x", flush=True)
    print_pairs(pairs)
    with tempfile.TemporaryDirectory() as scratch:
        pipeline, weights = embedded_pipeline(Path(scratch))
    stages = stage_costs(pipeline, rounds=5 if args.smoke else 100)
    live = throughput(pipeline, 20 if args.smoke else args.frames)
    print(f"\nembedded model ({weights} weights)")
    print("1280x720, ms per frame: " + ", ".join(f"{name} {value:.2f}" for name, value in stages.items()))
    print("640x480: " + ", ".join(f"{name} {value:.1f}" for name, value in live.items()))
    if args.json:
        sections = {"machine": where, "smoke": args.smoke, "weights": weights}
        write_json(args.json, **sections, pairs=pairs, stages_1280x720_ms=stages, live_640x480=live)


@torch.inference_mode()
def vit_pairs(smoke: bool) -> Iterator[Pair]:
    """Last-block keys of the DINO architectures with random weights, fp32, 480 x 640."""
    height, width = (96, 128) if smoke else (480, 640)
    for name, rounds in (("dino_vits16", 5), ("dino_vits8", 2)):
        model = build_vit(name).eval()
        images = torch.randn(1, 3, height, width)
        position = dino_pos_embed(model.vit.pos_embed, (height // model.patch, width // model.patch))
        yield compare(
            f"keys {name} {width}x{height} fp32",
            lambda m=model, x=images, p=position: vit_keys(m.vit, x, p)[0],
            lambda m=model, x=images: m(x).keys,
            lambda a, b: f"relative difference {((a - b).abs().max() / a.abs().max()).item():.0e}",
            wanted=2,
            rounds=1 if smoke else rounds,
        )


@torch.inference_mode()
def background_pairs(smoke: bool) -> Iterator[Pair]:
    """Background discovery against the N x N similarity, 480 x 640."""
    height, width = (240, 320) if smoke else (480, 640)
    for patch in (16, 8):
        grid = (height // patch, width // patch)
        features = torch.randn(1, grid[0] * grid[1], 384) + torch.randn(384)
        attention = (2 * torch.randn(1, 6, grid[0] * grid[1] + 1)).softmax(-1)[:, :, 1:]
        yield compare(
            f"background discovery, patch {patch}, {width}x{height}",
            lambda f=features, a=attention: literal_background(f[0], a[0], 6),
            lambda f=features, a=attention, g=grid: background_mask(f, a, g, n_heads=6).flatten(),
            lambda a, b: f"{(a != b).sum().item()} of {a.numel()} patches differ",
            wanted=15,
            rounds=3 if smoke else 15,
        )


def bilateral_pairs(smoke: bool) -> Iterator[Pair]:
    """Bilateral solver on frames of the procedural drive, at the camera's and at the training size."""
    for height, width in ((120, 160),) if smoke else ((480, 640), (224, 224)):
        image, identities = next(iter(drive_video(seed=0, size=(height, width), frames=1)))
        target = cv2.resize((identities > 0).astype(np.float32), (width // 8, height // 8))
        target = cv2.resize((target > 0.5).astype(np.float32), (width, height))
        yield compare(
            f"bilateral solver {width}x{height}",
            lambda i=image, t=target: bilateral_solve(i, t),
            lambda i=image, t=target: solve(i, t),
            lambda a, b: f"largest difference {np.abs(a - b).max():.0e}",
            wanted=2,
            rounds=3 if smoke else 15,
        )


def embedded_pipeline(scratch: Path) -> tuple[Pipeline, str]:
    """Load the embedded model; with random weights of its shape in a checkout that has none."""
    if find_entry("tiny").path.is_file() and find_entry("tiny_found_head").path.is_file():
        return load_pipeline(device="cpu"), "trained"
    model = build_vit("tiny")
    save_file(model.vit.state_dict(), scratch / "vit.safetensors")
    save_file({"weight": torch.randn(1, model.embed_dim, 1, 1), "bias": torch.zeros(1)}, scratch / "head.safetensors")
    paths = {"weights": scratch / "vit.safetensors", "head_weights": scratch / "head.safetensors"}
    return load_pipeline(device="cpu", **paths), "random"


def stage_costs(pipeline: Pipeline, rounds: int) -> dict[str, float]:
    """Median milliseconds per stage of a 1280 x 720 frame, host image to boxes and source-size mask."""
    frames = list(drive_video(seed=1, size=(720, 1280), frames=4))
    samples = []
    pipeline.warm_up((720, 1280))
    for image, _ in islice(cycle(frames), rounds):
        start = time.perf_counter()
        result = pipeline.run(image)
        whole = (time.perf_counter() - start) * 1e3
        mask = wall_ms(result["found"].mask_u8)
        outside = whole - result.timings_ms["vit"] + mask
        samples.append({**result.timings_ms, "mask": mask, "outside the model": outside})
    return {name: float(np.median([sample[name] for sample in samples])) for name in samples[0]}


def throughput(pipeline: Pipeline, count: int) -> dict[str, float]:
    """What the node's engine sustains on 640 x 480: as fast as it can, then behind a camera of 15 frames a second.

    Memory is compared between the first tenth and the end of the run flat out.
    """
    images = [image for image, _ in drive_video(seed=2, size=(480, 640), frames=min(count, 60))]
    pipeline.warm_up((480, 640))

    def work(frame: tuple[float, np.ndarray]) -> None:
        pipeline.run(frame[1])["found"].mask_u8()

    start = time.perf_counter()
    for i, image in enumerate(islice(cycle(images), count)):
        work((0.0, image))
        if i == count // 10:
            memory = _resident_mib()
    flat_out = count / (time.perf_counter() - start)
    growth = 100 * (_resident_mib() / memory - 1)
    stats = FrameStats()
    slot = LatestSlot(work, stats, age_ms=lambda frame: 1e3 * (time.perf_counter() - frame[0]))
    ticking = threading.Event()
    for image in islice(cycle(images), min(count, LIVE_FRAMES)):
        slot.offer((time.perf_counter(), image))
        ticking.wait(1 / CAMERA_FPS)
    slot.stop()
    seen = stats.snapshot()
    return {
        "frames/s flat out": flat_out,
        "received": seen.received,
        "published": seen.published,
        "age p50 ms": seen.age_ms.p50,
        "age p95 ms": seen.age_ms.p95,
        "memory growth %": growth,
    }


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


if __name__ == "__main__":
    main()
