"""The GPU path in one command: whether it is right, whether memory stays, how fast it is; a report and JSON.

    python bench/gpu.py                          on a GPU, at most 8 minutes; writes bench/GPU.md and bench/gpu.json
    python bench/gpu.py --device cpu --smoke     a minute or less; shows that everything runs, and claims nothing

It needs no network, no ROS and no weights but the embedded ones: what is right is tried with those, what is fast with
random ones of the true shapes. Each section is a process forked from this one with a share of the time, so that one
that fails, hangs or loses the GPU costs the others nothing; what it had found by then is in the report. docs/gpu.md
says more.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch
from gpu_correctness import Deadline, Settings, compare_with_cpu, try_golden_cases, watch_memory
from gpu_report import Failure, LeftOut, Message, Outcome, format_report, judge
from gpu_speed import run_cameras, split_stages, time_methods
from harness import write_json

from objloc_ros.benchmark.results import describe_machine
from objloc_ros.engine.backbone import resolve_device

BUDGET_S, SMOKE_BUDGET_S = 460.0, 900.0
"""Seconds for all sections; the smoke run takes far less on an idle machine."""

GRACE_S = 5.0
"""How much longer than its share a section may take to end by itself."""

SHARES = {"golden": 2.0, "agreement": 1.5, "memory": 0.7, "speed": 2.5, "cameras": 1.3, "stages": 2.0}
"""How the time is shared among the sections; what one leaves is the others'."""


class Section(NamedTuple):
    """A part of the report.

    Args:
        title: Its heading.
        explanation: What its columns mean.
        run: Yields rows, and what it leaves out.
    """

    title: str
    explanation: str
    run: Callable[[Settings, Deadline], Iterator[Message]]


SECTIONS = {
    "golden": Section(
        "The original implementations' answers",
        "The tests that read `test/data/golden`, with their tensors on the device; TF32 off.",
        try_golden_cases,
    ),
    "agreement": Section(
        "Device and CPU",
        "The embedded model on frames of the procedural drive, on the device beside the CPU. IoU: "
        "pixels with the same label among those that either labels; equal boxes: as many, within half a pixel, of the "
        "same labels.",
        compare_with_cpu,
    ),
    "memory": Section("Memory", "FOUND, one frame after the other.", watch_memory),
    "speed": Section(
        "Methods and batches",
        "An image on the host to boxes and label map on the host, the device waited for at either end of a call; "
        "median of the calls. Backbones and towers marked random have random weights: their passes take as long as "
        "with trained ones; what follows depends on what is found.",
        time_methods,
    ),
    "cameras": Section(
        "Cameras around one engine",
        "Threads with a `LatestSlot` each around one `SharedLoader`, as in `perception`, without ROS. Age: from the "
        "camera's offer to the label map. Flat out: each camera asks again as soon as it is answered.",
        run_cameras,
    ),
    "stages": Section(
        "Stages against the floor",
        "The device is waited for after each stage, so that a frame takes longer than above. Floor: the operations at "
        "the measured rate of the largest product, or the bytes at that of a copy, whichever takes longer.",
        split_stages,
    ),
}


def main() -> int:
    """Run the sections, print the report and write it; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="small sizes, a minute or less in all")
    parser.add_argument("--seconds", type=float, help=f"for all sections (default: {BUDGET_S:.0f})")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="NAME", help="some")
    parser.add_argument("--out", type=Path, help="folder of GPU.md and gpu.json (default: bench, of a GPU's run only)")
    args = parser.parse_args()
    budget = args.seconds or (SMOKE_BUDGET_S if args.smoke else BUDGET_S)
    settings = Settings(args.device, args.smoke)
    gpu, problem = ask_apart(lambda: describe_device(args.device))
    if problem:
        print(f"bench/gpu.py: {problem}", file=sys.stderr)
        return 2
    about = describe_run(gpu)
    outcomes = list(run_sections(args.sections, settings, budget))
    report = format_report(about, outcomes)
    print(report)
    out = args.out or (Path(__file__).parent if gpu else None)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "GPU.md").write_text(report)
        aims = judge(outcomes) if gpu else None
        write_json(out / "gpu.json", about=about, smoke=args.smoke, aims=aims, sections=outcomes)
        print(f"GPU.md and gpu.json in {out}")
    broken = [outcome.name for outcome in outcomes if outcome.error or outcome.failures]
    broken += [row["tests"] for outcome in outcomes for row in outcome.rows if row.get("failed")]
    return 1 if broken else 0


def describe_device(device: str) -> dict[str, Any] | None:
    """Say what a GPU is; None is a CPU."""
    resolved = resolve_device(device)
    if resolved.type == "cpu":
        return None
    properties = torch.cuda.get_device_properties(resolved)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.split("\n")[0]
    except (OSError, subprocess.TimeoutExpired):
        driver = "unknown"
    return {
        "gpu": f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB",
        "cuda": str(torch.version.cuda),
        "driver": driver,
    }


def describe_run(gpu: dict[str, Any] | None) -> dict[str, Any]:
    """Collect what the report begins with."""
    facts = describe_machine(None)
    facts.pop("gpu")
    return {
        "command": shlex.join(["python", "bench/gpu.py", *sys.argv[1:]]),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **(gpu or {"gpu": None}),
        **facts,
    }


def run_sections(names: list[str], settings: Settings, budget: float) -> Iterator[Outcome]:
    """Run sections one after the other, each for its share of the time that is left."""
    end = time.monotonic() + budget
    for place, name in enumerate(names):
        left = end - time.monotonic()
        share = left * SHARES[name] / sum(SHARES[later] for later in names[place:])
        print(f"{name}: at most {share:.0f} s", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix="objloc-gpu-") as scratch:  # a section may end without tidying up
            yield run_apart(name, settings, share, scratch)


def run_apart(name: str, settings: Settings, seconds: float, scratch: str) -> Outcome:
    """Run a section in a process of its own, with its temporary files in `scratch`; end it where it does not end."""
    section = SECTIONS[name]
    outcome = Outcome(name, section.title, section.explanation)
    began = time.monotonic()
    receiver, sender = _fork.Pipe(duplex=False)
    child = _fork.Process(target=_run_section, args=(sender, section, settings, seconds, scratch), daemon=False)
    child.start()
    sender.close()
    is_done = False
    while not is_done and outcome.error is None:
        if not receiver.poll(max(0.0, began + seconds + GRACE_S - time.monotonic())):
            outcome.error = f"it did not end within {seconds + GRACE_S:.0f} s"
            break
        try:
            message = receiver.recv()
        except EOFError:
            child.join()
            outcome.error = f"its process ended with status {child.exitcode}"
            break
        if isinstance(message, LeftOut):
            outcome.left_out.append(str(message))
        elif isinstance(message, Failure):
            outcome.failures.append(str(message))
        elif isinstance(message, dict):
            outcome.rows.append(message)
        else:
            is_done, outcome.error = True, message
    if not is_done:
        child.kill()
    child.join(GRACE_S)
    if child.exitcode is None:
        child.kill()
    outcome.seconds = time.monotonic() - began
    return outcome


def _run_section(sender: Connection, section: Section, settings: Settings, seconds: float, scratch: str) -> None:
    """Send rows, then None, or what went wrong in words."""
    problem, tempfile.tempdir = None, scratch
    try:
        torch.manual_seed(0)
        for message in section.run(settings, Deadline(seconds)):
            sender.send(message)
    except Exception as error:  # noqa: BLE001 - into the report
        problem = f"{type(error).__name__}: {error}"
    sender.send(problem)
    sender.close()
    sys.stdout.flush()
    os._exit(0)  # threads of engines need not end, and CUDA is not taken down in order


def ask_apart(question: Callable[[], Any]) -> tuple[Any, str | None]:
    """Answer a question in a forked process, as a process that has met CUDA cannot be forked; and what went wrong."""
    receiver, sender = _fork.Pipe(duplex=False)

    def answer() -> None:
        try:
            sender.send((question(), None))
        except Exception as error:  # noqa: BLE001 - said by the caller
            sender.send((None, str(error)))

    child = _fork.Process(target=answer)
    child.start()
    sender.close()
    try:
        found: tuple[Any, str | None] = receiver.recv()
    except EOFError:
        found = None, "the process that asked for the device has died"
    child.join()
    return found


_fork = multiprocessing.get_context("fork")

if __name__ == "__main__":
    sys.exit(main())
