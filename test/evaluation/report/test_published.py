"""Published numbers: those of methods.md, found for the runs they may stand beside and for no others."""

from __future__ import annotations

import math

import pytest

from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.engine.loader import HEADS
from objloc_ros.evaluation.report.published import BENCHMARKS, ROWS, benchmark_of, defaults_of, published_for

S16, S8, B16 = "dino_vits16", "dino_vits8", "dino_vitb16"
BS = {"post": "bilateral"}

FOUND_SALIENCY = {
    # methods.md §7.4: Acc/IoU/maxF
    ("dut_omron", "single", "none"): (0.920, 0.586, 0.683),
    ("duts_te", "single", "none"): (0.939, 0.637, 0.733),
    ("ecssd", "single", "none"): (0.912, 0.793, 0.946),
    ("dut_omron", "multi", "none"): (0.912, 0.578, 0.663),
    ("duts_te", "multi", "none"): (0.938, 0.645, 0.715),
    ("ecssd", "multi", "none"): (0.949, 0.807, 0.955),
    ("dut_omron", "single", "bilateral"): (0.921, 0.608, 0.706),
    ("duts_te", "single", "bilateral"): (0.941, 0.654, 0.760),
    ("ecssd", "single", "bilateral"): (0.949, 0.805, 0.934),
    ("dut_omron", "multi", "bilateral"): (0.922, 0.613, 0.708),
    ("duts_te", "multi", "bilateral"): (0.942, 0.663, 0.763),
    ("ecssd", "multi", "bilateral"): (0.951, 0.813, 0.935),
}


@pytest.mark.parametrize(
    ("method", "backbone", "voc07", "voc12", "coco20k", "source"),
    [
        ("dino_seg", S16, 0.458, 0.462, 0.421, "paper"),  # §1 (g)
        ("lost", S16, 0.619, 0.640, 0.507, "repository"),  # §2.1 (g)
        ("lost", S8, 0.555, 0.570, 0.495, "repository"),
        ("lost", B16, 0.601, 0.633, 0.500, "repository"),
        ("tokencut", S16, 0.688, 0.721, 0.588, "repository"),  # §3.1 (g)
        ("tokencut", S8, 0.673, 0.716, 0.607, "repository"),
        ("tokencut", B16, 0.688, 0.724, 0.590, "repository"),
        ("deep_spectral", S16, 0.627, 0.664, 0.522, "paper"),  # §4 (g)
        ("selfmask", S8, 0.723, 0.753, 0.627, "paper"),  # §5 (g)
        ("found", S8, 0.725, 0.761, 0.629, "paper"),  # §7.4 (g)
    ],
)
def test_corloc(method, backbone, voc07, voc12, coco20k, source) -> None:
    for dataset, value in (("voc07", voc07), ("voc12", voc12), ("coco20k", coco20k)):
        numbers = published_for(dataset, method, backbone, {})
        assert {name: (number.value, number.source) for name, number in numbers.items()} == {"corloc": (value, source)}


@pytest.mark.parametrize(("dataset", "mode", "post"), FOUND_SALIENCY)
def test_saliency_of_found_by_its_options(dataset, mode, post) -> None:
    numbers = published_for(dataset, "found", S8, {"mode": mode, "post": post})
    expected = FOUND_SALIENCY[dataset, mode, post]
    assert numbers.keys() == {"accuracy", "iou", "maxf_selfmask"}  # FOUND follows SelfMask's protocol, §0.4
    assert tuple(numbers[name].value for name in ("accuracy", "iou", "maxf_selfmask")) == expected
    assert all(number.from_memory for number in numbers.values())


@pytest.mark.parametrize(
    ("dataset", "options", "maxf", "iou", "accuracy"),
    [
        # §3.2 (g), in its order
        ("ecssd", {}, 0.803, 0.712, 0.918),
        ("ecssd", BS, 0.874, 0.772, 0.934),
        ("duts_te", {}, 0.672, 0.576, 0.903),
        ("duts_te", BS, 0.755, 0.624, 0.914),
        ("dut_omron", {}, 0.600, 0.533, 0.880),
        ("dut_omron", BS, 0.697, 0.618, 0.897),
    ],
)
def test_saliency_of_tokencut(dataset, options, maxf, iou, accuracy) -> None:
    numbers = published_for(dataset, "tokencut", S16, options)
    values = {name: number.value for name, number in numbers.items()}
    assert values == {"maxf_tokencut": maxf, "iou": iou, "accuracy": accuracy}
    assert {number.source for number in numbers.values()} == {"repository"}
    assert {number.variant for number in numbers.values()} == {"BS" if options else ""}


@pytest.mark.parametrize(
    ("dataset", "method", "backbone", "options", "expected"),
    [
        ("ecssd", "selfmask", S8, {}, {"accuracy": 0.944, "iou": 0.781, "maxf_selfmask": 0.889}),
        ("dut_omron", "selfmask", S8, {}, {"accuracy": 0.901, "iou": 0.582, "maxf_selfmask": 0.680}),
        ("ecssd", "deep_spectral", S16, {"post": "crf"}, {"iou": 0.733}),
        ("dut_omron", "deep_spectral", S16, {"post": "crf"}, {"iou": 0.567}),
        ("coco", "cutler_cascade", "dino_resnet50", {}, {"ap50": 0.219, "ar100": 0.327}),
        ("coco20k", "cutler_mask_rcnn", "dino_resnet50", {}, {"ap50": 0.216, "ar100": 0.300}),
        ("kitti", "cutler_cascade", "dino_resnet50", {}, {"ap50": 0.184, "ar100": 0.275}),
        ("openimages", "cutler_cascade", "dino_resnet50", {}, {"ap50": 0.173, "ar100": 0.296}),
        ("watercolor", "cutler_mask_rcnn", "dino_resnet50", {}, {"ap50": 0.373, "ar100": 0.399}),
        ("voc_seg", "clip_diy", S8, {"clip": "clip_vitb32"}, {"miou": 0.599}),
        ("coco_object_instances", "clip_diy", "clip_vitb32", {}, {"miou": 0.310}),
        ("voc20", "maskclip", S8, {"clip": "clip_vitb16_openai", "background": "none"}, {"miou": 0.495}),
        ("voc_seg", "clip_dinoiser", "tiny", {"clip": "clip_vitb16"}, {"miou": 0.621}),
        ("coco_object_stuff", "clip_dinoiser", "clip_vitb16", {}, {"miou": 0.348}),
        ("ade20k", "clip_dinoiser", "clip_vitb16", {}, {"miou": 0.200}),
    ],
)
def test_others(dataset, method, backbone, options, expected) -> None:
    numbers = published_for(dataset, method, backbone, options)
    assert {name: number.value for name, number in numbers.items()} == expected


@pytest.mark.parametrize(
    ("dataset", "method", "backbone", "options", "split"),
    [
        ("voc07", "lost", "tiny", {}, ""),  # another backbone
        ("voc07", "lost", S16, {"k_patches": 50}, ""),
        ("voc07", "lost", S16, {"post": "crf"}, ""),
        ("voc07", "lost", S16, {"short_side": 224}, ""),  # the papers keep the native size
        ("voc07", "lost", S16, {}, "test"),
        ("my_photos", "lost", S16, {}, ""),
        ("ecssd", "tokencut", S16, {"tau": 0.1, "post": "bilateral"}, ""),
        ("ecssd", "deep_spectral", S16, {}, ""),  # its saliency is refined
        ("voc07", "maskcut", S16, {}, ""),  # the paper evaluates detectors trained on its masks
        ("voc_seg", "clip_diy", "tiny", {"clip": "clip_vitb32"}, ""),  # objectness of another backbone
        ("coco_object_stuff", "clip_diy", S8, {"clip": "clip_vitb32"}, ""),  # Appendix B
        ("voc_seg", "clip_dinoiser", B16, {"clip": "clip_vitb16", "correlations": "dino"}, ""),
        ("voc07", "selfmask", S16, {}, ""),
        ("voc07", "unheard_of", S16, {}, ""),
    ],
)
def test_what_is_not_comparable_has_no_number(dataset, method, backbone, options, split) -> None:
    assert published_for(dataset, method, backbone, options, split=split) == {}


@pytest.mark.parametrize(
    ("dataset", "method", "clip", "convention"),
    [
        ("voc_seg", "clip_diy", "clip_vitb32", "clip_diy"),
        ("voc20", "maskclip", "clip_vitb16_openai", "mmseg"),
        ("voc_seg", "clip_dinoiser", "clip_vitb16", "mmseg"),
    ],
)
def test_miou_of_another_convention_has_no_number(dataset, method, clip, convention) -> None:
    options = {"clip": clip, "background": "none"} if method == "maskclip" else {"clip": clip}
    other = "mmseg" if convention == "clip_diy" else "clip_diy"
    assert published_for(dataset, method, S8, {**options, "convention": convention}).keys() == {"miou"}
    assert published_for(dataset, method, S8, {**options, "convention": other}) == {}


def test_stated_defaults_change_nothing() -> None:
    stated = {**defaults_of("lost"), "short_side": None}
    assert published_for("VOC-07", "lost", S16, stated, split="trainval")["corloc"].value == 0.619


@pytest.mark.parametrize("post", ["none", "bilateral", "crf"])
@pytest.mark.parametrize("mode", ["single", "multi"])
@pytest.mark.parametrize("method", sorted({row.method for row in ROWS}))
def test_no_number_stands_twice(method, mode, post) -> None:
    from objloc_ros.evaluation.report.published import rows_for

    for backbone in {row.backbone for row in ROWS}:
        rows = rows_for(method, backbone, {"mode": mode, "post": post})
        cells = [(data, metric) for row in rows for data, numbers in row.numbers.items() for metric in numbers]
        assert len(cells) == len(set(cells))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method}-{row.backbone}-{row.variant}")
def test_rows_speak_of_what_exists(row) -> None:
    assert row.numbers.keys() <= BENCHMARKS.keys()
    assert all(0 < value < 1 and math.isfinite(value) for numbers in row.numbers.values() for value in numbers.values())
    if row.method in HEADS:
        known = {"short_side", "clip", "backbone", *defaults_of(row.method)}
        assert (row.settings or {}).keys() <= known
        assert row.settings is None or row.backbone in REGISTRY


def test_defaults_are_those_of_the_methods() -> None:
    assert defaults_of("tokencut") == {"tau": 0.2, "eps": 1e-5, "binary": True, "post": "none"}
    assert defaults_of("unheard_of") == {}


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
    found = benchmark_of(dataset, split)
    assert (found and found.key) == key


def test_sizes_are_those_of_the_papers() -> None:
    sizes = {"voc07": 5011, "voc12": 11540, "coco20k": 19817, "ecssd": 1000, "duts_te": 5019, "dut_omron": 5168}
    assert {key: BENCHMARKS[key].images for key in sizes} == sizes
