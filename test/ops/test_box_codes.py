"""Codes of boxes relative to others: values worked out by hand, round trips, and the limit of growth."""

from __future__ import annotations

import math

import pytest
import torch

from objloc_ros.ops.box_codes import decode_boxes, encode_boxes

ONE, CASCADE = (1.0, 1.0, 1.0, 1.0), (30.0, 30.0, 15.0, 15.0)


def draw(count: int) -> torch.Tensor:
    corners = torch.rand(count, 4, generator=torch.Generator().manual_seed(count), dtype=torch.float64) * 100
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:] + 1], dim=1)


def test_a_code_is_the_move_of_the_centre_and_the_logarithm_of_the_growth() -> None:
    boxes, targets = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[5.0, 0, 25, 10]])
    expected = [[(15 - 5) / 10, (5 - 10) / 20, math.log(2), math.log(0.5)]]
    torch.testing.assert_close(encode_boxes(boxes, targets, ONE), torch.tensor(expected))
    torch.testing.assert_close(
        encode_boxes(boxes, targets, (10.0, 10.0, 5.0, 5.0)), torch.tensor(expected) * torch.tensor([10, 10, 5, 5])
    )


@pytest.mark.parametrize("weights", [ONE, CASCADE])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_what_was_encoded_is_decoded(weights: tuple[float, float, float, float], count: int) -> None:
    boxes, targets = draw(count), draw(count).flip(0)
    torch.testing.assert_close(decode_boxes(boxes, encode_boxes(boxes, targets, weights), weights), targets)


def test_several_codes_of_a_box_are_decoded_each_for_itself() -> None:
    boxes, codes = draw(5), torch.randn(5, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = decode_boxes(boxes, codes, CASCADE)
    alone = [decode_boxes(boxes, codes[:, i : i + 4], CASCADE) for i in (0, 4, 8)]
    assert torch.equal(together, torch.cat(alone, dim=1))


def test_a_box_grows_at_most_by_a_thousand_sixteenths() -> None:
    box = decode_boxes(torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[0.0, 0, 50, math.inf]]), ONE)
    torch.testing.assert_close(box, torch.tensor([[8.0 - 500, 8 - 500, 8 + 500, 8 + 500]]))
