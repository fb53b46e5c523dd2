"""Every frame of a bag, the same way every time; answers as the nodes would give them."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
import bag_making as making
from sensor_msgs.msg import Image

from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.bag import BagMessage, read_bag
from objloc_ros.evaluation.bag_answers import read_answers
from objloc_ros.evaluation.bag_follow import Follower, FollowOptions
from objloc_ros.evaluation.bag_lockstep import OUTPUTS, REPORT, TIMING, Lockstep
from objloc_ros.evaluation.bag_runs import PromptSet
from objloc_ros.evaluation.bag_score import Scorer, score
from objloc_ros.evaluation.bag_truth import of_mask
from objloc_ros.evaluation.bag_truth_source import TruthSpec
from objloc_ros.evaluation.model import Model
from objloc_ros.ops.media import VideoReader
from objloc_ros.scenes.video import drive_video

CAMERA = ("/front/image",)
TRUTH = TruthSpec((("", "/front/truth"),))


def lockstep(*methods: str, **options: Any) -> Lockstep:
    return Lockstep(model=Model(methods=methods or ("found",), device="cpu"), **options)


def run(bag: Path, target: Path, make: Lockstep) -> dict[str, Any]:
    make()(bag, target)
    document: dict[str, Any] = json.loads((target / REPORT).read_text())
    return document


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "drive", making.drive(8))
    return path


def outputs(target: Path, topic: str) -> list[BagMessage]:
    return list(read_bag(target / OUTPUTS, [topic]))


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
    oddities = {"out_of_order": 0, "duplicate_stamps": 0, "unstamped": 0}
    assert camera["frames"] == {"in": 6, "processed": 6, "dropped": {}, "late": 0, **oddities}
    assert camera["truth"]["matched"] == 6
    right = {"corloc": 1.0, "ap50": pytest.approx(1.0), "recall": 1.0, "precision": 1.0, "flicker": 0.0}
    for name, more in (("found", {}), ("maskcut", {"ap": pytest.approx(1.0), "switches": 0.0})):
        row = camera["methods"][name]
        assert (row["answers"], row["objects"], row["frames_with_truth"]) == (6, 6, 6)
        metrics = row["metrics"]
        assert {key: metrics[key] for key in {**right, **more}} == right | more
        assert metrics["mask_iou"] > 0.85
        assert metrics["mask_flicker"] == pytest.approx(1 - 40 / 56, abs=0.05), "it moves by 8 of 48 pixels a frame"
    assert "switches" not in camera["methods"]["found"]["metrics"], "found gives no ids"
    assert got["settings"]["methods"]["maskcut"]["options"]["n_masks"] == 3


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
            (one.bbox.center.position.x - one.bbox.size_x / 2, one.bbox.center.position.y - one.bbox.size_y / 2)
            for one in got["found/detections"][place].message.detections
        ]
        assert boxes == [(x1, y1) for x1, y1, _, _ in found.detections.boxes.tolist()]
        assert bytes(got["found/mask"][place].message.data) == found.mask_u8().tobytes()
        assert bytes(got["found/confidence"][place].message.data) == found.saliency_u8().tobytes()
    assert {one.id for m in got["discovery/detections"] for one in m.message.detections} >= {"1"}
    assert {topic for topic, _, _ in read_bag(tmp_path / "a" / OUTPUTS)} == {f"/front/{name}" for name in names}


def test_the_outputs_score_as_the_run_did(bag: Path, tmp_path: Path) -> None:
    got = run(bag, tmp_path / "a", lockstep("maskcut", truth=TRUTH))["cameras"]["/front/image"]["methods"]["maskcut"]
    truths = {m.message.header.stamp.sec * 10**9 + m.message.header.stamp.nanosec: m for m in read_bag(bag)}

    class Known:
        classes = None

        def at(self, key: int) -> Any:
            message = truths[key].message
            return of_mask(np.frombuffer(message.data, np.uint8).reshape(message.height, message.width))

    again = score(read_answers(tmp_path / "a" / OUTPUTS, "/front/discovery"), Known(), Scorer())
    assert again == got


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


def test_films_of_the_answers(bag: Path, tmp_path: Path) -> None:
    run(bag, tmp_path / "a", lockstep("found", "lost", topics=CAMERA, overlay=True))
    for name in ("found", "discovery"):
        reader = VideoReader(tmp_path / "a" / f"overlay_front_{name}.mp4")
        assert reader.length == 8
        assert reader.fps == pytest.approx(1e9 / making.STEP, rel=0.01)
        assert next(iter(reader)).shape == (*making.SIZE, 3)


def test_memory_and_ids_end_where_time_jumps() -> None:
    pipeline = load_pipeline(("lost",), device="cpu")
    image, _ = next(drive_video(size=making.SIZE, frames=1))
    follower = Follower(("lost",), FollowOptions())
    ids = []
    for stamp in (0, 10, 10 + 6_000_000_000, 20 + 6_000_000_000, 5):
        jumped = follower.notice(stamp)
        ids.append((jumped, follower.named(follower.run(pipeline, image, ("lost",)), "lost").ids))
    assert ids == [(False, ("1",)), (False, ("1",)), (True, ("2",)), (False, ("2",)), (True, ("3",))]


def test_limits_of_the_node_hold() -> None:
    pipeline = load_pipeline(("maskcut",), device="cpu")
    image, _ = next(drive_video(size=making.SIZE, frames=1))
    counts = []
    for options in (FollowOptions(), FollowOptions(max_objects=1), FollowOptions(min_score=1.0)):
        follower = Follower(("maskcut",), options)
        counts.append(len(follower.named(follower.run(pipeline, image, ("maskcut",)), "maskcut").found.detections))
    assert counts[0] > 1
    assert counts[1:] == [1, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lockstep(threads=0), "threads must be at least 1, got 0"),
        (lambda: lockstep(overlay=True, outputs=False), "films are made of the outputs"),
        (lambda: lockstep(topics=("/t",), truth=TruthSpec((("", "/t"),))), "cannot be images and truth"),
        (lambda: FollowOptions(max_objects=0), r"max_objects must lie in \[1, 20\], got 0"),
        (lambda: FollowOptions(min_score=2.0), r"min_score must lie in \[0, 1\], got 2.0"),
    ],
)
def test_options_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make()


def test_truth_of_another_size_names_the_frame(tmp_path: Path) -> None:
    mask = ("/front/truth", making.START, making.mask_to_image(np.ones((9, 9), np.uint8), making.header(making.START)))
    path = making.write(tmp_path / "bag", [*making.drive(1, truth=None), mask])
    with pytest.raises(InputError, match=r"/front/image at 1000.000 s: the answer has 160x120 pixels, the truth 9x9"):
        lockstep(truth=TRUTH)()(path, tmp_path / "a")


def test_a_camera_without_a_single_frame(tmp_path: Path) -> None:
    writer_input = [("/front/image", 1, Image())]
    path = making.write(tmp_path / "bag", writer_input, "sqlite3")
    got = run(path, tmp_path / "a", lockstep())
    assert got["cameras"]["/front/image"]["frames"]["dropped"] == {"encoding": 1}
    assert got["cameras"]["/front/image"]["methods"]["found"]["metrics"] == {}
