"""The description of a pipeline: a value that travels and loads what it says."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from objloc_ros.engine.config import Model
from objloc_ros.errors import ParameterError


def test_a_copy_from_another_process_is_equal_and_hashes_alike() -> None:
    model = Model(methods=("found", "lost"), options=((("threshold", 0.6),), ()), prompts=("cat",))
    copy = pickle.loads(pickle.dumps(model))
    assert copy == model
    assert hash(copy) == hash(model)
    assert model != Model(methods=("found", "lost"))


def test_options_reach_the_pipeline() -> None:
    model = Model(methods=("found", "lost"), options=((("threshold", 0.6),), (("k_patches", 7),)), device="cpu")
    pipeline = model.load()
    assert pipeline.methods == ("found", "lost")
    assert pipeline.options["found"].threshold == 0.6
    assert pipeline.options["lost"].k_patches == 7


def test_prompts_reach_the_pipeline() -> None:
    pipeline = Model(methods=("maskclip",), prompts=("red object", "blue circle"), device="cpu").load()
    assert pipeline.labels is not None
    assert pipeline.labels.prompts == ("red object", "blue circle")


def test_what_results_depend_on() -> None:
    about = Model(methods=("found",), options=((("threshold", 0.6),),), device="cpu").about("found")
    assert about["software"].startswith("objloc_ros ")
    assert (about["method"], about["backbone"], about["options"]["threshold"]) == ("found", "tiny", 0.6)
    assert "device" not in about
    assert "prompts" not in about
    assert Model(methods=("maskclip",), prompts=("cat",)).about("maskclip")["prompts"] == ["cat"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"methods": ()}, r"methods must be one or more of .*, got \[\]"),
        ({"methods": ("yolo",)}, "got \\['yolo'\\]"),
        ({"methods": ("found",), "options": ((("threshold", 2.0),),)}, "threshold must lie between 0 and 1"),
        ({"methods": ("found",), "options": ((("colour", "red"),),)}, "found has no such option"),
        ({"methods": ("maskclip",), "prompts": ("cat", "Cat ")}, "prompts must be different"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_loaded(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Model(**fields)
