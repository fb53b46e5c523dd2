"""The original implementations' outputs are in the repository: small, and of every method the easy and the odd."""

from __future__ import annotations

import pytest
from golden_cases import ALWAYS_WELL_POSED, GOLDEN, IS_ILL_POSED, find_cases, load_case

MAX_BYTES = 4_000_000
CASES = {
    "bilateral": 5,
    "clipdiy": 6,
    "cutler_cascade": 2,
    "cutler_copy_paste": 4,
    "cutler_droploss": 3,
    "cutler_merge": 2,
    "dss": 13,
    "features": 13,
    "found_bkg": 11,
    "found_head": 3,
    "lod_phm": 2,
    "lod_ranking": 4,
    "lost": 14,
    "lost_cad_boxes": 1,
    "lost_od_clusters": 2,
    "lost_od_eval": 2,
    "maskcut": 9,
    "selfmask_loss": 3,
    "selfmask_net": 4,
    "selfmask_rate": 1,
    "rcnn_weights": 3,
    "selfmask_spectral": 3,
    "selfmask_vote": 5,
    "tokencut": 15,
}


def test_the_folder_stays_small() -> None:
    files = [path for path in GOLDEN.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_no_case_is_missing() -> None:
    assert {method: len(find_cases(method)) for method in CASES} == CASES
    assert CASES.keys() == IS_ILL_POSED.keys() | ALWAYS_WELL_POSED | {"features"}


@pytest.mark.parametrize("method", sorted(IS_ILL_POSED))
def test_every_method_has_well_and_ill_posed_cases(method: str) -> None:
    ill_posed = [IS_ILL_POSED[method](load_case(path)) for path in find_cases(method)]
    assert any(ill_posed)
    assert not all(ill_posed)


def test_a_method_without_cases_is_an_error() -> None:
    with pytest.raises(FileNotFoundError, match="check the files out again"):
        find_cases("no_such_method")


def test_features_without_a_reader_are_not_kept() -> None:
    cases = [load_case(path) for path in GOLDEN.glob("*/case*.npz")]
    used = {int(case["features_case"]) for case in cases if "features_case" in case}
    assert used == {int(path.stem.removeprefix("case")) for path in find_cases("features")}
