from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.training.found_data import any_centre_pixel, augmented, image_files, refine_patches


def scene(size: int = 64, low: int = 20, high: int = 45) -> np.ndarray:
    image = np.full((size, size, 3), (30, 60, 30), dtype=np.uint8)
    image[low:high, low:high] = (220, 40, 40)
    return image


@pytest.mark.parametrize("patch", [1, 2, 7, 8, 14, 16])
def test_downsampling_is_bilinear_then_any(patch: int) -> None:
    mask = np.random.default_rng(0).random((5 * patch, 6 * patch)) < 0.3
    dense = torch.from_numpy(mask).float()[None, None]
    expected = torch.nn.functional.interpolate(dense, (5, 6), mode="bilinear", align_corners=False)[0, 0].bool()
    assert (any_centre_pixel(mask, patch) == expected.numpy()).all()


def test_one_centre_pixel_is_enough_and_others_do_not_count() -> None:
    mask = np.zeros((8, 16), dtype=bool)
    mask[4, 3] = True
    mask[:, 8:] = True
    mask[3:5, 11:13] = False
    assert any_centre_pixel(mask, 8).tolist() == [[True, False]]


def test_refinement_moves_to_the_edge_or_leaves_the_mask() -> None:
    good, bad = np.zeros((8, 8), dtype=bool), np.zeros((8, 8), dtype=bool)
    good[2:6, 3:6] = True
    bad[0, 7] = True
    (refined, accepted), (kept, rejected) = refine_patches(scene(), [good, bad])
    assert accepted
    assert not rejected
    square = cv2.inRange(scene(), (200, 0, 0), (255, 255, 255)) > 0
    assert (refined == any_centre_pixel(square, 8)).all()
    assert kept is bad


@pytest.mark.parametrize("value", [False, True])
def test_empty_and_full_masks_stay(value: bool) -> None:
    mask = np.full((8, 8), value)
    assert [(m.all(), ok) for m, ok in refine_patches(scene(), [mask])] == [(value, False)]


@pytest.mark.parametrize("shape", [(64, 64), (30, 200), (7, 5), (1, 1)])
def test_augmentation_gives_one_size_and_depends_on_its_key_only(shape: tuple) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    first = augmented(image, 48, (0, 1, 2))
    assert first.shape == (48, 48, 3)
    assert first.dtype == np.uint8
    assert (first == augmented(image, 48, (0, 1, 2))).all()


def test_augmentation_varies_the_amount_of_detail() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    contrast = [augmented(image, 64, (0, 0, i)).std() for i in range(20)]
    assert max(contrast) > 3 * min(contrast)


def test_picture_files_are_read_as_rgb(tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), scene()[..., ::-1])
    assert (augmented(path, 64, (1,)) == augmented(scene(), 64, (1,))).all()


def test_unreadable_pictures_are_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"broken\.jpg is not a readable picture"):
        augmented(path, 64, (1,))


def test_folders_are_listed_in_one_order(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.jpg", "a.PNG", "notes.txt", "sub/c.jpeg"):
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)] == ["a.PNG", "b.jpg", "c.jpeg"]
    with pytest.raises(ParameterError, match="holds no pictures"):
        image_files(tmp_path / "nothing")
