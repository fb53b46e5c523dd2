"""Descriptors: of the patches under a mask or of a crop, in blocks that may come from an interrupted run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fleet_making import SIZE, picture, prelabels
from torch.nn import functional as F

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.fleet.descriptors import (
    PARTS,
    DescribeTask,
    centre,
    compute_descriptors,
    cover_patches,
    crop_box,
    describe_by_crops,
    describe_by_moments,
    describe_by_tokens,
    resize_crop,
)
from objloc_ros.fleet.objects import Fleet, read_fleet
from objloc_ros.io.media import read_image, write_image
from objloc_ros.jobs.shards import run_here
from objloc_ros.ops.geometry import plan

RED, BLUE = (220, 60, 40), (40, 60, 220)
LEFT, RIGHT = (8, 16, 48, 64), (64, 16, 120, 80)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    pictures = [(picture(RED, LEFT), [LEFT, RIGHT]), (picture(BLUE, LEFT), []), (picture(RED, RIGHT), [RIGHT])]
    return read_fleet([prelabels(tmp_path / "labels", pictures)])


def test_tokens_are_the_mean_key_under_the_mask(fleet: Fleet) -> None:
    backbone = DescribeTask().load()
    image = fleet.images[0]
    pixels = read_image(image.file)
    described = describe_by_tokens(backbone, pixels, image)
    keys = backbone.encode([pixels]).features.keys[0].reshape(12, 16, -1)
    expected = F.normalize(torch.stack([keys.mean((0, 1)), keys[2:8, 1:6].mean((0, 1))]), dim=1)  # whole patches
    np.testing.assert_allclose(described[:2], expected, atol=1e-5)


def test_moments_add_the_deviation_of_the_keys(fleet: Fleet) -> None:
    backbone = DescribeTask().load()
    image = fleet.images[0]
    pixels = read_image(image.file)
    mean, deviation = np.split(describe_by_moments(backbone, pixels, image) * 2**0.5, 2, axis=1)
    np.testing.assert_allclose(mean, describe_by_tokens(backbone, pixels, image), atol=1e-5)
    keys = backbone.encode([pixels]).features.keys[0].reshape(12, 16, -1)[2:8, 1:6].flatten(0, 1)
    np.testing.assert_allclose(deviation[1], F.normalize(keys.std(0, correction=0), dim=0), atol=1e-4)


def test_patches_count_by_how_much_of_them_is_covered() -> None:
    mask = np.zeros((20, 24), bool)
    mask[2:10, 4:8] = True
    cover = cover_patches(mask, plan((20, 24), patch=8, short_side=None))
    assert cover.shape == (3, 3)
    np.testing.assert_allclose(cover[:2, 0], [6 * 4 / 64, 2 * 4 / 64])
    assert cover.sum() == pytest.approx(mask.sum() / 64)


def test_crops_are_cut_scaled_and_kept_to_whole_patches() -> None:
    inputs = torch.arange(3 * 96 * 128, dtype=torch.float32).reshape(1, 3, 96, 128)
    crop = crop_box(inputs, (9.6, 19.5, 49.5, 60.2))
    assert torch.equal(crop, inputs[..., 20:60, 10:50])  # halves go to the even side, as in NumPy
    assert resize_crop(crop, 16).shape == (1, 3, 256, 256)
    assert resize_crop(inputs, 16).shape == (1, 3, 256, 336)  # 341 pixels are 21 patches and a rest
    assert resize_crop(inputs[..., :1, :], 16).shape == (1, 3, 256, 2048)
    scaled = F.interpolate(crop, (256, 256), mode="bicubic", align_corners=False, antialias=False)
    assert torch.equal(resize_crop(crop, 16), scaled)


def test_equal_crops_have_equal_descriptors_wherever_they_are(fleet: Fleet) -> None:
    backbone = DescribeTask(describe="crop").load()
    first = describe_by_crops(backbone, read_image(fleet.images[0].file), fleet.images[0])
    last = describe_by_crops(backbone, read_image(fleet.images[2].file), fleet.images[2])
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert first[1] @ last[1] > 0.99, "both crops are all red"
    assert first[1] @ first[2] < first[1] @ last[1], "the right crop of the first image is grey"


@pytest.mark.parametrize("describe", ["tokens", "moments", "crop"])
def test_blocks_make_no_difference_and_stay(fleet: Fleet, tmp_path: Path, describe: str) -> None:
    task = DescribeTask(describe=describe)
    whole = compute_descriptors(fleet, task, tmp_path / "whole", run_here)
    done: list[str] = []
    apart = compute_descriptors(fleet, task, tmp_path / "apart", run_here, block=1)
    assert whole.objects.shape == (3, 160 * PARTS[task.describe])
    assert whole.objects.dtype == whole.images.dtype == np.float16
    for name in ("objects", "images", "digests", "problems"):
        assert np.array_equal(getattr(whole, name), getattr(apart, name)), name
    (tmp_path / "apart" / "00000001.npz").unlink()
    again = compute_descriptors(
        fleet, task, tmp_path / "apart", run_here, block=1, on_done=lambda shard: done.append(shard.name)
    )
    assert done == ["00000001.npz"], "only what is missing is made"
    assert np.array_equal(again.objects, whole.objects)


def test_a_run_with_other_options_does_not_go_on(fleet: Fleet, tmp_path: Path) -> None:
    compute_descriptors(fleet, DescribeTask(), tmp_path / "out", run_here)
    with pytest.raises(InputError, match="descriptors made with describe 'tokens', not 'crop'"):
        compute_descriptors(fleet, DescribeTask(describe="crop"), tmp_path / "out", run_here)
    fewer = Fleet(fleet.documents, fleet.backbones, fleet.images[:2])
    with pytest.raises(InputError, match="descriptors made of other inputs"):
        compute_descriptors(fewer, DescribeTask(), tmp_path / "out", run_here)
    (tmp_path / "out" / "00000000.npz").write_bytes(b"no array")
    with pytest.raises(InputError, match="remove it and go on with the same command"):
        compute_descriptors(fleet, DescribeTask(), tmp_path / "out", run_here)


def test_unusable_images_have_no_descriptor_and_say_why(fleet: Fleet, tmp_path: Path) -> None:
    fleet.images[0].file.write_bytes(b"no image")
    write_image(fleet.images[2].file, picture(RED, RIGHT)[:50])
    described = compute_descriptors(fleet, DescribeTask(), tmp_path / "out", run_here)
    assert described.usable.tolist() == [False, False, False]
    assert described.images.any(axis=1).tolist() == [False, True, False]
    assert "not a whole image" in described.problems[0]
    assert described.problems[1] == ""
    assert f"it has (50, {SIZE[1]}) rows and columns, by its labels {SIZE}" in described.problems[2]
    assert [bool(digest) for digest in described.digests] == [False, True, True]


def test_features_that_are_not_finite_are_a_problem_of_the_image(fleet: Fleet) -> None:
    task = DescribeTask()
    backbone = task.load()
    backbone.vit.vit.pos_embed.data.fill_(float("nan"))
    described = task._describe_image(backbone, fleet.images[0])
    assert "not finite" in described.problems[0]
    assert not described.objects.any()


def test_centred_descriptors_have_no_common_part() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(50, 8)) + 5
    rows[7] = 0
    centred = centre((rows / np.maximum(1e-9, np.linalg.norm(rows, axis=1, keepdims=True))).astype(np.float16))
    assert not centred[7].any()
    lengths = np.linalg.norm(np.delete(centred, 7, axis=0).astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=2e-3)
    assert (
        np.linalg.norm(centred.astype(np.float32).mean(0))
        < 0.2
        < 0.9
        < np.linalg.norm(rows[0] / np.linalg.norm(rows[0]))
    )
    halves = np.split(centre(rows[8:].astype(np.float16), parts=2).astype(np.float32), 2, axis=1)
    for half in halves:
        np.testing.assert_allclose(np.linalg.norm(half, axis=1), 0.5**0.5, atol=2e-3)
    assert not centre(np.full((1, 4), 0.5, np.float16)).any(), "one descriptor alone has nothing of its own"
    rows[3, 2] = np.nan
    with pytest.raises(InputError, match="descriptor 3 of 50 is not finite"):
        centre(rows.astype(np.float16))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ParameterError, match="describe must be one of tokens, moments, crop; got 'cls'"):
        DescribeTask(describe="cls")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="threads must be at least 1"):
        DescribeTask(threads=0)
