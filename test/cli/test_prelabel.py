"""`objloc prelabel` end to end with the embedded model: all kinds of input, all formats."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from prelabel_making import COCO_FILE, bag, document, pictures, tree, video

from objloc_ros.cli.main import main
from objloc_ros.prelabels.coco import write_coco


def test_a_folder_of_images(prelabel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "in", "a.png", "day/b.jpg")
    assert prelabel() == 0
    found = document(tmp_path / "out")
    assert [image["file_name"] for image in found["images"]] == ["a.png", "day/b.jpg"], "relative, as they lie there"
    assert found["categories"] == [{"id": 1, "name": "object"}]
    assert len(found["annotations"]) >= 2
    assert not any("track_id" in annotation for annotation in found["annotations"])
    assert set(tree(tmp_path / "out")) == {str(COCO_FILE), "parts/plan.json", "parts/images_00000000/labels.jsonl"}
    count = len(found["annotations"])
    assert capsys.readouterr().out == f"{count} objects in 2 images: {tmp_path / 'out' / COCO_FILE}\n"


def test_everything_in_every_format(prelabel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "in", "a.png")
    video(tmp_path / "in" / "clip.mp4")
    bag(tmp_path / "in" / "run")
    assert prelabel("--export", "coco,rerun,foxglove", "--images", "--json") == 0
    out = tmp_path / "out"
    frames = {f"clip_mp4/{n:06d}.jpg" for n in range(3)}
    for topic in ("front/image", "rear/compressed"):
        frames |= {f"run/{topic}/{n:06d}_{100_000_000_000 + n * 100_000_000}.jpg" for n in range(3)}
    found = document(tmp_path / "out")
    assert {image["file_name"] for image in found["images"]} == frames | {"a.png"}
    assert set(tree(out / "images")) == frames | {"a.png"}, "every image of the document is there, as FiftyOne wants it"
    assert set(tree(out / "rerun")) == {"images_00000000.rrd", "clip_mp4.rrd", "run.rrd"}
    assert set(tree(out / "foxglove")) == {"images_00000000.mcap", "clip_mp4.mcap", "run.mcap"}
    tracks = json.loads((out / "tracks.json").read_text())
    followed = [a for a in found["annotations"] if "track_id" in a]
    assert [(a["image_id"], a["bbox"]) for a in tracks["annotations"]] == [(a["image_id"], a["bbox"]) for a in followed]
    topics = {image["id"]: image.get("topic", image.get("video")) for image in found["images"]}
    cameras: dict[int, set[str]] = {}
    for annotation in followed:
        cameras.setdefault(annotation["track_id"], set()).add(topics[annotation["image_id"]])
    assert all(len(where) == 1 for where in cameras.values()), "no track goes from one camera to another"
    assert set(cameras) == set(range(1, len(cameras) + 1))
    summary = json.loads(capsys.readouterr().out)
    assert summary == {
        "coco": str(out / COCO_FILE),
        "images": 10,
        "annotations": len(found["annotations"]),
        "tracks": len(cameras),
        "failures": 0,
        "failed": {},
    }


def test_prompts_are_the_categories(prelabel, tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a.png")
    assert prelabel("--method", "maskclip", "--prompts", "green object, red object", "--background", "none") == 0
    found = document(tmp_path / "out")
    assert [category["name"] for category in found["categories"]] == ["green object", "red object"]
    assert {annotation["category_id"] for annotation in found["annotations"]} <= {1, 2}
    assert sum(annotation["area"] for annotation in found["annotations"]) > 0.9 * 120 * 160
    assert found["info"]["prompts"] == ["green object", "red object"]
    assert found["info"]["options"]["background"] == "none"


def test_a_chosen_topic_without_tracks_and_frames(prelabel, tmp_path: Path) -> None:
    bag(tmp_path / "in" / "run")
    assert prelabel("--topics", "/rear/compressed", "--no-tracks", "--no-images", inputs=("in/run",)) == 0
    found = document(tmp_path / "out")
    assert {image["topic"] for image in found["images"]} == {"/rear/compressed"}
    assert not any("track_id" in annotation for annotation in found["annotations"])
    assert not (tmp_path / "out" / "tracks.json").exists()
    assert set(tree(tmp_path / "out" / "images")) == set()


def test_the_images_of_a_folder_as_a_sequence(prelabel, tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a/1.png", "a/2.png", "b/1.png")
    assert prelabel("--tracks", "--image-format", "png") == 0
    found = document(tmp_path / "out")
    by_image = {image["file_name"]: set() for image in found["images"]}
    names = {image["id"]: image["file_name"] for image in found["images"]}
    for annotation in found["annotations"]:
        by_image[names[annotation["image_id"]]].add(annotation["track_id"])
    assert by_image["a/1.png"] & by_image["a/2.png"]
    assert not by_image["a/1.png"] & by_image["b/1.png"]


def test_two_runs_give_the_same_bytes(prelabel, tmp_path: Path) -> None:
    pictures(tmp_path / "in", *(f"{n}.png" for n in range(3)))
    bag(tmp_path / "in" / "run")
    documents = []
    for block in ("1", "3"):
        assert prelabel("--method", "maskcut", "--block", block) == 0
        documents.append([(tmp_path / "out" / name).read_bytes() for name in (COCO_FILE, "tracks.json")])
        (tmp_path / "out").rename(tmp_path / f"out {block}")
    assert documents[0] == documents[1]


def test_results_below_the_input_are_not_labelled_again(prelabel, tmp_path: Path) -> None:
    video(pictures(tmp_path / "in", "a.png") / "clip.mp4")
    command = ["prelabel", str(tmp_path / "in"), "--out", str(tmp_path / "in" / "out"), "--device", "cpu"]
    assert main(command) == 0
    before = (tmp_path / "in" / "out" / COCO_FILE).read_bytes()
    assert main(command) == 0
    assert (tmp_path / "in" / "out" / COCO_FILE).read_bytes() == before
    assert len(json.loads(before)["images"]) == 4


def test_formats_can_be_added_later(prelabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag(tmp_path / "in" / "run")
    assert prelabel() == 0
    monkeypatch.setattr("objloc_ros.prelabels.work.build_pipeline", lambda config: pytest.fail("labelled twice"))
    assert prelabel("--export", "rerun,foxglove") == 0
    assert set(tree(tmp_path / "out" / "rerun")) == {"run.rrd"}
    assert set(tree(tmp_path / "out" / "foxglove")) == {"run.mcap"}


def test_merging_again_changes_nothing(prelabel, tmp_path: Path) -> None:
    """The document can be made from the parts alone, as a cluster's driver does."""
    pictures(tmp_path / "in", "a.png", "b.png")
    assert prelabel("--block", "1") == 0
    parts = sorted(path for path in (tmp_path / "out" / "parts").iterdir() if path.is_dir())
    write_coco(parts, tmp_path / "again.json", info=document(tmp_path / "out")["info"], categories=("object",))
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out" / COCO_FILE).read_bytes()


def test_names_that_cvat_takes_for_one_are_told(prelabel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "in", "a.jpg", "a.png")
    assert prelabel() == 0
    told = "objloc: CVAT will refuse images that differ only in their suffixes, as a.jpg and a.png do\n"
    assert capsys.readouterr().err == told
