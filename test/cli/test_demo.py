"""`objloc demo` as people run it: real processes over DDS, and nothing left when something fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import cv2
import numpy as np
import pytest
from waiting import PATIENCE_S, wait_for

pytest.importorskip("rclpy")

from objloc_ros.bags.reader import read_bag
from objloc_ros.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("demo_driver.py")
STAND_IN = ROOT / "test" / "ros" / "found_process.py"
"""The real node around a tiny engine, for which bright pixels are the object."""


class Demo:
    """A demo in a process of its own, its descendants marked so that none is overlooked."""

    def __init__(self, out, *arguments, node=(STAND_IN,)):
        self.mark = uuid.uuid4().hex
        self.out = out
        self.process = subprocess.Popen(
            [sys.executable, DRIVER, *node, "--", "--out", out, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "OBJLOC_TEST_MARK": self.mark,
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self):
        output, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, output, errors

    def wait_for_children(self, count):
        wait_for(lambda: len(self.alive()) >= 1 + count, f"{count} children")

    def wait_for_node(self):
        self.wait_for_children(2)
        wait_for(lambda: "loaded" in (self.out / "found.log").read_text(), "the node")

    def alive(self):
        pids = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes():
                    pids.append(int(process.name))
            except OSError:
                continue
        return pids


@pytest.fixture
def start(tmp_path):
    demos = []

    def _start(*arguments, **options):
        demos.append(Demo(tmp_path / "out", *arguments, **options))
        return demos[-1]

    yield _start
    for demo in demos:
        for pid in demo.alive():
            os.kill(pid, signal.SIGKILL)
        demo.process.wait()


def no_traces(demo):
    wait_for(lambda: not demo.alive(), "the end of all processes")
    assert {path.name for path in demo.out.iterdir()} <= {"found.log", "image_source.log"}


@pytest.fixture
def out(tmp_path, forked_children):
    """Where a demo in this process with the node's stand-in puts its results."""
    forked_children.stand_ins["objloc_ros.nodes.found"] = STAND_IN
    return tmp_path / "out"


def test_a_scene_goes_through(out, capsys, forked_children):
    options = ["--source", "scene", "--frames", "20", "--rate", "10", "--size", "320x240"]
    assert main(["demo", "--out", str(out), *options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "demo.json").read_text())
    frames = report["frames"]
    assert frames["in"] == frames["recorded"] == 20 >= frames["received"], "the node asks for the newest only"
    assert frames["received"] == frames["published"] + sum(frames["dropped"].values())
    assert frames["out"] == frames["published"] == len(report["boxes_per_frame"]["counts"]) > 0
    assert 0 < report["age_ms"]["p50"] <= report["age_ms"]["p95"]
    assert report["mask_iou"]["frames"] == frames["out"]
    assert forked_children.ended()
    check_files(out, frames)


def check_files(out, frames):
    assert {path.name for path in out.iterdir()} == {
        "bag",
        "contact_sheet.png",
        "demo.json",
        "found.log",
        "image_source.log",
        "overlay.mp4",
    }
    assert cv2.imread(str(out / "contact_sheet.png")).shape[1] == 1680
    assert cv2.VideoCapture(str(out / "overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == frames["out"]
    counts = {}
    for message in read_bag(out / "bag"):
        counts[message.topic] = counts.get(message.topic, 0) + 1
    assert counts["/camera/image"] == counts["/camera/image_source/truth"] == 20
    for topic in ("detections", "mask", "overlay/compressed", "debug/age_ms", "debug/processing_ms"):
        assert counts[f"/camera/found/{topic}"] == frames["out"]
    assert counts["/camera/found/label_info"] == 1


def test_a_picture_goes_through_twice_into_the_same_folder(out, tmp_path, capsys):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8))
    for _ in range(2):
        options = ["--source", str(path), "--prompts", "", "--frames", "8", "--rate", "4"]
        assert main(["demo", "--out", str(out), *options]) == 0
        output = capsys.readouterr().out
        assert "8 in" in output
        assert "mask IoU" not in output
        assert "names" not in output
        assert str(out / "contact_sheet.png") in output
    image = next(read_bag(out / "bag", ["/camera/image"])).message
    assert (image.width, image.height) == (640, 480)


def test_the_embedded_model_goes_through(tmp_path):
    out = tmp_path / "out"
    options = ["--source", "scene", "--frames", "6", "--rate", "3", "--out", out]
    words = [sys.executable, "-m", "objloc_ros.cli.main", "demo", *options]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "demo.json").read_text())
    assert report["mask_iou"]["mean"] > 0.2
    assert report["names"] is None


def test_photographs_are_shown_and_their_objects_named(tmp_path, capsys, forked_children):
    out = tmp_path / "out"
    assert main(["demo", "--frames", "8", "--rate", "2", "--prompts", "cup, dog", "--out", str(out)]) == 0
    assert "names" in capsys.readouterr().out
    report = json.loads((out / "demo.json").read_text())
    assert report["mask_iou"] is None
    assert len(forked_children) == 3
    assert forked_children.ended()
    assert 0 < report["names"]["frames"] <= 8
    assert set(report["names"]["counts"]) <= {"cup", "dog"}
    image = next(read_bag(out / "bag", ["/camera/image"])).message
    assert (image.width, image.height) == (640, 480)
    (labels,) = {
        tuple(vision_class.class_name for vision_class in message.class_map)
        for _, _, message in read_bag(out / "bag", ["/camera/segmentation/label_info"])
    }
    assert labels == ("cup", "dog")


@pytest.mark.parametrize(
    ("prompts", "words"),
    [("dog, dog", "prompts must be different"), ("dog,,cat", "prompts must not be empty"), ("dog, qwzx", "'qwzx'")],
)
def test_prompts_that_are_refused(tmp_path, capsys, prompts, words):
    assert main(["demo", "--out", str(tmp_path / "out"), "--prompts", prompts]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_node_that_dies_is_quoted(start):
    demo = start("--source", "scene", "--frames", "5", node=("-c", "import sys; sys.exit('no such luck')"))
    code, output, errors = demo.finish()
    assert code == 1
    assert output == ""
    assert "found ended with exit code 1" in errors
    assert "no such luck" in errors
    no_traces(demo)


def test_a_node_that_dies_in_the_middle_is_quoted(start):
    demo = start("--source", "scene", "--frames", "500", "--rate", "30", "--size", "64x48")
    demo.wait_for_node()
    for pid in demo.alive():
        if str(STAND_IN).encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") and pid != demo.process.pid:
            os.kill(pid, signal.SIGKILL)
    code, _, errors = demo.finish()
    assert code == 1
    assert "found ended with exit code -9" in errors
    no_traces(demo)


def test_a_source_that_cannot_be_read_is_quoted(start):
    demo = start("--source", "/nowhere/a.png", "--prompts", "")
    code, _, errors = demo.finish()
    assert code == 1
    assert "image_source ended with exit code 1" in errors
    assert "does not exist" in errors
    no_traces(demo)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing(start, number):
    demo = start("--source", "scene", "--frames", "500", "--rate", "30", "--size", "64x48")
    demo.wait_for_node()
    demo.process.send_signal(number)
    code, _, errors = demo.finish()
    assert code == 130
    assert "Traceback" not in errors
    no_traces(demo)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_a_kill_leaves_no_process(start):
    demo = start("--source", "scene", "--frames", "500", "--rate", "30", "--size", "64x48")
    demo.wait_for_children(2)
    demo.process.kill()
    demo.process.communicate()
    wait_for(lambda: not demo.alive(), "the end of all processes")


@pytest.mark.parametrize("arguments", [["--frames", "0"], ["--rate", "0"], ["--rate", "nan"], ["--size", "big"]])
def test_options_out_of_range(tmp_path, capsys, arguments):
    assert main(["demo", "--out", str(tmp_path / "out"), *arguments]) == 2
    assert "error" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot write" in capsys.readouterr().err
