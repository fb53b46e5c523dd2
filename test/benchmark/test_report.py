"""Tables that fit, and a picture whose bars are as long as they should be."""

from dataclasses import replace

import numpy as np
import pytest

from objloc_ros.benchmark.cases import STAGES, Case, SkippedCase, make_matrix
from objloc_ros.benchmark.report import draw, format_markdown, format_text
from objloc_ros.benchmark.results import BenchmarkRun, CaseResult, Roofline

ROOFLINE = Roofline(ms=500.0, flops=10**11, attention_flops=10**10, bytes=1e8, gflop_per_s=200.0, dtype="bfloat16")
MACHINE = {"cpu": "a processor", "cores": 2, "threads": 1, "gpu": None, "torch": "2.0", "load": 0.1}


@pytest.fixture
def run():
    cases = [
        Case("cuda:0", "random:dino_vits16", (720, 1280), "clip_dinoiser", batch, cameras)
        for batch, cameras in ((1, 1), (16, 1), (1, 64))
    ]
    cases += [Case("cpu", "tiny", (480, 640), method) for method in ("found", "deep_spectral")]
    times = {stage: [1234.5, 1250.0, 1260.0] for stage in STAGES}
    rows = [
        CaseResult(case, {**times, "frame": [9876.5, 9900.0, 9999.0]}, {"vit": ROOFLINE, "head": ROOFLINE})
        for case in cases
    ]
    rows[3] = CaseResult(cases[3], {"head": [0.1, 0.2, 0.3], "post": [1.0, 2.0, 3.0], "frame": [2.0, 3.0, 4.0]})
    skipped = [
        SkippedCase(Case("cpu", "tiny", (480, 640), "lost", n, 4), "they cannot be had together") for n in range(2, 9)
    ]
    rates = [
        {"device": "cpu", "copy_gb_per_s": 20.0},
        {"device": "cpu", "dtype": "float32", "gemm": [1, 2, 3], "gflop_per_s": 9.0},
    ]
    return BenchmarkRun(
        "2026-01-01", "objloc bench --methods " + "x," * 99, MACHINE, rows, skipped, ["publish: no rclpy"], rates
    )


def test_table_fits_120_columns(run):
    lines = format_text(run).splitlines()
    assert max(map(len, lines)) <= 120
    assert "random:dino_vits16, 1280x720, cuda:0" in lines
    row = next(line.split() for line in lines if line.startswith("found "))
    assert row == ["found", "1", "1", "3.00", "1.00", "333", *["-"] * 5, "0.20", "-", "2.00", "-", "-"]
    assert any(line.startswith("skipped 7: they cannot be had together: lost, tiny, 640x480") for line in lines)
    assert "left out: publish: no rclpy" in lines
    assert "copies on cpu: 20.0 GB/s read and written" in lines


def test_markdown_has_machine_date_command_and_rooflines(run):
    text = format_markdown(run)
    first, _, header, rule, *rows = text.splitlines()
    assert "`objloc bench" in first
    assert "2026-01-01" in first
    assert "a processor, 2 cores, 1 thread(s)" in first
    assert {line.count("|") for line in (header, rule, *rows[:5])} == {header.count("|")}
    assert "| ViT roofline | ViT / roofline |" in header
    assert "| 500 | 2.5 | 500 | 2.5 |" in rows[0]
    assert "| 500 | - | 500 | - |" in rows[2]  # several cameras
    assert "ViT, random:dino_vits16, 1280x720: 500 ms (100 GFLOP, 10.0 of them attention" in text


def test_picture_has_a_panel_for_each_group(run):
    image = draw(run)
    assert image.dtype == np.uint8
    assert image.shape[1:] == (1280, 3)
    one = draw(replace(run, rows=run.rows[:1]))
    assert 100 < one.shape[0] < image.shape[0] < 1000


def test_bars_are_as_long_as_their_stages_take():
    cases = [Case("cpu", "tiny", (480, 640), method) for method in ("found", "lost")]
    times = ({"vit": [30.0], "head": [10.0], "frame": [41.0]}, {"vit": [10.0], "head": [0.0], "frame": [11.0]})
    image = draw(BenchmarkRun("", "", MACHINE, [CaseResult(c, t) for c, t in zip(cases, times, strict=True)]))
    lengths = []
    for colour in ("#1f77b4", "#ff7f0e"):  # matplotlib's first two
        same = (image == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(2)
        rows = same.sum(1)[len(same) // 5 :]  # below the legend
        lengths.append(sorted({int(n) for n in rows if n > 20}))
    (short, *_, long), (head, *_) = lengths
    assert long == pytest.approx(3 * short, rel=0.02)
    assert head == pytest.approx(short, rel=0.02)


def test_bars_without_length_are_drawn():
    assert draw(
        BenchmarkRun(
            "", "", MACHINE, [CaseResult(Case("cpu", "tiny", (4, 4), "lost"), {"head": [0.0], "frame": [1.0]})]
        )
    ).any()


def test_matrix_has_every_combination_once_and_names_the_impossible():
    axes = {"methods": ["found", "lost"], "backbones": ["tiny"], "sizes": [(48, 64)], "devices": ["cpu"]}
    cases, skipped = make_matrix(**axes, batches=[1, 4], cameras=[1, 2])
    assert len({*cases, *(skip.case for skip in skipped)}) == 8
    assert {(skip.case.batch, skip.case.cameras) for skip in skipped} == {(4, 2)}
    assert all("one frame at a time" in skip.reason for skip in skipped)
