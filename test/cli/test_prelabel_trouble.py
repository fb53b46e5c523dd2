"""`objloc prelabel` with inputs that cannot be read, options that are none, disks that are full, and interruptions."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from faster_coco_eval import COCO
from prelabel_making import COCO_FILE, bag, document, pictures, scene, video
from std_msgs.msg import Header

from objloc_ros.bags.writer import BagWriter
from objloc_ros.io.media import write_image
from objloc_ros.nodes.conversions import rgb_to_image
from objloc_ros.types import Image


def test_an_unreadable_image_is_counted_and_the_others_go_on(prelabel, tmp_path: Path, capsys) -> None:
    pictures(tmp_path / "in", "a.png", "c.png")
    (tmp_path / "in" / "b.jpg").write_text("no image")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    assert prelabel("--export", "coco,foxglove") == 1
    found = document(tmp_path / "out")
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
    assert {image["bag"] for image in document(tmp_path / "out")["images"]} == {"good"}
    assert not any(name.startswith(".") for name in os.listdir(tmp_path / "out" / "parts"))


def test_the_name_of_a_topic_leads_nowhere_else(prelabel, tmp_path: Path) -> None:
    topic = "/../../../ESCAPED/\x1b[2J\n"
    (tmp_path / "in").mkdir()
    with BagWriter(tmp_path / "in" / "bag") as writer:
        for number in range(2):
            header = Header(stamp=Time(sec=100, nanosec=number * 100_000_000))
            writer.write(topic, rgb_to_image(scene(), header), number)
    assert prelabel() == 0
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    images = document(tmp_path / "out")["images"]
    assert {image["topic"] for image in images} == {topic}
    for image in images:
        assert image["file_name"].startswith("bag/ESCAPED/")
        assert (tmp_path / "out" / "images" / image["file_name"]).is_file()


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
        (("in",), ("--threshold", "1.5"), "threshold must lie in [0, 1], got 1.5"),
        (
            ("in",),
            ("--export", "coco,kitti"),
            "export must be different ones of coco, rerun, foxglove; got 'coco,kitti'",
        ),
        (("in",), ("--export", "coco,coco"), "export must be different ones"),
        (("in",), ("--block", "0"), "block must be at least 1 image, got 0"),
        (("in",), ("--device", "tpu"), "device must be auto, cpu, cuda or cuda:N"),
        (("in", "clip.mp4"), ("--no-images", "--export", "rerun"), "a recording for rerun needs the frames"),
        (("in", "clip.mp4"), ("--no-images", "--export", "coco,rerun"), "a recording for rerun needs the frames"),
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


def test_a_killed_run_goes_on_where_it_was(prelabel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path / "in", *(f"{n}.png" for n in range(4)))
    bag(tmp_path / "in" / "run")
    assert prelabel("--block", "1") == 0
    expected = {name: (tmp_path / "out" / name).read_bytes() for name in (COCO_FILE, "tracks.json")}
    (tmp_path / "out").rename(tmp_path / "whole")
    looked_at: list[str] = []

    def interrupted(path: Path) -> Image:
        from objloc_ros.io.media import read_image

        if path.name == "2.png" and "2.png" not in looked_at:
            looked_at.append(path.name)
            raise KeyboardInterrupt
        looked_at.append(path.name)
        return read_image(path)

    monkeypatch.setattr("objloc_ros.prelabels.sources.read_image", interrupted)
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


@pytest.fixture
def run_with_full_disk(tmp_path: Path, start_objloc) -> Callable[..., tuple[int, str]]:
    """The command in a process whose files cannot grow beyond a number of bytes; returns exit code and what it said."""

    def run(most_bytes: int, *options: str) -> tuple[int, str]:
        words = ("prelabel", tmp_path / "in", "--out", tmp_path / "out", "--device", "cpu", *options)
        return start_objloc(*words, most_bytes=most_bytes).end()

    return run


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
@pytest.mark.parametrize("export", ["rerun", "foxglove"])
def test_a_disk_that_is_full_leaves_no_half_of_a_recording(
    prelabel, run_with_full_disk, tmp_path: Path, export: str
) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    folder = tmp_path / "in"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(6):
        write_image(folder / f"{number}.png", rng.integers(0, 256, (200, 300, 3), np.uint8))  # 180 kB each
    code, said = run_with_full_disk(500_000, "--export", f"coco,{export}")
    assert code == 1, said
    name = {"rerun": "images_00000000.rrd", "foxglove": "images_00000000.mcap"}[export]
    assert f"objloc: {name}: cannot write " in said
    assert os.listdir(tmp_path / "out" / export) == []
    assert COCO(str(tmp_path / "out" / COCO_FILE)).getImgIds() == [1, 2, 3, 4, 5, 6]
    assert prelabel("--export", f"coco,{export}") == 0, "the same command goes on when there is room again"
    assert os.listdir(tmp_path / "out" / export) == [name]


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on the size of files")
def test_a_disk_that_is_full_leaves_no_half_of_the_labels(prelabel, run_with_full_disk, tmp_path: Path) -> None:
    pictures(tmp_path / "in", *(f"{n:03d}.png" for n in range(40)))
    code, said = run_with_full_disk(3000)
    assert code == 1, said
    assert "objloc: images_00000000: cannot write " in said
    assert os.listdir(tmp_path / "out" / "parts") == ["plan.json"]
    assert document(tmp_path / "out")["images"] == []
    assert prelabel() == 0
    before = (tmp_path / "out" / COCO_FILE).read_bytes()
    code, said = run_with_full_disk(3000)
    assert (code, said.count("\n")) == (2, 1), said
    assert "objloc: error: cannot write " in said
    assert (tmp_path / "out" / COCO_FILE).read_bytes() == before, "the old one stays"
    assert os.listdir(tmp_path / "out" / "annotations") == [COCO_FILE.name]
