"""Whether discovery slows found down: both nodes on one camera, and found's frames and ages without and with it.

    python bench/beside.py            300 frames at 15 Hz, three times
    python bench/beside.py --smoke    seconds; shows that everything runs

Camera, nodes and this listener are processes of their own, over DDS. Nothing is asserted about time.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import machine
from rclpy.serialization import deserialize_message
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

from objloc_ros.bags.processes import Child, ChildFailedError
from objloc_ros.bags.recorder import RecordedTopic, Recorder
from objloc_ros.engine.frame_stats import percentiles
from objloc_ros.nodes.qos import make_fast_dds_environment

CAMERA = "/camera"

CASES: dict[str, tuple[str, ...] | None] = {
    "found alone": None,
    "found beside discovery": (),
    "found beside discovery, idle_priority:=false": ("-p", "idle_priority:=false"),
}
"""Arguments of the discovery node, if there is one."""

START_LIMIT_S = 120.0


def main() -> None:
    """Run every case and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="ten frames per case")
    parser.add_argument("--rate", type=float, default=15.0, help="of the camera, Hz (default: 15)")
    args = parser.parse_args()
    frames = 10 if args.smoke else 300
    os.environ.update(make_fast_dds_environment(), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    print(f"{machine()}; {frames} frames of 640x480 at {args.rate:g} Hz")
    print(f"{'':44}{'answered':>10}{'age p50':>10}{'p95':>8}{'discovery answered':>21}")
    for number, (name, options) in enumerate(CASES.items(), start=1):
        os.environ["ROS_DOMAIN_ID"] = str(1 + (os.getpid() + number) % 100)
        ages, followed = measure(options, frames, args.rate)
        p50, p95 = percentiles(ages, (50, 95)).values() if ages else (math.nan, math.nan)
        beside = "" if options is None else str(followed)
        print(f"{name:44}{len(ages):10}{p50:7.0f} ms{p95:5.0f} ms{beside:>21}", flush=True)


def measure(options: Sequence[str] | None, frames: int, rate: float) -> tuple[list[float], int]:
    """Ages of found's results in milliseconds, and the number of discovery's results."""
    heard: dict[str, list[bytes]] = {}
    age, objects = (
        RecordedTopic(f"{CAMERA}/found/debug/age_ms", Float32),
        RecordedTopic(f"{CAMERA}/discovery/detections", Detection2DArray),
    )
    taps = (age, objects, RecordedTopic(f"{CAMERA}/found/detections", Detection2DArray))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        nodes = [stack.enter_context(_child(folder, "found"))]
        if options is not None:
            nodes.append(stack.enter_context(_child(folder, "discovery", *options)))
        camera = _child(
            folder, "image_source", "-p", f"frames:={frames}", "-p", f"rate:={rate}",
            "-p", f"wait_for_subscribers:={len(nodes)}",
        )  # fmt: skip
        source = stack.enter_context(camera)
        listener = Recorder(taps, lambda topic, _kind, data, _time: heard.setdefault(topic, []).append(data))
        _listen(stack.enter_context(listener), source, nodes, limit_s=START_LIMIT_S + 3 * frames / rate)
    ages = [float(deserialize_message(data, Float32).data) for data in heard.get(age.topic, [])]
    return ages, len(heard.get(objects.topic, []))


def _listen(listener: Recorder, source: Child, nodes: Sequence[Child], limit_s: float) -> None:
    """Hear until the camera has sent its last frame, and two seconds more."""
    end = time.monotonic() + limit_s
    while source.running:
        listener.spin(0.05)
        for node in nodes:
            node.check()
        if time.monotonic() > end:
            raise ChildFailedError(f"not done after {limit_s:.0f} s")
    source.check(may_end=True)
    end = time.monotonic() + 2
    while time.monotonic() < end:
        listener.spin(0.05)


def _child(folder: Path, name: str, *options: Any) -> Child:
    command = [sys.executable, "-m", f"objloc_ros.nodes.{name}", "--ros-args", "-r", f"__ns:={CAMERA}", *options]
    return Child(name, command, log=folder / f"{name}.log")


if __name__ == "__main__":
    main()
