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

from objloc_ros.benchmark.cases import BareEnds, Ends, matrix
from objloc_ros.benchmark.report import markdown, picture, text_table
from objloc_ros.benchmark.results import Comparison, Run, check_machines, compare, machine, read_run
from objloc_ros.benchmark.run import architecture, measure
from objloc_ros.engine.backbone import resolve_device
from objloc_ros.engine.loader import HEADS
from objloc_ros.errors import InputError, ObjlocError, ParameterError
from objloc_ros.io.media import write_image
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Size

T = TypeVar("T")

FULL = {
    "methods": "found,lost,tokencut,deep_spectral,maskcut,clip_diy,maskclip,clip_dinoiser",
    "backbones": "tiny",
    "sizes": "640x480,1280x720",
    "batches": "1,4",
    "cameras": "1,4",
    "devices": "cpu",
    "rounds": "11",
}
"""What is measured unless something else is said: five to ten minutes on two cores."""

SMOKE = FULL | {
    "methods": "found,lost,maskclip",
    "sizes": "96x64",
    "batches": "1,2",
    "cameras": "1,2",
    "rounds": "3",
}
"""What --smoke measures: some seconds, to show that everything runs."""

HELP = {
    "methods": f"of {', '.join(HEADS)}",
    "backbones": "names in the weights registry; random:NAME for the architecture with random weights",
    "sizes": "of the camera's images, width x height",
    "batches": "images in one call",
    "cameras": "cameras that share the engine, each with a thread",
    "devices": "cpu, cuda or cuda:N",
    "rounds": "how often everything is measured",
}

MOST = 4096
"""Largest side, batch and number of rounds or cameras."""


def add_axes(parser: argparse.ArgumentParser) -> None:
    """Declare the axes, whose defaults depend on --smoke."""
    for name, text in HELP.items():
        metavar = "N" if name == "rounds" else "LIST"
        parser.add_argument(f"--{name}", metavar=metavar, help=f"{text} (default: {FULL[name]})")


def chosen_axes(args: argparse.Namespace) -> dict[str, str]:
    """What holds for each axis."""
    defaults = SMOKE if args.smoke else FULL
    given = {name: getattr(args, name) for name in defaults}
    return {name: defaults[name] if text is None else text for name, text in given.items()}


def methods_of(text: str) -> list[str]:
    """Split a list of methods.

    Raises:
        ParameterError: If one is unknown or named twice.
    """
    return _each(text, "methods", lambda name: _known(name, "method", list(HEADS)))


def backbones_of(text: str) -> list[str]:
    """Split a list of backbones; ParameterError if one is unknown or named twice."""

    def known(name: str) -> str:
        architecture(name)
        return name

    return _each(text, "backbones", known)


def sizes_of(text: str) -> list[Size]:
    """Split a list of sizes such as 640x480 into heights and widths; ParameterError if one has another form."""

    def size(one: str) -> Size:
        found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", one)
        if found is None or max(int(found[1]), int(found[2])) > MOST:
            raise ParameterError(f"sizes must look like 640x480, with sides from 1 to {MOST}, got {one!r}")
        return int(found[2]), int(found[1])

    return _each(text, "sizes", size)


def numbers_of(text: str, name: str) -> list[int]:
    """Split a list of numbers from 1 to `MOST`; ParameterError if one is something else."""

    def number(one: str) -> int:
        if not one.isascii() or not one.isdigit() or not 1 <= int(one) <= MOST:
            raise ParameterError(f"{name} must be numbers from 1 to {MOST}, got {one!r}")
        return int(one)

    return _each(text, name, number)


def devices_of(text: str) -> list[str]:
    """Split a list of devices.

    Raises:
        ParameterError: If one is not there; the message names those that are.
    """
    there = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]

    def device(one: str) -> str:
        try:
            return str(resolve_device(one))
        except ParameterError as error:
            raise ParameterError(f"{error}; this machine has {', '.join(there)}") from error

    return _each(text, "devices", device)


def _each(text: str, name: str, read: Callable[[str], T]) -> list[T]:
    """Split at commas and read every part."""
    values = [read(part.strip()) for part in text.split(",")]
    if len(set(values)) != len(values):
        raise ParameterError(f"{name} must be different, got {text!r}")
    return values


def _known(name: str, what: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ParameterError(f"unknown {what} {name!r}; known: {', '.join(names)}")
    return name


REGRESSED = 3
"""Exit status when something has become slower than in the saved run."""

PICTURES = 4
"""Frames of a procedural drive that a camera sends in turn."""

Send = Callable[[Sequence[Any]], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the matrix, the machine's settings, output and comparison."""
    add_axes(parser)
    parser.add_argument("--clip", default="tiny_clip", metavar="NAME", help="CLIP model (default: %(default)s)")
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
    """Measure, write, print and compare; 3 if something has become slower.

    Raises:
        InputError: If the saved run cannot be read or the output cannot be written.
        ParameterError: If an option is out of range, a device is not there, nothing can be measured, or the saved run
            is of another machine.
    """
    if args.threads is not None and not 1 <= args.threads <= MOST:
        raise ParameterError(f"threads must lie in 1..{MOST}, got {args.threads}")
    if not args.margin_floor >= 0:
        raise ParameterError(f"the margin must be at least 0, got {args.margin_floor}")
    axes = chosen_axes(args)
    devices = devices_of(axes["devices"])
    before = None if args.compare is None else read_run(args.compare)
    with _threads(args.threads):
        facts = machine(_gpus(devices))
        if before is not None:
            check_machines(before.machine, facts, any_machine=args.any_machine)
        done = _measured(axes, devices, facts, args)
    compared = None
    if before is not None:
        compared = compare(before, done, margin_floor=args.margin_floor, any_machine=args.any_machine)
    _write(args.out, done, compared)
    _print(done, compared, args)
    return REGRESSED if compared is not None and compared.regressions else 0


def _measured(axes: Mapping[str, str], devices: list[str], facts: dict[str, Any], args: argparse.Namespace) -> Run:
    sizes = sizes_of(axes["sizes"])
    rounds = numbers_of(axes["rounds"], "rounds")
    if len(rounds) > 1:
        raise ParameterError(f"rounds must be one number, got {axes['rounds']!r}")
    cells, skipped = matrix(
        methods=methods_of(axes["methods"]),
        backbones=backbones_of(axes["backbones"]),
        sizes=sizes,
        batches=numbers_of(axes["batches"], "batches"),
        cameras=numbers_of(axes["cameras"], "cameras"),
        devices=devices,
    )
    total = (rounds[0] + 1) * len(cells)
    bar = tqdm(total=total, leave=False, disable=True if args.json else None)
    with _ends(sizes) as (ends, left_out), bar:
        result = measure(cells, ends, rounds=rounds[0], clip=args.clip, progress=bar.update)
    return Run(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=_command(axes, facts["threads"], args.clip),
        machine=facts,
        rows=result.rows,
        skipped=[*skipped, *result.skipped],
        left_out=left_out,
        rates=result.rates.listed(),
    )


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch, OpenCV and NumPy's BLAS use so many threads."""
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
def _ends(sizes: Sequence[Size]) -> Iterator[tuple[dict[Size, Ends], list[str]]]:
    """The ends of frames of each size, as far as there is ROS, and what is missing, in words."""
    frames = {size: [image for image, _ in drive_video(size=size, frames=PICTURES)] for size in sizes}
    with ExitStack() as stack:
        try:
            from objloc_ros.benchmark.ros import RosEnds
        except ImportError as error:
            left_out = [f"decode, message and publish: {error}"]
            bare: dict[Size, Ends] = {size: BareEnds(images) for size, images in frames.items()}
            yield bare, left_out
            return
        send, left_out = _sender(stack)
        yield {size: RosEnds(images, send) for size, images in frames.items()}, left_out


def _sender(stack: ExitStack) -> tuple[Send | None, list[str]]:
    """What publishes, or why nothing does."""
    try:
        from objloc_ros.benchmark.ros import Loopback

        loopback = Loopback()
    except (ImportError, ObjlocError) as error:
        return None, [f"publish: {error}"]
    stack.callback(loopback.close)
    return loopback.send, []


def _gpus(devices: Sequence[str]) -> str | None:
    """Names of the GPUs that are measured."""
    names = [torch.cuda.get_device_name(torch.device(device)) for device in devices if device != "cpu"]
    return ", ".join(dict.fromkeys(names)) or None


def _command(axes: Mapping[str, str], threads: int, clip: str) -> str:
    """The command that measures the same, with every default spelled out."""
    words = ["objloc", "bench", *(word for name, text in axes.items() for word in (f"--{name}", text))]
    return shlex.join([*words, "--clip", clip, "--threads", str(threads)])


def _write(folder: Path, done: Run, compared: Comparison | None) -> None:
    """Write the three files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bench.json").write_text(json.dumps(_document(done, compared), indent=1) + "\n")
        (folder / "bench.md").write_text(markdown(done) + "\n")
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    write_image(folder / "bench.png", picture(done))


def _print(done: Run, compared: Comparison | None, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(_document(done, compared), indent=1))
        return
    print(markdown(done) if args.markdown else text_table(done))
    if not args.markdown:
        print(f"\nbench.json, bench.md and bench.png in {args.out}")
    if compared is not None:
        print("\n".join(compared.lines()), file=sys.stderr if args.markdown else sys.stdout)


def _document(done: Run, compared: Comparison | None) -> dict[str, Any]:
    return done.document() | ({} if compared is None else {"comparison": compared.document()})
