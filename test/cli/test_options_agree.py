"""Every option means the same everywhere: in Python, on the command line, at the nodes and in the documentation."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

from objloc_ros.cli.options import add_flags, add_pipeline_options, collect_options, parse_pipeline
from objloc_ros.engine.config import HEADS, NODES, PipelineConfig
from objloc_ros.engine.video_tracker import VideoOptions
from objloc_ros.errors import ParameterError
from objloc_ros.methods.options import SEGMENTATION, FoundOptions
from objloc_ros.nodes.parameter_docs import TABLES
from objloc_ros.nodes.params import to_descriptor
from objloc_ros.options import Option, describe

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "parameters.md").read_text(encoding="utf-8")

UNIT, OPEN_UNIT, POST = "0 to 1", "0 to 1, both excluded", "`none`, `bilateral`, `crf`"
SEGMENTATION_VALUES = {"background": "`found`, `prompt`, `none`", "per_region": "", "threshold": UNIT, "min_area": UNIT}

SALIENCY_VALUES = {
    "threshold": UNIT,
    "mode": "`multi`, `single`",
    "post": "`none`, `bilateral`",
    "min_area": UNIT,
    "max_detections": "1 to 1000",
}

ALLOWED = {
    "found": SALIENCY_VALUES,
    "selfmask": SALIENCY_VALUES,
    "lost": {"k_patches": "at least 1", "post": POST},
    "tokencut": {"tau": "-1 to 1", "eps": OPEN_UNIT, "binary": "", "post": POST},
    "deep_spectral": {"n_vectors": "at least 2", "post": POST},
    "maskcut": {"n_masks": "at least 1", "tau": UNIT, "eps": OPEN_UNIT, "post": POST},
    "dino_seg": {"head": "at least 0", "mass": OPEN_UNIT, "post": POST},
    "vote": {"candidates": "`all`, `clusters`", "small_large": "", "post": POST},
    "detector": {"threshold": UNIT, "max_detections": "1 to 1000", "post": POST},
    "rcnn": {"threshold": UNIT, "nms_iou": UNIT, "max_detections": "1 to 1000"},
    "clip_diy": {**SEGMENTATION_VALUES, "placement": "`tiled`, `centred`, `nearest`"},
    "maskclip": SEGMENTATION_VALUES,
    "clip_dinoiser": {**SEGMENTATION_VALUES, "gamma": UNIT, "delta": UNIT, "correlations": "`auto`, `head`, `dino`"},
}
"""What each option takes, as users know it."""

OPTIONS = [(method, name) for method, kind in HEADS.items() for name in describe(kind)]
AT_NODES = [(method, name) for method, name in OPTIONS if name in TABLES[NODES[method]]]


def step(option: Option, value: float, direction: float) -> float:
    """The next number beyond a limit."""
    return value + direction if option.kind is int else math.nextafter(value, direction * math.inf)


def values_to_try(option: Option) -> Iterator[tuple[Any, bool]]:
    """Values at and beyond the ends of an option, and whether it takes them."""
    if option.kind is bool:
        yield from [(True, True), (False, True)]
    if option.choices:
        yield from [(choice, True) for choice in option.choices]
        yield from [("something else", False), ("", False)]
    for limit, outwards in ((option.low, -1), (option.high, 1)):
        if limit is not None:
            yield option.kind(limit), not option.exclusive
            yield step(option, option.kind(limit), outwards), False
            yield step(option, option.kind(limit), -outwards), True
    if option.kind is float:
        yield from [(math.nan, False), (math.inf, False)]


def takes(call: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether a call accepts its values; every refusal has to name the option."""
    try:
        call(*args, **kwargs)
    except ParameterError:
        return False
    return True


def command_takes(method: str, name: str, value: Any) -> bool:
    """Whether the command line accepts a value, and hands that very value on."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_pipeline_options(parser)
    flag = name.replace("_", "-")
    words = [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}={value!s}"]
    prompts = ["--prompts", "cat"] if method in SEGMENTATION else []
    try:
        config = parse_pipeline(parser.parse_args(["--method", method, *prompts, *words]))
    except (argparse.ArgumentError, ParameterError):
        return False
    assert config.given_options(method) == {name: value}
    return True


def section(title: str) -> str:
    """A section of the document."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert found, f"docs/parameters.md has no section {title}"
    return found[1]


def row(title: str, name: str) -> list[str]:
    """The cells of an option in a section of the document."""
    found = re.search(rf"^\| `{name}` \|(.*) \|$", section(title), re.MULTILINE)
    assert found, f"{name} is not in section {title}"
    return [cell.strip() for cell in found[1].split(" | ")]


def test_all_methods_are_in_the_table_of_this_test() -> None:
    assert {method: list(values) for method, values in ALLOWED.items()} == {
        method: list(describe(kind)) for method, kind in HEADS.items()
    }


@pytest.mark.parametrize(("method", "name"), OPTIONS)
def test_python_and_command_line_take_the_same_values(method: str, name: str) -> None:
    option = describe(HEADS[method])[name]
    assert option.allowed == ALLOWED[method][name]
    tried = list(values_to_try(option))
    assert any(allowed for _, allowed in tried)
    for value, allowed in tried:
        assert takes(HEADS[method], **{name: value}) == allowed, value
        assert command_takes(method, name, value) == allowed, value


@pytest.mark.parametrize(("method", "name"), AT_NODES)
def test_nodes_take_the_same_values(method: str, name: str) -> None:
    option, table = describe(HEADS[method])[name], TABLES[NODES[method]]
    for value, allowed in values_to_try(option):
        assert takes(table.check, {name: value}) == allowed, value
    described = to_descriptor(table[name])
    for limits in (*described.floating_point_range, *described.integer_range):
        assert (limits.from_value, limits.to_value) == (option.low, option.high)
    assert not described.read_only


@pytest.mark.parametrize(("method", "name"), OPTIONS)
def test_the_document_says_the_same(method: str, name: str) -> None:
    option, table = describe(HEADS[method])[name], TABLES[NODES[method]]
    kind, default, allowed, meaning = row(f"`{method}`", name)
    assert (kind, allowed, meaning) == (option.kind.__name__, ALLOWED[method][name], option.help)
    stated = f"`{str(option.default).lower() if option.kind is bool else repr(option.default)}`"
    assert default == (option.unset or stated)
    if name in table:
        assert row(f"Node `{NODES[method]}`", name)[2:] == [ALLOWED[method][name], "yes", option.help]


@pytest.mark.parametrize("name", describe(FoundOptions))
def test_the_found_node_has_the_defaults_of_the_method(name: str) -> None:
    assert TABLES["found"][name].default == getattr(FoundOptions(), name)


@pytest.mark.parametrize("name", describe(VideoOptions))
def test_options_of_videos_are_the_same_everywhere(name: str) -> None:
    option, table = describe(VideoOptions)[name], TABLES["discovery"]
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_flags(parser, VideoOptions)
    for value, allowed in values_to_try(option):
        assert takes(VideoOptions, **{name: value}) == allowed, value
        assert takes(table.check, {name: value}) == allowed, value
        if not isinstance(value, bool):
            given = collect_options(parser.parse_args([f"--{name.replace('_', '-')}={value}"]), VideoOptions)
            assert takes(VideoOptions, **given) == allowed, value
    assert row("Node `discovery`", name)[2] == option.allowed


@pytest.mark.parametrize(("pixels", "allowed"), [(0, True), (4096, True), (-1, False), (4097, False)])
def test_the_size_of_images_is_limited_alike(pixels: int, allowed: bool) -> None:
    assert takes(PipelineConfig, methods=("found",), short_side=pixels) == allowed
    parser = argparse.ArgumentParser()
    add_pipeline_options(parser)
    assert takes(parse_pipeline, parser.parse_args([f"--short-side={pixels}"])) == allowed
    for node in set(NODES.values()):
        assert takes(TABLES[node].check, {"short_side": pixels}) == allowed
