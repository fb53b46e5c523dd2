"""`objloc recurring`: what comes back across recordings, and the fleets in which nothing can."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fleet_making import SIZE, prelabels

from objloc_ros.cli.main import main
from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.fleet.objects import read_fleet
from objloc_ros.types import Image

BOX = (24, 16, 88, 80)
Seen = tuple[Image, list[tuple[int, int, int, int]]]


def thing(kind: int, view: int) -> Seen:
    """A square with its kind's hue and stripes, somewhere on dim grey."""
    rng = np.random.default_rng([1, view])
    grey = cv2.resize(rng.integers(60, 100, (3, 4), np.uint8), SIZE[::-1])
    rgb = np.dstack([grey] * 3)
    across, down = np.meshgrid(np.arange(64), np.arange(64))
    wave = np.sin((across if kind % 2 else down) * 2 * np.pi / (6 + 7 * (kind // 2 % 3)))
    hsv = np.dstack([np.full((64, 64), 25 * kind), np.full((64, 64), 255), 150 + 100 * wave]).astype(np.uint8)
    x, y = (int(value) for value in rng.integers(0, (64, 32)))
    rgb[y : y + 64, x : x + 64] = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return rgb, [(x, y, x + 64, y + 64)]


def recording(name: str, count: int, topic: str = "/front") -> list[dict[str, Any]]:
    """What the images of a bag say of themselves, a second apart."""
    return [
        {"file_name": f"{name}/{i:03}.png", "bag": name, "topic": topic, "frame": i, "stamp_ns": i * 10**9}
        for i in range(count)
    ]


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Twelve single images: four of one thing, two without any object, six of other things."""
    kinds = [0, 1, 0, 2, None, 0, 3, 4, 0, None, 5, 6]
    pictures: list[Seen] = [
        (thing(9, view)[0], []) if kind is None else thing(kind, view) for view, kind in enumerate(kinds)
    ]
    return prelabels(tmp_path / "labels", pictures)


@pytest.fixture
def recurring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str | Path, out: str = "out") -> tuple[int, str, str]:
        status = main(["recurring", *map(str, arguments), "--out", str(tmp_path / out)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def ranked(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "ranking.json").read_text())["objects"])


def group_recordings(out: Path) -> list[list[str]]:
    """The recordings of the objects of each group."""
    groups: dict[int, list[str]] = {}
    for record in ranked(out):
        if record["group"]:
            groups.setdefault(record["group"], []).append(record["recording"])
    return list(groups.values())


def test_what_comes_back_is_ranked_first_and_grouped(fleet: Path, recurring: Any, tmp_path: Path) -> None:
    status, said, _ = recurring(fleet, "--group-links", "2")
    assert status == 0
    assert "10 objects in 12 images of 12 recordings" in said
    objects = ranked(tmp_path / "out")
    assert {record["image"] for record in objects[:4]} == {"000.png", "002.png", "005.png", "008.png"}
    assert {record["group"] for record in objects[:4]} == {1}
    assert [record["rank"] for record in objects] == list(range(1, 11))
    assert objects[-1]["score"] <= objects[0]["score"]
    assert (tmp_path / "out" / "groups" / "group_0001.jpg").is_file()
    document = json.loads((tmp_path / "out" / PRELABELS).read_text())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    assert len(names) == 12
    for annotation in document["annotations"]:
        record = next(record for record in objects if record["object"] == annotation["id"])
        assert record["image"] == names[annotation["image_id"]]
        assert annotation["score"] == pytest.approx((11 - record["rank"]) / 10)
    assert len(read_fleet([tmp_path / "out"], [fleet / "images"]).objects) == 10, "read as pre-labels again"


def test_an_interrupted_run_goes_on_and_says_the_same(
    fleet: Path, recurring: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from objloc_ros.fleet import descriptors

    monkeypatch.setattr(descriptors.compute_descriptors, "__kwdefaults__", {"block": 3, "on_done": lambda shard: None})
    _, said, _ = recurring(fleet, "--json", out="whole")
    summary = json.loads(said)
    assert (summary["objects"], summary["images"], summary["copies"], summary["left_out"]) == (10, 12, 0, 0)
    before = (tmp_path / "whole" / "ranking.json").read_bytes()
    part = tmp_path / "whole" / "descriptors" / "00000003.npz"
    kept, lost = tmp_path / "whole" / "descriptors" / "00000000.npz", part.stat().st_mtime_ns
    untouched = kept.stat().st_mtime_ns
    part.unlink()
    for path in (tmp_path / "whole" / "links").rglob("edges/*.npz"):
        path.unlink()
    assert recurring(fleet, "--json", out="whole")[1] == said
    assert (tmp_path / "whole" / "ranking.json").read_bytes() == before
    assert part.stat().st_mtime_ns > lost
    assert kept.stat().st_mtime_ns == untouched
    assert recurring(fleet, "-r", "2", "--method", "degree", out="whole")[0] == 0, "other links, the same descriptors"
    status, _, error = recurring(fleet, "--describe", "crop", out="whole")
    assert status == 2
    assert "holds descriptors made with describe 'moments', not 'crop'" in error


def test_ray_says_what_one_process_says(fleet: Path, recurring: Any, tmp_path: Path, cluster: Any) -> None:
    assert recurring(fleet, out="here")[0] == 0
    assert recurring(fleet, "--engine", "ray", "--address", cluster.address, out="there")[0] == 0
    assert (tmp_path / "here" / "ranking.json").read_bytes() == (tmp_path / "there" / "ranking.json").read_bytes()


def bag(folder: Path, name: str, kinds: Sequence[int], first_view: int, topic: str = "/front", **info: Any) -> Path:
    pictures = [thing(kind, first_view + i) for i, kind in enumerate(kinds)]
    return prelabels(folder, pictures, about=recording(name, len(kinds), topic), info=info)


def test_slow_video_does_not_win_across_recordings(recurring: Any, tmp_path: Path) -> None:
    one = bag(tmp_path / "one", "monday", [1, 1, 1, 1, 0], 0)
    two = bag(tmp_path / "two", "tuesday", [0, 2, 3, 4], 10)
    assert recurring(one, two)[0] == 0
    assert {frozenset(group) for group in group_recordings(tmp_path / "out")} == {frozenset({"monday", "tuesday"})}
    assert recurring(one, two, "--across", "none")[0] == 0
    assert ["monday"] * 4 in group_recordings(tmp_path / "out"), "one thing looked at for long"
    assert recurring(one, two, "--apart", "1.5")[0] == 0
    assert ["monday"] * 2 in group_recordings(tmp_path / "out"), "or again after two seconds"


def test_copies_of_a_recording_count_once(recurring: Any, tmp_path: Path) -> None:
    one, again = (bag(tmp_path / name, "run", [0, 1], 0) for name in ("one", "again"))
    other = bag(tmp_path / "other", "run", [0, 2, 3], 20)
    status, said, error = recurring(one, again, other, "--json")
    assert status == 0
    assert json.loads(said)["copies"] == 2
    assert "2 images are copies of others and left out" in error
    alone = recurring(one, other, "--json", out="alone")[1]
    assert json.loads(alone)["links"] == json.loads(said)["links"]
    names = {record["recording"] for record in ranked(tmp_path / "out")}
    assert names == {f"{folder}: run" for folder in (one, other)}, "recordings of one name in two folders are two"
    status, _, error = recurring(one, one)
    assert status == 2
    assert "were given twice" in error


def test_a_track_counts_as_one_object(recurring: Any, tmp_path: Path) -> None:
    one = bag(tmp_path / "one", "monday", [1, 1, 1, 0], 0)
    document = json.loads((one / PRELABELS).read_text())
    for number, annotation in enumerate(document["annotations"]):
        annotation |= {"track_id": 1 if number < 3 else 2, "score": 0.1 * number}
    (one / PRELABELS).write_text(json.dumps(document))
    two = bag(tmp_path / "two", "tuesday", [1, 2], 10)
    assert recurring(one, two)[0] == 0
    objects = ranked(tmp_path / "out")
    assert sorted(record["seen"] for record in objects) == [1, 1, 1, 3]
    track = next(record for record in objects if record["seen"] == 3)
    assert track["image"].endswith("002.png"), "the picture of the highest score stands for it"
    written = json.loads((tmp_path / "out" / PRELABELS).read_text())["annotations"]
    assert len({annotation["score"] for annotation in written if annotation.get("track_id") == 1}) == 1


@pytest.mark.parametrize(
    ("kinds", "options", "message"),
    [
        ([0], (), "usable objects in 1 of 1 images: nothing can come back in less than two"),
        ([0, 0, 1], (), "3 with objects are of 1 recordings, such as run; .*--apart SECONDS or --across none"),
        ([0, 0, 1], ("--across", "camera", "--apart", "0.5"), "all objects are of one camera, /front"),
        ([0, 0], ("--apart", "5"), "no two images may be compared"),
        ([0, 0], ("--tau", "2"), r"tau must lie in \[-1, 1\], got 2"),
        ([0, 0], ("--links", "0"), r"links must lie in \[1, 1000\], got 0"),
        ([0, 0], ("--sheets", "-1"), "sheets must be at least 0"),
        ([0, 0], ("--backbone", "dino"), "unknown backbone 'dino'"),
        ([0, 0], ("--short-side", "9999"), "short_side must lie in"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    recurring: Any, tmp_path: Path, kinds: list[int], options: tuple[str, ...], message: str
) -> None:
    status, _, error = recurring(bag(tmp_path / "one", "run", kinds, 0), *options)
    assert status == 2
    assert len(error.strip().splitlines()) == 1
    assert re.search(message, error)


def test_pre_labels_of_different_backbones_need_a_choice(recurring: Any, tmp_path: Path) -> None:
    one = bag(tmp_path / "one", "monday", [0, 1], 0)
    two = bag(tmp_path / "two", "tuesday", [0, 2], 10, backbone="dino_vits16")
    status, _, error = recurring(one, two)
    assert status == 2
    assert "made with different backbones" in error
    assert "dino_vits16; choose one with --backbone" in error
    assert recurring(one, two, "--backbone", "tiny")[0] == 0


def test_broken_images_and_folders_without_objects(recurring: Any, tmp_path: Path, fleet: Path) -> None:
    (fleet / "images" / "003.png").write_bytes(b"no image")
    status, said, error = recurring(fleet, "--json")
    assert status == 1
    assert (json.loads(said)["unusable"], json.loads(said)["left_out"]) == (1, 1)
    assert "003.png" in error
    empty = prelabels(tmp_path / "empty", [(thing(0, 0)[0], [])])
    status, _, error = recurring(empty, out="other")
    assert status == 2
    assert "there is no object in" in error


def test_nothing_alike_is_said(recurring: Any, tmp_path: Path) -> None:
    status, said, _ = recurring(bag(tmp_path / "one", "run", [0, 1], 0), "--across", "none", "--tau", "0.999")
    assert status == 0
    assert "no two objects are alike enough" in said
    assert [record["group"] for record in ranked(tmp_path / "out")] == [None, None]
