"""`objloc train detector` from teachers and over rounds, end to end at toy size."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prelabel_making import bag, video

from objloc_ros.cli import train_detector, train_labels
from objloc_ros.cli.main import main
from objloc_ros.io.media import write_image
from objloc_ros.methods.detector_file import DetectorInfo, load_detector
from objloc_ros.training.detector import hash_weights
from objloc_ros.training.detector_labels import read_labels

SCENES = 6
TOY = (
    "--steps",
    "8",
    "--rate",
    "0.02",
    "--average",
    "0",
    "--batch",
    "4",
    "--variants",
    "2",
    "--device",
    "cpu",
    "--workers",
    "1",
)
WEIGHTS = "tiny_detector.safetensors"
DOCUMENT = Path("annotations", "instances_default.json")

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on small scenes, with a checkpoint after each step."""
    monkeypatch.setattr(train_labels, "SCENES_BANK", {"backgrounds": 2, "sprites": 4, "side": 64})
    monkeypatch.setattr(train_labels, "SCENES_SIZE", (64, 96))
    often = partial(train_detector.train_detector, save_every=1)
    monkeypatch.setattr(train_detector, "train_detector", often)

    def call(*options: str, out: str = "out") -> int:
        return main(["train", "detector", "--out", str(tmp_path / out), *TOY, *options])

    return call


class Killed(BaseException):
    """In place of a signal."""


def kill_at(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    """Make the n-th call of a function the last."""
    function, calls = getattr(owner, name), []

    def count(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, count)


def read_results(out: Path) -> list[tuple[str, DetectorInfo, bytes]]:
    """Of each round the weights, what their file says, and the labels that it has written."""
    results = []
    for folder in (out, out / "round_2", out / "round_3"):
        detector, info = load_detector(folder / WEIGHTS)
        labels = (folder / DOCUMENT).read_bytes() if folder != out else b""
        results.append((hash_weights(detector), info, labels))
    return results


def test_teachers_rounds_and_resuming_give_one_result(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--teacher", "maskcut,lost", "--scenes", str(SCENES), "--rounds", "3", "--keep", "0.6")
    assert run(*words) == 0
    assert "objects in" in capsys.readouterr().out
    out = tmp_path / "out"
    expected = read_results(out)
    assert len({about.trained_on["labels_hash"] for _, about, _ in expected}) > 1, "a round learns something else"
    deaths = (
        (train_labels, "write_image", 3),  # a scene
        (train_labels, "label_pieces", 2),  # the second teacher
        (train_detector.TrainingProgress, "__call__", 2),  # a step of the first round
        (train_detector, "save_detector", 1),
        (train_labels, "label_pieces", 1),  # predictions for the second round
        (train_labels, "write_labels", 1),
        (train_detector.TrainingProgress, "__call__", SCENES + 2),
        (train_detector, "train_detector", 2),  # between two rounds
        (train_detector, "save_detector", 1),  # that of the third
    )
    for owner, name, call in deaths:
        with monkeypatch.context() as patch:
            kill_at(patch, owner, name, call)
            with pytest.raises(Killed):
                run(*words, out="again")
    assert run(*words, out="again") == 0
    assert read_results(tmp_path / "again") == expected
    with monkeypatch.context() as patch:
        kill_at(patch, train_detector, "train_detector", 1)
        assert run(*words) == 0, "all is done"


def test_the_detector_says_what_it_has_learned_from(run: Run, tmp_path: Path) -> None:
    words = ("--teacher", "lost", "--scenes", str(SCENES), "--empty-ok")
    assert run(*words, "--rounds", "2") == 0
    first, second = (load_detector(tmp_path / "out" / name / WEIGHTS)[1].trained_on for name in ("", "round_2"))
    assert (first["labels"], first["images"], first["steps"]) == (["lost"], SCENES, 8)
    assert (second["round"], second["keep"], second["drop_far"]) == (2, 0.75, 1.0)
    assert second["rate"] == pytest.approx(1e-2), "half the rate of the first round"
    labels = read_labels(tmp_path / "out" / "round_2", tmp_path / "out" / "images", empty_ok=True)
    assert (second["images"], second["objects"]) == (SCENES, labels.count)


def test_corrected_labels_are_what_is_learned(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--teacher", "lost", "--scenes", str(SCENES))
    assert run(*words) == 0
    document = tmp_path / "out" / "labels" / "lost" / DOCUMENT
    corrected = json.loads(document.read_text())
    corrected["annotations"] = corrected["annotations"][:-1]
    document.write_text(json.dumps(corrected))
    capsys.readouterr()
    assert run(*words) == 2
    assert "labels" in capsys.readouterr().err, "the checkpoint is of other labels"
    for file in (tmp_path / "out").glob("tiny_detector.*"):
        file.unlink()
    assert run(*words) == 0
    about = load_detector(tmp_path / "out" / WEIGHTS)[1].trained_on
    assert about["objects"] == len(corrected["annotations"])


def test_labels_of_people_are_learned_from_beside_their_images(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--teacher", "lost", "--scenes", "3") == 0
    prelabels = tmp_path / "out" / "labels" / "lost"
    (tmp_path / "out" / "images").rename(prelabels / "images")
    document = json.loads((prelabels / DOCUMENT).read_text())
    document["annotations"] = [{**one, "iscrowd": 1} for one in document["annotations"] if one["image_id"] != 1]
    (prelabels / DOCUMENT).write_text(json.dumps(document))
    capsys.readouterr()
    assert run("--labels", str(prelabels), out="theirs") == 0
    told = capsys.readouterr()
    assert "1 images without labels are left out; --empty-ok" in told.err
    assert f"{len(document['annotations'])} annotations have iscrowd" in told.err
    assert load_detector(tmp_path / "theirs" / WEIGHTS)[1].trained_on["labels"] == str(prelabels)
    assert run("--labels", str(prelabels), "--skip-crowds", out="none") == 2
    assert "leave --skip-crowds out" in capsys.readouterr().err
    assert run("--labels", str(prelabels), "--consistent", "2", out="none") == 2
    assert "no object has a track" in capsys.readouterr().err
    document["annotations"] = []
    (prelabels / DOCUMENT).write_text(json.dumps(document))
    assert run("--labels", str(prelabels), "--empty-ok", out="none") == 2
    assert "there are no labels" in capsys.readouterr().err


def test_a_teacher_that_finds_nothing_teaches_nothing(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    write_image(tmp_path / "in" / "flat.png", np.full((96, 128, 3), 127, np.uint8))
    assert run("--teacher", "found", "--images", str(tmp_path / "in")) == 2
    assert "there are no labels, in 1 images" in capsys.readouterr().err


def test_bags_and_videos_are_learned_from_by_their_tracks(
    run: Run, tmp_path: Path, prelabel: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    video(tmp_path / "in" / "clip.mp4")
    bag(tmp_path / "in" / "run", frames=2)
    assert prelabel("--method", "lost") == 0
    out = tmp_path / "out"
    assert run("--labels", str(out), "--consistent", "3", out="steady") == 0
    about = load_detector(tmp_path / "steady" / WEIGHTS)[1].trained_on
    assert (about["consistent"], about["images"]) == (3, 3), "the video has three frames, the bag two of each camera"
    capsys.readouterr()
    assert run("--labels", str(out), "--consistent", "4", out="none") == 2
    assert "longest track has 3 images, fewer than 4" in capsys.readouterr().err


def test_teachers_and_rounds_label_on_a_cluster_what_they_label_here(run: Run, cluster: Any, tmp_path: Path) -> None:
    words = ("--teacher", "lost", "--scenes", "3", "--rounds", "2")
    assert run(*words, "--engine", "ray", "--address", cluster.address, out="ray") == 0
    assert run(*words, out="here") == 0
    for name in (f"labels/lost/{DOCUMENT}", f"round_2/{DOCUMENT}"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
