"""Checkpoints of R-CNNs: what may differ between versions, and files that are refused before anything runs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rcnn_making import CASCADE, CLUSTERS, PYRAMID, make_state

from objloc_ros.backbones.registry import find_entry
from objloc_ros.backbones.weights import read_state
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.methods.rcnn import Rcnn, RcnnSpec
from objloc_ros.methods.rcnn_weights import load_rcnn, read_spec

State = dict[str, Any]


@pytest.fixture(scope="module")
def state() -> State:
    return make_state(PYRAMID)


def save(path: Path, content: Any) -> Path:
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    return path


def load(path: Path) -> Rcnn:
    return load_rcnn("cutler_mrcnn", path=path)


def to_arrays(state: State) -> State:
    return {name: tensor.numpy() for name, tensor in state.items()}


def without_counters(state: State) -> State:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


def with_constants(state: State) -> State:
    """Add what older versions also saved."""
    anchors = {f"proposal_generator.anchor_generator.cell_anchors.{i}": torch.zeros(3, 4) for i in range(5)}
    return {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1), **state, **anchors}


WRAPPINGS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "a trainer's file": ("a.pth", lambda s: {"model": s, "iteration": 7, "lr": np.float64(0.1), "optimizer": {}}),
    "a bare state dict": ("a.pth", lambda s: s),
    "a file of an older version": ("a.pth", lambda s: {"model": with_constants(s)}),
    "a file without counters": ("a.pth", lambda s: {"model": without_counters(s)}),
    "the model zoo's pickle": (
        "a.pkl",
        lambda s: {"model": to_arrays(without_counters(s)), "__author__": "X", "matching_heuristics": True},
    ),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_the_same_network_is_read_from_every_wrapping(wrapping: str, state: State, tmp_path: Path) -> None:
    name, wrap = WRAPPINGS[wrapping]
    path = save(tmp_path / name, wrap(state))
    network = load(path)
    path.unlink()  # arrays take 100 MB
    assert network.spec == PYRAMID
    assert not network.training
    loaded = network.state_dict()
    assert list(loaded) == list(state)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("spec", [PYRAMID, CASCADE, CLUSTERS, RcnnSpec((3, 4, 23, 3), True, 1, 80, 80, False)])
def test_the_network_is_known_by_its_names(spec: RcnnSpec) -> None:
    with torch.device("meta"):
        assert read_spec(Rcnn(spec).state_dict(), Path("x")) == spec


class Hostile:
    """Runs a command where it is unpickled without care."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


@pytest.mark.parametrize("name", ["a.pkl", "a.pth"])
def test_a_pickle_runs_nothing(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, {"model": {"a": np.zeros(3)}, "x": Hostile(tmp_path / "mark")})
    with pytest.raises(WeightsError, match=r"a\.p.. cannot be read as weights"):
        load(path)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("function", [eval, getattr, np.load, torch.load])
def test_a_pickle_names_arrays_and_plain_containers_only(function: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"it asks for [\w.]+, which is neither an array nor a plain container"):
        read_state(save(tmp_path / "a.pkl", {"x": function}))


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds a list, expected a dictionary"):
        read_state(save(tmp_path / "a.pkl", [np.zeros(3)]))


@pytest.mark.parametrize("name", ["a.pkl", "a.pth"])
@pytest.mark.parametrize("kept", [0, 100, 10_000])
def test_a_truncated_file_is_refused(name: str, kept: int, tmp_path: Path) -> None:
    path = save(tmp_path / name, {"model": {"a": np.zeros(10_000)}})
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WeightsError, match=r"a\.p.. cannot be read as weights"):
        load(path)


def change(state: State, **changes: Any) -> State:
    return {name: tensor for name, tensor in {**state, **changes}.items() if tensor is not None}


NAME = "roi_heads.box_head.fc2.bias"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({NAME: None}, rf"is no R-CNN that can be read: 1 missing \({NAME}\)"),
        ({"roi_heads.more": torch.zeros(1)}, r"1 unexpected \(roi_heads.more\)"),
        ({NAME: torch.zeros(7)}, rf"1 mis-shaped \({NAME} \[7\] for \[1024\]\)"),
        ({NAME: "text"}, rf"1 not a tensor \({NAME}\)"),
        ({NAME: torch.full((1024,), torch.nan)}, rf"numbers that are not finite, in {NAME}"),
        ({"roi_heads.box_predictor.bbox_pred.weight": torch.zeros(12, 1024)}, "expected detectron2's names"),
        ({"roi_heads.box_predictor.cls_score.weight": torch.zeros(1, 1024)}, "expected detectron2's names"),
    ],
)
def test_what_does_not_fit_is_named(changes: State, message: str, state: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"model": change(state, **changes)})
    with pytest.raises(WeightsError, match=message):
        load(path)


@pytest.mark.parametrize("dtype", [np.float32, ">f4", np.float16])
def test_arrays_in_torchs_file_are_read(dtype: Any, state: State, tmp_path: Path) -> None:
    biases = np.arange(1024).astype(dtype)
    network = load(save(tmp_path / "a.pth", {"model": {**state, NAME: biases}}))
    assert network.state_dict()[NAME].tolist() == list(range(1024))


def test_an_array_of_objects_is_refused(state: State, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {"model": {**state, NAME: np.array([None] * 1024, dtype=object)}})
    with pytest.raises(WeightsError, match=r"a\.pth cannot be read as weights"):
        load(path)


def test_a_cascade_with_boxes_for_each_class_is_refused() -> None:
    spec = RcnnSpec((1, 1, 1, 1), pyramid=True, stages=3, classes=5, box_classes=5, masks=False)
    with torch.device("meta"), pytest.raises(WeightsError, match="expected detectron2's names"):
        read_spec(Rcnn(spec).state_dict(), Path("x"))


@pytest.mark.parametrize("model", [{}, {"model": []}, {1: torch.zeros(1)}, {"a.b": torch.zeros(2, 2)}])
def test_other_dictionaries_are_refused(model: Any, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="expected detectron2's names"):
        load(save(tmp_path / "a.pth", model))


def test_a_vit_is_refused() -> None:
    with pytest.raises(WeightsError, match="is no R-CNN that can be read: expected detectron2's names"):
        load(find_entry("tiny").path)


def test_a_file_that_is_absent_is_named_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="objloc weights fetch cutler_cascade --non-commercial"):
        load_rcnn("cutler_cascade")
    with pytest.raises(ParameterError, match="unknown weights 'yolo'"):
        load_rcnn("yolo")
