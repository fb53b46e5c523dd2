"""Latency from outside: camera stamp to detections received, in other processes over DDS, for one camera and for many.

    python bench/latency.py            1, 2, 4, 8 cameras of 640x480 and 1280x720 at 15 Hz, in one process
    python bench/latency.py --layouts shared separate --cameras 4 --rate 30     beside one process for each camera
    python bench/latency.py --methods found discovery ...    with slow nodes beside
    python bench/latency.py --smoke    seconds; shows that everything runs

Cameras, nodes and this listener are processes of their own. Every frame carries its number, so that drops are counted.
CPU and memory are those of the node processes; memory is proportional (PSS), so that libraries count once.
"""

from __future__ import annotations

import argparse
import os
import re
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from harness import machine, write_json
from vision_msgs.msg import Detection2DArray

from objloc_ros.bags.processes import Child, ChildFailedError
from objloc_ros.bags.recorder import RecordedTopic, Recorder
from objloc_ros.engine.frame_stats import percentiles
from objloc_ros.nodes.messages import serialized_stamp_ns
from objloc_ros.nodes.qos import make_fast_dds_environment

LAYOUTS = ("shared", "separate", "separate, one thread each")
START_LIMIT_S = 180.0


@dataclass(frozen=True)
class CameraSetup:
    """One row of the table.

    Args:
        layout: One of `LAYOUTS`.
        cameras: How many.
        width: Pixels.
        height: Pixels.
        rate: Frames per second of each camera.
        seconds: How long to measure.
        methods: Nodes of each camera, found first; latencies are found's.
    """

    layout: str
    cameras: int
    width: int
    height: int
    rate: float
    seconds: float
    methods: tuple[str, ...]


@dataclass
class Heard:
    """What came back of one camera: arrival minus stamp of each answer, milliseconds, and the frames' numbers."""

    latencies_ms: list[float] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def note(self, data: bytes, time_ns: int) -> None:
        """Read the header of a serialised Detection2DArray: CDR preamble, stamp, frame_id."""
        (length,) = struct.unpack_from("<I", data, 12)
        self.latencies_ms.append((time_ns - serialized_stamp_ns(data)) / 1e6)
        self.numbers.append(int(data[16 : 16 + length - 1]))


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=["shared"])
    parser.add_argument("--cameras", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--methods", nargs="+", choices=("found", "discovery"), default=["found"])
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1280x720"])
    parser.add_argument("--rate", type=float, default=15.0, help="of each camera, Hz (default: 15)")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured per row (default: 20)")
    parser.add_argument("--smoke", action="store_true", help="one short row per layout")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    args = parser.parse_args()
    if args.smoke:
        args.layouts, args.cameras, args.sizes, args.seconds = LAYOUTS[:2], [2], ["640x480"], 2.0
    os.environ.update(make_fast_dds_environment(), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    print(machine())
    print(f"{'':40}{'p50':>8}{'p95':>8}{'p99':>8}{'answered':>10}{'in all':>12}{'CPU':>7}{'memory':>12}{'others':>10}")
    rows = []
    for size in args.sizes:
        width, height = (int(side) for side in size.split("x"))
        for cameras in args.cameras:
            for layout in args.layouts:
                case = CameraSetup(layout, cameras, width, height, args.rate, args.seconds, tuple(args.methods))
                rows.append(measure(case))
                print(line(case, rows[-1]), flush=True)
    if args.json:
        write_json(args.json, machine=machine(), rows=rows)


def measure(case: CameraSetup) -> dict[str, float | str]:
    """Start everything, wait until each camera is answered, measure, and take everything down."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + (os.getpid() + time.monotonic_ns()) % 100)
    heard = {f"/camera{i}/{method}/detections": Heard() for method in case.methods for i in range(case.cameras)}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nodes = [stack.enter_context(child) for child in node_processes(case, folder)]
        command = [sys.executable, str(Path(__file__).with_name("cameras.py"))]
        command += [str(word) for word in (case.cameras, case.rate, case.width, case.height)]
        stack.enter_context(Child("cameras", command, log=folder / "cameras.log"))
        taps = [RecordedTopic(topic, Detection2DArray) for topic in heard]
        listener = Recorder(taps, lambda topic, _kind, data, time_ns: heard[topic].note(data, time_ns))
        stack.enter_context(listener)
        end = time.monotonic() + START_LIMIT_S
        while min(len(topic.numbers) for topic in heard.values()) < 5:
            listen(listener, nodes, 0.2)
            if time.monotonic() > end:
                raise ChildFailedError(f"not every camera was answered within {START_LIMIT_S:.0f} s")
        listen(listener, nodes, 2.0)
        for topic in heard.values():
            topic.latencies_ms.clear()
            topic.numbers.clear()
        start, cpu = time.monotonic(), cpu_s(nodes)
        listen(listener, nodes, case.seconds)
        return summarise(heard, time.monotonic() - start, cpu_s(nodes) - cpu, memory_mib(nodes))


def node_processes(case: CameraSetup, folder: Path) -> Iterator[Child]:
    """One `perception` for all cameras, or a `found` for each."""
    if case.layout == "shared":
        names = [f"camera{i}" for i in range(case.cameras)]
        command = [sys.executable, "-m", "objloc_ros.nodes.perception", "--ros-args", "-p", f"cameras:={names}"]
        command += ["-p", f"methods:={list(case.methods)}"]
        yield Child("perception", command, log=folder / "perception.log")
        return
    env = {"OMP_NUM_THREADS": "1"} if "one thread" in case.layout else {}
    for i in range(case.cameras):
        remaps = ["-r", f"__ns:=/camera{i}", "-r", f"image:=/camera{i}/image_raw"]
        for method in case.methods:
            command = [sys.executable, "-m", f"objloc_ros.nodes.{method}", "--ros-args", *remaps]
            yield Child(f"{method}{i}", command, log=folder / f"{method}{i}.log", env=env)


def listen(listener: Recorder, nodes: list[Child], seconds: float) -> None:
    """Hear for a while, and notice nodes that die."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        listener.spin(0.05)
        for node in nodes:
            node.check()


def summarise(heard: dict[str, Heard], seconds: float, cpu: float, memory: float) -> dict[str, float | str]:
    """Compute the figures of one row."""
    others = sum(len(frames.numbers) for topic, frames in heard.items() if "/found/" not in topic)
    found = [frames for topic, frames in heard.items() if "/found/" in topic]
    latencies = np.concatenate([frames.latencies_ms for frames in found])
    sent = sum(frames.numbers[-1] - frames.numbers[0] + 1 for frames in found)
    answered = sum(len(frames.numbers) for frames in found)
    return {
        **{f"{name}_ms": value for name, value in percentiles(latencies).items()},
        "sent": sent,
        "answered": answered,
        "frames_per_s": answered / seconds,
        "cpu": cpu / seconds,
        "memory_mib": memory,
        "others_per_s": others / seconds,
    }


def line(case: CameraSetup, row: dict[str, float | str]) -> str:
    """A row of the table."""
    name = f"{case.cameras} x {case.width}x{case.height} at {case.rate:g} Hz, {case.layout}"
    times = "".join(f"{row[key]:6.0f}ms" for key in ("p50_ms", "p95_ms", "p99_ms"))
    share = f"{100 * float(row['answered']) / float(row['sent']):8.1f} %"
    rates = f"{row['frames_per_s']:8.1f} /s{row['cpu']:7.2f}{row['memory_mib']:8.0f} MiB{row['others_per_s']:7.1f} /s"
    return f"{name:40}{times}{share}{rates}"


def cpu_s(nodes: list[Child]) -> float:
    """Processor seconds of all threads so far."""
    ticks = 0
    for node in nodes:
        fields = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mib(nodes: list[Child]) -> float:
    """Memory of all processes, shared pages counted once (PSS)."""
    rollups = (Path(f"/proc/{node.pid}/smaps_rollup").read_text() for node in nodes)
    return sum(int(re.search(r"^Pss: +(\d+) kB", text, re.M).group(1)) for text in rollups) / 1024  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
