"""Every frame of a bag, the same way every time."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
import bag_making as making
from lockstep_making import TRUTH, lockstep, outputs, run
from sensor_msgs.msg import Image

from objloc_ros.bags.lockstep import OUTPUTS, REPORT, TIMING
from objloc_ros.bags.reader import read_bag
from objloc_ros.bags.truth_sources import TruthSpec
from objloc_ros.errors import InputError, ParameterError


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "drive", making.drive(8))
    return path


def test_two_runs_give_the_same_bytes(bag: Path, tmp_path: Path) -> None:
    make = lockstep("found", "maskcut", truth=TRUTH)
    before = making.fingerprint(bag)
    for name in ("a", "b"):
        run(bag, tmp_path / name, make)
    assert (tmp_path / "a" / REPORT).read_bytes() == (tmp_path / "b" / REPORT).read_bytes()
    assert list(read_bag(tmp_path / "a" / OUTPUTS)) == list(read_bag(tmp_path / "b" / OUTPUTS))
    assert json.loads((tmp_path / "a" / TIMING).read_text())["frames"] == 8
    assert making.fingerprint(bag) == before


@pytest.mark.parametrize("container", making.CONTAINERS)
def test_every_container_gives_the_same_report(bag: Path, tmp_path: Path, container: str) -> None:
    make = lockstep(truth=TRUTH, outputs=False)
    expected = run(bag, tmp_path / "a", make)
    other = making.write(tmp_path / "drive", making.drive(8), container)
    before = making.fingerprint(other)
    assert run(other, tmp_path / "b", make) == expected
    assert making.fingerprint(other) == before
    assert sorted(file.name for file in (tmp_path / "b").iterdir()) == [REPORT, TIMING]


def test_the_report_counts_and_scores(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", making.square(6))
    got = run(path, tmp_path / "a", lockstep("found", "maskcut", truth=TRUTH))
    camera = got["cameras"]["/front/image"]
    anomalies = {"out_of_order": 0, "duplicate_stamps": 0, "unstamped": 0}
    assert camera["frames"] == {"in": 6, "processed": 6, "dropped": {}, "late": 0, **anomalies}
    assert camera["truth"]["matched"] == 6
    right = {"corloc": 1.0, "ap50": pytest.approx(1.0), "recall": 1.0, "precision": 1.0, "flicker": 0.0}
    for name, more in (("found", {}), ("maskcut", {"ap": pytest.approx(1.0), "switches": 0.0})):
        row = camera["methods"][name]
        assert (row["answers"], row["objects"], row["frames_with_truth"]) == (6, 6, 6)
        metrics = row["metrics"]
        assert {key: metrics[key] for key in {**right, **more}} == right | more
        assert metrics["mask_iou"] > 0.7
        assert metrics["mask_flicker"] == pytest.approx(1 - 40 / 56, abs=0.08), "it moves by 8 of 48 pixels a frame"
    assert "switches" not in camera["methods"]["found"]["metrics"], "found gives no ids"
    assert got["settings"]["methods"]["maskcut"]["options"]["n_masks"] == 3


def test_several_cameras_each_with_its_truth(tmp_path: Path) -> None:
    left = making.drive(5, camera="/left/image/compressed", truth="/left/truth", seed=1)
    right = making.drive(4, camera="/right/image", truth="/right/truth", seed=2, start=making.START + 10_000_000)
    both = making.write(tmp_path / "both", sorted(left + right, key=lambda m: m[1]), "sqlite3")
    truths = {"left": TruthSpec((("", "/left/truth"),)), "right": TruthSpec((("", "/right/truth"),))}
    together = TruthSpec((("", "/left/truth"), ("", "/right/truth")))
    got = run(both, tmp_path / "a", lockstep("maskcut", truth=together))["cameras"]
    assert list(got) == ["/left/image/compressed", "/right/image"]
    for name, messages, camera in (("left", left, "/left/image/compressed"), ("right", right, "/right/image")):
        alone = run(
            making.write(tmp_path / name, messages), tmp_path / f"a_{name}", lockstep("maskcut", truth=truths[name])
        )
        assert alone["cameras"][camera] == got[camera], "cameras do not disturb each other"
        assert len(outputs(tmp_path / "a", f"/{name}/discovery/detections")) == got[camera]["frames"]["in"]


def test_frames_without_an_image_are_dropped_and_counted(tmp_path: Path) -> None:
    frames = making.drive(4, truth=None)
    frames[1][2].encoding = "strange"
    frames[2][2].data = array("B", b"short")
    got = run(making.write(tmp_path / "bag", frames), tmp_path / "a", lockstep())
    assert got["cameras"]["/front/image"]["frames"] | {"out_of_order": 0} == {
        "in": 4,
        "processed": 2,
        "dropped": {"encoding": 1, "size": 1},
        "late": 0,
        "out_of_order": 0,
        "duplicate_stamps": 0,
        "unstamped": 0,
    }
    assert [m.stamp_ns for m in outputs(tmp_path / "a", "/front/found/detections")] == [frames[0][1], frames[3][1]]


def test_odd_stamps_are_counted_and_every_frame_is_answered(tmp_path: Path) -> None:
    stamps = [10, 30, 20, 30, 0]
    frames = [("/cam/image", 100 + i, making.grey(stamp, 50 * i)) for i, stamp in enumerate(stamps)]
    truth = [("/cam/truth", 100 + i, making.boxes(stamp, (0, 0, 9, 9))) for i, stamp in enumerate([10, 20, 30])]
    path = making.write(tmp_path / "bag", frames + truth)
    got = run(path, tmp_path / "a", lockstep(truth=TruthSpec((("", "/cam/truth"),))))["cameras"]["/cam/image"]
    assert (got["frames"]["in"], got["frames"]["processed"]) == (5, 5)
    assert (got["frames"]["out_of_order"], got["frames"]["duplicate_stamps"], got["frames"]["unstamped"]) == (1, 1, 1)
    assert (got["methods"]["found"]["answers"], got["methods"]["found"]["frames_with_truth"]) == (5, 3)
    answers = outputs(tmp_path / "a", "/cam/found/detections")
    assert [(m.stamp_ns, m.message.header.stamp.nanosec) for m in answers] == list(
        zip(range(100, 105), stamps, strict=True)
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lockstep(threads=0), "threads must be at least 1, got 0"),
        (lambda: lockstep(overlay=True, outputs=False), "overlay videos are made of the outputs"),
        (lambda: lockstep(topics=("/t",), truth=TruthSpec((("", "/t"),))), "cannot be images and truth"),
    ],
)
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


def test_truth_of_another_size_names_the_frame(tmp_path: Path) -> None:
    mask = ("/front/truth", making.START, making.mask_to_image(np.ones((9, 9), np.uint8), making.header(making.START)))
    path = making.write(tmp_path / "bag", [*making.drive(1, truth=None), mask])
    with pytest.raises(InputError, match=r"at 1000.000 s: the prediction has 160x120 pixels, the truth 9x9"):
        run(path, tmp_path / "a", lockstep(truth=TRUTH))


def test_a_camera_without_a_single_frame(tmp_path: Path) -> None:
    writer_input = [("/front/image", 1, Image())]
    path = making.write(tmp_path / "bag", writer_input, "sqlite3")
    got = run(path, tmp_path / "a", lockstep())
    assert got["cameras"]["/front/image"]["frames"]["dropped"] == {"encoding": 1}
    assert got["cameras"]["/front/image"]["methods"]["found"]["metrics"] == {}
