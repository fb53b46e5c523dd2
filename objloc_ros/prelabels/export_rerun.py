"""Pre-labels as a Rerun recording (.rrd): images, masks and boxes of each camera over time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rerun as rr
from rerun.chunk import Chunk, LazyChunkStream

from objloc_ros.prelabels.recording import Labelled

APPLICATION = "objloc_ros"

END_MARK = b"RRF2FOOT"
END = 12
"""Length of what the mark stands in, at the end of the file."""


def write(path: Path, frames: Iterator[Labelled]) -> None:
    """Write a recording.

    Per camera, on the timelines "stamp" (the image's time) and "frame" (its place): `CAMERA/image` as an EncodedImage,
    `CAMERA/image/masks` as a SegmentationImage and `CAMERA/image/boxes` as Boxes2D with captions. Masks and boxes have
    the object's number as class id, which gives them one colour: its track, or its place in an image that is alone.

    Args:
        path: The file; not there yet.
        frames: What is recorded, in any order of time.

    Raises:
        OSError: If the disk is full.
    """
    problem: list[Exception] = []
    chunks = LazyChunkStream.from_iter(_chunks(frames, problem))
    try:
        chunks.write_rrd(path, application_id=APPLICATION, recording_id=path.stem)
    except RuntimeError as error:
        raise OSError(f"Rerun could not write: {error}") from error
    if problem:
        raise problem[0]
    _check_end(path)


def _chunks(frames: Iterator[Labelled], problem: list[Exception]) -> Iterator[Chunk]:
    """What Rerun asks for one by one; an error of ours ends it and is kept, as Rerun would only tell its text."""
    try:
        for frame in frames:
            yield from _frame(frame)
    except Exception as error:  # noqa: BLE001 whatever it is, it is raised again
        problem.append(error)


def _check_end(path: Path) -> None:
    """Find the mark that ends a recording: Rerun only logs that it could not write the last bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        file.seek(max(0, path.stat().st_size - END))
        if END_MARK not in file.read():
            raise OSError("Rerun could not write the end of the recording")


def _frame(frame: Labelled) -> Iterator[Chunk]:
    times = [
        rr.TimeColumn("stamp", timestamp=np.array([frame.stamp_ns], "datetime64[ns]")),
        rr.TimeColumn("frame", sequence=[frame.number]),
    ]

    def chunk(place: str, what: rr.AsComponents) -> Chunk:
        batches = what.as_component_batches()
        columns = [batch.partition([len(batch.as_arrow_array())]) for batch in batches]
        return Chunk.from_columns(f"{frame.camera}/{place}", times, columns)

    yield chunk("image", rr.EncodedImage(contents=frame.data, media_type=f"image/{frame.format}"))
    ids = [_class_id(one.get("track", place)) for place, one in enumerate(frame.objects, start=1)]
    if not ids:  # the viewer would go on showing those of the frame before
        yield chunk("image/masks", rr.Clear(recursive=False))
        yield chunk("image/boxes", rr.Clear(recursive=False))
        return
    yield chunk("image/masks", rr.SegmentationImage(_painted(frame, ids)))
    boxes = np.array([one["bbox"] for one in frame.objects], np.float32)
    captions = [frame.caption(one) for one in frame.objects]
    form = rr.Box2DFormat.XYWH
    yield chunk("image/boxes", rr.Boxes2D(array=boxes, array_format=form, labels=captions, class_ids=ids))


def _painted(frame: Labelled, ids: list[int]) -> npt.NDArray[np.uint16]:
    """Class ids in a picture, uint16 [H, W], 0 where there is no object; the best object is on top."""
    masks = [frame.mask(one) for one in frame.objects]
    painted = np.zeros(masks[0].shape, np.uint16)
    for number, mask in reversed(list(zip(ids, masks, strict=True))):
        painted[mask] = number
    return painted


def _class_id(number: int) -> int:
    """Rerun's class ids have 16 bits, and 0 is the ground."""
    return (number - 1) % 65535 + 1
