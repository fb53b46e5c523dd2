"""Coarse times hold stages; fine ones their parts, too, and wait for the device around each."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from objloc_ros.engine import timings as module
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.timings import Stopwatch, stage

CPU = torch.device("cpu")


def test_a_stage_that_comes_again_adds_up_and_is_shared_out(monkeypatch):
    clock = iter([1.0, 1.25, 7.0, 7.75])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    with Stopwatch(4) as stopwatch:
        for _ in range(2):
            with stage("vit"):
                pass
    assert stopwatch.times_ms == {"vit": 250.0}


@pytest.mark.parametrize(("device", "kept"), [(None, {"found"}), (CPU, {"found", "found.pixels"})])
def test_only_fine_times_hold_parts(device, kept):
    with Stopwatch(1, device) as stopwatch, stage("found"), stage("found.pixels", is_part=True):
        pass
    assert set(stopwatch.times_ms) == kept


def test_fine_times_wait_for_the_device_around_a_stage(monkeypatch):
    events = []
    monkeypatch.setattr(module, "synchronize", lambda device: events.append(str(device)))
    with Stopwatch(1, torch.device("cuda:1")), stage("vit"):
        events.append("stage")
    with Stopwatch(1), stage("vit"):
        events.append("coarse")
    assert events == ["cuda:1", "stage", "cuda:1", "coarse"]


def test_the_innermost_stopwatch_of_the_thread_has_the_times():
    def elsewhere():
        with stage("elsewhere"):
            pass

    with stage("before"):
        pass
    with Stopwatch(1) as outer:
        with Stopwatch(1) as inner, stage("inside"):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
        with stage("outside"):
            pass
    assert (set(outer.times_ms), set(inner.times_ms)) == ({"outside"}, {"inside"})


def test_a_stage_that_fails_has_no_time_and_leaves_the_stopwatch():
    stopwatch = Stopwatch(1)
    with pytest.raises(ArithmeticError), stopwatch, stage("vit"):
        raise ArithmeticError
    with stage("later"):
        pass
    assert stopwatch.times_ms == {}


@pytest.mark.parametrize("images", [1, 2])
def test_methods_tell_what_follows_their_answers_when_asked(images):
    methods = ("found", "lost", "clip_diy", "maskclip", "clip_dinoiser")
    pipeline = load_pipeline(methods, device="cpu", short_side=64)
    pipeline.set_prompts(["red circle", "green star"])
    frames = [np.random.default_rng(n).integers(0, 256, (64, 96, 3), np.uint8) for n in range(images)]
    assert set(pipeline.run(frames)[0].timings_ms) == {"pre", "vit", *methods}
    pipeline.fine_timings = True
    times = pipeline.run(frames)[0].timings_ms
    assert set(times) == {"pre", "vit", *methods, *(f"{method}.pixels" for method in methods)}
    assert all(times[f"{method}.pixels"] < times[method] for method in methods)
