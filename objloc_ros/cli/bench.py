"""`objloc bench`: how long each stage of a frame takes, for combinations of methods, backbones, sizes and devices."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import cv2
import torch
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from objloc_ros.benchmark.cases import EngineOnly, NodeStages, make_matrix
from objloc_ros.benchmark.report import draw, format_markdown, format_text
from objloc_ros.benchmark.results import BenchmarkRun, Comparison, check_machines, compare, describe_machine, read_run
from objloc_ros.benchmark.run import architecture, measure
from objloc_ros.cli.missing import describe_missing
from objloc_ros.engine.backbone import resolve_device
from objloc_ros.engine.config import HEADS
from objloc_ros.errors import InputError, ObjlocError, ParameterError
from objloc_ros.io.media import write_image
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Size

T = TypeVar("T")

FULL = {
    "methods": "found,lost,tokencut,deep_spectral,maskcut,detector,clip_diy,maskclip,clip_dinoiser",
    "backbones": "tiny",
    "sizes": "640x480,1280x720",
    "batches": "1,4",
    "cameras": "1,4",
    "devices": "cpu",
    "rounds": "11",
}
"""Default axes: five to ten minutes on two cores."""

SMOKE = FULL | {
    "methods": "found,lost,maskclip",
    "sizes": "96x64",
    "batches": "1,2",
    "cameras": "1,2",
    "rounds": "3",
}
"""Axes of --smoke: some seconds, to show that everything runs."""

HELP = {
    "methods": f"of {', '.join(HEADS)}",
    "backbones": "names in the weights registry; random:NAME for the architecture with random weights",
    "sizes": "of the camera's images, width x height",
    "batches": "images in one call",
    "cameras": "cameras that share the engine, each with a thread",
    "devices": "cpu, cuda or cuda:N",
    "rounds": "how often everything is measured",
}

MAX_VALUE = 4096
"""Greatest side, batch and number of rounds or cameras."""

EXIT_REGRESSED = 3
"""Exit status when something has become slower than in the saved run."""

CAMERA_FRAMES = 4
"""Frames of a procedural drive that a camera sends in turn."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the matrix, the machine's settings, output and comparison."""
    add_axes(parser)
    parser.add_argument(
        "--clip", default="tiny_clip", metavar="NAME", help="CLIP model, also random:NAME (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="threads of an operation (default: torch's choice)")
    parser.add_argument("--smoke", action="store_true", help="a small matrix, seconds; other options still hold")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("objloc_bench"),
        metavar="DIR",
        help="folder for bench.json, bench.md and bench.png (default: %(default)s)",
    )
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="a saved run; status 3 if this one is slower")
    parser.add_argument(
        "--margin-floor",
        type=float,
        default=0.05,
        metavar="PART",
        help="smallest part of a median that counts as slower, however little the rounds vary (default: %(default)s)",
    )
    parser.add_argument("--any-machine", action="store_true", help="compare with a run of another machine")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    shown.add_argument("--json", action="store_true", help="print the content of bench.json, nothing else")


def run(args: argparse.Namespace) -> int:
    """Measure, write, print and compare.

    Returns:
        0; 3 if something has become slower.

    Raises:
        InputError: The saved run cannot be read or the output cannot be written.
        ParameterError: An option is out of range, a device is not there, nothing can be measured, or the saved run
            is of another machine.
    """
    if args.threads is not None and not 1 <= args.threads <= MAX_VALUE:
        raise ParameterError(f"threads must lie in 1..{MAX_VALUE}, got {args.threads}")
    if not args.margin_floor >= 0:
        raise ParameterError(f"the margin must be at least 0, got {args.margin_floor}")
    axes = complete_axes(args)
    devices = parse_devices(axes["devices"])
    before = None if args.compare is None else read_run(args.compare)
    with _limit_threads(args.threads):
        facts = describe_machine(_name_gpus(devices))
        if before is not None:
            check_machines(before.machine, facts, any_machine=args.any_machine)
        done = _measure(axes, devices, facts, args)
    compared = None
    if before is not None:
        compared = compare(before, done, margin_floor=args.margin_floor, any_machine=args.any_machine)
    _write(args.out, done, compared)
    _print(done, compared, args)
    return EXIT_REGRESSED if compared is not None and compared.regressions else 0


def _measure(
    axes: Mapping[str, str], devices: list[str], facts: dict[str, Any], args: argparse.Namespace
) -> BenchmarkRun:
    sizes = parse_sizes(axes["sizes"])
    rounds = parse_numbers(axes["rounds"], "rounds")
    if len(rounds) > 1:
        raise ParameterError(f"rounds must be one number, got {axes['rounds']!r}")
    cases, skipped = make_matrix(
        methods=parse_methods(axes["methods"]),
        backbones=parse_backbones(axes["backbones"]),
        sizes=sizes,
        batches=parse_numbers(axes["batches"], "batches"),
        cameras=parse_numbers(axes["cameras"], "cameras"),
        devices=devices,
    )
    total = (rounds[0] + 1) * len(cases)
    bar = tqdm(total=total, leave=False, disable=True if args.json else None)
    with _open_nodes(sizes) as (nodes, left_out), bar:
        result = measure(cases, nodes, rounds=rounds[0], clip=args.clip, progress=bar.update)
    return BenchmarkRun(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=_spell_command(axes, facts["threads"], args.clip),
        machine=facts,
        rows=result.rows,
        skipped=[*skipped, *result.skipped],
        left_out=left_out,
        rates=result.rates.to_json(),
    )


@contextmanager
def _limit_threads(count: int | None) -> Iterator[None]:
    """Let torch, OpenCV and NumPy's BLAS use this many threads inside the block."""
    torch_before, cv2_before = torch.get_num_threads(), cv2.getNumThreads()
    count = torch_before if count is None else count
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        with threadpool_limits(count, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(torch_before)
        cv2.setNumThreads(cv2_before)


@contextmanager
def _open_nodes(sizes: Sequence[Size]) -> Iterator[tuple[dict[Size, NodeStages], list[str]]]:
    """Make the node's stages for each size, as far as there is ROS; and say in words what is missing."""
    frames = {size: [image for image, _ in drive_video(size=size, frames=CAMERA_FRAMES)] for size in sizes}
    try:
        from objloc_ros.benchmark.ros import Loopback, RosStages
    except ImportError as error:
        yield {size: EngineOnly(images) for size, images in frames.items()}, [f"decode, message and publish: {error}"]
        return
    with ExitStack() as stack:
        send, left_out = None, []
        try:
            loopback = Loopback()
        except ObjlocError as error:
            left_out.append(f"publish: {error}")
        else:
            stack.callback(loopback.close)
            send = loopback.send
        yield {size: RosStages(images, send) for size, images in frames.items()}, left_out


def _name_gpus(devices: Sequence[str]) -> str | None:
    """Return the names of the GPUs that are measured."""
    names = [torch.cuda.get_device_name(torch.device(device)) for device in devices if device != "cpu"]
    return ", ".join(dict.fromkeys(names)) or None


def _spell_command(axes: Mapping[str, str], threads: int, clip: str) -> str:
    """Return the command that measures the same, with every default spelled out."""
    words = ["objloc", "bench", *(word for name, text in axes.items() for word in (f"--{name}", text))]
    return shlex.join([*words, "--clip", clip, "--threads", str(threads)])


def _write(folder: Path, done: BenchmarkRun, compared: Comparison | None) -> None:
    """Write the three files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_text(json.dumps(_to_json(done, compared), indent=1) + "\n")
        (folder / "bench.md").write_text(format_markdown(done) + "\n")
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        write_image(folder / "bench.png", draw(done))
    except ImportError as error:
        print(f"objloc: no bench.png: it needs {describe_missing(error.name or 'matplotlib')}", file=sys.stderr)


def _print(done: BenchmarkRun, compared: Comparison | None, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(_to_json(done, compared), indent=1))
        return
    print(format_markdown(done) if args.markdown else format_text(done))
    if not args.markdown:
        print(f"\nbench.json, bench.md and bench.png in {args.out}")
    if compared is not None:
        print("\n".join(compared.lines()), file=sys.stderr if args.markdown else sys.stdout)


def _to_json(done: BenchmarkRun, compared: Comparison | None) -> dict[str, Any]:
    return done.to_json() | ({} if compared is None else {"comparison": compared.to_json()})


def add_axes(parser: argparse.ArgumentParser) -> None:
    """Declare the axes, whose defaults depend on --smoke."""
    for name, text in HELP.items():
        metavar = "N" if name == "rounds" else "LIST"
        parser.add_argument(f"--{name}", metavar=metavar, help=f"{text} (default: {FULL[name]})")


def complete_axes(args: argparse.Namespace) -> dict[str, str]:
    """Return the list of each axis, as given or by default."""
    defaults = SMOKE if args.smoke else FULL
    given = {name: getattr(args, name) for name in defaults}
    return {name: defaults[name] if text is None else text for name, text in given.items()}


def parse_methods(text: str) -> list[str]:
    """Split a list of methods.

    Raises:
        ParameterError: A method is unknown or named twice.
    """
    return _split(text, "methods", lambda name: _check_known(name, "method", list(HEADS)))


def parse_backbones(text: str) -> list[str]:
    """Split a list of backbones; ParameterError if one is unknown or named twice."""

    def check(name: str) -> str:
        architecture(name)
        return name

    return _split(text, "backbones", check)


def parse_sizes(text: str) -> list[Size]:
    """Split a list of sizes such as 640x480 into heights and widths; ParameterError if one has another form."""

    def parse(size: str) -> Size:
        sides = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", size)
        if sides is None or max(int(sides[1]), int(sides[2])) > MAX_VALUE:
            raise ParameterError(f"sizes must look like 640x480, with sides from 1 to {MAX_VALUE}, got {size!r}")
        return int(sides[2]), int(sides[1])

    return _split(text, "sizes", parse)


def parse_numbers(text: str, name: str) -> list[int]:
    """Split a list of numbers from 1 to `MAX_VALUE`; ParameterError if one is something else."""

    def parse(number: str) -> int:
        if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= MAX_VALUE:
            raise ParameterError(f"{name} must be numbers from 1 to {MAX_VALUE}, got {number!r}")
        return int(number)

    return _split(text, name, parse)


def parse_devices(text: str) -> list[str]:
    """Split a list of devices.

    Raises:
        ParameterError: A device is missing; the message names those that are present.
    """
    present = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]

    def resolve(device: str) -> str:
        try:
            return str(resolve_device(device))
        except ParameterError as error:
            raise ParameterError(f"{error}; this machine has {', '.join(present)}") from error

    return _split(text, "devices", resolve)


def _split(text: str, name: str, read: Callable[[str], T]) -> list[T]:
    """Split at commas and read every part."""
    values = [read(part.strip()) for part in text.split(",")]
    if len(set(values)) != len(values):
        raise ParameterError(f"{name} must be different, got {text!r}")
    return values


def _check_known(name: str, what: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ParameterError(f"unknown {what} {name!r}; known: {', '.join(names)}")
    return name
