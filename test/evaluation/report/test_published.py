"""Published numbers: each with its source, beside the runs they may stand beside and no others."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.engine.config import HEADS
from objloc_ros.errors import InputError
from objloc_ros.evaluation.report.published import (
    BENCHMARKS,
    FILE,
    PublishedRow,
    default_options,
    find_benchmark,
    find_published,
    find_rows,
    load_rows,
)

S16, S8, B16 = "dino_vits16", "dino_vits8", "dino_vitb16"

SLIDES, LOST_README, CUTLER_README, TOKENCUT_README, FOUND_PAPER, LOD_README = (
    "O. Siméoni, “Object localization (almost) for free harnessing self-supervised features”, slides of the talk",
    "README of github.com/valeoai/LOST",
    "README of github.com/facebookresearch/CutLER",
    "README of github.com/YangtaoWANG95/TokenCut",
    "O. Siméoni et al., “Unsupervised Object Localization”, CVPR 2023, table 1 of the paper",
    "README of github.com/huyvvo/LOD (Vo et al., NeurIPS 2021), picture of its table 1",
)

CORLOC_SOURCES = {
    ("dino_seg",): SLIDES,
    ("lost",): LOST_README,
    ("lost", S16): SLIDES,
    ("tokencut",): TOKENCUT_README,
    ("found",): FOUND_PAPER,
}
"""By method, or by method and backbone."""


@pytest.mark.parametrize(
    ("method", "backbone", "voc07", "voc12", "coco20k"),
    [
        ("dino_seg", S16, 0.458, 0.462, 0.421),
        ("lost", S16, 0.619, 0.640, 0.507),
        ("lost", S8, 0.555, 0.570, 0.495),
        ("lost", B16, 0.601, 0.633, 0.500),
        ("tokencut", S16, 0.688, 0.721, 0.588),
        ("tokencut", S8, 0.673, 0.716, 0.607),
        ("tokencut", B16, 0.688, 0.724, 0.590),
        ("found", S8, 0.725, 0.761, 0.629),
    ],
)
def test_corloc(method: str, backbone: str, voc07: float, voc12: float, coco20k: float) -> None:
    source = CORLOC_SOURCES.get((method, backbone), CORLOC_SOURCES[method,])
    for dataset, value in (("voc07", voc07), ("voc12", voc12), ("coco20k", coco20k)):
        numbers = find_published(dataset, method, backbone, {"mode": "single"})
        assert {name: (number.value, number.source) for name, number in numbers.items()} == {"corloc": (value, source)}


@pytest.mark.parametrize(
    ("dataset", "mode", "expected"),
    [
        ("dut_omron", "single", (0.920, 0.586, 0.683)),
        ("duts_te", "single", (0.939, 0.637, 0.733)),
        ("ecssd", "single", (0.912, 0.793, 0.946)),
        ("dut_omron", "multi", (0.912, 0.578, 0.663)),
        ("duts_te", "multi", (0.938, 0.645, 0.715)),
        ("ecssd", "multi", (0.949, 0.807, 0.955)),
    ],
)
def test_saliency_of_found_by_its_mode(dataset: str, mode: str, expected: tuple[float, ...]) -> None:
    numbers = find_published(dataset, "found", S8, {"mode": mode, "post": "none"})
    names = ("accuracy", "iou", "maxf_selfmask")  # FOUND follows SelfMask's protocol
    assert {name: number.value for name, number in numbers.items()} == dict(zip(names, expected, strict=True))
    assert {(number.source, number.variant) for number in numbers.values()} == {(SLIDES, mode)}


@pytest.mark.parametrize(
    ("dataset", "maxf", "iou", "accuracy"),
    [("ecssd", 0.803, 0.712, 0.918), ("duts_te", 0.672, 0.576, 0.903), ("dut_omron", 0.600, 0.533, 0.880)],
)
def test_saliency_of_tokencut(dataset: str, maxf: float, iou: float, accuracy: float) -> None:
    numbers = find_published(dataset, "tokencut", S16, {})
    values = {name: number.value for name, number in numbers.items()}
    assert values == {"maxf_tokencut": maxf, "iou": iou, "accuracy": accuracy}


@pytest.mark.parametrize(
    ("dataset", "method", "backbone", "options", "expected"),
    [
        ("ecssd", "selfmask", S8, {}, {"accuracy": 0.944, "iou": 0.781}),
        ("dut_omron", "selfmask", S8, {}, {"accuracy": 0.901, "iou": 0.582}),
        ("duts_te", "selfmask", "selfmask_nq20", {}, {"iou": 0.653}),
        ("duts_te", "selfmask", "selfmask_nq10", {}, {"iou": 0.645}),
        ("duts_te", "selfmask", "selfmask_nq20", {"mode": "single"}, {}),
        ("ecssd", "deep_spectral", S16, {"post": "crf"}, {"iou": 0.733}),
        ("dut_omron", "deep_spectral", S16, {"post": "crf"}, {"iou": 0.567}),
        ("coco", "rcnn", "cutler_cascade", {}, {"ap50": 0.219, "ar100": 0.327}),
        ("coco20k", "rcnn", "cutler_mrcnn", {}, {"ap50": 0.216, "ar100": 0.300}),
        ("kitti", "rcnn", "cutler_cascade", {}, {"ap50": 0.184, "ar100": 0.275}),
        ("openimages", "rcnn", "cutler_cascade", {}, {"ap50": 0.173, "ar100": 0.296}),
        ("watercolor", "rcnn", "cutler_mrcnn", {}, {"ap50": 0.373, "ar100": 0.399}),
        ("voc_seg", "clip_diy", S8, {"clip": "clip_vitb32"}, {"miou": 0.599}),
        ("voc_seg", "clip_diy", S8, {"clip": "clip_vitb16"}, {"miou": 0.590}),
        ("coco_object_instances", "clip_diy", "clip_vitb32", {}, {"miou": 0.310}),
        ("coco_object_instances", "clip_diy", "clip_vitb16", {}, {"miou": 0.304}),
    ],
)
def test_others(dataset: str, method: str, backbone: str, options: dict, expected: dict[str, float]) -> None:
    numbers = find_published(dataset, method, backbone, options)
    assert {name: number.value for name, number in numbers.items()} == expected


@pytest.mark.parametrize(
    ("method", "variant", "benchmark", "expected", "source"),
    [
        ("Selective Search", "", "voc12", {"corloc": 0.209}, SLIDES),
        ("lod", "", "coco20k", {"corloc": 0.485}, SLIDES),
        ("lost", "CAD", "voc07", {"corloc": 0.657}, LOST_README),
        ("E-BigBiGAN", "", "duts_te", {"accuracy": 0.882, "iou": 0.511}, SLIDES),
        ("tokencut", "CAD", "coco20k", {"corloc": 0.626}, FOUND_PAPER),
        ("lod", "", "coco20k", {"rank_ap50": 0.0663, "rank_ap": 0.0198}, LOD_README),
        (
            "lod",
            "self-supervised features",
            "openimages_1_7m",
            {"corloc": 0.494, "rank_ap50": 0.0628, "rank_ap": 0.0186},
            LOD_README,
        ),
        ("previous_best", "", "kitti", {"ap50": 0.077, "ar100": 0.071}, CUTLER_README),
        ("TCL + PAMR", "", "coco_object_instances", {"miou": 0.316}, SLIDES),
    ],
)
def test_rows_of_what_is_not_run_here(
    method: str, variant: str, benchmark: str, expected: dict[str, float], source: str
) -> None:
    rows = [row for row in load_rows() if (row.method, row.variant) == (method, variant) and row.source == source]
    assert [row.settings for row in rows] == [None] * len(rows)
    assert expected in [row.figures.get(benchmark) for row in rows]


@pytest.mark.parametrize(
    ("dataset", "method", "backbone", "options", "split"),
    [
        ("voc07", "lost", "tiny", {}, ""),  # another backbone
        ("voc07", "lost", S16, {"k_patches": 50}, ""),
        ("voc07", "lost", S16, {"post": "crf"}, ""),
        ("voc07", "lost", S16, {"short_side": 224}, ""),  # the papers keep the native size
        ("voc07", "lost", S16, {}, "test"),
        ("my_photos", "lost", S16, {}, ""),
        ("ecssd", "lost", S16, {}, ""),  # nothing says how its map was made
        ("ecssd", "tokencut", S16, {"tau": 0.1}, ""),
        ("ecssd", "tokencut", S16, {"post": "bilateral"}, ""),
        ("ecssd", "deep_spectral", S16, {}, ""),  # its saliency is refined
        ("voc07", "maskcut", S16, {}, ""),  # the paper evaluates detectors trained on its masks
        ("voc_seg", "clip_diy", "tiny", {"clip": "clip_vitb32"}, ""),  # objectness of another backbone
        ("coco_object_stuff", "clip_diy", S8, {"clip": "clip_vitb32"}, ""),
        ("voc07", "found", S8, {"mode": "multi"}, ""),  # the paper's CorLoc is of the largest region
        ("voc07", "unheard_of", S16, {}, ""),
        ("coco", "rcnn", "cutler_cascade", {"threshold": 0.5}, "val2017"),
        ("coco", "rcnn", "cutler_cascade", {"short_side": 480}, "val2017"),
        ("coco", "rcnn", "cutler_cascade_r1", {}, "val2017"),  # before its last round
    ],
)
def test_what_is_not_comparable_has_no_number(
    dataset: str, method: str, backbone: str, options: dict, split: str
) -> None:
    assert find_published(dataset, method, backbone, options, split=split) == {}


def test_miou_of_another_convention_has_no_number() -> None:
    options = {"clip": "clip_vitb32"}
    assert find_published("voc_seg", "clip_diy", S8, {**options, "convention": "clip_diy"}).keys() == {"miou"}
    assert find_published("voc_seg", "clip_diy", S8, {**options, "convention": "mmseg"}) == {}


def test_stated_defaults_change_nothing() -> None:
    stated = {**default_options("lost"), "short_side": None}
    assert find_published("VOC-07", "lost", S16, stated, split="trainval")["corloc"].value == 0.619


@pytest.mark.parametrize("post", ["none", "bilateral", "crf"])
@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("method", sorted({row.method for row in load_rows()}))
def test_no_number_stands_twice(method: str, mode: str, post: str) -> None:
    for backbone in {row.backbone for row in load_rows()}:
        rows = find_rows(method, backbone, {"mode": mode, "post": post})
        cells = [(data, metric) for row in rows for data, figures in row.figures.items() for metric in figures]
        assert len(cells) == len(set(cells))


@pytest.mark.parametrize("row", load_rows(), ids=lambda row: f"{row.method}-{row.backbone}-{row.variant}")
def test_rows_have_a_source_and_speak_of_what_exists(row: PublishedRow) -> None:
    assert any(kind in row.source for kind in ("README", "slides", "table 1 of the paper"))
    assert row.figures.keys() <= BENCHMARKS.keys()
    assert all(0 < value < 1 and math.isfinite(value) for figures in row.figures.values() for value in figures.values())
    if row.method in HEADS:
        known = {"short_side", "clip", "backbone", *default_options(row.method)}
        assert (row.settings or {}).keys() <= known
        assert row.settings is None or row.backbone in REGISTRY


ROW = {"method": "lost", "source": "a", "figures": {"voc07": {"corloc": 61.9}}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": "b"}, r"row lost  : source must be one of a, got 'b'"),
        ({"colour": "red"}, r"must not have colour"),
        ({"figures": {"voc07": {"corloc": 0}}}, r"corloc on voc07 must lie in \(0, 100\) percent, got 0"),
        ({"figures": {"voc07": {"corloc": "61.9"}}}, r"got '61.9'"),
        ({"figures": {"voc08": {"corloc": 61.9}}}, r"there is no 'corloc' on 'voc08'"),
        ({"figures": {"voc07": {"corlok": 61.9}}}, r"there is no 'corlok' on 'voc07'"),
    ],
)
def test_a_row_that_is_wrong_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "rows.yaml"
    path.write_text(yaml.safe_dump({"sources": {"a": "A paper"}, "rows": [ROW]}))
    assert [row.figures for row in load_rows(path)] == [{"voc07": {"corloc": 0.619}}]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump({"sources": {"a": "A paper"}, "rows": [{**ROW, **change}]}))
    with pytest.raises(InputError, match=message):
        load_rows(wrong)


def test_the_file_is_installed_with_the_package() -> None:
    setup = (Path(__file__).resolve().parents[3] / "setup.py").read_text()
    assert FILE.match("evaluation/report/*.yaml")
    assert "evaluation/report/*.yaml" in setup


def test_defaults_are_those_of_the_methods() -> None:
    assert default_options("tokencut") == {"tau": 0.2, "eps": 1e-5, "binary": True, "post": "none"}
    assert default_options("unheard_of") == {}


@pytest.mark.parametrize(
    ("dataset", "split", "key"),
    [
        ("voc07", "", "voc07"),
        ("VOC2007", "trainval", "voc07"),
        ("voc07", "trainvaltest", "voc07_all"),
        ("voc07", "test", None),
        ("DUTS-TE", "", "duts_te"),
        ("dut omron", "whatever", "dut_omron"),
        ("voc12_seg", "val", "voc_seg"),
        ("voc12_seg", "train", None),
        ("", "", None),
    ],
)
def test_benchmark_of(dataset, split, key) -> None:
    found = find_benchmark(dataset, split)
    assert (found and found.key) == key


def test_sizes_are_those_of_the_papers() -> None:
    sizes = {"voc07": 5011, "voc12": 11540, "coco20k": 19817, "ecssd": 1000, "duts_te": 5019, "dut_omron": 5168}
    assert {key: BENCHMARKS[key].images for key in sizes} == sizes
