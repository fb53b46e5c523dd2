"""Which published number belongs beside a measured one: the same method, backbone, data set and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from objloc_ros.engine.heads import HEADS
from objloc_ros.evaluation.report.benchmarks import benchmark_of
from objloc_ros.evaluation.report.published_rows import ROWS, PublishedRow, Source

MEMORY = "quoted from memory of the paper, not verified"
"""What the mark on a number of the source "paper" says."""


@dataclass(frozen=True)
class Published:
    """A published number.

    Args:
        value: Fraction in [0, 1].
        source: Where it was read.
        variant: What the authors call the row, where a method has several; "" for its only one.
    """

    value: float
    source: Source
    variant: str = ""

    @property
    def from_memory(self) -> bool:
        """Whether nobody has compared it with the paper yet."""
        return self.source == "paper"


def published_for(
    dataset: str, method: str, backbone: str, options: Mapping[str, Any], *, split: str = ""
) -> dict[str, Published]:
    """Look up what the authors report of a run's method in the run's settings.

    Args:
        dataset: Name of the data set (`benchmarks.py`).
        method: Name of the method.
        backbone: Name of the backbone; of the methods that take prompts, the option "clip" may name the CLIP model.
        options: Of the run, and its metrics' "convention"; those it does not name have the method's defaults.
        split: Split of the data set; "" where none was stated.

    Returns:
        Numbers by metric; none if the data set, the split or the settings are not those of a paper.
    """
    benchmark = benchmark_of(dataset, split)
    if benchmark is None:
        return {}
    found: dict[str, Published] = {}
    for row in rows_for(method, backbone, options):
        found |= numbers_of(row, benchmark.key)
    return found


def rows_for(method: str, backbone: str, options: Mapping[str, Any]) -> list[PublishedRow]:
    """The rows of the papers that a run with these options may stand beside."""
    given = {"backbone": backbone, **defaults_of(method), **options}
    return [row for row in ROWS if row.method == method and _same(row, given)]


def numbers_of(row: PublishedRow, benchmark: str) -> dict[str, Published]:
    """The numbers of a row on one benchmark, by metric."""
    numbers = row.numbers.get(benchmark, {})
    return {metric: Published(value, row.source, row.variant) for metric, value in numbers.items()}


@cache
def defaults_of(method: str) -> Mapping[str, Any]:
    """The options of a method of this package as JSON has them; none of others."""
    options = HEADS.get(method)
    return {} if options is None else json.loads(json.dumps(asdict(options())))


def _same(row: PublishedRow, given: Mapping[str, Any]) -> bool:
    """Whether a run with these options may stand beside the row; an option that nobody states is taken to agree."""
    if row.settings is None or row.backbone not in (given["backbone"], given.get("clip")):
        return False
    if row.convention and given.get("convention") not in (None, row.convention):
        return False
    return all(name not in given or _holds(given[name], wanted) for name, wanted in row.settings.items())


def _holds(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, tuple) else bool(value == wanted)
