"""Joined parts: numbers, bytes, and what readers of COCO make of them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval import COCO
from pycocotools import coco as pycocotools_coco

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.pipeline import build_pipeline
from objloc_ros.errors import InputError
from objloc_ros.io.media import write_image
from objloc_ros.io.rle import encode
from objloc_ros.jobs.shards import run_here
from objloc_ros.prelabels.coco import Totals, write_coco
from objloc_ros.prelabels.parts import read_records
from objloc_ros.prelabels.sources import find_sources, make_pieces
from objloc_ros.prelabels.work import LabelTask
from objloc_ros.types import Image

INFO = {"method": "found"}


def one(label: str = "object", track: int | None = None, left: int = 0) -> dict[str, Any]:
    mask = np.zeros((4, 6), bool)
    mask[1:3, left : left + 2] = True
    described = {"label": label, "score": 0.5, "bbox": [left, 1, 2, 2], "area": 4, "segmentation": encode(mask)}
    return described if track is None else described | {"track": track}


def image(name: str, *objects: dict[str, Any], **about: Any) -> dict[str, Any]:
    return {"file_name": name, "width": 6, "height": 4, **about, "objects": list(objects)}


def part(folder: Path, *lines: dict[str, Any]) -> Path:
    folder.mkdir(parents=True)
    (folder / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    torn = {"file_name": "2.png", "reason": "torn"}
    second = image("r/2.jpg", one("dog", 1), one("cat", 2))
    return [
        part(tmp_path / "b", image("1.png", one("cat"), one("dog", left=3)), torn),
        part(tmp_path / "a", image("r/1.jpg", one("dog", 1), topic="/front", frame=0), second),
        part(tmp_path / "none"),
        part(tmp_path / "c", image("s/1.jpg", one("cat", 1)), image("s/2.jpg")),
    ]


def test_everything_is_numbered_from_one(parts: list[Path], tmp_path: Path) -> None:
    totals = write_coco(parts, tmp_path / "all.json", info=INFO, categories=("cat", "dog"))
    document = json.loads((tmp_path / "all.json").read_text())
    assert totals == Totals(images=5, annotations=6, tracks=3, failures=1)
    assert document["info"] == INFO
    assert document["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert document["images"][1] == {
        "id": 2,
        "file_name": "r/1.jpg",
        "width": 6,
        "height": 4,
        "topic": "/front",
        "frame": 0,
    }
    assert [each["file_name"] for each in document["images"]] == ["1.png", "r/1.jpg", "r/2.jpg", "s/1.jpg", "s/2.jpg"]
    assert document["failures"] == [{"file_name": "2.png", "reason": "torn"}]
    described = [(a["id"], a["image_id"], a["category_id"], a.get("track_id")) for a in document["annotations"]]
    assert described == [(1, 1, 1, None), (2, 1, 2, None), (3, 2, 2, 1), (4, 3, 2, 1), (5, 3, 1, 2), (6, 4, 1, 3)]
    assert document["annotations"][1] == {
        "id": 2,
        "image_id": 1,
        "category_id": 2,
        "segmentation": one(left=3)["segmentation"],
        "bbox": [3, 1, 2, 2],
        "area": 4,
        "iscrowd": 0,
        "score": 0.5,
    }
    assert document["annotations"][5]["attributes"] == {"track_id": 3}


def test_rectangles_for_tracks(parts: list[Path], tmp_path: Path) -> None:
    write_coco(parts, tmp_path / "tracks.json", info=INFO, categories=("cat", "dog"), as_tracks=True)
    document = json.loads((tmp_path / "tracks.json").read_text())
    assert [each["image_id"] for each in document["annotations"]] == [2, 3, 3, 4], "images are numbered as in the other"
    assert document["annotations"][3] == {
        "id": 4,
        "image_id": 4,
        "category_id": 1,
        "segmentation": [],
        "bbox": [0, 1, 2, 2],
        "area": 4,
        "iscrowd": 0,
        "score": 0.5,
        "attributes": {"track_id": 3, "keyframe": True},
    }


def test_nothing_at_all_is_still_a_document(tmp_path: Path) -> None:
    assert write_coco([], tmp_path / "all.json", info={}, categories=("object",)) == Totals()
    document = json.loads((tmp_path / "all.json").read_text())
    assert (document["images"], document["annotations"], document["failures"]) == ([], [], [])


def scene(shift: int) -> Image:
    rgb = np.full((90, 120, 3), 40, np.uint8)
    rgb[20:60, 10 + shift : 50 + shift] = (220, 60, 40)
    return rgb


def test_the_bytes_do_not_depend_on_how_the_work_was_cut(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(5):
        write_image(tmp_path / "in" / f"{number}.png", scene(8 * number))
    (tmp_path / "in" / "3.png").write_text("torn")
    sources = find_sources([tmp_path / "in"], out=tmp_path / "out")
    task, documents = LabelTask(config=PipelineConfig(methods=("found",), device="cpu")), []
    for block in (1, 2, 5, 100):
        shards, folder = make_pieces(sources, block=block), tmp_path / str(block)
        assert run_here(shards, task, folder).failed == {}
        write_coco(
            [folder / s.name for s in shards], folder / "all.json", info=task.settings(), categories=task.categories
        )
        documents.append((folder / "all.json").read_bytes())
    assert len(set(documents)) == 1
    assert len(json.loads(documents[0])["images"]) == 4


@pytest.mark.parametrize("library", ["faster_coco_eval", "pycocotools"])
@pytest.mark.parametrize("method", ["found", "maskcut", "maskclip"])
def test_readers_of_coco_find_the_pipelines_masks(tmp_path: Path, method: str, library: str) -> None:
    reader = COCO if library == "faster_coco_eval" else pycocotools_coco.COCO
    prompts = ("red object", "green object") if method == "maskclip" else ()
    task = LabelTask(config=PipelineConfig(methods=(method,), prompts=prompts, device="cpu"))
    for number in range(2):
        write_image(tmp_path / f"{number}.png", scene(30 * number))
    shards = make_pieces(find_sources([tmp_path], out=tmp_path / "out"))
    run_here(shards, task, tmp_path / "out")
    path = tmp_path / "all.json"
    write_coco([tmp_path / "out" / s.name for s in shards], path, info=task.settings(), categories=task.categories)
    coco, pipeline, compared = reader(str(path)), build_pipeline(task.config), 0
    for image_id in coco.getImgIds():
        found = pipeline.run(scene(30 * (image_id - 1)))[method]
        ids = found.instances_u16()
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image_id]))
        assert len(annotations) == len(found.detections)
        for number, annotation in enumerate(annotations, start=1):
            mask = coco.annToMask(annotation)
            assert np.array_equal(mask, ids == number)
            assert annotation["area"] == mask.sum()
            label = found.detections.labels[number - 1]
            assert coco.loadCats([annotation["category_id"]])[0]["name"] == label
            compared += 1
    assert compared >= 2


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        folder = part(tmp_path / str(count), *(image(f"{i}.png", one("object", i + 1)) for i in range(count)))
        tracemalloc.start()
        write_coco([folder], tmp_path / "all.json", info={}, categories=("object",))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(5000) < peak(100) + 100_000


def lines(count: int) -> Iterator[dict[str, Any]]:
    return (image(f"{i}.png", one()) for i in range(count))


@pytest.mark.parametrize("text", ["{", '{"file_name": "a"', "\x00"])
def test_a_damaged_part_is_named_and_no_document_appears(parts: list[Path], tmp_path: Path, text: str) -> None:
    (parts[1] / "labels.jsonl").write_text(text)
    with pytest.raises(InputError, match=r"cannot read .*labels\.jsonl"):
        write_coco(parts, tmp_path / "all.json", info=INFO, categories=("cat", "dog"))
    assert not (tmp_path / "all.json").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_older_document_stays_until_the_new_one_is_whole(parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "all.json").write_text("old")
    (parts[3] / "labels.jsonl").unlink()
    with pytest.raises(InputError, match="cannot read"):
        write_coco(parts, tmp_path / "all.json", info=INFO, categories=("cat", "dog"))
    assert (tmp_path / "all.json").read_text() == "old"


def test_records_are_read_one_by_one(tmp_path: Path) -> None:
    folder = part(tmp_path / "p", *lines(3))
    assert [record["file_name"] for record in read_records(folder)] == ["0.png", "1.png", "2.png"]
