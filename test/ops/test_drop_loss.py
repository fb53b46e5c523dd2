"""DropLoss: weights by all objects of an image, and the original's quirks in the form that only this file knows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from golden_cases import DEVICE, Case, find_cases, load_case, to_device
from torchvision.ops import box_iou

from objloc_ros.ops.box_codes import decode_boxes
from objloc_ros.ops.drop_loss import drop_weights, weigh_classification

STAGES = range(3)


def decode(case: Case, stage: int) -> torch.Tensor:
    """Boxes that a stage predicts, not clipped: [B, n, 4]."""
    boxes, codes = to_device(case[f"boxes{stage}"]), to_device(case[f"deltas{stage}"])
    factor = stage + 1
    return decode_boxes(boxes.flatten(0, 1), codes, (10 * factor, 10 * factor, 5 * factor, 5 * factor)).view_as(boxes)


def split_targets(case: Case) -> list[torch.Tensor]:
    return list(to_device(case["targets"]).split(case["counts"].tolist()))


def weigh_literally(case: Case, stage: int) -> torch.Tensor:
    """The original's weights: by the first u of the regions' labels, u different ones among the first 100.

    An image without objects turns the rule off in the first stage, for all images, and drops all its regions later.
    """
    weights = []
    for boxes, start, targets in zip(
        decode(case, stage), to_device(case[f"boxes{stage}"]), split_targets(case), strict=True
    ):
        if not len(targets) and stage == 0:
            return torch.ones(len(case[f"weights{stage}"]), device=DEVICE)
        labels = (
            targets[box_iou(start, targets).argmax(1)] if len(targets) else torch.zeros(len(boxes), 4, device=DEVICE)
        )
        weights.append(drop_weights(boxes, labels[: len(labels[:100].unique(dim=0))]))
    return torch.cat(weights)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("path", find_cases("cutler_droploss"), ids=lambda path: path.stem)
def test_the_original_drops_and_weighs_the_same(path: Path, stage: int) -> None:
    case = load_case(path)
    weights = weigh_literally(case, stage) if case["drop"] else torch.ones(len(case[f"weights{stage}"]), device=DEVICE)
    assert weights.tolist() == case[f"weights{stage}"].tolist()
    classes = to_device(case[f"classes{stage}"]).reshape(-1).long()
    loss = weigh_classification(to_device(case[f"scores{stage}"]), classes, weights)
    assert loss.item() == pytest.approx(float(case[f"loss_cls{stage}"]), abs=1e-6)


@pytest.mark.parametrize("path", find_cases("cutler_droploss"), ids=lambda path: path.stem)
def test_weights_are_by_all_objects(path: Path) -> None:
    case = load_case(path)
    for stage in STAGES:
        expected = case[f"own_true_weights{stage}"].reshape(len(case["counts"]), -1)
        for boxes, targets, wanted in zip(decode(case, stage), split_targets(case), expected, strict=True):
            weights = drop_weights(boxes, targets)
            assert weights.tolist() == (wanted if len(targets) else np.ones_like(wanted)).tolist()


def test_the_original_misses_objects_among_shuffled_regions() -> None:
    case = load_case(find_cases("cutler_droploss")[-1])
    assert (case["weights0"] != case["own_true_weights0"]).any(), "else this file tests nothing of the quirk"


def test_the_threshold_itself_drops_and_the_weight_has_no_gradient() -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], [0, 0, 2, 1], [5, 5, 6, 6]], requires_grad=True)
    target = torch.tensor([[0.0, 0, 4, 1]])
    weights = drop_weights(boxes, target, threshold=0.25)
    assert weights.tolist() == [0, 1, 0]
    assert not weights.requires_grad
    assert drop_weights(boxes[:0], target).shape == (0,)
    assert weigh_classification(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), torch.zeros(0)).item() == 0
