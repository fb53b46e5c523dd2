"""The data sets of the papers' tables: what they are called, which split the tables mean and how many images it has."""

from __future__ import annotations

import re
from dataclasses import dataclass


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
    Benchmark("cub", "CUB"),
    Benchmark("voc_seg", "VOC12 val", ("val",), 1449, ("voc12_seg", "voc21")),
    Benchmark("coco_object_instances", "COCO-Object, instances"),
    Benchmark("coco_object_stuff", "COCO-Object, stuff maps", (), 5000),
    Benchmark("voc20", "VOC20", ("val",), 1449),
    Benchmark("context60", "Context60"),
    Benchmark("context59", "Context59"),
    Benchmark("coco_stuff", "COCO-Stuff"),
    Benchmark("cityscapes", "Cityscapes"),
    Benchmark("ade20k", "ADE20k"),
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
)

BENCHMARKS: dict[str, Benchmark] = {benchmark.key: benchmark for benchmark in _ALL}
"""By key, in the order of the tables' columns. Sizes: methods.md §0.3 and §0.4, and the publishers of the data."""


def benchmark_of(dataset: str, split: str = "") -> Benchmark | None:
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
