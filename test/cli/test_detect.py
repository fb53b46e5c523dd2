"""`objloc detect` end to end: a random backbone whose head calls everything, or nothing, an object."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from objloc_ros.backbones.vit import build_vit
from objloc_ros.cli.main import main
from objloc_ros.io.media import VideoReader, VideoWriter, read_image, write_image


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    model = build_vit("tiny")
    save_file({key: value.clone() for key, value in model.vit.state_dict().items()}, folder / "vit.safetensors")
    for name, bias in (("all", 3.0), ("none", -3.0)):
        head = {"weight": torch.zeros(1, model.embed_dim, 1, 1), "bias": torch.tensor([bias])}
        save_file(head, folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def detect(weights: Path, tmp_path: Path):
    """Run the command on inputs below tmp_path, with outputs in tmp_path/out."""

    def call(*inputs: str, head: str = "all", options: tuple[str, ...] = ()) -> int:
        paths = [str(tmp_path / name) for name in inputs]
        model = ["--weights", str(weights / "vit.safetensors"), "--head-weights", str(weights / f"{head}.safetensors")]
        return main(["detect", *paths, *model, "--device", "cpu", "--out", str(tmp_path / "out"), *options])

    return call


def picture(path: Path, size: tuple[int, int] = (48, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    return path


def document(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "out" / "detections.json").read_text())


def test_one_image(detect, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = picture(tmp_path / "a.png")
    assert detect("a.png") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "a_mask.png",
        "a_overlay.png",
        "detections.json",
    ]
    assert (read_image(tmp_path / "out" / "a_mask.png") == 255).all()
    assert read_image(tmp_path / "out" / "a_overlay.png").shape == (48, 64, 3)
    found = document(tmp_path)
    assert found["images"] == [{"id": 1, "file_name": str(path), "width": 64, "height": 48}]
    (annotation,) = found["annotations"]
    assert annotation["bbox"] == [0, 0, 64, 48]
    assert annotation["score"] == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-4)
    assert found["info"]["options"]["threshold"] == 0.5
    assert capsys.readouterr().out == f"{path}: 1 object (0.95)\nresults in {tmp_path / 'out'}\n"


def test_nothing_found(detect, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "a.png")
    assert detect("a.png", head="none") == 0
    assert document(tmp_path)["annotations"] == []
    assert (read_image(tmp_path / "out" / "a_mask.png") == 0).all()
    assert np.array_equal(read_image(tmp_path / "out" / "a_overlay.png"), read_image(tmp_path / "a.png"))
    assert "a.png: 0 objects\n" in capsys.readouterr().out


def test_options_reach_the_method(detect, tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert detect("a.png", options=("--threshold", "0.96", "--mode", "single")) == 0
    found = document(tmp_path)
    assert found["annotations"] == []
    assert (found["info"]["options"]["threshold"], found["info"]["options"]["mode"]) == (0.96, "single")


def test_folder_and_equal_names(detect, tmp_path: Path) -> None:
    for name in ("in/b.png", "in/a.png", "in/a.jpg", "in/sub/c.png"):
        picture(tmp_path / name)
    (tmp_path / "in" / "readme.txt").touch()
    assert detect("in") == 0
    assert [Path(image["file_name"]).name for image in document(tmp_path)["images"]] == ["a.jpg", "a.png", "b.png"]
    overlays = sorted(file.name for file in (tmp_path / "out").glob("*_overlay.png"))
    assert overlays == ["a_2_overlay.png", "a_overlay.png", "b_overlay.png"]


def test_video(detect, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        for level in (0, 100, 200):
            writer.write(np.full((48, 64, 3), level, np.uint8))
    assert detect("clip.mp4") == 0
    made = VideoReader(tmp_path / "out" / "clip_overlay.mp4")
    assert (len(list(made)), made.fps) == (3, 10)
    found = document(tmp_path)
    assert [image["frame"] for image in found["images"]] == [0, 1, 2]
    assert [annotation["image_id"] for annotation in found["annotations"]] == [1, 2, 3]
    assert "clip.mp4: 3 frames, 3 objects\n" in capsys.readouterr().out


def test_unreadable_files_are_counted_and_the_others_go_on(detect, tmp_path: Path, capfd) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_text("no image")
    (tmp_path / "bad.mp4").write_text("no video")
    assert detect("bad.jpg", "bad.mp4", "missing.png", "good.png") == 1
    out, err = capfd.readouterr()
    assert "good.png: 1 object (0.95)\n" in out
    assert "; 3 of 4 files unusable\n" in out
    for name in ("bad.jpg", "bad.mp4", "missing.png"):
        assert f"objloc: cannot read {tmp_path / name}: " in err
    assert [Path(failure["file_name"]).name for failure in document(tmp_path)["failures"]] == [
        "bad.jpg",
        "bad.mp4",
        "missing.png",
    ]


def test_json_is_all_that_is_printed(detect, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture(tmp_path / "a.png")
    assert detect("a.png", options=("--json",)) == 0
    assert json.loads(capsys.readouterr().out) == document(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (("a.png",), ("--threshold", "1.5"), "threshold must lie in [0, 1], got 1.5"),
        (("a.png",), ("--backbone", "resnet"), "unknown backbone 'resnet'"),
        (("a.png",), ("--device", "tpu"), "device must be auto, cpu, cuda or cuda:N"),
        (("a.png",), ("--short-side", "-3"), "short_side must lie in [0, 4096], got -3"),
        (("a.png",), ("--weights", "/no/such/file.pth"), "no weights file /no/such/file.pth"),
        (("empty",), (), "holds no image and no video"),
        (("a.png",), ("--out", "/dev/null/out"), "cannot write to /dev/null/out"),
    ],
)
def test_errors_are_one_line(detect, tmp_path: Path, capsys, inputs, options: tuple[str, ...], message: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "empty").mkdir()
    assert detect(*inputs, options=options) == 2
    err = capsys.readouterr().err
    assert err.startswith("objloc: error: ")
    assert message in err
    assert err.count("\n") == 1


def test_an_interrupted_run_keeps_what_it_has(detect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_path: Path) -> None:
        raise KeyboardInterrupt

    with VideoWriter(tmp_path / "clip.mp4", 10) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
    picture(tmp_path / "a.png")
    monkeypatch.setattr("objloc_ros.cli.detect.read_image", interrupt)
    assert detect("clip.mp4", "a.png") == 130
    assert len(document(tmp_path)["images"]) == 1
