"""Training of the embedded ViT: its data, its losses, resuming, and what it writes."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from torch.nn import functional as F

from objloc_ros.backbones.vit import build_vit
from objloc_ros.backbones.weights import load_backbone
from objloc_ros.errors import ParameterError
from objloc_ros.scenes.compose import Bank
from objloc_ros.training.tiny import (
    MARGIN,
    OTHER_OBJECT,
    SHARPNESS,
    TinyTraining,
    attention_loss,
    grouping_loss,
    normalise,
    save_backbone,
    start_from_classifier,
    train_tiny,
)
from objloc_ros.training.views import UNCLEAR, SceneImages, Schedule, ViewPairs, label_tokens

SMALL = TinyTraining(Schedule(6, side=32, scenes=2, final_side=40, final_scenes=1, warmup=2), bank=(4, 8))


@pytest.fixture(scope="module")
def bank():
    return Bank(1, backgrounds=4, sprites=8, side=96)


def test_tokens_are_labelled_by_what_fills_them():
    identities = np.zeros((4, 8), np.uint8)
    identities[:, 2:6] = 1  # columns 2-5: half of each of the two 4 x 4 tokens
    identities[:, 4:8] = 2
    np.testing.assert_array_equal(label_tokens(identities, 4), [UNCLEAR, 2])
    np.testing.assert_array_equal(label_tokens(np.zeros((4, 8), np.uint8), 4), [0, 0])


def test_batches_depend_on_seed_and_step_alone(bank):
    def batch(start, step):
        return ViewPairs(bank, seed=3, start=start, schedule=SMALL.schedule).batch(step)

    torch.testing.assert_close(batch(0, 2).images, batch(2, 2).images)
    assert not torch.equal(batch(0, 2).images, batch(0, 3).images)
    assert batch(0, 0).images.shape == (2, 2, 32, 32, 3)
    assert batch(0, 5).images.shape == (2, 1, 40, 40, 3)
    assert batch(0, 0).labels.shape == (2, 2, 16)


def literal_grouping(keys, labels, swapped):
    """The same loss, token by token."""
    half, totals = labels.shape[1] // 2, {True: [], False: []}
    for k, layer, swap in zip(F.normalize(keys, dim=-1), labels.tolist(), swapped.tolist(), strict=True):
        for i, mine in enumerate(layer):
            if mine == UNCLEAR:
                continue
            attract, repel, weights = [], [], []
            for j, other in enumerate(layer):
                logit = SHARPNESS * (float(k[i] @ k[j]) - MARGIN)
                apart = swap and (i < half) != (j < half)
                if other == mine and (mine > 0 or not apart):
                    attract.append(np.log1p(np.exp(-logit)))
                if other != UNCLEAR and other != mine:
                    weights.append(1.0 if 0 in (mine, other) else OTHER_OBJECT)
                    repel.append(weights[-1] * np.log1p(np.exp(logit)))
            loss = sum(attract) / max(len(attract), 1) + sum(repel) / max(sum(weights), 1)
            totals[mine > 0].append(loss)
    return sum(np.mean(losses) for losses in totals.values() if losses)


def test_grouping_loss_equals_the_loop():
    torch.manual_seed(0)
    labels = torch.tensor([[0, 1, 1, 2, 255, 0, 1, 2], [0, 0, 0, 0, 0, 0, 0, 3]])
    swapped = torch.tensor([True, False])
    keys = torch.randn(2, 8, 5)
    assert float(grouping_loss(keys, labels, swapped)) == pytest.approx(
        literal_grouping(keys, labels, swapped), rel=1e-5
    )


def test_attention_loss_counts_views_with_objects_only():
    attention = torch.tensor([[[0.5, 0.25]], [[0.1, 0.1]]])
    labels = torch.tensor([[1, 0], [0, 255]])
    assert float(attention_loss(attention, labels)) == pytest.approx(-np.log(0.501), rel=1e-6)


def test_schedule_cools_down_on_larger_images():
    schedule = Schedule(100, cooldown=0.2, warmup=10)
    assert [schedule.rate(step) for step in (0, 9, 50, 79)] == [0.1, 1.0, 1.0, 1.0]
    assert schedule.rate(80) == 1.0
    assert schedule.rate(90) == pytest.approx(0.5)
    assert schedule.batch_shape(79) == (128, 12)
    assert schedule.batch_shape(80) == (192, 6)


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tmp_path):
    def interrupt(step, losses):
        if step == 4:
            raise KeyboardInterrupt

    whole = train_tiny(SMALL, tmp_path / "whole", workers=0)
    with pytest.raises(KeyboardInterrupt):
        train_tiny(SMALL, tmp_path / "parts", workers=0, save_every=3, on_progress=interrupt)
    resumed = train_tiny(SMALL, tmp_path / "parts", workers=0)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_checkpoint_beyond_the_schedule_is_refused(tmp_path):
    train_tiny(SMALL, tmp_path / "state", workers=0)
    shorter = replace(SMALL, schedule=replace(SMALL.schedule, steps=2))
    with pytest.raises(ParameterError, match="at step 6, beyond the wanted 2"):
        train_tiny(shorter, tmp_path / "state", workers=0)


def test_learning_brings_the_loss_down(tmp_path):
    seen = []
    longer = TinyTraining(Schedule(40, side=48, scenes=4, warmup=5, cooldown=0.0), bank=(6, 12))
    train_tiny(longer, tmp_path / "state", workers=0, on_progress=lambda step, losses: seen.append(losses["grouping"]))
    assert np.mean(seen[-10:]) < 0.8 * np.mean(seen[:10])


def test_early_stages_keep_the_classifier_and_the_trunk_learns_slowly(tmp_path):
    torch.manual_seed(1)
    classifier = timm.create_model("efficientnet_lite0").eval()
    torch.save(classifier.state_dict(), tmp_path / "lite0.pth")
    start = start_from_classifier(build_vit("tiny"), tmp_path / "lite0.pth", frozen=SMALL.frozen)
    start_weights = {name: value.clone() for name, value in start.state_dict().items()}
    trained = train_tiny(SMALL, tmp_path / "state", trunk=tmp_path / "lite0.pth", workers=0).vit.patch_embed.trunk
    moved = {
        name: float((value - start_weights[name]).abs().max())
        for name, value in trained.state_dict().items()
        if name.endswith("weight")
    }
    kept = [name for name in moved if name.startswith(("stem", "stages.0.", "stages.1.", "stages.2."))]
    assert kept
    assert all(moved[name] == 0 for name in kept)
    learned = [moved[name] for name in moved if name not in kept]
    assert min(learned) > 0
    assert max(learned) < 6 * SMALL.peak_rate * SMALL.trunk_rate * 2  # six steps of AdamW


def test_the_trunk_sees_pixels_as_the_classifier_did(tmp_path):
    torch.manual_seed(1)
    classifier = timm.create_model("efficientnet_lite0", bn_eps=1e-3).eval()
    torch.save(classifier.state_dict(), tmp_path / "lite0.pth")
    model = build_vit("tiny").eval()
    trunk = start_from_classifier(model, tmp_path / "lite0.pth", frozen=0)
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        mine = trunk.stem(normalise(pixels, model))
        theirs = classifier.conv_stem((pixels.permute(0, 3, 1, 2) - 127.0) / 128)
        scale = classifier.bn1.weight / (classifier.bn1.running_var + 1e-3).sqrt()
    torch.testing.assert_close(mine[..., 1:, 1:], (theirs * scale[:, None, None])[..., 1:, 1:], atol=1e-4, rtol=1e-3)


def test_what_is_saved_loads_as_a_backbone(tmp_path):
    torch.manual_seed(0)
    model = build_vit("tiny").eval()
    path = tmp_path / "tiny.safetensors"
    save_backbone(path, model)
    assert path.stat().st_size < 8e6
    images = torch.randn(1, 3, 64, 48)
    with torch.inference_mode():
        torch.testing.assert_close(
            load_backbone("tiny", path=path)(images).keys, model(images).keys, atol=2e-2, rtol=0.1
        )


def test_scene_images_are_a_sequence(bank):
    scenes = SceneImages(bank, seed=0, count=5, size=(32, 48))
    assert len(scenes) == len(list(scenes)) == 5
    assert scenes[0].shape == (32, 48, 3)
    np.testing.assert_array_equal(scenes[-1], scenes[4])
    np.testing.assert_array_equal(scenes[1:3][0], scenes[1])
    assert not np.array_equal(scenes[0], scenes[1])
    with pytest.raises(IndexError):
        scenes[5]
