"""MCAP files for Foxglove, read back by another library through the message definitions that are in them."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
from rerun.chunk import McapReader

from objloc_ros.errors import InputError
from objloc_ros.io.rle import encode
from objloc_ros.prelabels.export_foxglove import write
from objloc_ros.prelabels.parts import LabelledImage

S = 1_000_000_000
MASK = np.zeros((40, 60), bool)
MASK[10:20, 5:25] = True
HOLE = MASK.copy()
HOLE[13:16, 10:14] = False


def described(mask: np.ndarray, track: int | None = None) -> dict[str, Any]:
    one = {"label": "cat", "score": 0.75, "bbox": [5, 10, 20, 10], "segmentation": encode(mask)}
    return one if track is None else one | {"track": track}


def frame(camera: str, stamp_ns: int, *objects: dict[str, Any]) -> LabelledImage:
    data = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    return LabelledImage(camera, 0, stamp_ns, "png", data, list(objects))


FRAMES = [
    frame("front/image", 1_700_000_000 * S + 5, described(MASK, 3)),
    frame("rear/image/compressed", 1_700_000_000 * S + 6, described(HOLE), described(MASK)),
    frame("front/image", 1_700_000_000 * S + 7),
    frame("front/image", 1_699_999_999 * S),
]


def messages(path: Path, topic: str) -> list[tuple[int, dict[str, Any]]]:
    """Log time in nanoseconds and message of a topic, in order of the file."""
    found: list[tuple[int, dict[str, Any]]] = []
    for chunk in McapReader(path, decoders=["protobuf"]).stream().to_chunks():
        if chunk.entity_path == topic:
            batch = chunk.to_record_batch()
            (name,) = [name for name in batch.schema.names if name.endswith(":message")]
            times = batch.column("message_log_time").cast(pa.int64()).to_pylist()
            found += zip(times, (message for (message,) in batch.column(name).to_pylist()), strict=True)
    return found


def stamp(message: dict[str, Any]) -> int:
    return message["timestamp"]["seconds"] * S + message["timestamp"]["nanos"]


def corners(line: dict[str, Any]) -> list[tuple[float, float]]:
    return [(point["x"], point["y"]) for point in line["points"]]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    write(tmp_path / "run.mcap", iter(FRAMES))
    return tmp_path / "run.mcap"


def test_topics_schemas_and_counts(recording: Path) -> None:
    info = McapReader(recording).info()
    assert {(c.topic, c.schema.name, c.schema.encoding, c.message_count) for c in info.channels} == {
        ("/front/image/compressed", "foxglove.CompressedImage", "protobuf", 3),
        ("/front/image/annotations", "foxglove.ImageAnnotations", "protobuf", 3),
        ("/rear/image/compressed", "foxglove.CompressedImage", "protobuf", 1),
        ("/rear/image/annotations", "foxglove.ImageAnnotations", "protobuf", 1),
    }


def test_images_and_annotations_have_the_same_times(recording: Path) -> None:
    expected = sorted(each.stamp_ns for each in FRAMES if each.camera == "front/image")
    for kind in ("compressed", "annotations"):
        found = messages(recording, f"/front/image/{kind}")
        assert sorted(log_ns for log_ns, _ in found) == expected
        assert all(log_ns == stamp(message) for log_ns, message in found)


def test_images_are_the_compressed_bytes(recording: Path) -> None:
    ((_, image),) = messages(recording, "/rear/image/compressed")
    assert (bytes(image["data"]), image["format"]) == (FRAMES[1].data, "png")
    assert image["frame_id"] == "rear/image/compressed"


def test_a_box_an_outline_and_a_caption_for_each_object(recording: Path) -> None:
    by_time = dict(messages(recording, "/front/image/annotations"))
    found = by_time[FRAMES[0].stamp_ns]
    box, outline = found["points"]
    assert corners(box) == [(5, 10), (25, 10), (25, 20), (5, 20)]
    assert sorted(corners(outline)) == [(5.5, 10.5), (5.5, 19.5), (24.5, 10.5), (24.5, 19.5)]
    assert box["type"] == outline["type"]
    assert "LINE_LOOP" in str(box["type"])
    assert box["outline_color"] == outline["outline_color"]
    (text,) = found["texts"]
    assert (text["text"], text["position"]) == ("cat 3: 0.75", {"x": 5.0, "y": 10.0})
    nothing = by_time[FRAMES[2].stamp_ns]
    assert not nothing["points"], "an empty message takes the boxes of before away"
    assert not nothing["texts"]


def test_a_hole_has_an_outline_and_objects_colours_of_their_own(recording: Path) -> None:
    ((_, found),) = messages(recording, "/rear/image/annotations")
    first, outer, hole, second, whole = found["points"]
    assert len(corners(hole)) >= 4
    assert {y for _, y in corners(hole)} <= {12.5, 13.5, 15.5, 16.5}
    assert first["outline_color"] == outer["outline_color"] != second["outline_color"] == whole["outline_color"]
    assert [text["text"] for text in found["texts"]] == ["cat: 0.75", "cat: 0.75"]


def test_a_file_of_nothing_can_be_opened(tmp_path: Path) -> None:
    write(tmp_path / "empty.mcap", iter(()))
    assert McapReader(tmp_path / "empty.mcap").info().message_count == 0


def test_the_same_frames_give_the_same_bytes(recording: Path, tmp_path: Path) -> None:
    write(tmp_path / "again.mcap", iter(FRAMES))
    assert (tmp_path / "again.mcap").read_bytes() == recording.read_bytes()


@contextmanager
def room(size: int) -> Iterator[None]:
    """Limits the size of files, in bytes; the kernel refuses a write in its middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:  # at once: the tests' own output may go to a file
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [300, 5_000, 200_000, 500_000])
def test_a_full_disk_is_an_error_and_no_panic(size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    frames = [LabelledImage("front", i, i * S, "png", rng.bytes(150_000), []) for i in range(6)]
    with pytest.raises(OSError, match="File too large"), room(size):
        write(tmp_path / "run.mcap", iter(frames))
    assert capfd.readouterr().err == "", "the library panics where a file that failed is not where it was told to be"


def test_what_the_frames_raise_comes_through(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def torn() -> Iterator[LabelledImage]:
        yield FRAMES[0]
        raise InputError("the second image is torn")

    with pytest.raises(InputError, match="the second image is torn"):
        write(tmp_path / "run.mcap", torn())
    assert capfd.readouterr().err == ""
