"""Published figures (`published.yaml`), and which of them stands beside a measured one.

A figure stands only beside a run of the same method, backbone, data set, split, settings and convention.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from objloc_ros.engine.config import HEADS
from objloc_ros.errors import InputError
from objloc_ros.io.files import is_number


@dataclass(frozen=True)
class Benchmark:
    """A data set as the papers use it.

    Args:
        key: Its name here.
        title: Its name in a table.
        splits: The splits that the papers' numbers are of; empty where there is only one.
        images: Number of images; None where it depends on the construction.
        aliases: Other names of the same images and the same truth.
    """

    key: str
    title: str
    splits: tuple[str, ...] = ()
    images: int | None = None
    aliases: tuple[str, ...] = ()


_ALL = (
    Benchmark("voc07", "VOC07", ("trainval",), 5011, ("voc2007",)),
    Benchmark("voc12", "VOC12", ("trainval",), 11540, ("voc2012",)),
    Benchmark("coco20k", "COCO20k", (), 19817),
    Benchmark("dut_omron", "DUT-OMRON", (), 5168),
    Benchmark("duts_tr", "DUTS-TR", ("train",), 10553),
    Benchmark("duts_te", "DUTS-TE", (), 5019),
    Benchmark("ecssd", "ECSSD", (), 1000),
    Benchmark("voc_seg", "VOC12 val", ("val",), 1449, ("voc12_seg", "voc21")),
    Benchmark("coco_object_instances", "COCO-Object, instances"),
    Benchmark("coco_object_stuff", "COCO-Object, stuff maps", (), 5000),
    Benchmark("coco", "COCO val2017", ("val2017", "val"), 5000, ("coco_val2017",)),
    Benchmark("voc07_all", "VOC07, all", ("trainvaltest", "trainval+test"), 9963, ("voc07", "voc2007")),
    Benchmark("lvis", "LVIS"),
    Benchmark("uvo", "UVO"),
    Benchmark("clipart", "Clipart"),
    Benchmark("comic", "Comic"),
    Benchmark("watercolor", "Watercolor"),
    Benchmark("kitti", "KITTI", (), 7481),
    Benchmark("objects365", "Objects365"),
    Benchmark("openimages", "OpenImages"),
    Benchmark("coco120k", "COCO120k"),
    Benchmark("openimages_50k", "OpenImages, 50k images"),
    Benchmark("openimages_1_7m", "OpenImages, 1.7M images"),
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.key: benchmark for benchmark in _ALL}
"""By key, in the order of the tables' columns. Sizes are those that the publishers of the data state."""


def find_benchmark(dataset: str, split: str = "") -> Benchmark | None:
    """Find the benchmark that a run was on; None if it was on other data, or on another split of this one.

    Args:
        dataset: Name of the data set; case, spaces, hyphens and underscores do not matter.
        split: Its split; "" where none was stated.
    """
    wanted, part = _plain(dataset), split.lower()
    for benchmark in _ALL:
        names = {_plain(name) for name in (benchmark.key, *benchmark.aliases)}
        if wanted in names and (not benchmark.splits or part in ("", *benchmark.splits)):
            return benchmark
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()


FILE = Path(__file__).with_name("published.yaml")

METRICS = (
    *("corloc", "accuracy", "iou", "maxf_selfmask", "maxf_tokencut", "ap", "ap50", "ar100", "rank_ap", "rank_ap50"),
    "miou",
)
"""What is published."""


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    Args:
        method: Name of the method, as in this package where it has it.
        backbone: Name of the backbone in the weights registry, of the CLIP model for the methods that take prompts; ""
            where the authors' method has none of these.
        figures: Fractions by benchmark and metric.
        source: Where they were read, for people.
        variant: What tells the row from others of the same method and backbone, for people.
        settings: Options that a run must have to be compared with this row, a list for alternatives; those it does
            not name may be anything. None: nothing that this package runs is the same.
        convention: Of mIoU, which a run must not have another of; "" for other metrics.
    """

    method: str
    backbone: str
    figures: Mapping[str, Mapping[str, float]]
    source: str
    variant: str = ""
    settings: Mapping[str, Any] | None = None
    convention: str = ""


@cache
def load_rows(path: Path = FILE) -> tuple[PublishedRow, ...]:
    """Read all published rows, in the order of the file.

    Raises:
        InputError: If a row lacks a source, has a field that does not exist, or an invalid figure.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(_parse_row(entry, document["sources"]) for entry in document["rows"])


def _parse_row(entry: Mapping[str, Any], sources: Mapping[str, str]) -> PublishedRow:
    name = f"{FILE.name}: row {' '.join(str(entry.get(field, '')) for field in ('method', 'backbone', 'variant'))}"
    if missing := {"method", "source", "figures"} - entry.keys():
        raise InputError(f"{name}: lacks {', '.join(sorted(missing))}")
    if unknown := entry.keys() - {field.name for field in fields(PublishedRow)}:
        raise InputError(f"{name}: must not have {', '.join(sorted(unknown))}")
    if entry["source"] not in sources:
        raise InputError(f"{name}: source must be one of {', '.join(sources)}, got {entry['source']!r}")
    for benchmark, percents in entry["figures"].items():
        for metric, percent in percents.items():
            if benchmark not in BENCHMARKS or metric not in METRICS:
                raise InputError(f"{name}: there is no {metric!r} on {benchmark!r}")
            if not is_number(percent) or not 0 < percent < 100:
                raise InputError(f"{name}: {metric} on {benchmark} must lie in (0, 100) percent, got {percent!r}")
    figures = {
        benchmark: {metric: round(percent / 100, 4) for metric, percent in percents.items()}
        for benchmark, percents in entry["figures"].items()
    }
    return PublishedRow(**{"backbone": "", **entry, "figures": figures, "source": sources[entry["source"]]})


@dataclass(frozen=True)
class Published:
    """A published number.

    Args:
        value: Fraction in [0, 1].
        source: Where it was read.
        variant: What the authors call the row, where a method has several; "" for its only one.
    """

    value: float
    source: str
    variant: str = ""


def find_published(
    dataset: str, method: str, backbone: str, options: Mapping[str, Any], *, split: str = ""
) -> dict[str, Published]:
    """Look up what the authors report of a run's method in the run's settings.

    Args:
        dataset: Name of the data set, a key of `BENCHMARKS`.
        method: Name of the method.
        backbone: Name of the backbone; of the methods that take prompts, the option "clip" may name the CLIP model.
        options: Of the run, and its metrics' "convention"; those it does not name have the method's defaults.
        split: Split of the data set; "" where none was stated.

    Returns:
        Numbers by metric; none if the data set, the split or the settings are not those of a paper.
    """
    benchmark = find_benchmark(dataset, split)
    if benchmark is None:
        return {}
    found: dict[str, Published] = {}
    for row in find_rows(method, backbone, options):
        found |= select_figures(row, benchmark.key)
    return found


def find_rows(method: str, backbone: str, options: Mapping[str, Any]) -> list[PublishedRow]:
    """Return the published rows that a run with these options may stand beside."""
    given = {"backbone": backbone, **default_options(method), **options}
    return [row for row in load_rows() if row.method == method and _same(row, given)]


def select_figures(row: PublishedRow, benchmark: str) -> dict[str, Published]:
    """Return the figures of a row on one benchmark, by metric."""
    figures = row.figures.get(benchmark, {})
    return {metric: Published(value, row.source, row.variant) for metric, value in figures.items()}


@cache
def default_options(method: str) -> Mapping[str, Any]:
    """Return the default options of a method of this package as JSON has them; none of others."""
    options = HEADS.get(method)
    return {} if options is None else json.loads(json.dumps(asdict(options())))


def _same(row: PublishedRow, given: Mapping[str, Any]) -> bool:
    """Whether a run with these options may stand beside the row; an option that is not stated is taken to agree."""
    if row.settings is None or row.backbone not in (given["backbone"], given.get("clip")):
        return False
    if row.convention and given.get("convention") not in (None, row.convention):
        return False
    return all(name not in given or _holds(given[name], wanted) for name, wanted in row.settings.items())


def _holds(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)
