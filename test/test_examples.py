"""Every script of examples/ runs, and says what it is for."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from objloc_ros.io.media import VideoWriter, read_image, write_image
from objloc_ros.scenes.video import drive_video

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIZE = (96, 128)


@pytest.fixture(scope="module")
def frames():
    return [frame for frame, _ in drive_video(seed=1, size=SIZE, frames=4)]


@pytest.fixture(scope="module")
def photos(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i, frame in enumerate(frames):
        write_image(folder / f"{i}.png", frame)
    return folder


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script in this process, which has loaded torch already, and return what it printed."""

    def call(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return call


def test_there_are_six_and_each_is_short():
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 6
    assert max(len(script.read_text().splitlines()) for script in scripts) <= 30


def test_detect_image_draws_the_objects(run, photos, tmp_path):
    printed = run("detect_image.py", photos / "0.png", tmp_path / "objects.png")
    assert printed.count("box [") >= 1
    drawn = read_image(tmp_path / "objects.png")
    assert drawn.shape == (*SIZE, 3)
    assert (drawn != read_image(photos / "0.png")).any()


def test_track_video_prints_ids_that_last(run, frames, tmp_path):
    writer = VideoWriter(tmp_path / "drive.mp4", 15)
    with writer:
        for frame in frames:
            writer.write(frame)
    lines = run("track_video.py", tmp_path / "drive.mp4").splitlines()
    seen = [{line.split()[3] for line in lines if line.startswith(f"frame {i}:")} for i in range(len(frames))]
    assert seen[0]
    assert seen[0] & seen[-1]


def test_prompts_change_between_two_runs(run, photos):
    printed = run("prompts.py", photos / "0.png", "red circle", "green object")
    assert "red circle, green object: " in printed
    assert "\nred circle: " in printed


def test_train_found_head_writes_a_head_that_the_pipeline_takes(run, photos, tmp_path):
    printed = run("train_found_head.py", photos, tmp_path / "head.safetensors", 1)
    assert "step 1: " in printed
    from objloc_ros import load_pipeline

    pipeline = load_pipeline(methods=("found",), device="cpu", head_weights=tmp_path / "head.safetensors")
    assert pipeline.run(np.zeros((*SIZE, 3), np.uint8))["found"].mask_u8().shape == SIZE


def test_evaluate_folder_prints_the_figure(run, photos, tmp_path):
    images = [{"id": i, "file_name": f"{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in range(4)]
    everything = [0, 0, SIZE[1], SIZE[0]]
    boxes = [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": everything, "iscrowd": 0} for i in range(4)]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "object"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(document))
    assert "on 4 images" in run("evaluate_folder.py", photos, tmp_path / "annotations.json")


def test_subscribe_detections_prints_what_is_published(domain, monkeypatch):
    rclpy = pytest.importorskip("rclpy")
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = "object"
    detection = Detection2D(results=[hypothesis])
    detection.bbox.center.position.x, detection.bbox.center.position.y = 30.0, 40.0
    command = [sys.executable, str(EXAMPLES / "subscribe_detections.py"), "/front/found/detections"]
    context, heard = rclpy.Context(), threading.Event()
    rclpy.init(context=context)
    publisher = rclpy.create_node("found", context=context).create_publisher(Detection2DArray, command[-1], 1)

    def publish_until_heard():
        while not heard.wait(0.05):  # the first may be sent before both sides know of each other
            publisher.publish(Detection2DArray(detections=[detection]))

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener, ThreadPoolExecutor() as pool:
        publishing = pool.submit(publish_until_heard)
        try:
            assert listener.stdout.readline().endswith("object at (30, 40)\n")
        finally:
            heard.set()
            listener.terminate()
            publishing.result()
            rclpy.shutdown(context=context)
