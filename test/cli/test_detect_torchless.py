"""`objloc detect` in a process in which torch cannot be imported: FOUND by an exported backbone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torchless
from waiting import PATIENCE_S

from objloc_ros.cli.main import main
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.io.media import VideoWriter, read_image, write_image
from objloc_ros.scenes.video import drive_video

SCENE = next(frame for frame, _ in drive_video(seed=3, size=(240, 320), frames=1))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("exported") / "found.onnx"
    assert main(["export", "--size", "192x256", "--batch", "1", "--out", str(file)]) == 0
    return file


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, torchless.__file__, "objloc_ros.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)


def test_images_and_videos_have_the_objects_that_torch_finds(exported: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "scene.png", SCENE)
    with VideoWriter(tmp_path / "scene.mp4", 10) as writer:
        for _ in range(2):
            writer.write(SCENE)
    files = [tmp_path / name for name in ("scene.png", "scene.mp4")]
    done = run("detect", *files, "--weights", exported, "--device", "cpu", "--out", tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    pipeline = load_pipeline(device="cpu")
    pipeline.backbone.bfloat16 = False
    wanted = pipeline.run(SCENE)["found"]
    boxes = [a["bbox"] for a in document["annotations"] if a["image_id"] == 1]
    corners = wanted.detections.boxes
    np.testing.assert_allclose(boxes, np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]), atol=1.5)
    assert len(boxes) > 0
    assert {a["image_id"] for a in document["annotations"]} == {1, 2, 3}
    assert document["info"]["backbone"] == "tiny"
    assert (read_image(tmp_path / "out" / "scene_mask.png")[..., 0] != wanted.mask_u8()).mean() < 1e-3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "got found with weights registered; requirements.txt has what all else needs"),
        (("--weights", "{exported}", "--method", "lost"), "got lost with weights {exported}"),
        (("--weights", "{exported}", "--head-weights", "head.safetensors"), "without the Python module 'torch'"),
        (("--weights", "{exported}", "--post", "bilateral"), "needs the Python module 'scipy"),
        (("--weights", "{exported}", "--backbone", "dino_vits8"), "is an exported tiny, expected dino_vits8"),
        (("--weights", "absent.onnx"), "no weights file"),
    ],
)
def test_what_needs_more_is_refused_in_one_line(
    exported: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    write_image(tmp_path / "scene.png", SCENE)
    given = [argument.format(exported=exported) for argument in arguments]
    done = run("detect", tmp_path / "scene.png", *given, "--device", "cpu", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert said.format(exported=exported) in done.stderr
    assert done.stderr.startswith("objloc: error: ")
    assert done.stderr.count("\n") == 1
