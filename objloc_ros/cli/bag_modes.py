"""The ways of going through a bag; each has a report of its own, so that their figures are never mixed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from objloc_ros.cli.bag_options import lockstep_of
from objloc_ros.cli.bag_realtime import realtime_of
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.bags import lockstep, realtime
from objloc_ros.evaluation.shards import Work


class Maker(Protocol):
    """Makes the work of one mode: a frozen dataclass, picklable, with a field `on_frame` that is not compared."""

    def __call__(self) -> Work:
        """The work of a bag: it writes into a folder, which may be there already."""

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""


class Mode(NamedTuple):
    """One way.

    Args:
        make: What the options of the command ask for.
        report: File name of its report, in the folder of a bag's results.
    """

    make: Callable[[argparse.Namespace], Maker]
    report: str


MODES: dict[str, Mode] = {
    "lockstep": Mode(lockstep_of, lockstep.REPORT),
    "realtime": Mode(realtime_of, realtime.REPORT),
}

BOTH = "both"


@dataclass(frozen=True)
class InTurn:
    """Goes through a bag in several ways, one after the other.

    Args:
        makers: Of each way, by its name.
    """

    makers: tuple[tuple[str, Maker], ...]

    def __call__(self) -> Work:
        """Load what each way needs."""
        works = [make() for _, make in self.makers]

        def work(path: Path, target: Path) -> None:
            for one in works:
                one(path, target)

        return work

    def settings(self) -> dict[str, Any]:
        """Those of each way."""
        return {name: make.settings() for name, make in self.makers}

    def with_progress(self, on_frame: Callable[[], Any]) -> InTurn:
        """The same, which tells of each frame."""
        return InTurn(tuple((name, replace(make, on_frame=on_frame)) for name, make in self.makers))  # type: ignore[type-var]


def chosen(args: argparse.Namespace) -> InTurn:
    """The ways that were asked for.

    Raises:
        ParameterError: An option is out of range or contradicts another.
    """
    for option, value in (("rate", args.rate), ("late-ms", args.late_ms)):
        if args.pace == "lockstep" and value is not None:
            raise ParameterError(f"--{option} is for --pace realtime: in lockstep every frame takes its time")
    names = tuple(MODES) if args.pace == BOTH else (args.pace,)
    return InTurn(tuple((name, MODES[name].make(args)) for name in names))
