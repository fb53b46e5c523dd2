"""Pre-labels as a Rerun recording (.rrd): images, masks and boxes of each camera over time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rerun as rr
from rerun.chunk import Chunk, LazyChunkStream

from objloc_ros.prelabels.parts import LabelledImage

APPLICATION = "objloc_ros"
"""Application id of the recordings."""

END_MARK = b"RRF2FOOT"
"""What the end of every complete recording contains."""

END_BYTES = 12
"""Length of that end."""


def write(path: Path, frames: Iterator[LabelledImage]) -> None:
    """Write a recording.

    Per camera, on the timelines "stamp" (the image's time) and "frame" (its place): `CAMERA/image` as an EncodedImage,
    `CAMERA/image/masks` as a SegmentationImage and `CAMERA/image/boxes` as Boxes2D with captions. Masks and boxes have
    the object's number as class id, which gives both one colour: its track, or its index in an image without tracks.

    Args:
        path: The file, which does not exist yet.
        frames: The images and their labels, in any order of time.

    Raises:
        OSError: The disk is full.
    """
    errors: list[Exception] = []
    chunks = LazyChunkStream.from_iter(_stream_chunks(frames, errors))
    try:
        chunks.write_rrd(path, application_id=APPLICATION, recording_id=path.stem)
    except RuntimeError as error:
        raise OSError(f"Rerun could not write: {error}") from error
    if errors:
        raise errors[0]
    _check_end(path)


def _stream_chunks(frames: Iterator[LabelledImage], errors: list[Exception]) -> Iterator[Chunk]:
    """Yield what Rerun writes; an error ends it and is kept in `errors`, as Rerun would only repeat its text."""
    try:
        for frame in frames:
            yield from _make_chunks(frame)
    except Exception as error:  # noqa: BLE001 whatever it is, it is raised again
        errors.append(error)


def _check_end(path: Path) -> None:
    """Check that the recording has its end: Rerun only logs that it could not write the last bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        file.seek(max(0, path.stat().st_size - END_BYTES))
        if END_MARK not in file.read():
            raise OSError("Rerun could not write the end of the recording")


def _make_chunks(frame: LabelledImage) -> Iterator[Chunk]:
    times = [
        rr.TimeColumn("stamp", timestamp=np.array([frame.stamp_ns], "datetime64[ns]")),
        rr.TimeColumn("frame", sequence=[frame.number]),
    ]

    def make_chunk(entity: str, archetype: rr.AsComponents) -> Chunk:
        batches = archetype.as_component_batches()
        columns = [batch.partition([len(batch.as_arrow_array())]) for batch in batches]
        return Chunk.from_columns(f"{frame.camera}/{entity}", times, columns)

    yield make_chunk("image", rr.EncodedImage(contents=frame.data, media_type=f"image/{frame.format}"))
    ids = [_make_class_id(label.get("track", number)) for number, label in enumerate(frame.objects, start=1)]
    if not ids:  # otherwise the viewer would still show those of the previous frame
        yield make_chunk("image/masks", rr.Clear(recursive=False))
        yield make_chunk("image/boxes", rr.Clear(recursive=False))
        return
    yield make_chunk("image/masks", rr.SegmentationImage(_paint_ids(frame, ids)))
    boxes = np.array([label["bbox"] for label in frame.objects], np.float32)
    captions = [frame.make_caption(label) for label in frame.objects]
    box_format = rr.Box2DFormat.XYWH
    yield make_chunk("image/boxes", rr.Boxes2D(array=boxes, array_format=box_format, labels=captions, class_ids=ids))


def _paint_ids(frame: LabelledImage, ids: list[int]) -> npt.NDArray[np.uint16]:
    """Paint the class ids: uint16 [H, W], 0 where there is no object; the best object is on top."""
    masks = [frame.decode_mask(label) for label in frame.objects]
    painted = np.zeros(masks[0].shape, np.uint16)
    for class_id, mask in reversed(list(zip(ids, masks, strict=True))):
        painted[mask] = class_id
    return painted


def _make_class_id(number: int) -> int:
    """Make a class id, which has 16 bits in Rerun; 0 is the background."""
    return (number - 1) % 65535 + 1
