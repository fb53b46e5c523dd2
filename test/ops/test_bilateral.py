from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from golden_cases import decode_image, find_cases, load_case

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.ops.bilateral import BilateralGrid, accepts, binary, solve

ROOT = Path(__file__).resolve().parents[2]

spec = importlib.util.spec_from_file_location("literal", ROOT / "bench" / "literal.py")
literal = importlib.util.module_from_spec(spec)
spec.loader.exec_module(literal)


@pytest.fixture(params=find_cases("bilateral"), ids=lambda path: path.stem)
def case(request) -> dict:
    case = load_case(request.param)
    return case | {"image": decode_image(case)}


def test_golden_solver_and_masks(case: dict) -> None:
    grid = BilateralGrid(case["image"])
    assert len(grid) == case["n_vertices"]
    soft = grid.solve(case["target"])
    np.testing.assert_allclose(soft, case["solver"], rtol=0, atol=1e-6)
    undecided = int(np.count_nonzero(np.abs(case["solver"].astype(np.float64) - 0.5) < 1e-6))
    assert np.count_nonzero(binary(soft) != case["binary"]) <= undecided
    assert np.count_nonzero(binary(soft, keep="all") != case["all_cc"].astype(bool)) <= undecided


def test_golden_acceptance(case: dict) -> None:
    height, width = case["image"].shape[:2]
    target = cv2.resize(case["patch_mask"], (width, height), interpolation=cv2.INTER_LINEAR)
    refined = binary(solve(case["image"], target))
    accepted = accepts(target > 0.5, refined)
    assert accepted == bool(case["found_used"])
    assert ((refined if accepted else target > 0.5) == case["found_selected"]).all()


def blocky_image(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    image = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(int)
    return np.clip(image + rng.integers(-9, 10, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("height", "width", "sigmas"),
    [(64, 80, (16, 16, 8)), (33, 47, (8, 12, 5)), (20, 90, (7.5, 16, 8)), (1, 40, (4, 4, 4)), (1, 1, (16, 16, 8))],
)
def test_solver_agrees_with_the_literal_formulation(height: int, width: int, sigmas: tuple) -> None:
    image = blocky_image(height, height, width)
    target = np.random.default_rng(1).random((height, width))
    named = dict(zip(("sigma_spatial", "sigma_luma", "sigma_chroma"), sigmas, strict=True))
    expected = literal.bilateral_solve(image, target, **named)
    np.testing.assert_allclose(solve(image, target, **named), expected, rtol=0, atol=1e-10)


def test_grey_levels_on_a_cell_border_fall_where_the_float_formula_puts_them() -> None:
    image = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    target = np.random.default_rng(0).random((16, 16))
    np.testing.assert_allclose(solve(image, target), literal.bilateral_solve(image, target), rtol=0, atol=1e-10)


def test_one_grid_serves_many_targets() -> None:
    image = blocky_image(3, 48, 48)
    grid = BilateralGrid(image)
    for seed in range(3):
        target = np.random.default_rng(seed).random((48, 48)) > 0.5
        assert (grid.solve(target) == solve(image, target)).all()


def test_constant_targets_stay_constant() -> None:
    image = blocky_image(0, 40, 56)
    for value in (0.0, 1.0):
        np.testing.assert_allclose(solve(image, np.full((40, 56), value)), value, atol=1e-9)


def test_a_mask_snaps_to_the_edge_in_the_image() -> None:
    image = np.full((96, 96, 3), 30, dtype=np.uint8)
    image[20:70, 24:72] = 220
    rough = np.zeros((96, 96), dtype=bool)
    rough[24:64, 16:72] = True
    refined = binary(solve(image, rough))
    assert (refined == (image[..., 0] == 220)).all()
    assert accepts(rough, refined)


def soft(*rows: str) -> np.ndarray:
    return np.array([[float(c == "#") for c in row] for row in rows])


@pytest.mark.parametrize(
    ("rows", "largest", "everything"),
    [
        (("#....", ".....", "...##"), ("0....", ".....", "...11"), ("1....", ".....", "...11")),
        (("###....", "#.#....", "###...."), ("111....", "111....", "111...."), ("111....", "111....", "111....")),
        (("####.", "####.", "####."), ("....1", "....1", "....1"), ("....1", "....1", "....1")),
        (("##", "##"), ("..", ".."), ("..", "..")),
        (("..", ".."), ("11", "11"), ("..", "..")),
        (("##", ".."), ("11", ".."), ("11", "..")),
        (("#..#", "....", "...."), ("1...", "....", "...."), ("1..1", "....", "....")),
    ],
    ids=["two objects", "hole", "object larger than ground", "full", "empty", "half and half", "equal objects"],
)
def test_selection_rules(rows: tuple, largest: tuple, everything: tuple) -> None:
    for keep, expected in (("largest", largest), ("all", everything)):
        assert (binary(soft(*rows), keep=keep) == np.array([[c == "1" for c in row] for row in expected])).all()


@pytest.mark.parametrize(
    ("target", "refined", "accepted"),
    [
        ("##..", "##..", True),
        ("##..", "####", False),
        ("####", "###.", True),
        ("....", "....", False),
        ("#..", "..#", False),
    ],
)
def test_acceptance_needs_more_than_half(target: str, refined: str, accepted: bool) -> None:
    assert accepts(soft(target) > 0, soft(refined) > 0) is accepted


def test_senseless_input_is_refused() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(InputError, match="finite target of shape"):
        solve(image, np.zeros((8, 9)))
    with pytest.raises(InputError, match="finite target"):
        solve(image, np.full((8, 8), np.nan))
    with pytest.raises(InputError, match="expected an RGB uint8"):
        solve(image.astype(float), np.zeros((8, 8)))
    with pytest.raises(ParameterError, match="at least 1"):
        solve(image, np.zeros((8, 8)), sigma_luma=0.5)
