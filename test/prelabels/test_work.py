"""The work on one piece, what it leaves, and what must not be mixed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from prelabel_making import scene, video
from pycocotools import mask as coco_mask
from std_msgs.msg import Header

from objloc_ros.bags.writer import BagWriter
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.pipeline import build_pipeline
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.media import read_image, write_image
from objloc_ros.jobs.shards import Shard, run_shard
from objloc_ros.nodes.conversions import rgb_to_compressed, rgb_to_image
from objloc_ros.prelabels.parts import read_records
from objloc_ros.prelabels.sources import Piece, Sources, make_pieces
from objloc_ros.prelabels.work import LabelTask, claim_parts, move_images

FOUND = PipelineConfig(methods=("found",), device="cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    write_image(tmp_path / "a.png", scene())
    write_image(tmp_path / "sub" / "b.png", scene(20))
    (tmp_path / "bad.jpg").write_text("no image")
    return tmp_path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    video(tmp_path / "clip.mp4")
    return tmp_path


def do(piece: Piece, into: Path, config: PipelineConfig = FOUND, **options: Any) -> tuple[Path, list[dict[str, Any]]]:
    """Label a piece: the part, and its records."""
    task = LabelTask(config=config, **options)
    run_shard(task, task.load(), Shard(piece.name, piece), into)
    return into / piece.name, list(read_records(into / piece.name))


def test_images_with_one_that_cannot_be_read(folder: Path, tmp_path: Path) -> None:
    piece = Piece("images_0", "images", folder, ("a.png", "bad.jpg", "sub/b.png"))
    part, (first, bad, last) = do(piece, tmp_path / "parts")
    assert [path.name for path in part.iterdir()] == ["labels.jsonl"]
    assert bad == {
        "file_name": "bad.jpg",
        "reason": f"cannot read {folder}/bad.jpg: not a whole image in a known format",
    }
    assert (first["file_name"], first["width"], first["height"]) == ("a.png", 160, 120)
    assert (last["file_name"], set(last)) == ("sub/b.png", {"file_name", "width", "height", "objects"})
    assert all("track" not in one for one in first["objects"])


def test_masks_are_the_pipelines_pixel_for_pixel(folder: Path, tmp_path: Path) -> None:
    config = PipelineConfig(methods=("maskcut",), device="cpu")
    _, (record,) = do(Piece("x", "images", folder, ("a.png",)), tmp_path / "parts", config)
    expected = build_pipeline(config).run(scene())["maskcut"]
    ids = expected.instances_u16()
    assert len(record["objects"]) == len(expected.detections) > 0
    for number, one in enumerate(record["objects"], start=1):
        assert np.array_equal(coco_mask.decode(one["segmentation"]), ids == number)


def test_frames_of_a_video_are_followed_and_written(clip: Path, tmp_path: Path) -> None:
    calls: list[None] = []
    piece = Piece("clip", "video", clip, ("clip.mp4",))
    part, lines = do(piece, tmp_path / "parts", suffix="png", on_frame=lambda: calls.append(None))
    assert len(calls) == 3
    assert [line["file_name"] for line in lines] == ["clip/000000.png", "clip/000001.png", "clip/000002.png"]
    assert [(line["video"], line["frame"], line["stamp_ns"]) for line in lines] == [
        ("clip.mp4", 0, 0),
        ("clip.mp4", 1, 100_000_000),
        ("clip.mp4", 2, 200_000_000),
    ]
    assert all("track" in one for line in lines for one in line["objects"])
    assert lines[0]["objects"]
    assert read_image(part / "images" / "clip" / "000001.png").shape == (120, 160, 3)


def test_a_bag_with_two_cameras_and_a_broken_message(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "run") as writer:
        for t in (3, 3, 4):  # two messages with one stamp
            header = Header(stamp=Time(sec=t))
            writer.write("/front/image", rgb_to_image(scene(t), header), t)
        writer.write("/rear/image", rgb_to_image(scene(9), Header(stamp=Time(sec=9))), 9)
        broken = rgb_to_compressed(scene(), Header(stamp=Time(sec=5)))
        broken.data = broken.data[:100]
        writer.write("/side/compressed", broken, 10)
    part, lines = do(Piece("run", "bag", tmp_path, ("run",)), tmp_path / "parts")
    assert [line["file_name"] for line in lines] == [
        "run/front/image/000000_3000000000.jpg",
        "run/front/image/000001_3000000000.jpg",
        "run/front/image/000002_4000000000.jpg",
        "run/rear/image/000000_9000000000.jpg",
        "run/side/compressed/000000_5000000000.jpg",
    ]
    about = {name: lines[1][name] for name in ("bag", "topic", "frame", "stamp_ns")}
    assert about == {"bag": "run", "topic": "/front/image", "frame": 1, "stamp_ns": 3_000_000_000}
    assert "truncated" in lines[4]["reason"]
    assert sorted(str(p.relative_to(part)) for p in part.rglob("*.jpg")) == [
        f"images/{n['file_name']}" for n in lines[:4]
    ]
    only, chosen = do(
        Piece("rear", "bag", tmp_path, ("run",)), tmp_path / "parts", topics=("/rear/image",), keep="none"
    )
    assert [line["topic"] for line in chosen] == ["/rear/image"]
    assert not (only / "images").exists()


def test_tracks_among_images_and_none_in_videos(folder: Path, clip: Path, tmp_path: Path) -> None:
    images = Piece("x", "images", folder, ("a.png", "a.png"))
    _, (first, second) = do(images, tmp_path / "all", track="all")
    assert [one["track"] for one in first["objects"]] == [one["track"] for one in second["objects"]]
    _, lines = do(Piece("clip", "video", clip, ("clip.mp4",)), tmp_path / "none", track="none")
    assert not any("track" in one for line in lines for one in line["objects"])


def test_copies_of_image_files_are_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    piece = Piece("x", "images", folder, ("sub/b.png", "bad.jpg"))
    part, _ = do(piece, tmp_path / "parts", keep="all")
    assert (part / "images/sub/b.png").read_bytes() == (folder / "sub/b.png").read_bytes()
    assert not (part / "images/bad.jpg").exists()


def test_a_video_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"v\.mp4: not a video"):
        do(Piece("v", "video", tmp_path, ("v.mp4",)), tmp_path / "parts")
    assert list((tmp_path / "parts").iterdir()) == []


def test_the_maker_travels_to_workers_who_share_what_it_makes() -> None:
    task = LabelTask(config=FOUND, topics=("/a",))
    copy = pickle.loads(pickle.dumps(task))
    assert copy == task
    assert hash(copy) == hash(task)
    watched = LabelTask(config=FOUND, topics=("/a",), on_frame=lambda: None)
    assert (watched == task, hash(watched) == hash(task)) == (True, True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"config": PipelineConfig(methods=("found", "lost"))}, "by one method, got found, lost"),
        ({"config": FOUND, "suffix": "gif"}, "written as jpg or png, got 'gif'"),
    ],
)
def test_makers_that_are_none(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        LabelTask(**fields)


def test_parts_of_another_run_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    shards = make_pieces(Sources(tmp_path, images=("a.png", "b.png")), block=1)
    task = LabelTask(config=FOUND)
    claim_parts(tmp_path, task, shards)
    claim_parts(tmp_path, LabelTask(config=PipelineConfig(methods=("lost",))), shards)  # nothing was done yet
    (tmp_path / shards[0].name).mkdir()
    claim_parts(tmp_path, LabelTask(config=PipelineConfig(methods=("lost",))), shards)
    with pytest.raises(InputError, match="made with method 'lost', not 'found'"):
        claim_parts(tmp_path, task, shards)
    other = make_pieces(Sources(tmp_path, images=("c.png",)))
    with pytest.raises(InputError, match=r"made of other inputs \(images_00000000\)"):
        claim_parts(tmp_path, LabelTask(config=PipelineConfig(methods=("lost",))), other)
    device = PipelineConfig(methods=("lost",), device="cpu")
    claim_parts(tmp_path, LabelTask(config=device), shards)  # the machine is not part of it


def test_images_are_moved_once(tmp_path: Path) -> None:
    for part, name in (("p", "run/front/1.jpg"), ("q", "run/front/2.jpg")):
        (tmp_path / part / "images" / name).parent.mkdir(parents=True)
        (tmp_path / part / "images" / name).write_text(part)
    parts = [tmp_path / "p", tmp_path / "q"]
    move_images(parts, tmp_path / "all")
    move_images(parts, tmp_path / "all")
    moved = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.jpg")}
    assert moved == {"all/run/front/1.jpg": "p", "all/run/front/2.jpg": "q"}
    (tmp_path / "p" / "images").mkdir()
    (tmp_path / "p" / "images" / "3.jpg").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        move_images(parts, tmp_path / "all/run/front/1.jpg")


def test_lines_are_json(folder: Path, tmp_path: Path) -> None:
    part, lines = do(Piece("x", "images", folder, ("a.png",)), tmp_path / "parts")
    assert [json.loads(line) for line in (part / "labels.jsonl").read_text().splitlines()] == lines
