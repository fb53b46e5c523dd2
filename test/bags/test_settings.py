"""Rows of results: methods and sets of prompts, their names, and the networks that they share."""

from __future__ import annotations

from pathlib import Path

import pytest

from objloc_ros.bags.settings import PromptSet, load_row_groups, make_rows, number_sets, read_sweep
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.errors import InputError, ParameterError


def sets(*texts: str) -> list[PromptSet]:
    return number_sets([PromptSet.parse(text) for text in texts])


def test_prompts_may_say_what_they_mean() -> None:
    got = PromptSet.parse("automobile = Car , traffic cone", "b")
    assert got == PromptSet("b", ("automobile", "traffic cone"), ("Car", "traffic cone"))
    assert got.class_names == {"automobile": "Car", "traffic cone": "traffic cone"}


@pytest.mark.parametrize("text", ["", "a,,b", "a, A", "=car"])
def test_prompts_that_are_none(text: str) -> None:
    with pytest.raises(ParameterError, match="prompts must"):
        PromptSet.parse(text)


@pytest.mark.parametrize(
    ("methods", "texts", "rows"),
    [
        (["found"], [], [("found", "found")]),
        (["found", "maskcut"], [], [("found", "found"), ("maskcut", "discovery")]),
        (["lost", "maskcut"], [], [("lost", "discovery_lost"), ("maskcut", "discovery_maskcut")]),
        (["clip_diy"], ["a"], [("clip_diy", "segmentation")]),
        (
            ["clip_diy", "found"],
            ["a", "b"],
            [
                ("clip_diy (1)", "segmentation_clip_diy_1"),
                ("clip_diy (2)", "segmentation_clip_diy_2"),
                ("found", "found"),
            ],
        ),
    ],
)
def test_rows(methods: list[str], texts: list[str], rows: list[tuple[str, str]]) -> None:
    got = make_rows(methods, sets(*texts) if texts else [])
    assert [(run.name, run.node) for run in got] == rows


SWEEP = [PromptSet("colours", ("red", "blue"), ("red", "blue")), PromptSet("2", ("car",), ("vehicle",))]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "# what to try\ncolours: red, blue\n\n car = vehicle \n"),
        ("a.yaml", "colours: [red, blue]\n2:\n- car = vehicle\n"),
    ],
)
def test_a_sweep(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    assert read_sweep(tmp_path / name) == SWEEP


@pytest.mark.parametrize(
    ("name", "text", "kind", "message"),
    [
        ("a.txt", "# nothing\n", ParameterError, "there is no set of prompts"),
        ("a.txt", "a: red\na: blue\n", ParameterError, r"need different names, got \['a', 'a'\]"),
        ("a.txt", "a: red, \n", ParameterError, "prompts must not be empty"),
        ("a.yaml", "- red\n", InputError, "a sweep is a list of prompts for each name"),
        ("a.yaml", "a: [1, 2]\n", InputError, "a sweep is a list of prompts for each name"),
        ("a.yaml", "a: [", InputError, "cannot read"),
    ],
)
def test_sweeps_that_are_none(tmp_path: Path, name: str, text: str, kind: type, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(kind, match=message):
        read_sweep(tmp_path / name)


def test_a_sweep_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*none.txt"):
        read_sweep(tmp_path / "none.txt")


def test_passes_share_the_networks_and_have_ids_of_their_own() -> None:
    both = sets("red object, blue object", "blue object, green object")
    rows = make_rows(["found", "maskclip"], both)
    first, second = load_row_groups(PipelineConfig(methods=("found", "maskclip"), device="cpu"), rows)
    assert (first.methods, second.methods) == (("found", "maskclip"), ("maskclip",))
    assert first.pipeline.backbone is second.pipeline.backbone
    for one, ids in ((first, {0: "red object", 1: "blue object"}), (second, {0: "blue object", 1: "green object"})):
        assert one.pipeline.labels is not None
        assert one.pipeline.labels.names() == ids
