"""The papers' tables, made of all results of a folder: rows of methods and their settings, columns of data sets.

Every cell says what was measured and what was published. A run on a part of a data set carries its number of images in
each of its cells, and runs with other settings, on another split or by another convention have rows or columns of their
own, so that no two numbers in a column are of different things without saying so.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from objloc_ros.evaluation.report.published import (
    BENCHMARKS,
    Published,
    default_options,
    find_benchmark,
    find_published,
    find_rows,
    load_rows,
    select_figures,
)
from objloc_ros.evaluation.report.results import RunResult

METHODS = {
    "dino_seg": "DINO-seg",
    "lod": "LOD",
    "lost": "LOST",
    "deep_spectral": "Deep Spectral",
    "tokencut": "TokenCut",
    "maskcut": "MaskCut",
    "vote": "Vote of methods and clusters",
    "freesolo": "FreeSOLO",
    "dinosaur": "DINOSAUR",
    "selfmask": "SelfMask",
    "found": "FOUND",
    "previous_best": "best before CutLER",
    "rcnn": "R-CNN",
    "detector": "token detector",
    "maskclip": "MaskCLIP",
    "clip_diy": "CLIP-DIY",
    "clip_dinoiser": "CLIP-DINOiser",
}
"""What methods are called, in the order of a table's rows; others follow under their own names."""


class Kind(NamedTuple):
    """What a table is about: the title, the kind of truth, and the metrics with their names."""

    title: str
    truth: str
    metrics: Mapping[str, str]


_COCO = {"ap50": "AP50", "ap75": "AP75", "ap": "AP", "ar1": "AR1", "ar10": "AR10", "ar100": "AR100"}

KINDS = {
    "corloc": Kind("Localisation of one object, CorLoc", "boxes", {"corloc": "CorLoc"}),
    "saliency": Kind(
        "Saliency",
        "saliency",
        {"accuracy": "Acc", "iou": "IoU", "maxf_selfmask": "maxF SelfMask", "maxf_tokencut": "maxF TokenCut"},
    ),
    "detection": Kind("Detection without classes, boxes", "boxes", _COCO),
    "masks": Kind(
        "Detection without classes, masks", "boxes", {f"mask_{name}": title for name, title in _COCO.items()}
    ),
    "rank": Kind("Detection without classes, by rank", "boxes", {"rank_ap50": "AP50 by rank", "rank_ap": "AP by rank"}),
    "semantic": Kind("Semantic segmentation, mIoU", "semantic", {"miou": "mIoU"}),
}
"""The tables by name, in their order."""


@dataclass(frozen=True)
class Place:
    """A data set as a group of columns.

    Args:
        title: Its name.
        benchmark: Its key among the benchmarks; "" for data of one's own, or another split.
    """

    title: str
    benchmark: str = ""

    @property
    def images(self) -> int | None:
        """Number of images it has; None if that is not known."""
        return BENCHMARKS[self.benchmark].images if self.benchmark else None


@dataclass(frozen=True)
class TableCell:
    """A number that was measured, and the published one.

    Args:
        measured: Fraction; None if there is no run.
        published: None if nothing comparable was published.
        images: Number of images behind the measured number where they are not known to be the whole data set.
    """

    measured: float | None = None
    published: Published | None = None
    images: int | None = None


@dataclass(frozen=True)
class TableRow:
    """Method, backbone, what is special about the settings, and a cell (or none) for each column."""

    method: str
    backbone: str
    settings: str
    cells: tuple[TableCell | None, ...]


@dataclass(frozen=True)
class ReportTable:
    """One of `KINDS`, with a place and a metric for each column, and what has to be said below."""

    name: str
    columns: tuple[tuple[Place, str], ...]
    rows: tuple[TableRow, ...]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class TableReport:
    """All tables, the folders of results that no table has a column for, and files that could not be used, with why."""

    tables: tuple[ReportTable, ...]
    left_out: tuple[str, ...] = ()
    refused: tuple[tuple[str, str], ...] = ()


def assemble(
    results: Sequence[RunResult], refused: Mapping[str, str] | None = None, *, others: bool = False
) -> TableReport:
    """Make the tables.

    Args:
        results: All results; their order does not matter.
        refused: Why, by path, files could not be used.
        others: Also give a row to each published result on these data sets that nobody measured here.
    """
    tables, shown = [], set()
    for name, kind in KINDS.items():
        chosen = [result for result in results if result.kind == kind.truth and kind.metrics.keys() & result.metrics]
        shown |= {id(result) for result in chosen}
        if chosen:
            tables.append(_make_table(name, sorted(chosen, key=lambda r: (-r.images, r.folder)), others))
    left_out = sorted(result.folder for result in results if id(result) not in shown)
    return TableReport(tuple(tables), tuple(left_out), tuple(sorted((refused or {}).items())))


def find_place(result: RunResult) -> Place:
    """Find the columns that a result belongs to."""
    benchmark = find_benchmark(result.dataset, result.split)
    if benchmark is None:
        return Place(f"{result.dataset} {result.split}".strip())
    return Place(benchmark.title, benchmark.key)


def count_if_partial(result: RunResult) -> int | None:
    """Return the number of images of a result if they may be a part of its data set; None for all of it."""
    return None if result.images == find_place(result).images else result.images


def describe_settings(result: RunResult) -> str:
    """Put the options of a run that are not the method's defaults into words."""
    usual = default_options(result.method)
    special = {name: value for name, value in result.options.items() if name not in usual or usual[name] != value}
    return _join_words({name: value for name, value in special.items() if value is not None})


def _make_table(name: str, results: Sequence[RunResult], others: bool) -> ReportTable:
    metrics = KINDS[name].metrics
    order = list(BENCHMARKS)
    places = sorted(
        {find_place(result) for result in results},
        key=lambda place: (order.index(place.benchmark) if place.benchmark else len(order), place.title),
    )
    columns = [(place, metric) for place in places for metric in metrics]
    rows = _measured_rows(results, columns)
    if others:
        rows += _other_rows(results, columns)
    rows.sort(key=_rank)
    used = [i for i in range(len(columns)) if any(row.cells[i] is not None for row in rows)]
    kept = tuple(
        TableRow(row.method, row.backbone, row.settings, tuple(row.cells[i] for i in used))
        for row in rows
        if any(row.cells[i] is not None for i in used)
    )
    failed = [f"{result.folder}: {len(result.failed)} of the images failed" for result in results if result.failed]
    return ReportTable(name, tuple(columns[i] for i in used), kept, tuple(sorted(failed)))


def _measured_rows(results: Sequence[RunResult], columns: Sequence[tuple[Place, str]]) -> list[TableRow]:
    """Make rows of results: those that differ in the data set only share one; two that would share a cell do not."""
    conventions = _describe_conventions(results)
    groups: dict[tuple[str, str, str, str], dict[Place, list[RunResult]]] = defaultdict(lambda: defaultdict(list))
    for result, convention in zip(results, conventions, strict=True):
        stated = {**default_options(result.method), **result.options}
        options = json.dumps({name: value for name, value in stated.items() if value is not None}, sort_keys=True)
        groups[result.method, result.backbone, options, convention][find_place(result)].append(result)
    rows = []
    for (method, backbone, _, convention), by_place in groups.items():
        for number in range(max(map(len, by_place.values()))):
            runs = {place: some[number] for place, some in by_place.items() if number < len(some)}
            first = next(iter(runs.values()))
            settings = ", ".join(filter(None, (describe_settings(first), convention)))
            cells = tuple(_make_cell(runs.get(place), place, metric, first) for place, metric in columns)
            rows.append(TableRow(method, backbone, settings, cells))
    return rows


def _make_cell(run: RunResult | None, place: Place, metric: str, like: RunResult) -> TableCell | None:
    options = {**like.options, **(like if run is None else run).protocol}
    published = find_published(place.benchmark, like.method, like.backbone, options).get(metric)
    if run is None or metric not in run.metrics:
        return None if published is None else TableCell(published=published)
    return TableCell(run.metrics[metric], published, count_if_partial(run))


def _other_rows(results: Sequence[RunResult], columns: Sequence[tuple[Place, str]]) -> list[TableRow]:
    """Make rows of the published ones beside which nothing was measured."""
    beside = [
        row
        for result in results
        for row in find_rows(result.method, result.backbone, {**result.options, **result.protocol})
    ]
    rows = []
    for row in load_rows():
        if row not in beside:
            found = [select_figures(row, place.benchmark).get(metric) for place, metric in columns]
            cells = tuple(None if number is None else TableCell(published=number) for number in found)
            rows.append(TableRow(row.method, row.backbone, row.variant, cells))
    return rows


def _describe_conventions(results: Sequence[RunResult]) -> list[str]:
    """Say what tells the conventions of each result from those of others on the same data; mostly nothing."""
    seen: dict[Place, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    names = {find_place(result): set[str]() for result in results}
    for result in results:
        names[find_place(result)] |= result.protocol.keys()
    for result in results:
        for name in names[find_place(result)]:
            seen[find_place(result)][name].add(json.dumps(result.protocol.get(name), sort_keys=True))
    return [
        _join_words(
            {name: result.protocol.get(name) for name, values in seen[find_place(result)].items() if len(values) > 1}
        )
        for result in results
    ]


def _join_words(values: Mapping[str, Any]) -> str:
    def word(value: Any) -> str:
        return "not stated" if value is None else value if isinstance(value, str) else json.dumps(value)

    return ", ".join(f"{name} {word(values[name])}" for name in sorted(values))


def _rank(row: TableRow) -> tuple[int, str, str, str]:
    order = list(METHODS)
    return order.index(row.method) if row.method in METHODS else len(order), row.method, row.backbone, row.settings
