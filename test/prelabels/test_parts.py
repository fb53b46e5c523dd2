"""Labelled images in order, in a form that every viewer shows."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from objloc_ros.errors import InputError
from objloc_ros.io.media import read_image, write_image
from objloc_ros.io.rle import encode
from objloc_ros.prelabels.parts import read_compressed, read_labelled_images
from objloc_ros.prelabels.work import ExportTask


def picture(path: Path, size: tuple[int, int] = (8, 12)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8))
    return path


def part(folder: Path, *lines: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.parametrize(("name", "form"), [("a.jpg", "jpeg"), ("a.png", "png")])
def test_what_viewers_know_is_taken_as_it_is(tmp_path: Path, name: str, form: str) -> None:
    path = picture(tmp_path / name)
    assert read_compressed(path) == (form, path.read_bytes())


def test_other_formats_become_jpeg(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.bmp")
    form, data = read_compressed(path)
    assert form == "jpeg"
    assert PIL.Image.open(io.BytesIO(data)).size == (12, 8)


def test_a_turned_photograph_is_turned_as_the_labels_are(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (12, 8)).save(tmp_path / "a.jpg", exif=exif)
    _, data = read_compressed(tmp_path / "a.jpg")
    assert PIL.Image.open(io.BytesIO(data)).size == read_image(tmp_path / "a.jpg").shape[1::-1] == (8, 12)


def test_frames_of_a_bag_and_images_without_time(tmp_path: Path) -> None:
    for name in ("run/front/0.jpg", "a.jpg", "b.jpg"):
        picture(tmp_path / name)
    mask = np.eye(8, 12, dtype=bool)
    described = {
        "label": "cat",
        "score": 0.5,
        "bbox": [0, 0, 8, 8],
        "area": 8,
        "segmentation": encode(mask),
        "track": 4,
    }
    about = {"topic": "/front", "frame": 7, "stamp_ns": 123}
    bag = part(tmp_path / "bag", {"file_name": "run/front/0.jpg", "objects": [described], **about})
    (frame,) = read_labelled_images(bag, tmp_path)
    assert (frame.camera, frame.number, frame.stamp_ns, frame.format) == ("front", 7, 123, "jpeg")
    assert frame.make_caption(described) == "cat 4: 0.50"
    assert np.array_equal(frame.decode_mask(described), mask)
    torn = {"file_name": "torn.jpg", "reason": "torn"}
    images = part(
        tmp_path / "images_0", {"file_name": "a.jpg", "objects": []}, torn, {"file_name": "b.jpg", "objects": []}
    )
    frames = list(read_labelled_images(images, tmp_path))
    assert [(frame.camera, frame.number, frame.stamp_ns) for frame in frames] == [
        ("images_0", 0, 0),
        ("images_0", 2, 2_000_000_000),
    ]


def test_an_image_that_is_gone(tmp_path: Path) -> None:
    folder = part(tmp_path / "p", {"file_name": "a.jpg", "objects": []})
    with pytest.raises(InputError, match=r"cannot read .*a\.jpg"):
        list(read_labelled_images(folder, tmp_path))


def test_the_maker_travels(tmp_path: Path) -> None:
    task = ExportTask("rerun")
    assert pickle.loads(pickle.dumps(task)) == task != ExportTask("foxglove")
    shard = task.make_shard(tmp_path / "run", tmp_path / "images")
    assert (shard.name, shard.input) == ("run.rrd", (tmp_path / "run", tmp_path / "images"))
    assert ExportTask("foxglove").make_shard(tmp_path / "run", tmp_path).name == "run.mcap"
