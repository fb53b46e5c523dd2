"""Results are read from their folders and checked; what is wrong is named."""

from __future__ import annotations

import json

import pytest

from objloc_ros.errors import InputError
from objloc_ros.evaluation.report.results import FORMAT, find_results, parse_result


def document(**changes):
    whole = {
        "format": FORMAT,
        "software": "objloc_ros 0.1.0",
        "dataset": "voc07",
        "split": "trainval",
        "kind": "boxes",
        "method": "lost",
        "backbone": "dino_vits16",
        "options": {"k_patches": 100},
        "images": 5011,
        "failed": [{"key": "000005", "reason": "truncated"}],
        "metrics": {"corloc": 0.619},
        "protocol": {"no_hard": False},
        "seconds": 12.5,
        "machine": "2 cores",
    }
    return {**whole, **changes}


def test_every_field_is_read() -> None:
    run = parse_result(document(), "some/run")
    assert (run.dataset, run.split, run.kind, run.method, run.backbone) == (
        *("voc07", "trainval", "boxes"),
        *("lost", "dino_vits16"),
    )
    assert (run.images, run.seconds, run.machine, run.folder) == (5011, 12.5, "2 cores", "some/run")
    assert (run.metrics, run.options, run.protocol) == ({"corloc": 0.619}, {"k_patches": 100}, {"no_hard": False})
    assert run.failed == {"000005": "truncated"}
    assert run.per_class == {}


@pytest.mark.parametrize(
    ("changes", "per_class"),
    [
        ({"metrics": {"miou": 0.5, "per_class": {"cat": 0.5, "dog": None}}}, {"cat": 0.5, "dog": None}),
        ({"metrics": {"miou": 0.5, "per_class": [0.5, None]}}, {"0": 0.5, "1": None}),
        ({"metrics": {"miou": 0.5, "per_class": [0.5, 1]}, "class_names": ["a", "b"]}, {"a": 0.5, "b": 1.0}),
    ],
)
def test_classes_come_as_an_object_or_a_list(changes, per_class) -> None:
    run = parse_result(document(**changes))
    assert run.metrics == {"miou": 0.5}
    assert run.per_class == per_class


def test_a_metric_that_does_not_apply_is_left_out() -> None:
    assert parse_result(document(metrics={"corloc": None, "ap": 0})).metrics == {"ap": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else"}, "format must be 'objloc_ros evaluation 1', got 'something else'"),
        ({"dataset": None}, "dataset must be a text, got None"),
        ({"options": []}, r"options must be an object, got \[\]"),
        ({"images": -1}, "images must be a whole number of at least 0, got -1"),
        ({"images": True}, "images must be a whole number of at least 0, got True"),
        ({"images": 3.0}, "images must be a whole number of at least 0, got 3.0"),
        ({"seconds": -0.5}, "seconds must be a number of at least 0, got -0.5"),
        ({"metrics": {"corloc": float("nan")}}, "metrics.corloc must be a finite number, got nan"),
        ({"metrics": {"corloc": 10**400}}, "metrics.corloc must be a finite number"),
        ({"metrics": {"corloc": "high"}}, "metrics.corloc must be a finite number, got 'high'"),
        ({"metrics": {"per_class": {"cat": "x"}}}, "metrics.per_class.cat must be a finite number, got 'x'"),
        ({"metrics": {"per_class": 3}}, "metrics.per_class must be an object of numbers by name, got 3"),
        ({"metrics": {"per_class": [0.1]}, "class_names": ["a", "b"]}, "class_names must name the 1 classes"),
        ({"failed": ["000005"]}, "failed must be a list"),
        ({"failed": 3}, "failed must be a list"),
    ],
)
def test_what_is_wrong_is_named(changes, message) -> None:
    with pytest.raises(InputError, match=message):
        parse_result(document(**changes))


@pytest.mark.parametrize("whole", [None, [], "text", 3])
def test_something_else_than_a_result_is_refused(whole) -> None:
    with pytest.raises(InputError, match="format must be"):
        parse_result(whole)


def test_a_folder_is_searched_and_bad_files_do_not_end_it(tmp_path) -> None:
    for name, text in {
        "b/result.json": json.dumps(document()),
        "a/deep/er/result.json": json.dumps(document(method="tokencut")),
        "a/.result.json.x1/result.json": "not whole yet",
        "a/other.json": "{}",
        "cut/result.json": '{"format": "objloc_ros eval',
        "empty/result.json": "",
        "odd/result.json": json.dumps(document(images="all")),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "folder" / "result.json").mkdir(parents=True)
    results, refused = find_results(tmp_path)
    assert [(run.folder, run.method) for run in results] == [("a/deep/er", "tokencut"), ("b", "lost")]
    assert list(refused) == ["cut/result.json", "empty/result.json", "odd/result.json"]
    assert "not JSON" in refused["cut/result.json"]
    assert refused["odd/result.json"] == "images must be a whole number of at least 0, got 'all'"


def test_a_result_may_lie_in_the_folder_itself(tmp_path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(document()))
    results, refused = find_results(tmp_path)
    assert [run.folder for run in results] == ["."]
    assert refused == {}


def test_no_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(InputError, match="missing is not a folder"):
        find_results(tmp_path / "missing")
