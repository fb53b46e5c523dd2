from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.training.found_data import HeadTraining, item_batches
from objloc_ros.training.found_head import save_head, train_head
from objloc_ros.types import Features

SIZE = 64


class ColourBackbone(nn.Module):
    """Keys are the patch colours around grey, twice; both heads attend to red patches."""

    patch, embed_dim, n_heads = 8, 6, 2
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, images: torch.Tensor) -> Features:
        colours = nn.functional.avg_pool2d(images, 8) * self.gain
        grid = tuple(colours.shape[2:])
        keys = torch.cat([colours, colours], dim=1).flatten(2).transpose(1, 2)
        attention = torch.stack([4 * keys[:, :, 0], keys[:, :, 0]], dim=1).softmax(-1)
        return Features(keys=keys, queries=keys, values=keys, cls_attention=attention, grid=grid)


def scene(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full((SIZE, SIZE, 3), (20, 90, 40), dtype=np.uint8)
    x, y = rng.integers(4, SIZE - 36, 2)
    image[y : y + 30, x : x + 30] = (230, 40, 60)
    return image


def scenes() -> Iterator[np.ndarray]:
    return (scene(seed) for seed in itertools.count())


class Scenes:
    """An iterable that starts anew each time."""

    def __iter__(self) -> Iterator[np.ndarray]:
        return scenes()


SMALL = {"batch": 4, "size": SIZE, "workers": 0}


def test_the_head_learns_what_the_ground_is_not() -> None:
    weight, bias, log = train_head(ColourBackbone(), scenes(), steps=60, **SMALL)
    assert weight.shape == (1, 6, 1, 1)
    assert bias.shape == (1,)
    image = torch.from_numpy(scene(1000)).permute(2, 0, 1)[None].float() / 255
    features = ColourBackbone()((image - 0.5) / 0.25)
    predicted = (features.keys @ weight.flatten() + bias > 0).view(8, 8)
    truth = nn.functional.avg_pool2d((image[:, :1] > 0.5).float(), 8)[0, 0] > 0.5
    assert (predicted & truth).sum() / (predicted | truth).sum() > 0.8
    assert log[-1]["refined"] < 0.5 * log[0]["refined"]
    assert any(losses["accepted"] > 0.5 for losses in log)


def test_after_a_hundred_steps_the_head_learns_from_itself() -> None:
    _, _, log = train_head(ColourBackbone(), scenes(), steps=102, batch=1, size=16, workers=0)
    assert all(
        ("discovered" in losses, "own" in losses) == (step < 100, step >= 100) for step, losses in enumerate(log)
    )
    assert len(log) == 102


def test_equal_seeds_give_equal_heads_whatever_the_workers() -> None:
    runs = [
        train_head(ColourBackbone(), Scenes(), steps=3, batch=4, size=SIZE, seed=seed, workers=workers)
        for seed, workers in ((0, 0), (0, 2), (1, 0))
    ]
    assert torch.equal(runs[0][0], runs[1][0])
    assert runs[0][2] == runs[1][2]
    assert not torch.equal(runs[0][0], runs[2][0])


def test_a_resumed_run_ends_like_an_unbroken_one(tmp_path: Path) -> None:
    checkpoint = tmp_path / "head.pt"
    expected = train_head(ColourBackbone(), Scenes(), steps=6, **SMALL)
    train_head(ColourBackbone(), Scenes(), steps=4, checkpoint=checkpoint, save_every=3, **SMALL)
    seen = []
    resumed = train_head(
        ColourBackbone(),
        Scenes(),
        steps=6,
        checkpoint=checkpoint,
        on_progress=lambda step, _: seen.append(step),
        **SMALL,
    )
    assert seen == [5, 6]
    assert torch.equal(resumed[0], expected[0])
    assert torch.equal(resumed[1], expected[1])
    assert resumed[2] == expected[2]


@pytest.mark.parametrize("change", [{"seed": 1}, {"batch": 3}, {"steps": 1}])
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict) -> None:
    run = {"steps": 2, "checkpoint": tmp_path / "head.pt", **SMALL}
    train_head(ColourBackbone(), Scenes(), **run)
    with pytest.raises(ParameterError, match="of another run"):
        train_head(ColourBackbone(), Scenes(), **{**run, **change})


def test_training_leaves_the_backbone_and_the_global_generator_alone() -> None:
    backbone = ColourBackbone()
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train_head(backbone, scenes(), steps=1, **SMALL)
    assert torch.equal(torch.rand(3), expected)
    assert backbone.gain.item() == 1


def test_sequences_are_shuffled_by_epoch_with_a_short_last_batch() -> None:
    settings = HeadTraining(batch=3)
    batches = list(itertools.islice(item_batches(list(range(7)), settings), 6))
    assert [len(batch) for batch in batches] == [3, 3, 1, 3, 3, 1]
    epochs = [list(itertools.chain(*batches[:3])), list(itertools.chain(*batches[3:]))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(7))
    assert epochs[0] != epochs[1]
    assert batches == list(itertools.islice(item_batches(list(range(7)), settings), 6))


def test_images_that_run_out_are_an_error() -> None:
    with pytest.raises(InputError, match="ran out in epoch 1"):
        train_head(ColourBackbone(), iter([scene(0)]), steps=2, **SMALL)
    with pytest.raises(InputError, match="ran out in epoch 0"):
        train_head(ColourBackbone(), [], steps=2, **SMALL)


@pytest.mark.parametrize(
    ("setting", "match"), [({"steps": 0}, "steps must"), ({"batch": 0}, "batch must"), ({"size": 60}, "multiple of")]
)
def test_senseless_settings_are_refused(setting: dict, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        train_head(ColourBackbone(), scenes(), **{**SMALL, **setting})


def test_saved_heads_have_the_documented_layout(tmp_path: Path) -> None:
    weight, bias = torch.randn(1, 6, 1, 1), torch.randn(1)
    save_head(tmp_path / "head.safetensors", weight, bias)
    state = load_file(tmp_path / "head.safetensors")
    assert set(state) == {"weight", "bias"}
    assert torch.equal(state["weight"], weight)
    assert torch.equal(state["bias"], bias)
