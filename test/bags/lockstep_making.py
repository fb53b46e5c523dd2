"""Lockstep as tests run it, from Python and from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from objloc_ros.bags.lockstep import OUTPUTS, REPORT, Lockstep
from objloc_ros.bags.reader import BagMessage, read_bag
from objloc_ros.bags.truth_sources import TruthSpec
from objloc_ros.cli.main import main
from objloc_ros.engine.config import PipelineConfig

CAMERA = ("/front/image",)
TRUTH = TruthSpec((("", "/front/truth"),))
TRUTH_OPTIONS = ("--truth", "/front/truth")
PERFECT = ("--fail-under", "corloc=1", "--fail-under", "recall=1", "--fail-over", "flicker=0")
"""Options that turn anything but perfect answers into another exit status."""


def lockstep(*methods: str, **options: Any) -> Lockstep:
    return Lockstep(config=PipelineConfig(methods=methods or ("found",), device="cpu"), **options)


def run(bag: Path, target: Path, task: Lockstep) -> dict[str, Any]:
    task.run(task.load(), bag, target)
    document: dict[str, Any] = json.loads((target / REPORT).read_text())
    return document


def outputs(target: Path, topic: str) -> list[BagMessage]:
    return list(read_bag(target / OUTPUTS, [topic]))


def bag(*bags: Path, out: Path, more: tuple[str, ...] = TRUTH_OPTIONS) -> int:
    """The exit status of `objloc bag`."""
    return main(["bag", *map(str, bags), "--out", str(out), "--device", "cpu", *more])


def report(out: Path, name: str) -> dict[str, Any]:
    """The report on a bag in the folder of a run."""
    document: dict[str, Any] = json.loads((out / name / "lockstep.json").read_text())
    return document
