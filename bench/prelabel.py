"""How fast `objloc prelabel` is, and how its memory grows with the number of images, and the length of videos and bags.

    python bench/prelabel.py            640x480, FOUND: 50 and 500 images and frames; COCO alone, and every format
    python bench/prelabel.py --smoke    seconds; shows that everything runs

Each run is a process of its own, which does what a worker of a cluster does and joins the parts besides. Images per
second are those of the whole command, its start and the loading of the networks included.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bag import CAMERA, DIFFERENT, make_bag
from harness import machine, run_apart, write_json
from rosbags.rosbag2 import StoragePlugin

from objloc_ros.io.media import VideoWriter, write_image
from objloc_ros.scenes.video import drive_video

MOST_GROWTH_MB = 30.0
"""What the project aims at: megabytes for ten times the images."""


@dataclass(frozen=True)
class PrelabelRun:
    """One run.

    Args:
        kind: Of the input.
        export: What was written.
        images: How many.
        per_second: Of them.
        peak_mb: Most resident memory of the process.
    """

    kind: str
    export: str
    images: int
    per_second: float
    peak_mb: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", nargs="+", type=int, default=[50, 500])
    parser.add_argument("--method", default="found")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    counts, size = ([3, 6], (120, 160)) if args.smoke else (args.counts, (480, 640))
    about = machine()
    print(about)
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        for kind, export in itertools.product(("images", "video", "bag"), ("coco", "coco,rerun,foxglove")):
            for count in counts:
                source = make(kind, Path(scratch, f"{kind}_{count}"), count, size)
                rows.append(measure(source, kind, export, count, args.method))
                print(line(rows[-1]), flush=True)
            grown = rows[-1].peak_mb - rows[-len(counts)].peak_mb
            print(f"{kind:7} {export:20} grew by {round(grown)} MB; aim: less than {MOST_GROWTH_MB:g}", flush=True)
    if args.json is not None:
        write_json(args.json, machine=about, rows=rows)


def make(kind: str, path: Path, count: int, size: tuple[int, int]) -> Path:
    """Write the input, if it is not there yet: frames of a drive, over and over."""
    if path.exists():
        return path
    if kind == "bag":
        return make_bag(path, StoragePlugin.MCAP, count, size)
    path.mkdir()
    film = itertools.cycle([image for image, _ in drive_video(size=size, frames=DIFFERENT)])
    with VideoWriter(path / "drive.mp4", 15) as video:  # makes no file without frames
        for number, image in enumerate(itertools.islice(film, count)):
            if kind == "video":
                video.write(image)
            else:
                write_image(path / f"{number:06d}.jpg", image)
    return path


def measure(source: Path, kind: str, export: str, count: int, method: str) -> PrelabelRun:
    """Run the command in a process of its own."""
    with tempfile.TemporaryDirectory(dir=source.parent) as out:
        options = ["--method", method, "--export", export, "--device", "cpu"]
        options += ["--topics", CAMERA] if kind == "bag" else []
        seconds, peak_mb = run_apart("prelabel", str(source), "--out", out, *options)
        return PrelabelRun(kind, export, count, count / seconds, peak_mb)


def line(row: PrelabelRun) -> str:
    """One row for people."""
    return (
        f"{row.kind:7} {row.export:20} {row.images:6} images  {row.per_second:6.1f} images/s  "
        f"peak {row.peak_mb:6.0f} MB"
    )


if __name__ == "__main__":
    main()
