"""`objloc cluster`: kinds among pre-labelled objects, and what stands in its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleet_making import picture, prelabels

from objloc_ros.cli.main import main
from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.io.media import read_image, write_image
from objloc_ros.training.detector_labels import read_labels
from objloc_ros.types import Image

COLOURS = {"red": (220, 60, 40), "green": (50, 200, 60), "blue": (40, 60, 220)}
BOX, OTHER = (8, 16, 56, 72), (72, 16, 120, 72)


def draw_pattern(rgb: Image, colour: tuple[int, int, int]) -> None:
    """Give objects of each colour a surface of their own: plain, a checkerboard with white, stripes with black."""
    inside = (rgb == colour).all(axis=2)
    rows, columns = np.indices(inside.shape)
    if colour == COLOURS["green"]:
        rgb[inside & ((rows // 4 + columns // 4) % 2 == 0)] = 255
    if colour == COLOURS["blue"]:
        rgb[inside & (columns % 8 >= 4)] = 0


def make_prelabels(folder: Path, count: int = 4) -> Path:
    """Pictures of one colour each, with an object of that colour and every third with a second one."""
    pictures = []
    for number in range(count):
        for colour in COLOURS.values():
            rgb = picture(colour, BOX, ground=90 + number)
            if number == 0:
                rgb[OTHER[1] : OTHER[3], OTHER[0] : OTHER[2]] = colour
            draw_pattern(rgb, colour)
            pictures.append((rgb, [BOX, OTHER] if number == 0 else [BOX]))
    return prelabels(folder, pictures)


def make_truth(folder: Path, prelabelled: Path) -> Path:
    """The same objects with the names of their colours, and an image that was not pre-labelled."""
    document = json.loads((prelabelled / PRELABELS).read_text())
    for record in document["annotations"]:
        record["category_id"] = 1 + (record["image_id"] - 1) % 3
    document["categories"] = [{"id": number, "name": name} for number, name in enumerate(COLOURS, start=1)]
    document["images"].append({"id": 99, "file_name": "elsewhere.png", "width": 8, "height": 8})
    document["annotations"].append({"id": 99, "image_id": 99, "category_id": 1, "bbox": [0, 0, 4, 4]})
    path = folder / "truth.json"
    path.write_text(json.dumps(document))
    return path


def make_voc_truth(folder: Path, prelabelled: Path) -> Path:
    """The same truth in PASCAL VOC's layout; every second object is difficult."""
    document = json.loads((prelabelled / PRELABELS).read_text())
    annotations = folder / "VOCdevkit/VOC2007/Annotations"
    annotations.mkdir(parents=True)
    for image in document["images"]:
        objects = ""
        own = [record for record in document["annotations"] if record["image_id"] == image["id"]]
        for number, record in enumerate(own):
            x, y, width, height = record["bbox"]
            name, difficult = list(COLOURS)[(image["id"] - 1) % 3], number % 2
            box = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + width}</xmax><ymax>{y + height}</ymax>"
            objects += f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"
        path = annotations / Path(image["file_name"]).with_suffix(".xml").name
        path.write_text(f"<annotation>{objects}</annotation>")
    return folder


@pytest.fixture(scope="module")
def prelabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prelabels(tmp_path_factory.mktemp("prelabels"))


def cluster(prelabelled: Path, out: Path, *more: str) -> int:
    return main(["cluster", str(prelabelled), "--out", str(out), *more])


@pytest.mark.parametrize("make", [make_truth, make_voc_truth])
def test_kinds_are_told_apart_and_assigned_to_the_truth(
    prelabelled: Path, tmp_path: Path, capsys: Any, make: Any
) -> None:
    out = tmp_path / "out"
    assert cluster(prelabelled, out, "-k", "3", "--truth", str(make(tmp_path, prelabelled)), "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary == json.loads((out / "clusters.json").read_text())
    assert [about["objects"] for about in summary["clusters"]] == [5, 5, 5]
    assert [about["recordings"] for about in summary["clusters"]] == [4, 4, 4]
    assert (summary["objects"], summary["left_out"]) == (15, 0)
    truth = summary["truth"]
    assert (truth["ap50"], truth["ap"]) == (1, 1)
    assert {about["cluster"] for about in truth["classes"].values()} == {"cluster_01", "cluster_02", "cluster_03"}
    labels = read_labels(out, Path(summary["images"]))
    assert labels.classes == ("cluster_01", "cluster_02", "cluster_03")
    colours = {
        tuple(read_image(image.file)[40, 40].tolist()): set(image.categories.tolist()) for image in labels.images
    }
    assert sorted(map(list, colours.values())) == [[0], [1], [2]]
    assert sorted(path.name for path in (out / "sheets").iterdir()) == [f"cluster_0{i}.jpg" for i in (1, 2, 3)]


def test_the_same_command_gives_the_same_labels(prelabelled: Path, tmp_path: Path, capsys: Any) -> None:
    written = []
    for name in "ab":
        assert cluster(prelabelled, tmp_path / name, "-k", "4", "--seed", "3") == 0
        written.append((tmp_path / name / PRELABELS).read_text())
    assert written[0] == written[1]
    out = capsys.readouterr().out
    assert "cluster_04" in out
    assert f"--labels {tmp_path / 'b'} --images {prelabelled / 'images'}" in out


def test_crops_are_described_too(tmp_path: Path, capsys: Any) -> None:
    assert (
        cluster(make_prelabels(tmp_path / "labels", 1), tmp_path / "out", "-k", "2", "--describe", "crop", "--json")
        == 0
    )
    assert sum(about["objects"] for about in json.loads(capsys.readouterr().out)["clusters"]) == 6


def test_the_files_are_evaluated_alike(prelabelled: Path, tmp_path: Path, capsys: Any) -> None:
    """`objloc evaluate clusters` judges what a detector of the clusters has found."""
    truth = make_truth(tmp_path, prelabelled)
    assert cluster(prelabelled, tmp_path / "out", "-k", "3") == 0
    capsys.readouterr()
    files = ["--predictions", str(tmp_path / "out" / PRELABELS), "--ground-truth", str(truth)]
    assert main(["evaluate", "clusters", *files, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert {name: about["ap50"] for name, about in figures["classes"].items()} == {
        "red": pytest.approx(5 / 6),  # the image that was not pre-labelled has a red object
        "green": 1,
        "blue": 1,
    }
    assert (figures["images"], figures["objects"]) == (13, 15)
    assert main(["evaluate", "clusters", *files, "--fail-under", "ap50=0.99"]) == 4
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split() == ["class", "cluster", "ap50", "ap"]
    assert printed[-1].split() == ["mean", f"{figures['ap50']:.4f}", f"{figures['ap']:.4f}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-k", "16"), "-k must be at least 1 and at most the 15 objects, got 16"),
        (("-k", "0"), "at most the 15 objects, got 0"),
        (("-k", "3", "--seed", "-1"), "seed must be 0 to 4294967295, got -1"),
        (("-k", "3", "--backbone", "nobody"), "nobody"),
        (("-k", "3", "--truth", "missing.json"), "missing.json"),
    ],
)
def test_what_cannot_be_done_is_said(
    prelabelled: Path, tmp_path: Path, capsys: Any, options: tuple[str, ...], message: str
) -> None:
    assert cluster(prelabelled, tmp_path / "out", *options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / PRELABELS).exists()


def test_a_truth_of_other_images_is_refused(prelabelled: Path, tmp_path: Path, capsys: Any) -> None:
    truth = make_truth(tmp_path, prelabelled)
    document = json.loads(truth.read_text())
    document["images"] = [{**image, "file_name": f"other_{image['file_name']}"} for image in document["images"]]
    truth.write_text(json.dumps(document))
    assert cluster(prelabelled, tmp_path / "out", "-k", "3", "--truth", str(truth)) == 2
    assert "has no truth for 12 of the 12 images, the first is 000.png" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert cluster(prelabelled, tmp_path / "out", "-k", "3", "--truth", str(tmp_path / "empty")) == 2
    assert "has no folder Annotations" in capsys.readouterr().err


def test_there_must_be_objects_and_their_images(tmp_path: Path, capsys: Any) -> None:
    nothing = prelabels(tmp_path / "nothing", [(picture((9, 9, 9), BOX), [])])
    assert cluster(nothing, tmp_path / "out", "-k", "1") == 2
    assert "there is no object in" in capsys.readouterr().err
    lost = make_prelabels(tmp_path / "lost", 1)
    (lost / "images/001.png").unlink()
    assert cluster(lost, tmp_path / "out", "-k", "1") == 2
    assert "names the image 001.png, which is not in" in capsys.readouterr().err


def test_objects_of_unusable_images_are_left_out(tmp_path: Path, capsys: Any) -> None:
    folder = make_prelabels(tmp_path / "labels", 2)
    write_image(folder / "images/001.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "images/003.png").write_bytes(b"")
    assert cluster(folder, tmp_path / "out", "-k", "2", "--json") == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["left_out"] == 3
    assert "001.png" in captured.err
    assert "003.png" in captured.err
    document = json.loads((tmp_path / "out" / PRELABELS).read_text())
    assert {record["image_id"] for record in document["annotations"]} == {1, 3, 5, 6}


def test_a_detector_learns_the_kinds(prelabelled: Path, tmp_path: Path, capsys: Any) -> None:
    """The whole way of LOST's class-aware detector, on the pictures that it has learned from."""
    kinds, images, found = tmp_path / "kinds", prelabelled / "images", tmp_path / "found"
    truth = make_truth(tmp_path, prelabelled)
    assert cluster(prelabelled, kinds, "-k", "3") == 0
    training = ["--steps", "60", "--batch", "4", "--variants", "1", "--out", str(tmp_path)]
    assert main(["train", "detector", "--labels", str(kinds), "--images", str(images), *training]) == 0
    head = ["--method", "detector", "--head-weights", str(tmp_path / "tiny_detector.safetensors")]
    assert main(["prelabel", str(images), *head, "--out", str(found)]) == 0
    capsys.readouterr()
    files = ["--predictions", str(found / PRELABELS), "--ground-truth", str(truth)]
    assert main(["evaluate", "clusters", *files, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["classes"]
    assert len({about["cluster"] for about in figures.values()}) == 3
    assert all(about["ap50"] > 0.5 for about in figures.values())
