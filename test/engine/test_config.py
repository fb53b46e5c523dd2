"""The description of a pipeline: a value that travels and loads what it says."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.pipeline import build_pipeline
from objloc_ros.errors import ParameterError


def test_a_copy_from_another_process_is_equal_and_hashes_alike() -> None:
    config = PipelineConfig(methods=("found", "lost"), options=((("threshold", 0.6),), ()), prompts=("cat",))
    copy = pickle.loads(pickle.dumps(config))
    assert copy == config
    assert hash(copy) == hash(config)
    assert config != PipelineConfig(methods=("found", "lost"))


def test_options_reach_the_pipeline() -> None:
    config = PipelineConfig(
        methods=("found", "lost"), options=((("threshold", 0.6),), (("k_patches", 7),)), device="cpu"
    )
    pipeline = build_pipeline(config)
    assert pipeline.methods == ("found", "lost")
    assert pipeline.options["found"].threshold == 0.6
    assert pipeline.options["lost"].k_patches == 7


def test_prompts_reach_the_pipeline() -> None:
    pipeline = build_pipeline(
        PipelineConfig(methods=("maskclip",), prompts=("red object", "blue circle"), device="cpu")
    )
    assert pipeline.labels is not None
    assert pipeline.labels.prompts == ("red object", "blue circle")


def test_what_results_depend_on() -> None:
    about = PipelineConfig(methods=("found",), options=((("threshold", 0.6),),), device="cpu").about("found")
    assert about["software"].startswith("objloc_ros ")
    assert (about["method"], about["backbone"], about["options"]["threshold"]) == ("found", "tiny", 0.6)
    assert "device" not in about
    assert "prompts" not in about
    assert PipelineConfig(methods=("maskclip",), prompts=("cat",)).about("maskclip")["prompts"] == ["cat"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ()}, r"methods must be one or more of .*, got \[\]"),
        ({"methods": ("yolo",)}, "got \\['yolo'\\]"),
        ({"methods": ("found",), "options": ((("threshold", 2.0),),)}, r"threshold must lie in \[0, 1\]"),
        ({"methods": ("found",), "options": ((("colour", "red"),),)}, "found has no such option"),
        ({"methods": ("maskclip",), "prompts": ("cat", "Cat ")}, "prompts must be different"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        PipelineConfig(**fields)


def test_a_nodes_parameters_name_the_networks_where_they_are_not_empty() -> None:
    parameters = {"backbone": "dino_vits8", "short_side": 0, "weights": "", "head_weights": "/x/head", "prompts": ["a"]}
    config = PipelineConfig.from_parameters(["found"], {**parameters, "device": "cpu", "threshold": 0.6})
    named = {"backbone": "dino_vits8", "device": "cpu", "head_weights": Path("/x/head")}
    assert config == PipelineConfig(methods=("found",), **named)
