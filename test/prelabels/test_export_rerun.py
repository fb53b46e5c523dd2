"""Rerun recordings, read back by Rerun."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from rerun.chunk import RrdReader

from objloc_ros.errors import InputError
from objloc_ros.io.rle import encode
from objloc_ros.prelabels.export_rerun import write
from objloc_ros.prelabels.parts import LabelledImage

MASKS = [np.zeros((8, 12), bool) for _ in range(2)]
MASKS[0][1:4, 2:7] = True
MASKS[1][3:6, 5:9] = True


def described(number: int, label: str, track: int | None = None) -> dict[str, Any]:
    x, y, width, height = [(2, 1, 5, 3), (5, 3, 4, 3)][number]
    one = {
        "label": label,
        "score": 0.9 - number / 10,
        "bbox": [x, y, width, height],
        "segmentation": encode(MASKS[number]),
    }
    return one if track is None else one | {"track": track}


def frame(camera: str, number: int, stamp_ns: int, *objects: dict[str, Any]) -> LabelledImage:
    data = cv2.imencode(".jpg", np.full((8, 12, 3), number, np.uint8))[1].tobytes()
    return LabelledImage(camera, number, stamp_ns, "jpeg", data, list(objects))


FRAMES = [
    frame("front/image", 0, 1_700_000_000_123_456_789, described(0, "cat", 3), described(1, "dog", 70_000)),
    frame("rear/image", 0, 1_700_000_000_123_456_790, described(1, "dog")),
    frame("front/image", 1, 1_700_000_000_200_000_000),
]


def rows(path: Path, entity: str) -> list[dict[str, Any]]:
    """The rows of an entity in order of the timeline "stamp", whose nanoseconds are integers: components by name."""
    found: list[dict[str, Any]] = []
    for chunk in RrdReader(str(path)).stream().to_chunks():
        if chunk.entity_path == entity:
            batch = chunk.to_record_batch()
            columns = {name: batch.column(name) for name in batch.schema.names}
            plain = {
                name: (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_pylist()
                for name, values in columns.items()
            }
            found += [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
    return sorted(found, key=lambda row: row["stamp"])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    write(tmp_path / "run.rrd", iter(FRAMES))
    return tmp_path / "run.rrd"


def column(row: dict[str, Any], name: str) -> Any:
    (value,) = [value for key, value in row.items() if key.endswith(name)]
    return value


def test_cameras_and_their_parts(recording: Path) -> None:
    entities = {str(chunk.entity_path) for chunk in RrdReader(str(recording)).stream().to_chunks()}
    expected = {f"/{camera}/image/image{part}" for camera in ("front", "rear") for part in ("", "/boxes", "/masks")}
    assert entities == expected
    (entry,) = RrdReader(str(recording)).recordings()
    assert (entry.application_id, entry.recording_id) == ("objloc_ros", "run")


def test_images_are_the_compressed_bytes_at_their_stamps(recording: Path) -> None:
    front = rows(recording, "/front/image/image")
    assert [row["stamp"] for row in front] == [FRAMES[0].stamp_ns, FRAMES[2].stamp_ns]
    assert [row["frame"] for row in front] == [0, 1]
    assert [bytes(column(row, ":blob")[0]) for row in front] == [FRAMES[0].data, FRAMES[2].data]
    assert column(front[0], ":media_type") == ["image/jpeg"]


def test_boxes_with_captions_and_numbers(recording: Path) -> None:
    first, last = rows(recording, "/front/image/image/boxes")
    centers, halves = np.array(column(first, ":centers")), np.array(column(first, ":half_sizes"))
    assert np.hstack([centers - halves, 2 * halves]).tolist() == [[2, 1, 5, 3], [5, 3, 4, 3]]
    assert column(first, ":labels") == ["cat 3: 0.90", "dog 70000: 0.80"]
    assert column(first, ":class_ids") == [3, (70_000 - 1) % 65535 + 1]
    assert column(last, ":is_recursive") == [False], "where nothing was found, the boxes of before go"
    (rear,) = rows(recording, "/rear/image/image/boxes")
    assert (column(rear, ":labels"), column(rear, ":class_ids")) == (["dog: 0.80"], [1])


def test_masks_have_the_numbers_of_the_boxes(recording: Path) -> None:
    first, _ = rows(recording, "/front/image/image/masks")
    (form,) = column(first, ":format")
    assert (form["width"], form["height"]) == (12, 8)
    pixels = np.frombuffer(bytes(column(first, ":buffer")[0]), np.uint16).reshape(8, 12)
    expected = np.zeros((8, 12), np.uint16)
    expected[MASKS[1]] = (70_000 - 1) % 65535 + 1
    expected[MASKS[0]] = 3
    assert np.array_equal(pixels, expected), "the better object is on top"


def test_a_recording_of_nothing_can_be_opened(tmp_path: Path) -> None:
    write(tmp_path / "empty.rrd", iter(()))
    assert list(RrdReader(str(tmp_path / "empty.rrd")).recordings()) == []


def test_many_frames(tmp_path: Path) -> None:
    write(tmp_path / "long.rrd", (frame("a", n, n * 1000, described(0, "cat")) for n in range(50)))
    images = rows(tmp_path / "long.rrd", "/a/image")
    assert [(row["frame"], row["stamp"]) for row in images] == [(n, n * 1000) for n in range(50)]


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    def frames() -> Iterator[LabelledImage]:
        yield FRAMES[0]
        raise InputError("cannot read b.jpg")

    with pytest.raises(InputError, match=r"cannot read b\.jpg"):
        write(tmp_path / "run.rrd", frames())
