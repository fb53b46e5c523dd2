"""Labels of `objloc train detector`: from documents, from teachers, and from the detector of the round before."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detector_making import make_detector

from objloc_ros.cli import train_labels
from objloc_ros.cli.train_labels import (
    add_label_arguments,
    add_round_arguments,
    check_label_arguments,
    check_round_arguments,
    prepare_images,
    prepare_labels,
    prepare_round,
    wait_for_teachers,
)
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.media import read_image, write_image
from objloc_ros.methods.detector_file import load_detector, save_detector
from objloc_ros.training.detector_labels import Labels, read_labels
from objloc_ros.training.rounds import merge_labels
from objloc_ros.types import Image

SIZE = (64, 96)
Parse = Callable[..., argparse.Namespace]


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Parse a command line; procedural scenes are small."""
    monkeypatch.setattr(train_labels, "SCENES_BANK", {"backgrounds": 2, "sprites": 4, "side": 64})
    monkeypatch.setattr(train_labels, "SCENES_SIZE", SIZE)

    def parse_words(*words: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser()
        add_label_arguments(parser)
        add_round_arguments(parser)
        others = {"backbone": "tiny", "weights": None, "device": "cpu", "short_side": None, "out": tmp_path / "out"}
        parser.set_defaults(**others)
        return parser.parse_args(words)

    return parse_words


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three pictures of a bright square that moves on a dark texture."""
    folder = tmp_path / "images" / "video"
    folder.mkdir(parents=True)
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 60, (*SIZE, 3), np.uint8)
        picture[16:48, 16 + 8 * number : 48 + 8 * number] = (250, 240, 20)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return tmp_path / "images"


def boxes(labels: Labels) -> dict[str, list[Any]]:
    return {image.name: image.boxes.tolist() for image in labels.images}


def test_teachers_leave_documents_that_may_be_corrected(
    parse: Parse, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = parse("--teacher", "lost,maskcut", "--images", str(images))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    labels = prepare_labels(args, images)
    assert torch.get_num_threads() == threads + 1, "whether labels were made in this run says nothing to the training"
    torch.set_num_threads(threads)
    folders = [tmp_path / "out" / "labels" / name for name in ("lost", "maskcut")]
    lost, maskcut = (read_labels(folder, images, empty_ok=True) for folder in folders)
    assert lost.count > 0
    assert boxes(labels) == {
        name: found for name, found in boxes(merge_labels(maskcut, lost, threshold=0)).items() if found
    }
    assert (
        boxes(lost).items()
        <= boxes(prepare_labels(parse("--teacher", "lost", "--images", str(images)), images)).items()
    )
    document = json.loads((folders[0] / "annotations" / "instances_default.json").read_text())
    document["annotations"] = [
        {"id": 1, "image_id": 2, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [], "iscrowd": 0}
    ]
    (folders[0] / "annotations" / "instances_default.json").write_text(json.dumps(document))
    monkeypatch.setattr(train_labels, "label_pieces", None)  # nothing is labelled again
    corrected = prepare_labels(parse("--teacher", "lost", "--images", str(images)), images)
    assert boxes(corrected) == {"video/1.png": [[1, 2, 4, 6]]}
    assert corrected.left_out == 2


def test_labels_with_another_backbone_or_other_images_are_not_mixed(parse: Parse, images: Path, tmp_path: Path) -> None:
    args = parse("--teacher", "lost", "--images", str(images))
    prepare_labels(args, images)
    with pytest.raises(
        InputError, match=r"instances_default.json was made with tracks 'none', not 'all'.*remove .*labels/lost"
    ):
        prepare_labels(parse("--teacher", "lost", "--images", str(images), "--consistent", "2"), images)
    args.teacher_backbone = "dino_vits16"
    with pytest.raises(
        InputError, match="was made with backbone 'tiny', not 'dino_vits16': continue with the same options"
    ):
        prepare_labels(args, images)
    args.teacher_backbone = None
    (tmp_path / "out" / "labels" / "lost" / "annotations" / "instances_default.json").unlink()
    (images / "video" / "2.png").unlink()
    with pytest.raises(InputError, match="other inputs"):
        prepare_labels(args, images)


def write_half(path: Path, image: Image) -> None:
    path.write_bytes(b"half a picture")
    raise RuntimeError("killed")


def test_without_images_teachers_label_procedural_scenes(parse: Parse, monkeypatch: pytest.MonkeyPatch) -> None:
    args = parse("--teacher", "found", "--scenes", "2")
    folder = prepare_images(args)
    scenes = sorted(folder.iterdir())
    assert [path.name for path in scenes] == ["scene_000000.png", "scene_000001.png"]
    before = read_image(scenes[1])
    assert before.shape == (*SIZE, 3)
    scenes[1].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(train_labels, "write_image", write_half)
        with pytest.raises(RuntimeError, match="killed"):
            prepare_images(args)
    prepare_images(args)
    assert (read_image(scenes[1]) == before).all(), "the same scene again"
    labels = prepare_labels(parse("--teacher", "found", "--empty-ok"), folder)
    assert [image.name for image in labels.images] == ["scene_000000.png", "scene_000001.png"]


def test_consistent_labels_are_tracked(parse: Parse, images: Path) -> None:
    args = parse("--teacher", "lost", "--consistent", "3", "--images", str(images))
    labels = prepare_labels(args, images)
    assert [len(image) for image in labels.images] == [1, 1, 1]
    assert len({int(image.tracks[0]) for image in labels.images}) == 1
    with pytest.raises(InputError, match="longest track has 3 images, fewer than 4"):
        prepare_labels(parse("--teacher", "lost", "--consistent", "4", "--images", str(images)), images)


def test_a_round_learns_from_what_the_one_before_has_found(parse: Parse, images: Path, tmp_path: Path) -> None:
    args = parse("--teacher", "lost", "--images", str(images), "--rounds", "2", "--keep", "0.7")
    first = prepare_labels(args, images)
    detector = make_detector(tmp_path / "detector.safetensors")
    second = prepare_round(args, 2, images, first, detector)
    (predictions,) = (tmp_path / "out" / "round_2").glob("predictions_*")
    predicted = read_labels(predictions, images, empty_ok=True)
    scores = np.concatenate([image.scores for image in predicted.images])
    document = tmp_path / "out" / "round_2" / "annotations" / "instances_default.json"
    threshold = json.loads(document.read_text())["info"]["threshold"]
    assert np.sort(scores)[-round(0.7 * first.count)] == threshold
    assert boxes(second) == boxes(merge_labels(first, predicted, threshold=threshold))
    before = document.read_bytes()
    document.unlink()  # as if the run had been killed before it was written
    assert boxes(prepare_round(args, 2, images, first, detector)) == boxes(second)
    assert document.read_bytes() == before
    args.keep = 0.5
    with pytest.raises(InputError, match=r"made with keep 0.7, not 0.5: continue with the same options.*round_2"):
        prepare_round(args, 2, images, first, detector)
    args.keep = 0.7
    other, info = load_detector(detector)
    other.mean += 1
    save_detector(detector, other, info)
    with pytest.raises(InputError, match="made with detector"):
        prepare_round(args, 2, images, first, detector)


def test_images_are_found_beside_the_labels(parse: Parse, images: Path, tmp_path: Path) -> None:
    document = tmp_path / "annotations" / "instances_default.json"
    document.parent.mkdir()
    document.write_text("{}")
    assert prepare_images(parse("--labels", str(tmp_path))) == images
    (images / "default").mkdir()
    assert prepare_images(parse("--labels", str(tmp_path))) == images, "its names do not begin there"
    write_image(images / "default" / "a.png", np.zeros((4, 4, 3), np.uint8))
    document.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.png"}]}))
    assert prepare_images(parse("--labels", str(tmp_path))) == images / "default", "CVAT's subset"
    images.rename(tmp_path / "data")
    assert prepare_images(parse("--labels", str(tmp_path))) == tmp_path / "data" / "default", "FiftyOne's folder"
    (tmp_path / "data").rename(tmp_path / "pictures")
    assert prepare_images(parse("--labels", str(document), "--images", str(tmp_path / "pictures"))).name == "pictures"
    with pytest.raises(InputError, match=r"no folder .*images: name the folder of the images \(--images\)"):
        prepare_images(parse("--labels", str(document)))
    with pytest.raises(InputError, match=r"no folder of images .*nowhere"):
        prepare_images(parse("--labels", str(document), "--images", str(tmp_path / "nowhere")))


def test_a_folder_without_images_is_refused(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clip.mp4").write_bytes(b"")
    with pytest.raises(InputError, match=r"there is no image in .*label videos and bags with objloc prelabel"):
        prepare_labels(parse("--teacher", "lost"), tmp_path / "in")


def test_weights_of_the_backbone_are_no_network_of_a_teacher(parse: Parse) -> None:
    args = parse("--teacher", "lost")
    args.weights = Path("vit.safetensors")
    configured = {name: train_labels._configure_teacher(args, name).weights for name in ("lost", "rcnn")}
    assert configured == {"lost": Path("vit.safetensors").absolute(), "rcnn": None}
    args.teacher_backbone = "dino_vits16"
    assert train_labels._configure_teacher(args, "lost").weights is None
    args.teacher_weights = Path("teacher.pth")
    assert train_labels._configure_teacher(args, "rcnn").weights == Path("teacher.pth").absolute()


def check_arguments(args: argparse.Namespace) -> None:
    check_label_arguments(args)
    check_round_arguments(args)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--teacher", "nobody"), "teacher must be different ones of found, lost"),
        (("--teacher", "lost,lost"), "teacher must be different ones"),
        (("--teacher", "maskclip"), "maskclip needs prompts: label with objloc prelabel"),
        (("--teacher", "lost", "--rounds", "0"), "rounds must be at least 1, got 0"),
        (("--teacher", "lost", "--keep", "0"), r"keep must lie in \(0, 10\], got 0"),
        (("--teacher", "lost", "--scenes", "0"), "scenes must be at least 1, got 0"),
        (("--teacher", "lost", "--consistent", "0"), "consistent must be at least 1 image, got 0"),
        (("--labels", "x", "--teacher-backbone", "tiny"), "--teacher-backbone is for --teacher"),
        (("--teacher", "lost,maskcut", "--teacher-weights", "x"), "--teacher-weights is for one teacher"),
        (("--teacher", "lost", "--ray-tasks", "2"), "are for --engine ray"),
    ],
)
def test_senseless_options_are_refused(parse: Parse, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check_arguments(parse(*words))


def test_other_processes_wait_for_the_labels(parse: Parse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_labels, "LABELS_POLL_S", 0.01)
    args = parse("--teacher", "lost,found")
    wanted = [tmp_path / "out" / "labels" / name / "annotations" for name in ("found", "lost")]
    seen = []

    def make(_: float) -> None:
        folder = wanted[len(seen)]
        folder.mkdir(parents=True)
        (folder / "instances_default.json").touch()
        seen.append(folder)

    monkeypatch.setattr(train_labels.time, "sleep", make)
    wait_for_teachers(args)
    assert seen == wanted
    wait_for_teachers(parse("--labels", "x"))
