from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from objloc_ros.errors import ParameterError
from objloc_ros.scenes.attributes import AttributeBank
from objloc_ros.scenes.compose import Bank
from objloc_ros.training.dinoiser_data import DinoiserTraining, MixedScenes, augmented, drawn, indices, pixel_batches


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"size": 0}, "size must be at least 1, got 0"),
        ({"gamma": 1.5}, r"gamma must lie in \[0, 1\], got 1.5"),
        ({"brightness": -0.5}, r"brightness must lie in \[0, 1\], got -0.5"),
        ({"projection_rate": 0.0}, "projection_rate must be above 0, got 0.0"),
        ({"background_rate": float("nan")}, "background_rate must be above 0, got nan"),
    ],
)
def test_senseless_settings_are_refused(setting: dict, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        DinoiserTraining(**setting)


def test_epochs_are_shuffled_with_a_short_last_batch() -> None:
    settings = DinoiserTraining(batch=3)
    batches = [indices(7, step, settings) for step in range(6)]
    assert [len(batch) for batch in batches] == [3, 3, 1, 3, 3, 1]
    epochs = [list(chain(*batches[:3])), list(chain(*batches[3:]))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert epochs[0] != epochs[1]


def test_subsets_are_drawn_with_replacement() -> None:
    files = [Path(str(i)) for i in range(10)]
    chosen = drawn(files, 1000, seed=0)
    assert len(chosen) == 1000
    assert set(chosen) == set(files)
    assert len(set(drawn(files, 10, seed=0))) < 10
    assert chosen == drawn(files, 1000, seed=0) != drawn(files, 1000, seed=1)
    with pytest.raises(ParameterError, match="subset must be at least 1, got 0"):
        drawn(files, 0, seed=0)


@pytest.mark.parametrize("size", [(40, 80), (80, 40), (33, 32), (20, 31)])
def test_crops_are_squares_of_the_resized_picture(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    shorter = min(size)
    resized = cv2.resize(image, (size[1] * 16 // shorter, size[0] * 16 // shorter), interpolation=cv2.INTER_LINEAR)
    places, mirrored = set(), set()
    for key in range(40):
        crop = augmented(image, size=16, brightness=0.0, key=(key,))
        assert (crop.shape, crop.dtype) == ((3, 16, 16), np.float32)
        pixels = crop.transpose(1, 2, 0) * 255
        found = [
            (y, x, flip)
            for y in range(resized.shape[0] - 15)
            for x in range(resized.shape[1] - 15)
            for flip in (1, -1)
            if np.abs(resized[y : y + 16, x : x + 16][:, ::flip] - pixels).max() < 0.01
        ]
        assert len(found) == 1
        places.add(found[0][:2])
        mirrored.add(found[0][2])
    assert mirrored == {1, -1}
    assert len(places) > min(3, max(resized.shape[:2]) - 16)


def test_brightness_changes_by_up_to_a_half_and_is_clipped() -> None:
    grey, white = np.full((16, 16, 3), 102, np.uint8), np.full((16, 16, 3), 255, np.uint8)
    gains = [augmented(grey, size=16, brightness=0.5, key=(key,))[0, 0, 0] / 0.4 for key in range(200)]
    assert 0.5 <= min(gains) < 0.55
    assert 1.45 < max(gains) <= 1.5
    assert max(augmented(white, size=16, brightness=0.5, key=(key,)).max() for key in range(20)) == 1.0


def test_mixed_scenes_repeat_themselves() -> None:
    banks = Bank(0, backgrounds=2, sprites=3, side=80), AttributeBank(1, backgrounds=2, copies=1, side=80)
    scenes = [MixedScenes(*banks, seed=3, count=6, size=(48, 64)) for _ in range(2)]
    pictures = [scenes[0][i] for i in range(6)]
    assert {image.shape for image in pictures} == {(48, 64, 3)}
    for i in reversed(range(6)):
        assert (scenes[1][i] == pictures[i]).all()
    assert len({image.tobytes() for image in pictures}) == 6
    assert len(list(scenes[0])) == 6


def test_every_crop_is_drawn_anew_and_a_later_start_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
    settings = DinoiserTraining(steps=3, batch=2, size=32)
    with ThreadPoolExecutor(2) as pool:
        batches = list(pixel_batches([image, image], settings, start=0, pool=pool))
        later = list(pixel_batches([image, image], settings, start=1, pool=pool))
    assert [batch.shape for batch in batches] == [(2, 3, 32, 32)] * 3
    assert len({crop.numpy().tobytes() for batch in batches for crop in batch}) == 6
    assert all(torch.equal(a, b) for a, b in zip(batches[1:], later, strict=True))
