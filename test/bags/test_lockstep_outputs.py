"""What lockstep writes beside its report: answers as the nodes would give them, films, and rows for sets of prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
import bag_making as making
from lockstep_making import CAMERA, TRUTH, lockstep, outputs, run

from objloc_ros.bags.lockstep import OUTPUTS
from objloc_ros.bags.predictions import read_predictions
from objloc_ros.bags.reader import read_bag
from objloc_ros.bags.score import Scorer, score_predictions
from objloc_ros.bags.settings import PromptSet
from objloc_ros.bags.truth import parse_mask
from objloc_ros.bags.truth_sources import TruthSpec
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.io.media import VideoReader
from objloc_ros.scenes.video import drive_video


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "drive", making.drive(8))
    return path


def test_outputs_are_the_nodes_messages_with_the_inputs_stamps(bag: Path, tmp_path: Path) -> None:
    run(bag, tmp_path / "a", lockstep("found", "maskcut", topics=CAMERA))
    frames = [message for message in read_bag(bag) if message.topic == "/front/image"]
    pipeline = load_pipeline(("found", "maskcut"), device="cpu")
    images = [image for image, _ in drive_video(size=making.SIZE, frames=8)]
    names = ("found/detections", "found/mask", "found/confidence", "discovery/detections", "discovery/instance_mask")
    got = {name: outputs(tmp_path / "a", f"/front/{name}") for name in names}
    for name, messages in got.items():
        assert [m.stamp_ns for m in messages] == [frame.stamp_ns for frame in frames], name
        assert [m.message.header for m in messages] == [frame.message.header for frame in frames], name
    for place, image in enumerate(images):
        found = pipeline.run(image, ("found",))["found"]
        boxes = [
            (
                detection.bbox.center.position.x - detection.bbox.size_x / 2,
                detection.bbox.center.position.y - detection.bbox.size_y / 2,
            )
            for detection in got["found/detections"][place].message.detections
        ]
        assert boxes == [(x1, y1) for x1, y1, _, _ in found.detections.boxes.tolist()]
        assert bytes(got["found/mask"][place].message.data) == (found.mask_u8() // 255).tobytes()
        assert bytes(got["found/confidence"][place].message.data) == found.saliency_u8().tobytes()
    assert {detection.id for m in got["discovery/detections"] for detection in m.message.detections} >= {"1"}
    (said,) = outputs(tmp_path / "a", "/front/found/label_info")
    assert {entry.class_id: entry.class_name for entry in said.message.class_map} == {0: "background", 1: "object"}
    topics = {topic for topic, _, _ in read_bag(tmp_path / "a" / OUTPUTS)}
    assert topics == {f"/front/{name}" for name in (*names, "found/label_info")}


def test_the_outputs_score_as_the_run_did(bag: Path, tmp_path: Path) -> None:
    got = run(bag, tmp_path / "a", lockstep("maskcut", truth=TRUTH))["cameras"]["/front/image"]["methods"]["maskcut"]
    truths = {m.message.header.stamp.sec * 10**9 + m.message.header.stamp.nanosec: m for m in read_bag(bag)}

    class Known:
        classes = None

        def take(self, key: int) -> Any:
            message = truths[key].message
            return parse_mask(np.frombuffer(message.data, np.uint8).reshape(message.height, message.width))

    again = score_predictions(read_predictions(tmp_path / "a" / OUTPUTS, "/front/discovery"), Known(), Scorer())
    assert again == got


def test_prompts_and_their_sweep(tmp_path: Path) -> None:
    frames = making.drive(3, truth=None)
    names = {0: "thing", 1: "other thing"}
    ground = np.zeros(making.SIZE, np.uint8)
    masks = [("/front/seg/mask", when + 1, making.mask_to_image(ground, m.header)) for _, when, m in frames]
    info = ("/front/seg/label_info", making.START, making.label_info(making.START, names))
    path = making.write(tmp_path / "bag", [info, *frames, *masks])
    sets = (PromptSet.parse("red object = thing, blue object", "a"), PromptSet.parse("green object=thing", "b"))
    make = lockstep("found", "maskclip", sets=sets, truth=TruthSpec((("", "/front/seg/mask"),)))
    got = run(path, tmp_path / "a", make)["cameras"]["/front/image"]["methods"]
    assert list(got) == ["found", "maskclip (a)", "maskclip (b)"]
    for name in ("maskclip (a)", "maskclip (b)"):
        assert set(got[name]["per_class"]) == {"background", "thing", "other thing"}
        assert 0 <= got[name]["metrics"]["miou"] <= 1
    alone = run(path, tmp_path / "b", lockstep("maskclip", sets=sets[1:], truth=make.truth))
    assert alone["cameras"]["/front/image"]["methods"]["maskclip (b)"] == got["maskclip (b)"]
    space = "/front/segmentation_maskclip_b"
    (said,) = outputs(tmp_path / "a", f"{space}/label_info")
    assert [(c.class_id, c.class_name) for c in said.message.class_map] == [(0, "green object")]
    everything = [m.topic for m in read_bag(tmp_path / "a" / OUTPUTS)]
    assert everything.index(f"{space}/label_info") < everything.index(f"{space}/mask")


def test_videos_of_the_predictions(bag: Path, tmp_path: Path) -> None:
    run(bag, tmp_path / "a", lockstep("found", "lost", topics=CAMERA, overlay=True))
    for name in ("found", "discovery"):
        reader = VideoReader(tmp_path / "a" / f"overlay_front_{name}.mp4")
        assert reader.length == 8
        assert reader.fps == pytest.approx(1e9 / making.STEP, rel=0.01)
        assert next(iter(reader)).shape == (*making.SIZE, 3)
