"""What `objloc bag` takes beyond the pipeline, and how its memory grows with a bag's length.

    python bench/bag.py            640x480, mcap and sqlite3, 100 and 1000 frames, with and without truth
    python bench/bag.py --smoke    seconds; shows that everything runs

Each run is a process of its own. "beyond" is the time of everything, the first reading of the bag, decoding, truth,
scores and written answers included, over that inside the pipeline; without loading the networks.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builtin_interfaces.msg import Time
from harness import machine, run_apart, write_json
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from objloc_ros.bags.writer import format_type_name, register_type
from objloc_ros.nodes.conversions import mask_to_image, rgb_to_image
from objloc_ros.scenes.video import drive_video

CAMERA, TRUTH = "/front/image", "/front/image_source/truth"
DIFFERENT = 30
"""Frames that are made; longer bags repeat them."""

STEP_NS = 66_666_667
MOST_BEYOND, MOST_GROWTH_MB = 0.10, 20.0
"""What the project aims at: overhead, and megabytes for ten times the length."""


@dataclass(frozen=True)
class BagRun:
    """One run.

    Args:
        bag: Container and length.
        methods: What looked at the frames.
        truth: Whether the answers were scored.
        frames: How many.
        pipeline_ms: Of a frame.
        beyond: Everything else, as a part of that.
        peak_mb: Most resident memory of the process.
    """

    bag: str
    methods: str
    truth: bool
    frames: int
    pipeline_ms: float
    beyond: float
    peak_mb: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", nargs="+", type=int, default=[100, 1000])
    parser.add_argument("--methods", nargs="+", default=["found"])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    lengths, size = ([5, 20], (120, 160)) if args.smoke else (args.lengths, (480, 640))
    about = machine()
    print(about)
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        for plugin, length in itertools.product((StoragePlugin.MCAP, StoragePlugin.SQLITE3), lengths):
            bag = make_bag(Path(scratch, f"{plugin.name.lower()}_{length}"), plugin, length, size)
            for methods, truth in itertools.product(args.methods, (False, True)):
                rows.append(measure(bag, methods, truth))
                print(line(rows[-1]), flush=True)
    growth = max(r.peak_mb for r in rows) - min(r.peak_mb for r in rows if r.frames == min(lengths))
    print(f"aims: beyond < {MOST_BEYOND:.0%}; growth of memory < {MOST_GROWTH_MB:g} MB, at most {growth:.0f} MB here")
    if args.json is not None:
        write_json(args.json, machine=about, rows=rows)


def make_bag(path: Path, plugin: StoragePlugin, length: int, size: tuple[int, int]) -> Path:
    """Write a drive of raw images and its truth."""
    writer, store = Writer(path, version=8, storage_plugin=plugin), get_typestore(Stores.EMPTY)
    if plugin is StoragePlugin.MCAP:
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    register_type(store, Image)
    with writer:
        topics = {
            name: writer.add_connection(name, format_type_name(Image), typestore=store) for name in (CAMERA, TRUTH)
        }
        for recorded_ns, topic, message in frames(length, size):
            writer.write(topics[topic], recorded_ns, serialize_message(message))
    return path


def frames(length: int, size: tuple[int, int]) -> Iterator[tuple[int, str, Image]]:
    """Images and truth with times of recording."""
    film = itertools.cycle(list(drive_video(size=size, frames=DIFFERENT)))
    for number, (image, identities) in enumerate(itertools.islice(film, length)):
        stamp = 10**12 + number * STEP_NS
        header = Header(stamp=Time(sec=stamp // 10**9, nanosec=stamp % 10**9), frame_id="front")
        yield stamp, CAMERA, rgb_to_image(image, header)
        yield stamp + 1, TRUTH, mask_to_image(identities, header)


def measure(bag: Path, methods: str, truth: bool) -> BagRun:
    """Run the command in a process of its own."""
    with tempfile.TemporaryDirectory(dir=bag.parent) as out:
        judged = ["--truth", TRUTH] if truth else []
        _, peak_mb = run_apart("bag", str(bag), "--out", out, "--method", methods, *judged)
        timing = json.loads(Path(out, bag.name, "timing.json").read_text())
    pipeline_ms = 1e3 * timing["pipeline_seconds"] / timing["frames"]
    return BagRun(bag.name, methods, truth, timing["frames"], pipeline_ms, timing["overhead"], peak_mb)


def line(row: BagRun) -> str:
    """One row for people."""
    judged = "with truth" if row.truth else "no truth"
    return (
        f"{row.bag:14} {row.methods:16} {judged:11} {row.frames:5} frames  pipeline {row.pipeline_ms:6.1f} ms  "
        f"beyond {row.beyond:6.1%}  peak {row.peak_mb:6.0f} MB"
    )


if __name__ == "__main__":
    main()
