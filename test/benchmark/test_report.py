"""Tables that fit, and a picture whose bars are as long as they should be."""

import numpy as np
import pytest

from objloc_ros.benchmark.cases import STAGES, Cell, Skipped, matrix
from objloc_ros.benchmark.report import markdown, picture, text_table
from objloc_ros.benchmark.results import Floor, Row, Run
from objloc_ros.errors import InputError
from objloc_ros.io.bar_chart import COLOURS, Bar, Panel, stacked_bars

FLOOR = Floor(ms=500.0, flops=10**11, attention_flops=10**10, bytes=1e8, gflop_per_s=200.0, dtype="bfloat16")
MACHINE = {"cpu": "a processor", "cores": 2, "threads": 1, "gpu": None, "torch": "2.0", "load": 0.1}


@pytest.fixture
def run():
    cells = [
        Cell("cuda:0", "random:dino_vits16", (720, 1280), "clip_dinoiser", batch, cameras)
        for batch, cameras in ((1, 1), (16, 1), (1, 64))
    ]
    cells += [Cell("cpu", "tiny", (480, 640), method) for method in ("found", "deep_spectral")]
    times = {stage: [1234.5, 1250.0, 1260.0] for stage in STAGES}
    rows = [Row(cell, {**times, "frame": [9876.5, 9900.0, 9999.0]}, {"vit": FLOOR, "head": FLOOR}) for cell in cells]
    rows[3] = Row(cells[3], {"head": [0.1, 0.2, 0.3], "post": [1.0, 2.0, 3.0], "frame": [2.0, 3.0, 4.0]})
    skipped = [
        Skipped(Cell("cpu", "tiny", (480, 640), "lost", n, 4), "they cannot be had together") for n in range(2, 9)
    ]
    rates = [
        {"device": "cpu", "copy_gb_per_s": 20.0},
        {"device": "cpu", "dtype": "float32", "gemm": [1, 2, 3], "gflop_per_s": 9.0},
    ]
    return Run(
        "2026-01-01", "objloc bench --methods " + "x," * 99, MACHINE, rows, skipped, ["publish: no rclpy"], rates
    )


def test_table_fits_120_columns(run):
    lines = text_table(run).splitlines()
    assert max(map(len, lines)) <= 120
    assert "random:dino_vits16, 1280x720, cuda:0" in lines
    row = next(line.split() for line in lines if line.startswith("found "))
    assert row == ["found", "1", "1", "3.00", "1.00", "333", *["-"] * 5, "0.20", "-", "2.00", "-", "-"]
    assert any(line.startswith("skipped 7: they cannot be had together: lost, tiny, 640x480") for line in lines)
    assert "left out: publish: no rclpy" in lines
    assert "copies on cpu: 20.0 GB/s read and written" in lines


def test_markdown_has_machine_date_command_and_floors(run):
    text = markdown(run)
    first, _, header, rule, *rows = text.splitlines()
    assert "`objloc bench" in first
    assert "2026-01-01" in first
    assert "a processor, 2 cores, 1 thread(s)" in first
    assert {line.count("|") for line in (header, rule, *rows[:5])} == {header.count("|")}
    assert "| ViT floor | ViT / floor |" in header
    assert "| 500 | 2.5 | 500 | 2.5 |" in rows[0]
    assert "| 500 | - | 500 | - |" in rows[2]  # several cameras
    assert "ViT, random:dino_vits16, 1280x720: 500 ms (100 GFLOP, 10.0 of them attention" in text


def test_picture_has_a_bar_for_each_row(run):
    image = picture(run)
    assert image.dtype == np.uint8
    assert image.shape[1:] == (1280, 3)
    assert 200 < image.shape[0] < 1000


def test_bars_have_their_lengths():
    image = stacked_bars([Panel("title", [Bar("a", [30, 10]), Bar("b", [10, 0])])], ["one", "two"], unit="ms")
    legend, below = image[:48], image[48:]
    lengths = {}
    for part in range(2):
        assert (legend == COLOURS[part]).all(2).any()
        lengths[part] = [int(n) for n in sorted(set((below == COLOURS[part]).all(2).sum(1))) if n]
    one_short, one_long = lengths[0]
    (two,) = lengths[1]
    assert one_long == pytest.approx(3 * one_short, abs=2)
    assert two == pytest.approx(one_short, abs=2)


@pytest.mark.parametrize("panels", [[], [Panel("empty", [])], [Panel("title", [Bar("a", [1.0])])]])
def test_bars_that_do_not_fit_are_refused(panels):
    with pytest.raises(InputError, match="expected bars of 2 parts"):
        stacked_bars(panels, ["one", "two"], unit="ms")


def test_bars_without_length_are_drawn():
    assert stacked_bars([Panel("title", [Bar("a", [0.0])])], ["one"], unit="ms").any()


def test_matrix_has_every_combination_once_and_names_the_impossible():
    axes = {"methods": ["found", "lost"], "backbones": ["tiny"], "sizes": [(48, 64)], "devices": ["cpu"]}
    cells, skipped = matrix(**axes, batches=[1, 4], cameras=[1, 2])
    assert len({*cells, *(one.cell for one in skipped)}) == 8
    assert {(one.cell.batch, one.cell.cameras) for one in skipped} == {(4, 2)}
    assert all("one frame at a time" in one.reason for one in skipped)
