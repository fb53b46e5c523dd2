from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from detector_toy import SHORT, make_labels

from objloc_ros.ops.geometry import plan
from objloc_ros.training.detector_data import (
    DetectorTraining,
    PictureVariants,
    choose_items,
    make_targets,
    read_picture,
    shrink_mask,
)


def test_every_epoch_sees_every_image_once_in_the_next_variant() -> None:
    settings = DetectorTraining(batch=4, variants=2)
    items = [item for step in range(7) for item in choose_items(7, step, settings, 64)]
    epochs = [items[start : start + 7] for start in range(0, 28, 7)]
    assert [sorted(item.index for item in epoch) for epoch in epochs] == [list(range(7))] * 4
    assert [{item.variant for item in epoch} for epoch in epochs] == [{0}, {1}, {0}, {1}]
    assert len({tuple(item.index for item in epoch) for epoch in epochs}) == 4


def test_fresh_tokens_are_of_one_drawn_size_per_step() -> None:
    settings = DetectorTraining(tokens="fresh", short_side=160, smallest_side=90)
    sides = [{item.short_side for item in choose_items(20, step, settings, 160)} for step in range(40)]
    assert all(len(side) == 1 for side in sides)
    assert set.union(*sides) == {160, 128, 96}


def test_variants_are_mirrored_and_hold_pasted_objects(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 4)
    plain = PictureVariants(labels, SHORT)
    one, other = plain.make(0, 0), plain.make(0, 1)
    np.testing.assert_array_equal(one.image, other.image[:, ::-1])
    np.testing.assert_array_equal(one.masks, other.masks[:, :, ::-1])
    assert other.boxes[0].tolist() == [80 - one.boxes[0, 2], one.boxes[0, 1], 80 - one.boxes[0, 0], one.boxes[0, 3]]
    pasting = PictureVariants(labels, dataclasses.replace(SHORT, pastes=3))
    made = [pasting.make(0, variant) for variant in range(12)]
    assert {len(picture.masks) for picture in made} > {1, 2}
    for picture in made:
        assert len(picture.masks) == len(picture.boxes) == len(picture.box_only) == len(picture.categories)
        for mask, box in zip(picture.masks, picture.boxes, strict=True):
            y, x = mask.nonzero()
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
    assert any(1 in picture.categories for picture in made)  # of another image: this one has no blue object


def test_a_box_without_mask_keeps_its_sides_when_something_is_pasted_in_front(tmp_path: Path) -> None:
    labels = make_labels(tmp_path, 4, box_only=True)
    pasting = PictureVariants(labels, dataclasses.replace(SHORT, pastes=3))
    for variant in range(0, 8, 2):
        picture = pasting.make(0, variant)
        assert picture.box_only.all()
        assert picture.boxes[0].tolist() == labels.images[0].boxes[0].tolist()


def test_targets_are_in_patches_of_the_padded_image(tmp_path: Path) -> None:
    picture = read_picture(make_labels(tmp_path, 2, sizes=((60, 84),)).images[1])
    targets = make_targets(picture, plan((60, 84), patch=8, short_side=None))
    assert targets.owner.shape == (8, 11)
    assert targets.masks.shape == (2, 16, 22)
    np.testing.assert_allclose(targets.boxes, picture.boxes / 8)
    half = make_targets(picture, plan((60, 84), patch=8, short_side=30))
    np.testing.assert_allclose(half.boxes, picture.boxes / 16)
    thin = np.zeros((60, 84), bool)
    thin[7, 20:40] = True  # covers a quarter of its cells at best
    assert shrink_mask(thin, plan((60, 84), patch=8, short_side=None)).sum() == 5
    assert not shrink_mask(np.zeros_like(thin), plan((60, 84), patch=8, short_side=None)).any()
