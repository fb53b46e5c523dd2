"""Regressions are told from noise; what cannot be compared is said."""

import json

import numpy as np
import pytest

from objloc_ros.benchmark.cases import Case
from objloc_ros.benchmark.results import BenchmarkRun, CaseResult, Roofline, compare, read_run
from objloc_ros.errors import InputError, ParameterError

MACHINE = {"cpu": "a processor", "cores": 2, "threads": 1, "gpu": None, "torch": "2.0"}
FOUND = Case("cpu", "tiny", (480, 640), "found")
LOST = Case("cpu", "tiny", (480, 640), "lost")
CAMERAS = Case("cpu", "tiny", (480, 640), "found", cameras=4)


def rounds(vit, head=1.0, *, noise=0.0, seed=0, count=15, **more):
    """Rounds of a few stages around these milliseconds, with normally distributed noise relative to them."""
    rng = np.random.default_rng(seed)
    stages = {
        name: ms * (1 + noise * rng.standard_normal(count)) for name, ms in {"vit": vit, "head": head, **more}.items()
    }
    return {name: list(values) for name, values in {**stages, "frame": sum(stages.values())}.items()}


def run(rows, machine=None):
    return BenchmarkRun(
        "2026-01-01", "objloc bench", {**MACHINE, **(machine or {})}, [CaseResult(c, r) for c, r in rows.items()]
    )


def verdicts(before, after, **options):
    return [change.verdict for change in compare(run(before), run(after), **options).changes]


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1])
def test_noise_is_no_regression(noise):
    for seed in range(20):
        before, after = rounds(20.0, noise=noise, seed=seed), rounds(20.0, noise=noise, seed=100 + seed)
        assert verdicts({FOUND: before}, {FOUND: after}) == ["same"]


@pytest.mark.parametrize(
    ("factor", "noise", "verdict"), [(1.2, 0.01, "slower"), (1.03, 0.002, "same"), (0.8, 0.01, "faster")]
)
def test_planted_changes_are_judged(factor, noise, verdict):
    before, after = rounds(20.0, noise=noise), rounds(factor * 20.0, noise=noise, seed=1)
    assert verdicts({FOUND: before}, {FOUND: after}) == [verdict]


def test_the_margin_grows_with_the_spread_and_has_a_floor():
    quiet, noisy = (
        compare(run({FOUND: rounds(20.0, noise=n)}), run({FOUND: rounds(20.0, noise=n, seed=1)})) for n in (0, 0.1)
    )
    assert quiet.changes[0].margin == 0.05
    assert 0.2 < noisy.changes[0].margin < 0.7
    slow = {FOUND: rounds(21.0)}
    assert verdicts({FOUND: rounds(20.0)}, slow, margin_floor=0.03) == ["slower"]
    assert verdicts({FOUND: rounds(20.0)}, slow, margin_floor=0.1) == ["same"]


def test_one_outlier_is_forgiven():
    spoiled = rounds(20.0)
    for stage in spoiled:
        spoiled[stage][3] *= 50
    assert verdicts({FOUND: rounds(20.0)}, {FOUND: spoiled}) == ["same"]


def test_a_regression_names_its_stage():
    done = compare(run({FOUND: rounds(20.0, 1.0)}), run({FOUND: rounds(20.5, 9.0)}))
    (change,) = done.regressions
    assert change.worst == ("head", pytest.approx(8.0))
    assert "slower: found, tiny, 640x480, batch 1, 1 camera, cpu: 21.00 -> 29.50 ms (+40.5%" in done.lines()[0]
    assert "most of it in head (+8.00 ms)" in done.lines()[0]
    assert done.lines()[-1] == "1 of 1 slower, 0 within their margins"


def test_stages_that_one_run_lacks_do_not_count():
    before, after = rounds(20.0), rounds(20.0, publish=10.0)
    assert verdicts({FOUND: before}, {FOUND: after}) == ["same"]
    assert verdicts({CAMERAS: before}, {CAMERAS: after}) == [
        "slower"
    ]  # their stages overlap: the frame's clock decides


def test_rows_without_counterpart_are_named():
    done = compare(run({FOUND: rounds(20.0), CAMERAS: rounds(5.0)}), run({FOUND: rounds(20.0), LOST: rounds(30.0)}))
    assert [change.case for change in done.changes] == [FOUND]
    assert "only in the saved run: found, tiny, 640x480, batch 1, 4 cameras, cpu" in done.lines()
    assert "only in this run: lost, tiny, 640x480, batch 1, 1 camera, cpu" in done.lines()
    assert done.to_json()["only_after"] == [str(LOST)]


def test_other_machines_are_refused_by_name():
    here, there = run({FOUND: rounds(20.0)}), run({FOUND: rounds(40.0)}, {"cpu": "another", "threads": 2})
    with pytest.raises(ParameterError, match=r"cpu was 'another' and is 'a processor'; threads was 2 and is 1"):
        compare(there, here)
    done = compare(there, here, any_machine=True)
    assert len(done.machines) == 2
    assert [change.verdict for change in done.changes] == ["faster"]


def test_negative_margin_is_refused():
    with pytest.raises(ParameterError, match=r"at least 0, got -1"):
        compare(run({}), run({}), margin_floor=-1)


def test_runs_survive_their_file(tmp_path):
    roofline = Roofline(ms=10.0, flops=100, attention_flops=10, bytes=5.0, gflop_per_s=1.0, dtype="float32")
    rows = [
        CaseResult(FOUND, rounds(20.0, noise=0.1), {"vit": roofline}),
        CaseResult(CAMERAS, rounds(5.0), {"vit": roofline}),
    ]
    saved = BenchmarkRun("2026-01-01", "objloc bench", MACHINE, rows)
    document = saved.to_json()
    assert document["rows"][0]["floors"]["vit"]["ratio"] == pytest.approx(rows[0].median("vit") / 10)
    assert document["rows"][1]["floors"]["vit"]["ratio"] is None  # waiting is no arithmetic
    (tmp_path / "run.json").write_text(json.dumps(document))
    read = read_run(tmp_path / "run.json")
    assert [(row.case, row.rounds) for row in read.rows] == [(row.case, row.rounds) for row in rows]
    assert read.machine == MACHINE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("not JSON", "cannot be read as a run"),
        ("[1]", "cannot be read as a run"),
        ('{"rows": []}', "cannot be read as a run"),
        ('{"format": 99}', "has format 99, expected 1"),
    ],
)
def test_other_files_are_refused(tmp_path, text, complaint):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_run(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_run(tmp_path / "none.json")


@pytest.mark.parametrize("bad", [[], [float("nan")], [-1.0]])
def test_rounds_must_be_times(tmp_path, bad):
    document = run({FOUND: rounds(20.0)}).to_json()
    document["rows"][0]["stages"]["vit"]["rounds_ms"] = bad
    (tmp_path / "run.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="not numbers of milliseconds"):
        read_run(tmp_path / "run.json")
