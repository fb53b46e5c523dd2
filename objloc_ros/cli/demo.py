"""`objloc demo`: a camera and nodes in processes of their own, over DDS, and a recording of what they say.

`found` outlines objects at the camera's rate; `segmentation` names them by nouns in what time is left.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros.bags.processes import (
    START_LIMIT_S,
    Child,
    ChildFailedError,
    handle_sigterm_as_interrupt,
    isolated_ros_domain,
    make_node_command,
)
from objloc_ros.bags.recorder import BackgroundWriter, Recorder, list_camera_topics
from objloc_ros.bags.writer import BagWriter
from objloc_ros.cli.demo_report import format_table, read_run, summarise, write_pictures
from objloc_ros.engine.prompts import check_prompts
from objloc_ros.errors import InputError
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.nodes.frame_sources import parse_size
from objloc_ros.types import DEFAULT_TEMPLATES, split_prompts

CAMERA = "/camera"
FOUND = (sys.executable, "-m", "objloc_ros.nodes.found")
SEGMENTATION = (sys.executable, "-m", "objloc_ros.nodes.segmentation")
SOURCE = (sys.executable, "-m", "objloc_ros.nodes.image_source")
QUIET_S = 1.5
"""How long to record after the last frame, in seconds: for late results, and the node's last diagnostics, which it
publishes once a second."""

NOUNS = (
    "person, astronaut, dog, cat, bird, horse, sheep, cow, car, truck, bus, bicycle, motorcycle, train, airplane, "
    "boat, rocket, chair, table, sofa, bottle, cup, bowl, plate, spoon, fruit, flower, tree, laptop, telephone, book, "
    "backpack, ball, drum, guitar, hat, shoe, lamp, clock, toy"
)
"""What the demo looks for in pictures until it is told otherwise."""

MIN_AREA = 0.005
"""Smallest region that is named, as a fraction of the frame."""

SPIN_S = 0.1
"""How long to wait for a message before the child processes are checked, in seconds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to show, how fast, and where results go."""
    parser.add_argument(
        "--source",
        default="photographs",
        help='"photographs" (of the package, under a moving camera), "scene" (a procedural drive with known truth), '
        "a picture, a folder of pictures, a video, or a webcam as 0 or /dev/video0 (default: %(default)s)",
    )
    parser.add_argument(
        "--prompts",
        metavar="TEXTS",
        help='names of objects, separated by commas; "" for none (default: ordinary nouns, none for a scene)',
    )
    parser.add_argument("--clip", default="lite_clip", metavar="NAME", help="knows the names (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("demo_output"), metavar="DIR", help="(default: %(default)s)")
    parser.add_argument("--frames", type=int, default=150, metavar="N", help="frames to publish (default: %(default)s)")
    parser.add_argument(
        "--rate", type=float, default=15.0, metavar="HZ", help="frames per second (default: %(default)s)"
    )
    parser.add_argument("--size", default="640x480", help="largest size of a frame (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the scene (default: %(default)s)")
    parser.add_argument("--backbone", default="tiny", metavar="NAME", help="(default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the content of demo.json, nothing else")


def run(args: argparse.Namespace) -> int:
    """Run the demo.

    Returns:
        0; 1 if one of its processes failed.

    Raises:
        InputError: An option is out of range or the output cannot be written.
        ParameterError: The prompts are refused.
    """
    if args.frames < 1 or not 0.1 <= args.rate <= 240:
        raise InputError(f"need at least 1 frame at 0.1 to 240 Hz, got {args.frames} at {args.rate}")
    parse_size(args.size)
    prompts = _choose_prompts(args)
    if prompts:
        check_prompts(args.clip, prompts, DEFAULT_TEMPLATES)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with handle_sigterm_as_interrupt():
            report = _run_demo(args, prompts)
    except ChildFailedError as error:
        print(sanitize_line(f"objloc demo: {error}"), file=sys.stderr)
        return 1
    except OSError as error:
        raise InputError(f"cannot write to {args.out}: {error}") from error
    print(json.dumps(report, indent=1) if args.json else _format_report(report))
    return 0


def _choose_prompts(args: argparse.Namespace) -> list[str]:
    text = args.prompts if args.prompts is not None else "" if args.source == "scene" else NOUNS
    return split_prompts(text) if text.strip() else []


def _run_demo(args: argparse.Namespace, prompts: Sequence[str]) -> dict[str, Any]:
    started = time.monotonic()
    bag = args.out / "bag"
    _record(args, prompts, bag)
    with _show_progress("writing the pictures"):
        run = read_run(bag, CAMERA)
        if not run.boxes:
            raise ChildFailedError(
                f"the found node published no detections for {args.frames} frames; its log: {args.out}/found.log"
            )
        nodes = f"found ({args.backbone})" + (f" and segmentation ({args.clip})" if prompts else "")
        title = f"objloc_ros: {nodes} on {Path(args.source).name}"
        sheet, video = write_pictures(bag, args.out, CAMERA, run, title)
    report = {
        "source": args.source,
        "backbone": args.backbone,
        **summarise(run, args.frames),
        "seconds": round(time.monotonic() - started, 1),
        "files": {
            "contact_sheet": str(sheet),
            "overlay": str(video),
            "bag": str(bag),
            "json": str(args.out / "demo.json"),
        },
    }
    (args.out / "demo.json").write_text(json.dumps(report, indent=1) + "\n")
    return report


def _record(args: argparse.Namespace, prompts: Sequence[str], bag: Path) -> None:
    """Run source and nodes and record them, until all frames have gone through."""
    commands = {"found": make_node_command(FOUND, CAMERA, {"backbone": args.backbone})}
    if prompts:
        networks = {"backbone": args.backbone, "clip": args.clip}
        parameters = {**networks, "prompts": prompts, "per_region": True, "min_area": MIN_AREA}
        commands["segmentation"] = make_node_command(SEGMENTATION, CAMERA, parameters)
    # Subscribers: the nodes, once they are ready, and the recorder.
    commands["image_source"] = _make_source_command(args, subscribers=len(commands) + 1)
    with ExitStack() as stack:
        stack.enter_context(isolated_ros_domain())
        *nodes, source = (
            stack.enter_context(Child(name, command, log=args.out / f"{name}.log"))
            for name, command in commands.items()
        )
        writer = stack.enter_context(BagWriter(bag, overwrite=True))
        writing = stack.enter_context(BackgroundWriter(writer.write_serialized))
        recorder = stack.enter_context(Recorder(list_camera_topics(CAMERA, named=bool(prompts)), writing.submit))
        bar = stack.enter_context(tqdm(total=args.frames, unit="frame", desc="starting", disable=None, leave=False))
        _record_until_done(args, source, nodes, recorder, bar)


def _record_until_done(
    args: argparse.Namespace, source: Child, nodes: Sequence[Child], recorder: Recorder, bar: tqdm[Any]
) -> None:
    started = time.monotonic()
    running_limit = 3 * args.frames / args.rate + 30
    first: float | None = None
    logs = ", ".join(str(child.log) for child in (*nodes, source))
    while source.running:
        recorder.spin(SPIN_S)
        for node in nodes:
            node.check()
        seen = recorder.counts[f"{CAMERA}/image"]
        if seen and first is None:
            first = time.monotonic()
            bar.set_description("recording")
        bar.update(min(seen, args.frames) - bar.n)
        bar.refresh()
        if first is None and time.monotonic() - started > START_LIMIT_S:
            raise ChildFailedError(f"no frame within {START_LIMIT_S:.0f} s; logs: {logs}")
        if first is not None and time.monotonic() - first > running_limit:
            raise ChildFailedError(f"still not done after {running_limit:.0f} s; logs: {logs}")
    source.check(may_end=True)
    end = time.monotonic() + QUIET_S
    while time.monotonic() < end:
        recorder.spin(SPIN_S)
        for node in nodes:
            node.check()


def _make_source_command(args: argparse.Namespace, *, subscribers: int) -> list[str]:
    parameters = {name: getattr(args, name) for name in ("source", "rate", "size", "seed", "frames")}
    return make_node_command(SOURCE, CAMERA, parameters | {"wait_for_subscribers": subscribers})


@contextmanager
def _show_progress(text: str) -> Iterator[None]:
    with tqdm(desc=text, bar_format="{desc} ({elapsed})", disable=None, leave=False):
        yield


def _format_report(report: dict[str, Any]) -> str:
    files = "\n".join(f"  {path}" for path in report["files"].values())
    return f"{format_table(report)}\n\nwrote, after {report['seconds']:.0f} s in all:\n{files}"
