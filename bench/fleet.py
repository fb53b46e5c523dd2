"""How evaluation scales with Ray workers, and how the memory of a worker grows with what it has done.

    python bench/fleet.py             240 images of 640x480 with FOUND and LOST: in this process, 1 worker, 2 workers
    python bench/fleet.py --smoke     seconds; shows that everything runs

Images per second count from the moment each worker has loaded its networks and done its first block; "with start" is
the whole command's work, the start of Ray and loading included. Memory is the most that a worker process was resident
with after its first and after its last block.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from harness import machine, write_json

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.evaluation.run import Evaluation, cut_shards
from objloc_ros.jobs.ray import Fleet, run_on_ray
from objloc_ros.jobs.shards import run_here
from objloc_ros.scenes.video import drive_video


@dataclass(frozen=True)
class Watched:
    """An evaluation whose worker tells after each block of images when it ended and how much memory it has had.

    Args:
        evaluation: What is done.
        notes: Folder with a file per process.
    """

    evaluation: Evaluation
    notes: Path

    def load(self) -> Any:
        """Load the networks."""
        return self.evaluation.load()

    def run(self, loaded: Any, block: tuple[int, int], target: Path) -> None:
        """Evaluate a block, and note its time and the memory of this process."""
        self.evaluation.run(loaded, block, target)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        note = {"images": block[1] - block[0], "at": time.time(), "peak_mb": peak_mb}
        with (self.notes / f"{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps(note) + "\n")


@dataclass(frozen=True)
class FleetRun:
    """One run.

    Args:
        method: What looked at the images.
        engine: Where.
        images_per_s: Once everything is loaded.
        with_start: Images per second from the command's beginning.
        first_mb: Most resident memory of a process after its first block, of the largest one.
        last_mb: The same after its last block.
    """

    method: str
    engine: str
    images_per_s: float
    with_start: float
    first_mb: float
    last_mb: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--methods", nargs="+", default=["found", "lost"])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    images, methods = (60, ["found"]) if args.smoke else (args.images, args.methods)
    about = machine()
    print(about)
    with tempfile.TemporaryDirectory() as scratch:
        write_images(Path(scratch, "ecssd"), images)
        rows = []
        for method in methods:
            for workers in (0, 1, 2):
                rows.append(measure(Path(scratch), method, workers))
                print(line(rows[-1]), flush=True)
    if args.json is not None:
        write_json(args.json, machine=about, images=images, rows=rows)


def write_images(root: Path, images: int) -> None:
    """A drive in the layout of ECSSD."""
    folders = root / "images", root / "ground_truth_mask"
    for folder in folders:
        folder.mkdir(parents=True)
    for number, (image, identities) in enumerate(drive_video(size=(480, 640), frames=images)):
        cv2.imwrite(str(folders[0] / f"{number:04}.jpg"), image[..., ::-1])
        cv2.imwrite(str(folders[1] / f"{number:04}.png"), ((identities > 0) * 255).astype("uint8"))


def measure(scratch: Path, method: str, workers: int) -> FleetRun:
    """Evaluate in this process (no workers) or on a local cluster."""
    evaluation = Evaluation("ecssd", scratch / "ecssd", PipelineConfig(methods=(method,)))
    folder, out = scratch / f"notes_{method}_{workers}", scratch / f"blocks_{method}_{workers}"
    folder.mkdir()
    watched, pieces = Watched(evaluation, folder), cut_shards(evaluation.open())
    started = time.time()
    outcome = run_on_ray(pieces, watched, out, Fleet(workers=workers)) if workers else run_here(pieces, watched, out)
    if outcome.failed:
        raise SystemExit(f"blocks failed: {outcome.failed}")
    workers_notes = [[json.loads(line) for line in path.read_text().splitlines()] for path in folder.iterdir()]
    ended = max(notes[-1]["at"] for notes in workers_notes)
    loaded = max(notes[0]["at"] for notes in workers_notes)
    after = sum(note["images"] for notes in workers_notes for note in notes if note["at"] > loaded)
    return FleetRun(
        method,
        f"Ray, {workers} worker{'s' * (workers > 1)}" if workers else "this process",
        after / (ended - loaded),
        sum(note["images"] for notes in workers_notes for note in notes) / (ended - started),
        max(notes[0]["peak_mb"] for notes in workers_notes),
        max(notes[-1]["peak_mb"] for notes in workers_notes),
    )


def line(row: FleetRun) -> str:
    """One row for people."""
    speed = f"{row.images_per_s:6.1f} images/s, with start {row.with_start:6.1f}"
    return f"{row.method:10} {row.engine:14} {speed}   peak {row.first_mb:5.0f} -> {row.last_mb:5.0f} MB"


if __name__ == "__main__":
    main()
