"""Plain timings hold stages; fine ones their parts, too, and wait for the device around each."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from objloc_ros.engine import timings as module
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.timings import FineTimings, timed, timed_part

CPU = torch.device("cpu")


def test_a_stage_that_comes_again_adds_up_and_is_shared_out(monkeypatch):
    times, clock = {}, iter([1.0, 1.010, 5.0, 5.030])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    for _ in range(2):
        with timed(times, "vit", 4):
            pass
    assert times["vit"] == pytest.approx((10 + 30) / 4)


@pytest.mark.parametrize(("times", "kept"), [({}, False), (None, False), (FineTimings(CPU), True)])
def test_only_fine_timings_keep_parts(times, kept):
    with timed_part(times, "found.post", 1):
        pass
    assert ("found.post" in (times or {})) == kept


def test_fine_timings_wait_for_the_device_around_a_stage(monkeypatch):
    events = []
    monkeypatch.setattr(module, "settle", lambda device: events.append(str(device)))
    with timed(FineTimings(torch.device("cuda:1")), "vit", 1):
        events.append("stage")
    with timed({}, "vit", 1):
        events.append("plain")
    assert events == ["cuda:1", "stage", "cuda:1", "plain"]


@pytest.mark.parametrize("images", [1, 2])
def test_methods_tell_what_follows_their_answers_when_asked(images):
    methods = ("found", "lost", "clip_diy", "maskclip", "clip_dinoiser")
    pipeline = load_pipeline(methods, device="cpu", short_side=64)
    pipeline.set_prompts(["red circle", "green star"])
    frames = [np.random.default_rng(n).integers(0, 256, (64, 96, 3), np.uint8) for n in range(images)]
    assert set(pipeline.run(frames)[0].timings_ms) == {"pre", "vit", *methods}
    pipeline.fine_timings = True
    times = pipeline.run(frames)[0].timings_ms
    assert set(times) == {"pre", "vit", *methods, *(f"{method}.post" for method in methods)}
    assert all(times[f"{method}.post"] < times[method] for method in methods)
