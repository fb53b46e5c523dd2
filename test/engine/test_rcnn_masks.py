"""Masks of an R-CNN in the image: whole for those who ask for each, cut where a better one lies for maps."""

from __future__ import annotations

import torch

from objloc_ros.engine.heads.rcnn import paste_objects
from objloc_ros.methods.rcnn import RcnnObjects

SOURCE, INPUT = (40, 60), (80, 120)


def paste(*, with_masks: bool) -> list[list[int]]:
    """Areas of two objects that overlap by a half: as they are, and in the map."""
    boxes = torch.tensor([[0, 0, 40, 40], [20, 0, 60, 40]], dtype=torch.float32)
    masks = torch.ones(2, 28, 28) if with_masks else None
    objects = RcnnObjects(boxes, torch.tensor([0.9, 0.8]), torch.zeros(2, dtype=torch.int64), masks)
    result = paste_objects(objects, ("object",), SOURCE, INPUT)
    shown = result.instances_u16()
    return [[int(mask.sum()) for mask in result.masks()], [int((shown == number).sum()) for number in (1, 2)]]


def test_objects_that_overlap_are_whole_and_the_better_one_lies_above() -> None:
    assert paste(with_masks=False) == [[400, 400], [400, 200]]
    whole, seen = paste(with_masks=True)
    assert all(380 <= area <= 400 for area in whole), "all but what bilinear edges cost"
    assert seen[0] == whole[0]
    assert 180 <= seen[1] <= 220
