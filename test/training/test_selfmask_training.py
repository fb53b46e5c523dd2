"""SelfMask's training: it learns, it resumes bit for bit, and it refuses what it cannot use."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from objloc_ros.backbones.specs import ViTSpec
from objloc_ros.backbones.vit import ViT, build_transformer
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.media import write_image
from objloc_ros.io.rle import encode
from objloc_ros.training.detector_labels import ImageLabels, Labels
from objloc_ros.training.selfmask import make_selfmask, train_selfmask
from objloc_ros.training.selfmask_data import SelfMaskTraining, augment, iterate_batches

SIZE = (24, 32)
SETTINGS = SelfMaskTraining(steps=6, batch=2, rate=1e-3, size=16, queries=3, layers=2, freeze=True)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    spec = ViTSpec(patch=8, embed_dim=16, depth=1, n_heads=2)
    return ViT(build_transformer(spec), spec).requires_grad_(False).eval()


def label(path, mask):
    """The labels of a picture with one object, or none."""
    count = int(mask.any())
    boxes = np.tile([0.0, 0.0, mask.shape[1], mask.shape[0]], (count, 1))
    whole = np.zeros(count, np.int64)
    return ImageLabels(
        path, path.name, mask.shape, tuple([encode(mask)] * count), boxes, whole, np.ones(count), whole - 1
    )


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """Five pictures: a bright rectangle on noise, and one without any."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    images = []
    for i in range(5):
        picture, mask = rng.integers(0, 90, (*SIZE, 3), np.uint8), np.zeros(SIZE, bool)
        if i < 4:
            mask[4 : 16 + i, 6 : 20 + i] = True
            picture[mask] = 230
        write_image(folder / f"{i}.png", picture)
        images.append(label(folder / f"{i}.png", mask))
    return Labels(folder, ("object",), tuple(images))


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_only_the_decoder_learns_on_a_frozen_encoder(backbone, labels):
    model, log = train_selfmask(backbone, labels, SETTINGS)
    start = weights_of(make_selfmask(backbone, SETTINGS))
    changed = {
        name.partition(".")[0] for name, value in model.state_dict().items() if not torch.equal(value, start[name])
    }
    assert changed == {"query_embed", "decoder", "ffn"}
    assert len(log) == SETTINGS.steps
    assert all(np.isfinite(list(losses.values())).all() for losses in log)
    assert not model.training


def test_the_encoder_learns_too_unless_it_is_frozen(backbone, labels):
    before = {name: value.clone() for name, value in backbone.vit.state_dict().items()}
    model, _ = train_selfmask(backbone, labels, dataclasses.replace(SETTINGS, freeze=False, steps=2))
    assert not torch.equal(model.encoder.state_dict()["blocks.0.attn.qkv.weight"], before["blocks.0.attn.qkv.weight"])
    assert same(before, backbone.vit.state_dict())  # the backbone's own weights are as they were


def test_the_loss_falls(backbone, labels):
    settings = dataclasses.replace(SETTINGS, steps=60, rate=1e-2, size=64, batch=4)
    _, log = train_selfmask(backbone, labels, settings)
    dice = [losses["dice"] for losses in log]
    assert np.mean(dice[-30:]) < 0.9 * np.mean(dice[:15])


def test_a_resumed_run_is_an_uninterrupted_one_bit_for_bit(backbone, labels, tmp_path):
    expected, log = train_selfmask(backbone, labels, SETTINGS, workers=3)
    checkpoint = tmp_path / "run.checkpoint"

    def stop(step, losses):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_selfmask(backbone, labels, SETTINGS, checkpoint=checkpoint, save_every=2, on_progress=stop)
    resumed, resumed_log = train_selfmask(backbone, labels, SETTINGS, checkpoint=checkpoint, workers=1)
    assert same(weights_of(resumed), weights_of(expected))
    assert list(resumed_log) == list(log)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed 0, now 1"),
        ({"steps": 8}, "steps 6, now 8"),
        ({"rate": 1e-4}, "rate 0.001, now 0.0001"),
        ({"freeze": False}, "freeze True, now False"),
    ],
)
def test_other_options_do_not_continue_a_run(backbone, labels, tmp_path, change, words):
    train_selfmask(backbone, labels, SETTINGS, checkpoint=tmp_path / "run.checkpoint")
    with pytest.raises(ParameterError, match=f"is of another run: .*{words}"):
        train_selfmask(
            backbone, labels, dataclasses.replace(SETTINGS, **change), checkpoint=tmp_path / "run.checkpoint"
        )


def test_other_labels_do_not_continue_a_run(backbone, labels, tmp_path):
    train_selfmask(backbone, labels, SETTINGS, checkpoint=tmp_path / "run.checkpoint")
    fewer = dataclasses.replace(labels, images=labels.images[:3])
    with pytest.raises(ParameterError, match="is of another run: labels"):
        train_selfmask(backbone, fewer, SETTINGS, checkpoint=tmp_path / "run.checkpoint")


@pytest.mark.parametrize("empty", [(0,), (1,), (0, 1)])
def test_an_image_without_an_object_may_stand_anywhere_in_a_batch(backbone, labels, empty, monkeypatch):
    def batches(labels, settings, *, start, pool):
        rng = np.random.default_rng(1)
        for _ in range(settings.steps):
            masks = [np.zeros((16, 16), bool) if i in empty else np.eye(16) > 0 for i in range(2)]
            yield [(rng.integers(0, 256, (16, 16, 3), np.uint8), mask) for mask in masks]

    monkeypatch.setattr("objloc_ros.training.selfmask.iterate_batches", batches)
    model, log = train_selfmask(backbone, labels, SETTINGS)
    start = weights_of(make_selfmask(backbone, SETTINGS))
    assert same(weights_of(model), start) == (len(empty) == 2)  # nothing to learn: no step was taken
    assert [losses["loss"] > 0 for losses in log] == [len(empty) < 2] * SETTINGS.steps


def test_labels_without_objects_and_senseless_sizes_are_refused(backbone, labels):
    nothing = dataclasses.replace(labels, images=labels.images[4:])
    with pytest.raises(InputError, match="has no object to learn from"):
        train_selfmask(backbone, nothing, SETTINGS)
    with pytest.raises(ParameterError, match="size must be a multiple of the patch size 8, got 20"):
        train_selfmask(backbone, labels, dataclasses.replace(SETTINGS, size=20))


def test_labels_of_another_size_than_the_picture_are_refused(backbone, labels):
    first = label(labels.images[0].file, np.ones((30, 30), bool))
    with pytest.raises(InputError, match=r"0.png has 32x24 pixels, its labels are for 30x30"):
        train_selfmask(backbone, dataclasses.replace(labels, images=(first,)), SETTINGS)


def test_image_and_mask_stay_together():
    image, mask = np.full((30, 50, 3), 20, np.uint8), np.zeros((30, 50), bool)
    mask[5:25, 10:30] = True
    image[mask] = 220
    for key in range(20):
        picture, where = augment(image, mask, 48, (0, key))
        assert (picture.shape, where.shape) == ((48, 48, 3), (48, 48))
        grey = picture.astype(float).mean(2)
        if where.sum() > 40:
            assert abs(grey[where].mean() - np.median(grey)) > 3  # wherever the object went, its pixels are other ones


def test_draws_hang_on_seed_and_place_alone(labels):
    def take(count, workers, start=0, **change):
        settings = dataclasses.replace(SETTINGS, **change)
        with ThreadPoolExecutor(workers) as pool:
            stream = iterate_batches(labels, settings, start=start, pool=pool)
            return [next(stream) for _ in range(count)]

    def equal(one, other):
        return all(
            np.array_equal(a, b)
            for x, y in zip(one, other, strict=True)
            for p, q in zip(x, y, strict=True)
            for a, b in zip(p, q, strict=True)
        )

    expected = take(4, 1)
    assert equal(take(4, 3), expected)
    assert equal(take(2, 2, start=2), expected[2:])
    assert not equal(take(4, 1, seed=1), expected)


def test_every_epoch_sees_every_image_once(labels, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "objloc_ros.training.selfmask_data._prepare", lambda image, size, key: seen.append(image.name) or (image, None)
    )
    with ThreadPoolExecutor(1) as pool:
        list(
            zip(
                range(5),
                iterate_batches(labels, dataclasses.replace(SETTINGS, steps=5), start=0, pool=pool),
                strict=False,
            )
        )
    names = sorted(image.name for image in labels.images)
    assert sorted(seen[:5]) == sorted(seen[5:10]) == names
    assert seen[:5] != seen[5:10]
