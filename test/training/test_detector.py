"""The training of the token detector at toy size."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detector_toy import MODES, SHORT, ColourBackbone, join_classes, make_labels, shared_settings, weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from waiting import PATIENCE_S

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.token_detector import TokenDetector, decode
from objloc_ros.training import detector as training
from objloc_ros.training.detector import train_detector
from objloc_ros.training.detector_data import (
    DetectorTraining,
    read_picture,
)
from objloc_ros.training.detector_tokens import CachedExamples


def test_it_learns_where_objects_are_and_of_which_class(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 10)
    backbone = ColourBackbone()
    detector, log = train_detector(backbone, labels, DetectorTraining(steps=90, batch=6, variants=2))
    assert detector.classes == ("red", "blue")
    assert log.losses[-1]["loss"] < 0.5 * log.losses[0]["loss"]
    assert (log.skipped, log.unreadable) == (0, {})
    assert not detector.training
    for one in labels.images[:4]:
        picture = read_picture(one).image
        tokens = backbone(torch.from_numpy((picture / 255 - 0.5) / 0.25).permute(2, 0, 1)[None].float())
        found = decode(detector(tokens.keys.mT.unflatten(2, tokens.grid)), threshold=0.4)[0]
        assert sorted(found.categories.tolist()) == sorted(one.categories.tolist())
        for box, category in zip(found.boxes * 8, found.categories, strict=True):
            assert np.abs(one.boxes[one.categories == category.item()] - box.numpy()).max() < 8


@pytest.mark.parametrize("tokens", MODES)
def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path: Path, tokens: str) -> None:
    labels = make_labels(tmp_path)
    settings = dataclasses.replace(SHORT, tokens=tokens, pastes=1)
    expected, log = train_detector(ColourBackbone(), labels, settings)

    def stop(step: int, _: dict) -> None:
        if step == 5:
            raise KeyboardInterrupt

    run = {"checkpoint": tmp_path / "run.pt", "save_every": 2}
    with pytest.raises(KeyboardInterrupt):
        train_detector(ColourBackbone(), labels, settings, on_progress=stop, **run)
    seen: list[int] = []
    resumed, resumed_log = train_detector(
        ColourBackbone(), labels, settings, on_progress=lambda step, _: seen.append(step), **run
    )
    assert seen == [5, 6]
    assert torch.equal(weights(resumed), weights(expected))
    assert resumed_log.losses == log.losses


@pytest.mark.parametrize("tokens", MODES)
def test_the_number_of_workers_changes_nothing(tmp_path: Path, tokens: str) -> None:
    labels = make_labels(tmp_path, sizes=((64, 80), (72, 64)))
    settings = dataclasses.replace(SHORT, tokens=tokens, pastes=2)
    runs = [train_detector(ColourBackbone(), labels, settings, workers=workers) for workers in (1, 3)]
    assert runs[0][1].losses == runs[1][1].losses
    assert torch.equal(weights(runs[0][0]), weights(runs[1][0]))
    other, _ = train_detector(ColourBackbone(), labels, dataclasses.replace(settings, seed=1))
    assert not torch.equal(weights(other), weights(runs[0][0]))


def test_a_run_resumed_with_other_options_is_refused(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "a")
    run = {"checkpoint": tmp_path / "run.pt"}
    train_detector(ColourBackbone(), labels, SHORT, **run)
    for change, told in (
        ({"steps": 7}, "steps 6, now 7"),
        ({"seed": 1, "pastes": 2}, "seed 0, now 1, pastes 0, now 2"),
        ({"rate": 1e-4}, "rate None, now 0.0001"),
    ):
        with pytest.raises(ParameterError, match="of another run: " + told):
            train_detector(ColourBackbone(), labels, dataclasses.replace(SHORT, **change), **run)
    with pytest.raises(ParameterError, match="of another run: backbone"):
        train_detector(ColourBackbone(2.0), labels, SHORT, **run)
    with pytest.raises(ParameterError, match="of another run: labels"):
        train_detector(ColourBackbone(), make_labels(tmp_path / "b", 5), SHORT, **run)
    train_detector(ColourBackbone(), labels, dataclasses.replace(SHORT, memory_gb=1.0), **run)  # that does not matter


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half of one"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    checkpoint = tmp_path / "run.pt"
    checkpoint.write_bytes(content)
    with pytest.raises(ParameterError, match=r"run\.pt cannot be read, delete it to begin anew"):
        train_detector(ColourBackbone(), make_labels(tmp_path), SHORT, checkpoint=checkpoint)


def test_images_that_become_unreadable_are_left_out_and_named(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)

    def spoil(step: int, _: dict) -> None:
        if step == 2:
            labels.images[3].file.write_bytes(b"no picture")
            labels.images[4].file.unlink()

    settings = DetectorTraining(steps=6, batch=6, tokens="fresh")
    detector, log = train_detector(ColourBackbone(), labels, settings, on_progress=spoil)
    assert set(log.unreadable) == {labels.images[3].file, labels.images[4].file}
    assert "not a whole image" in log.unreadable[labels.images[3].file]
    assert len(log.losses) == 6
    assert torch.isfinite(weights(detector)).all()
    _, log = train_detector(ColourBackbone(), labels, SHORT)  # the same while tokens are cached
    assert set(log.unreadable) == {labels.images[3].file, labels.images[4].file}
    for one in labels.images:
        one.file.write_bytes(b"")
    with pytest.raises(InputError, match="none of 6 images"):
        train_detector(ColourBackbone(), labels, SHORT)


def test_an_image_of_another_size_than_its_labels_is_left_out(tmp_path: Path) -> None:
    labels = make_labels(tmp_path)
    cv2.imwrite(str(labels.images[0].file), np.zeros((10, 10, 3), np.uint8))
    _, log = train_detector(ColourBackbone(), labels, SHORT)
    assert "its labels (64, 80)" in log.unreadable[labels.images[0].file]


def test_no_labels_is_an_error(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 1, empty=0)
    with pytest.raises(InputError, match="no labels to learn from, in 1 images"):
        train_detector(ColourBackbone(), labels, SHORT)


@pytest.mark.parametrize("batch", [1, 3])
def test_images_without_objects_are_learned_from(tmp_path: Path, batch: int) -> None:
    labels = make_labels(tmp_path, 3, empty=1)
    settings = dataclasses.replace(SHORT, batch=batch, pastes=1)
    detector, log = train_detector(ColourBackbone(), labels, settings)
    assert torch.isfinite(weights(detector)).all()
    assert min(losses["objectness"] for losses in log.losses) > 0


def test_a_cache_is_used_again_and_a_stale_one_is_made_anew(tmp_path: Path, monkeypatch) -> None:
    labels = make_labels(tmp_path / "images")
    cache = tmp_path / "cache"
    expected, _ = train_detector(ColourBackbone(), labels, SHORT)
    made: list[int] = []
    make = CachedExamples._make
    monkeypatch.setattr(CachedExamples, "_make", lambda self, index: (made.append(index), make(self, index)))

    def count(backbone: ColourBackbone, settings: DetectorTraining) -> tuple[TokenDetector, int]:
        made.clear()
        detector, _ = train_detector(backbone, labels, settings, cache=cache)
        return detector, len(made)

    first, count_first = count(ColourBackbone(), SHORT)
    again, count_again = count(ColourBackbone(), SHORT)
    assert (count_first, count_again) == (6, 0)
    assert torch.equal(weights(first), weights(expected))
    assert torch.equal(weights(again), weights(expected))
    assert count(ColourBackbone(), dataclasses.replace(SHORT, seed=3))[1] == 0  # nothing is drawn
    for change in ({"pastes": 1}, {"pastes": 1, "seed": 3}, {"short_side": 32}, {"variants": 1}):
        assert count(ColourBackbone(), dataclasses.replace(SHORT, **change))[1] == 6
    assert count(ColourBackbone(3.0), dataclasses.replace(SHORT, variants=1))[1] == 6


def test_tokens_that_are_not_finite_are_refused_with_their_file(tmp_path: Path) -> None:
    labels = make_labels(tmp_path / "images")
    for settings in (SHORT, dataclasses.replace(SHORT, tokens="fresh")):
        with pytest.raises(InputError, match=r"images/\d\.png: its tokens hold NaN"):
            train_detector(ColourBackbone(float("nan")), labels, settings)
    with pytest.raises(InputError, match=r"images/0\.png: its tokens hold NaN"):  # beyond what float16 can hold
        train_detector(ColourBackbone(1e6), labels, SHORT)
    cache = tmp_path / "cache"
    train_detector(ColourBackbone(), labels, SHORT, cache=cache)
    file = cache / "0000002.safetensors"
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    tensors = load_file(file)
    tensors["tokens.0"][0, 0, 0] = float("nan")
    save_file(tensors, file, metadata)
    with pytest.raises(InputError, match=r"0000002\.safetensors: its tokens hold NaN .* delete it"):
        train_detector(ColourBackbone(), labels, SHORT, cache=cache)
    file.write_bytes(file.read_bytes()[:100])  # half a file is as good as none
    train_detector(ColourBackbone(), labels, SHORT, cache=cache)


def test_tokens_beyond_the_memory_allowed_are_refused_with_the_cure(tmp_path: Path) -> None:
    settings = dataclasses.replace(SHORT, memory_gb=1e-6)
    with pytest.raises(ParameterError, match=r"6 images in 2 variants need about .* name a folder for the cache"):
        train_detector(ColourBackbone(), make_labels(tmp_path), settings)


@pytest.mark.parametrize(
    "setting",
    [
        {"steps": 0},
        {"batch": 0},
        {"rate": 0.0},
        {"seed": -1},
        {"tokens": "stale"},
        {"variants": 0},
        {"pastes": -1},
        {"short_side": 1},
        {"drop_far": 1.5},
        {"average": float("nan")},
        {"smallest_side": 64, "short_side": 96},
        {"smallest_side": 96, "short_side": 64, "tokens": "fresh"},
        {"smallest_side": 96, "tokens": "fresh"},
    ],
)
def test_senseless_settings_are_refused(setting: dict) -> None:
    with pytest.raises(ParameterError, match=next(iter(setting))):
        DetectorTraining(**setting)


def test_without_workers_nothing_is_prepared(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="workers must be at least 1, got 0"):
        train_detector(ColourBackbone(), make_labels(tmp_path, 1), SHORT, workers=0)


def test_a_step_without_a_finite_loss_is_skipped_and_many_end_the_training(tmp_path: Path, monkeypatch) -> None:
    labels = make_labels(tmp_path)
    true_losses, calls = training.detector_losses, []

    def spoil(*args, **options):
        calls.append(1)
        losses = true_losses(*args, **options)
        return losses._replace(masks=losses.masks * float("nan")) if len(calls) in broken else losses

    monkeypatch.setattr(training, "detector_losses", spoil)
    broken = {2, 3}
    detector, log = train_detector(ColourBackbone(), labels, SHORT)
    assert log.skipped == 2
    assert torch.isfinite(weights(detector)).all()
    assert np.isnan([losses["loss"] for losses in log.losses]).tolist() == [False, True, True, False, False, False]
    broken = set(range(100))
    with pytest.raises(ParameterError, match=r"no finite loss in the 20 steps up to step 20, .* lower the rate"):
        train_detector(ColourBackbone(), labels, dataclasses.replace(SHORT, steps=30))


def test_a_training_begins_where_another_ended(tmp_path: Path) -> None:
    labels = join_classes(make_labels(tmp_path))
    first, _ = train_detector(ColourBackbone(), labels, SHORT)
    before = weights(first).clone()
    still = dataclasses.replace(SHORT, steps=1, rate=1e-9)
    second, _ = train_detector(ColourBackbone(), labels, still, start=first)
    torch.testing.assert_close(weights(second), before, atol=1e-6, rtol=0)
    assert torch.equal(weights(first), before)
    with pytest.raises(ParameterError, match="reads 5 channels and knows object; the backbone has 3 channels"):
        train_detector(ColourBackbone(), labels, still, start=TokenDetector(5))
    with pytest.raises(ParameterError, match="the labels red, blue"):
        train_detector(ColourBackbone(), make_labels(tmp_path), still, start=first)
    run = {"checkpoint": tmp_path / "run.pt"}
    train_detector(ColourBackbone(), labels, still, start=first, **run)
    with pytest.raises(ParameterError, match="of another run: start"):
        train_detector(ColourBackbone(), labels, still, **run)


def test_statistics_are_those_of_the_tokens(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 1)
    detector, _ = train_detector(ColourBackbone(), labels, dataclasses.replace(SHORT, tokens="fresh", steps=1))
    picture = read_picture(labels.images[0]).image
    colours = ((picture / 255 - 0.5) / 0.25).reshape(8, 8, 10, 8, 3).mean((1, 3)).reshape(-1, 3)
    np.testing.assert_allclose(detector.mean, colours.mean(0), rtol=1e-4)
    np.testing.assert_allclose(detector.std, colours.std(0), rtol=1e-3)


def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(probe.getsockname()[1]), "WORLD_SIZE": "2"}
    command = [sys.executable, str(Path(__file__).with_name("detector_replica.py")), str(tmp_path)]
    environment = os.environ | address | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    started = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in (0, 1)]
    try:
        assert [process.wait(PATIENCE_S) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()
    labels = make_labels(tmp_path / "images", sizes=((64, 80), (72, 64)), empty=2)
    for mode in MODES:
        first, second = (torch.load(tmp_path / f"{mode}.{rank}") for rank in (0, 1))
        assert torch.equal(first["weights"], second["weights"])
        assert first["log"] == second["log"]
        alone, log = train_detector(ColourBackbone(), labels, shared_settings(mode))
        # Adam turns rounding into steps where a gradient is about 0: single weights may differ.
        assert (first["weights"] - weights(alone)).norm() < 5e-3 * weights(alone).norm()
        assert first["log"][0]["loss"] == pytest.approx(log.losses[0]["loss"], rel=1e-4)
        assert first["log"][-1]["loss"] == pytest.approx(log.losses[-1]["loss"], rel=1e-3)
        assert torch.load(tmp_path / f"{mode}.checkpoint")["step"] == SHORT.steps
