"""`objloc prelabel` end to end with the embedded model: all kinds of input, all formats, and what goes wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from faster_coco_eval import COCO
from std_msgs.msg import Header

from objloc_ros.cli.main import main
from objloc_ros.evaluation.bag import BagWriter
from objloc_ros.evaluation.prelabel_coco import merge
from objloc_ros.nodes.conversions import rgb_to_compressed, rgb_to_image
from objloc_ros.ops.media import VideoWriter, write_image
from objloc_ros.types import Image

COCO_FILE = Path("annotations/instances_default.json")


def scene(shift: int = 0) -> Image:
    rgb = np.full((120, 160, 3), 40, np.uint8)
    rgb[20:60, 20 + shift : 60 + shift] = (220, 60, 40)
    rgb[70:110, 100:150] = (60, 200, 90)
    return rgb


def pictures(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / name, scene(8 * number))
    return folder


def bag(path: Path, frames: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with BagWriter(path) as writer:
        for t in range(frames):
            header = Header(stamp=Time(sec=100, nanosec=t * 100_000_000))
            writer.write("/front/image", rgb_to_image(scene(4 * t), header), t)
            writer.write("/rear/compressed", rgb_to_compressed(scene(40 - 4 * t), header), t)
    return path


def video(path: Path) -> Path:
    with VideoWriter(path, 10) as writer:
        for t in range(3):
            writer.write(scene(4 * t))
    return path


@pytest.fixture
def prelabel(tmp_path: Path) -> Callable[..., int]:
    """Run the command on inputs below tmp_path/in, with results in tmp_path/out."""

    def call(*options: str, inputs: tuple[str, ...] = ("in",)) -> int:
        paths = [str(tmp_path / name) for name in inputs]
        return main(["prelabel", *paths, "--out", str(tmp_path / "out"), "--device", "cpu", *options])

    return call


def document(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "out" / COCO_FILE).read_text())


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_folder_of_images(prelabel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "in", "a.png", "day/b.jpg")
    assert prelabel() == 0
    found = document(tmp_path)
    assert [image["file_name"] for image in found["images"]] == ["a.png", "day/b.jpg"], "relative, as they lie there"
    assert found["categories"] == [{"id": 1, "name": "object"}]
    assert len(found["annotations"]) >= 2
    assert not any("track_id" in annotation for annotation in found["annotations"])
    assert tree(tmp_path / "out") == {str(COCO_FILE), "parts/plan.json", "parts/images_00000000/labels.jsonl"}
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
    found = document(tmp_path)
    assert {image["file_name"] for image in found["images"]} == frames | {"a.png"}
    assert tree(out / "images") == frames | {"a.png"}, "every image of the document is there, as FiftyOne wants it"
    assert tree(out / "rerun") == {"images_00000000.rrd", "clip_mp4.rrd", "run.rrd"}
    assert tree(out / "foxglove") == {"images_00000000.mcap", "clip_mp4.mcap", "run.mcap"}
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
    found = document(tmp_path)
    assert [category["name"] for category in found["categories"]] == ["green object", "red object"]
    assert {annotation["category_id"] for annotation in found["annotations"]} <= {1, 2}
    assert sum(annotation["area"] for annotation in found["annotations"]) > 0.9 * 120 * 160
    assert found["info"]["prompts"] == ["green object", "red object"]
    assert found["info"]["options"]["background"] == "none"


def test_a_chosen_topic_without_tracks_and_frames(prelabel, tmp_path: Path) -> None:
    bag(tmp_path / "in" / "run")
    assert prelabel("--topics", "/rear/compressed", "--no-tracks", "--no-images", inputs=("in/run",)) == 0
    found = document(tmp_path)
    assert {image["topic"] for image in found["images"]} == {"/rear/compressed"}
    assert not any("track_id" in annotation for annotation in found["annotations"])
    assert not (tmp_path / "out" / "tracks.json").exists()
    assert tree(tmp_path / "out" / "images") == set()


def test_the_images_of_a_folder_as_a_sequence(prelabel, tmp_path: Path) -> None:
    pictures(tmp_path / "in", "a/1.png", "a/2.png", "b/1.png")
    assert prelabel("--tracks", "--image-format", "png") == 0
    found = document(tmp_path)
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


def test_an_unreadable_image_is_counted_and_the_others_go_on(prelabel, tmp_path: Path, capsys) -> None:
    pictures(tmp_path / "in", "a.png", "c.png")
    (tmp_path / "in" / "b.jpg").write_text("no image")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    assert prelabel("--export", "coco,foxglove") == 1
    found = document(tmp_path)
    assert [image["file_name"] for image in found["images"]] == ["a.png", "c.png"]
    assert [failure["file_name"] for failure in found["failures"]] == ["b.jpg", "empty.png"]
    assert "not a whole image" in found["failures"][0]["reason"]
    assert "; 2 images unusable\n" in capsys.readouterr().out


def test_bags_and_videos_that_cannot_be_read_are_named_and_the_others_go_on(prelabel, tmp_path: Path, capfd) -> None:
    whole = bag(tmp_path / "in" / "good")
    (data,) = whole.glob("*.mcap*")
    (tmp_path / "in" / "cut.mcap").write_bytes(data.read_bytes()[:-200])
    (tmp_path / "in" / "zero.mcap").write_bytes(b"")
    (tmp_path / "in" / "bad.mp4").write_text("no video")
    assert prelabel() == 1
    err = capfd.readouterr().err
    for name in ("cut_mcap", "zero_mcap", "bad_mp4"):
        assert f"objloc: {name}: cannot read " in err
    assert {image["bag"] for image in document(tmp_path)["images"]} == {"good"}
    assert not any(name.startswith(".") for name in os.listdir(tmp_path / "out" / "parts"))


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (("empty",), (), "there is no image, video or bag in"),
        (("missing",), (), "missing: no such file or folder"),
        (("out/images",), (), "where results go"),
        (("in",), ("--method", "found,lost"), "method must be one of"),
        (("in",), ("--method", "yolo"), "method must be different ones of"),
        (("in",), ("--method", "maskclip"), "maskclip needs prompts"),
        (("in",), ("--prompts", "cat"), "prompts are for"),
        (("in",), ("--threshold", "1.5"), "threshold must lie between 0 and 1"),
        (
            ("in",),
            ("--export", "coco,kitti"),
            "export must be different ones of coco, rerun, foxglove; got 'coco,kitti'",
        ),
        (("in",), ("--export", "coco,coco"), "export must be different ones"),
        (("in",), ("--block", "0"), "block must be at least 1 image, got 0"),
        (("in",), ("--device", "tpu"), "device must be auto, cpu, cuda or cuda:N"),
        (("in", "clip.mp4"), ("--no-images", "--export", "rerun"), "a recording for rerun needs the frames"),
    ],
)
def test_errors_are_one_line(prelabel, tmp_path: Path, capsys, inputs, options: tuple[str, ...], message: str) -> None:
    pictures(tmp_path / "in", "a.png")
    pictures(tmp_path / "out", "images/a.png")
    video(tmp_path / "clip.mp4")
    (tmp_path / "empty").mkdir()
    assert prelabel(*options, inputs=inputs) == 2
    err = capsys.readouterr().err
    assert err.startswith("objloc: error: ")
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out" / COCO_FILE).exists()


def test_results_below_the_input_are_not_labelled_again(prelabel, tmp_path: Path) -> None:
    video(pictures(tmp_path / "in", "a.png") / "clip.mp4")
    command = ["prelabel", str(tmp_path / "in"), "--out", str(tmp_path / "in" / "out"), "--device", "cpu"]
    assert main(command) == 0
    before = (tmp_path / "in" / "out" / COCO_FILE).read_bytes()
    assert main(command) == 0
    assert (tmp_path / "in" / "out" / COCO_FILE).read_bytes() == before
    assert len(json.loads(before)["images"]) == 4


def test_a_killed_run_goes_on_where_it_was(prelabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "in", *(f"{n}.png" for n in range(4)))
    bag(tmp_path / "in" / "run")
    assert prelabel("--block", "1") == 0
    expected = {name: (tmp_path / "out" / name).read_bytes() for name in (COCO_FILE, "tracks.json")}
    (tmp_path / "out").rename(tmp_path / "whole")
    looked_at: list[str] = []

    def interrupted(path: Path) -> Image:
        from objloc_ros.ops.media import read_image

        if path.name == "2.png" and "2.png" not in looked_at:
            looked_at.append(path.name)
            raise KeyboardInterrupt
        looked_at.append(path.name)
        return read_image(path)

    monkeypatch.setattr("objloc_ros.evaluation.prelabel_frames.read_image", interrupted)
    assert prelabel("--block", "1") == 130
    assert not (tmp_path / "out" / COCO_FILE).exists()
    assert prelabel("--block", "1") == 0
    assert looked_at == ["0.png", "1.png", "2.png", "2.png", "3.png"], "nothing twice"
    assert {name: (tmp_path / "out" / name).read_bytes() for name in expected} == expected


def test_another_command_into_the_same_folder_is_refused(prelabel, tmp_path: Path, capsys) -> None:
    pictures(tmp_path / "in", "a.png")
    assert prelabel() == 0
    assert prelabel("--threshold", "0.6") == 2
    assert "holds pre-labels made with options" in capsys.readouterr().err
    pictures(tmp_path / "in", "b.png")
    assert prelabel() == 2
    assert "made of other inputs (images_00000000)" in capsys.readouterr().err


def test_formats_can_be_added_later(prelabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag(tmp_path / "in" / "run")
    assert prelabel() == 0
    monkeypatch.setattr("objloc_ros.evaluation.model.Model.load", lambda self: pytest.fail("labelled twice"))
    assert prelabel("--export", "rerun,foxglove") == 0
    assert tree(tmp_path / "out" / "rerun") == {"run.rrd"}
    assert tree(tmp_path / "out" / "foxglove") == {"run.mcap"}


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from objloc_ros.cli.main import main
sys.exit(main(sys.argv[2:]))
"""


def run_with_full_disk(tmp_path: Path, most: int, *options: str) -> subprocess.CompletedProcess[str]:
    """The command in a process whose files cannot grow beyond a number of bytes."""
    command = [sys.executable, "-c", FULL, str(most), "prelabel", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    return subprocess.run([*command, "--device", "cpu", *options], capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("export", ["rerun", "foxglove"])
def test_a_disk_that_is_full_leaves_no_half_of_a_recording(prelabel, tmp_path: Path, export: str) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        write_image(folder / f"{number}.png", rng.integers(0, 256, (200, 300, 3), np.uint8))  # 180 kB each
    done = run_with_full_disk(tmp_path, 500_000, "--export", f"coco,{export}")
    assert done.returncode == 1, done.stderr
    name = {"rerun": "images_00000000.rrd", "foxglove": "images_00000000.mcap"}[export]
    assert f"objloc: {name}: cannot write " in done.stderr
    assert os.listdir(tmp_path / "out" / export) == []
    assert COCO(str(tmp_path / "out" / COCO_FILE)).getImgIds() == [1, 2, 3, 4, 5, 6]
    assert prelabel("--export", f"coco,{export}") == 0, "the same command goes on when there is room again"
    assert os.listdir(tmp_path / "out" / export) == [name]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
def test_a_disk_that_is_full_leaves_no_half_of_the_labels(prelabel, tmp_path: Path) -> None:
    pictures(tmp_path / "in", *(f"{n:03d}.png" for n in range(40)))
    done = run_with_full_disk(tmp_path, 3000)
    assert done.returncode == 1
    assert "objloc: images_00000000: cannot write " in done.stderr
    assert os.listdir(tmp_path / "out" / "parts") == ["plan.json"]
    assert document(tmp_path)["images"] == []
    assert prelabel() == 0
    before = (tmp_path / "out" / COCO_FILE).read_bytes()
    done = run_with_full_disk(tmp_path, 3000)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "objloc: error: cannot write " in done.stderr
    assert (tmp_path / "out" / COCO_FILE).read_bytes() == before, "the old one stays"
    assert os.listdir(tmp_path / "out" / "annotations") == [COCO_FILE.name]


def test_merging_again_changes_nothing(prelabel, tmp_path: Path) -> None:
    """The document can be made from the parts alone, as a cluster's driver does."""
    pictures(tmp_path / "in", "a.png", "b.png")
    assert prelabel("--block", "1") == 0
    parts = sorted(path for path in (tmp_path / "out" / "parts").iterdir() if path.is_dir())
    merge(parts, tmp_path / "again.json", info=document(tmp_path)["info"], categories=("object",))
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "out" / COCO_FILE).read_bytes()
