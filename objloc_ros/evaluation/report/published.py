"""Published figures, and which of them belongs beside a measured one: the same method, backbone, data and settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal

from objloc_ros.engine.loader import HEADS


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


Source = Literal["repository", "paper"]
"""Read in the authors' repository, or quoted from memory of the paper."""

Numbers = Mapping[str, Mapping[str, float]]
"""Fractions by benchmark and metric."""


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    Args:
        method: Name of the method, as in this package where it has it.
        backbone: Name of the backbone in the weights registry, of the CLIP model for the methods that take prompts.
        numbers: What was published.
        source: Where it was read.
        variant: What tells the row from others of the same method and backbone, for people.
        settings: Options that a run must have to be compared with this row, a tuple for alternatives; those it does
            not name may be anything. None: nothing that this package runs is the same.
        convention: Of mIoU, which a run must not have another of; "" for other metrics.
    """

    method: str
    backbone: str
    numbers: Numbers
    source: Source
    variant: str = ""
    settings: Mapping[str, Any] | None = None
    convention: str = ""


def _corloc(*percent: float) -> Numbers:
    return {key: {"corloc": _part(p)} for key, p in zip(("voc07", "voc12", "coco20k"), percent, strict=True)}


def _saliency(maxf: str, *sets: tuple[float, float, float]) -> Numbers:
    """Percent (accuracy, IoU, maxF) on DUT-OMRON, DUTS-TE and ECSSD; `maxf` names the protocol of maxF (§0.4)."""
    keys = ("accuracy", "iou", maxf)
    rows = zip(("dut_omron", "duts_te", "ecssd"), sets, strict=True)
    return {data: {key: _part(p) for key, p in zip(keys, values, strict=True)} for data, values in rows}


def _detection(*pairs: tuple[float, float]) -> Numbers:
    """Percent (AP50, AR100) of boxes in CutLER's order of data sets."""
    names = ("coco", "coco20k", "voc07_all", "lvis", "uvo", "clipart", "comic", "watercolor", "kitti")
    both = zip((*names, "objects365", "openimages"), pairs, strict=True)
    return {data: {"ap50": _part(ap), "ar100": _part(ar)} for data, (ap, ar) in both}


def _iou(**percent: float) -> Numbers:
    return {data: {"iou": _part(p)} for data, p in percent.items()}


def _miou(**percent: float) -> Numbers:
    return {data: {"miou": _part(p)} for data, p in percent.items()}


def _part(percent: float) -> float:
    return round(percent / 100, 4)


S16, S8, B16 = "dino_vits16", "dino_vits8", "dino_vitb16"
NATIVE: dict[str, Any] = {"short_side": None}
LOST: dict[str, Any] = {**NATIVE, "k_patches": 100, "post": "none"}
TOKENCUT: dict[str, Any] = {**NATIVE, "tau": 0.2, "eps": 1e-5, "binary": True}
FOUND: dict[str, Any] = {**NATIVE, "threshold": 0.5}
SELFMASK_F, TOKENCUT_F = "maxf_selfmask", "maxf_tokencut"

ROWS: tuple[PublishedRow, ...] = (
    # Localisation, CorLoc
    PublishedRow(
        "dino_seg", S16, _corloc(45.8, 46.2, 42.1), "paper", "", {**NATIVE, "head": 4, "mass": 0.6, "post": "none"}
    ),
    PublishedRow("lost", S16, _corloc(61.9, 64.0, 50.7), "repository", "", LOST),
    PublishedRow("lost", S8, _corloc(55.5, 57.0, 49.5), "repository", "", LOST),
    PublishedRow("lost", B16, _corloc(60.1, 63.3, 50.0), "repository", "", LOST),
    PublishedRow("lost", "dino_resnet50", _corloc(36.8, 42.7, 26.5), "repository"),
    PublishedRow("lost", "imagenet_resnet50", _corloc(33.5, 39.1, 25.5), "repository"),
    PublishedRow("lost", S16, _corloc(65.7, 70.4, 57.5), "repository", "CAD"),
    PublishedRow("tokencut", S16, _corloc(68.8, 72.1, 58.8), "repository", "", {**TOKENCUT, "post": "none"}),
    PublishedRow("tokencut", S8, _corloc(67.3, 71.6, 60.7), "repository", "", {**TOKENCUT, "post": "none"}),
    PublishedRow("tokencut", B16, _corloc(68.8, 72.4, 59.0), "repository", "", {**TOKENCUT, "post": "none"}),
    PublishedRow("tokencut", S16, _corloc(71.4, 75.3, 62.6), "paper", "CAD"),
    PublishedRow("deep_spectral", S16, _corloc(62.7, 66.4, 52.2), "paper", "", {**NATIVE, "post": "none"}),
    PublishedRow("selfmask", S8, _corloc(72.3, 75.3, 62.7), "paper", "", {}),
    PublishedRow("lod", "dino", _corloc(53.6, 55.1, 48.5), "paper"),
    PublishedRow("found", S8, _corloc(72.5, 76.1, 62.9), "paper", "", {**FOUND, "post": "none"}),
    # Saliency
    PublishedRow(
        "tokencut",
        S16,
        _saliency(TOKENCUT_F, (88.0, 53.3, 60.0), (90.3, 57.6, 67.2), (91.8, 71.2, 80.3)),
        "repository",
        "",
        {**TOKENCUT, "post": "none"},
    ),
    PublishedRow(
        "tokencut",
        S16,
        _saliency(TOKENCUT_F, (89.7, 61.8, 69.7), (91.4, 62.4, 75.5), (93.4, 77.2, 87.4)),
        "repository",
        "BS",
        {**TOKENCUT, "post": "bilateral"},
    ),
    PublishedRow(
        "deep_spectral",
        S16,
        _iou(cub=76.9, duts_te=51.4, ecssd=73.3, dut_omron=56.7),
        "paper",
        "CRF",
        {**NATIVE, "post": "crf"},
    ),
    PublishedRow(
        "selfmask",
        S8,
        _saliency(SELFMASK_F, (90.1, 58.2, 68.0), (92.3, 62.6, 75.0), (94.4, 78.1, 88.9)),
        "paper",
        "",
        {},
    ),
    PublishedRow("selfmask", S8, _iou(duts_te=64.5), "repository", "10 queries"),
    PublishedRow("selfmask", S8, _iou(duts_te=65.3), "repository", "20 queries"),
    PublishedRow(
        "found",
        S8,
        # ECSSD as quoted; accuracy and maxF look exchanged beside those of the other rows.
        _saliency(SELFMASK_F, (92.0, 58.6, 68.3), (93.9, 63.7, 73.3), (91.2, 79.3, 94.6)),
        "paper",
        "single",
        {**FOUND, "mode": "single", "post": "none"},
    ),
    PublishedRow(
        "found",
        S8,
        _saliency(SELFMASK_F, (91.2, 57.8, 66.3), (93.8, 64.5, 71.5), (94.9, 80.7, 95.5)),
        "paper",
        "multi",
        {**FOUND, "mode": "multi", "post": "none"},
    ),
    PublishedRow(
        "found",
        S8,
        _saliency(SELFMASK_F, (92.1, 60.8, 70.6), (94.1, 65.4, 76.0), (94.9, 80.5, 93.4)),
        "paper",
        "single, BS",
        {**FOUND, "mode": "single", "post": "bilateral"},
    ),
    PublishedRow(
        "found",
        S8,
        _saliency(SELFMASK_F, (92.2, 61.3, 70.8), (94.2, 66.3, 76.3), (95.1, 81.3, 93.5)),
        "paper",
        "multi, BS",
        {**FOUND, "mode": "multi", "post": "bilateral"},
    ),
    # Detection without classes
    PublishedRow(
        "previous_best",
        "",
        _detection(
            *((9.6, 12.6), (9.7, 12.6), (15.9, 21.3), (3.8, 6.4), (10.0, 14.2), (7.9, 15.1)),
            *((9.9, 16.3), (6.7, 16.2), (7.7, 7.1), (8.1, 10.2), (9.9, 14.9)),
        ),
        "repository",
    ),
    PublishedRow(
        "cutler_mask_rcnn",
        "dino_resnet50",
        _detection(
            *((21.1, 29.6), (21.6, 30.0), (36.6, 41.0), (7.7, 18.7), (29.8, 38.4), (20.9, 38.5)),
            *((31.2, 37.1), (37.3, 39.9), (15.3, 25.4), (19.5, 30.0), (17.1, 26.4)),
        ),
        "repository",
        "",
        {},
    ),
    PublishedRow(
        "cutler_cascade",
        "dino_resnet50",
        _detection(
            *((21.9, 32.7), (22.4, 33.1), (36.9, 44.3), (8.4, 21.8), (31.7, 42.8), (21.1, 41.3)),
            *((30.4, 38.6), (37.5, 44.6), (18.4, 27.5), (21.6, 34.2), (17.3, 29.6)),
        ),
        "repository",
        "",
        {},
    ),
    # Semantic segmentation
    PublishedRow("deep_spectral", S16, _miou(voc_seg=30.8), "paper", "clusters, ± 2.7"),
    PublishedRow("deep_spectral", S16, _miou(voc_seg=37.2), "paper", "clusters, self-trained, ± 3.8"),
    PublishedRow(
        "clip_diy",
        "clip_vitb32",
        _miou(voc_seg=59.9, coco_object_instances=31.0),
        "paper",
        "",
        # Objectness is that of FOUND on ViT-S/8, whether a run calls that or the CLIP model its backbone.
        {"backbone": (S8, "clip_vitb32"), "threshold": 0.0},
        "clip_diy",
    ),
    PublishedRow(
        "maskclip",
        "clip_vitb16_openai",
        _miou(voc20=49.5, context59=21.7, coco_stuff=12.5),
        "repository",
        "",
        {"background": "none", "threshold": 0.0},
        "mmseg",
    ),
    PublishedRow("maskclip", "clip_resnet50x16", _miou(voc20=50.9, context59=20.3, coco_stuff=13.6), "repository"),
    PublishedRow("maskclip", "clip_resnet50", _miou(voc20=41.5, context59=18.5, coco_stuff=10.2), "repository"),
    PublishedRow(
        "clip_dinoiser",
        "clip_vitb16",
        {
            **_miou(voc_seg=62.1, context60=32.4, coco_object_stuff=34.8, voc20=80.9, context59=35.9),
            **_miou(coco_stuff=24.6, cityscapes=31.7, ade20k=20.0),
        },
        "paper",
        "",
        {"gamma": 0.2, "delta": 0.99, "correlations": ("auto", "head"), "threshold": 0.0},
        "mmseg",
    ),
)
"""Every published number, from methods.md §1 to §11."""


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
        dataset: Name of the data set, a key of `BENCHMARKS`.
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
