"""`objloc train detector` end to end at toy size, from labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from waiting import PATIENCE_S

from objloc_ros.backbones.vit import build_vit
from objloc_ros.backbones.weights import fingerprint, load_backbone
from objloc_ros.cli.main import main
from objloc_ros.io.rle import encode
from objloc_ros.methods.detector_file import load_detector
from objloc_ros.training.tiny import save_backbone


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Three pictures of a bright square, and their labels in two categories."""
    images = tmp_path / "images"
    images.mkdir()
    document = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cup"}, {"id": 4, "name": "plate"}]}
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 90, (48, 64, 3), np.uint8)
        mask = np.zeros((48, 64), bool)
        mask[8:32, 8 * number + 8 : 8 * number + 32] = True
        picture[mask] += 120
        cv2.imwrite(str(images / f"{number}.jpg"), picture)
        document["images"].append({"id": number, "file_name": f"{number}.jpg", "height": 48, "width": 64})
        about = {"id": number + 1, "image_id": number, "category_id": 4 if number else 1, "iscrowd": 0}
        box = {"bbox": [8 * number + 8, 8, 24, 24], "area": 576, "segmentation": encode(mask)}
        document["annotations"].append(about | box)
    (tmp_path / "labels.json").write_text(json.dumps(document))
    return tmp_path


def arguments(folder: Path, *more: str, steps: int = 2) -> list[str]:
    where = ["--labels", str(folder / "labels.json"), "--images", str(folder / "images"), "--out", str(folder / "out")]
    small = ["--steps", str(steps), "--batch", "2", "--variants", "2", "--device", "cpu"]
    return ["train", "detector", *where, *small, *more]


def test_it_writes_a_detector_that_says_what_it_reads_and_knows(labelled: Path, capsys) -> None:
    assert main(arguments(labelled)) == 0
    detector, info = load_detector(labelled / "out" / "tiny_detector.safetensors")
    assert info.backbone == "tiny"
    assert info.fingerprint == fingerprint(load_backbone("tiny"))
    assert detector.classes == info.classes == ("cup", "plate")
    assert info.trained_on["steps"] == 2
    assert info.trained_on["objects"] == 3
    assert main(arguments(labelled)) == 0  # nothing left to do: the same detector again
    again, _ = load_detector(labelled / "out" / "tiny_detector.safetensors")
    for one, other in zip(detector.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert main(arguments(labelled, steps=3)) == 2
    error = capsys.readouterr().err
    assert "steps 2, now 3. Give the same options, another folder, or delete it" in error


def test_bad_pictures_are_left_out_and_named(labelled: Path, capsys) -> None:
    picture = labelled / "images" / "1.jpg"
    data = picture.read_bytes()
    picture.write_bytes(data[:-60])  # its header is whole
    assert main(arguments(labelled)) == 0
    error = capsys.readouterr().err
    assert "1 images could not be read and were left out" in error
    assert str(picture) in error


def test_a_checkpoint_of_another_backbone_is_refused(labelled: Path, capsys) -> None:
    assert main(arguments(labelled)) == 0
    torch.manual_seed(1)
    save_backbone(labelled / "vit.safetensors", build_vit("tiny"))
    assert main(arguments(labelled, "--weights", str(labelled / "vit.safetensors"))) == 2
    assert "of another run: backbone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--batch", "0"], "batch must be at least 1, got 0"),
        (["--pastes", "11"], "pastes must lie in [0, 10], got 11"),
        (["--smallest-side", "64"], "smallest_side is for fresh tokens"),
        (["--workers", "0"], "workers must be at least 1, got 0"),
        (["--tokens", "fresh", "--cache", "cache"], "tokens are taken fresh"),
        (["--labels", "missing.json"], "missing.json"),
    ],
)
def test_senseless_options_are_refused(labelled: Path, given: list[str], told: str, capsys) -> None:
    assert main(arguments(labelled, *given)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error


def test_torchrun_trains_one_detector(labelled: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "objloc_ros.cli.main", *arguments(labelled)]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=PATIENCE_S, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().count("minutes in this run") == 1
    load_detector(labelled / "out" / "tiny_detector.safetensors")
