"""Position embeddings are resampled once per grid, and again when what they come from has changed."""

import pytest
import torch
from torch import Tensor

from objloc_ros.backbones.positions import MAX_TABLES, Positions, dino_pos_embed, sized_pos_embed
from objloc_ros.types import Grid

Counted = tuple[Positions, list[Grid]]


@pytest.fixture
def counted() -> Counted:
    made: list[Grid] = []

    def resample(table: Tensor, grid: Grid) -> Tensor:
        made.append(grid)
        return sized_pos_embed(table, grid)

    return Positions(resample), made


def table(seed: int = 0) -> Tensor:
    return torch.randn(1, 1 + 16, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rule", [dino_pos_embed, sized_pos_embed])
@torch.no_grad()
def test_gives_what_the_rule_gives(rule: object) -> None:
    positions = Positions(rule)  # type: ignore[arg-type]
    for grid in ((2, 3), (5, 7), (2, 3), (4, 4)):
        assert torch.equal(positions(table(), grid), rule(table(), grid))  # type: ignore[operator]


@torch.no_grad()
def test_once_for_each_grid(counted: Counted) -> None:
    positions, made = counted
    learned = table()
    for grid in ((2, 3), (3, 2), (2, 3), (3, 2)):
        positions(learned, grid)
    assert made == [(2, 3), (3, 2)]


@torch.no_grad()
def test_again_when_the_table_changes(counted: Counted) -> None:
    positions, made = counted
    learned = table()
    before = positions(learned, (2, 3)).clone()
    learned.copy_(table(1))  # as load_state_dict does
    assert not torch.equal(positions(learned, (2, 3)), before)
    assert positions(learned.double(), (2, 3)).dtype == torch.float64
    assert len(made) == 3


@torch.no_grad()
def test_few_are_kept(counted: Counted) -> None:
    positions, made = counted
    learned = table()
    for side in range(2, MAX_TABLES + 3):
        positions(learned, (side, 1))
    positions(learned, (MAX_TABLES + 2, 1))
    assert len(made) == MAX_TABLES + 1
    positions(learned, (2, 1))  # the oldest went
    assert len(made) == MAX_TABLES + 2


def test_gradients_pass(counted: Counted) -> None:
    positions, made = counted
    learned = table().requires_grad_()
    with torch.inference_mode():
        positions(learned, (2, 3))
    positions(learned, (2, 3)).sum().backward()
    assert learned.grad is not None
    assert len(made) == 2
