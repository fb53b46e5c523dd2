"""Pre-labels: what a method finds in images, videos and bags, written as labels for people to correct.

The work is cut into pieces (`sources.py`) that run here or on a cluster (`objloc_ros.jobs`). Each leaves a part, a
folder with labels and the frames that were no files before (`parts.py`). Parts are joined by `coco.py`, and each can be
exported as a recording for a viewer.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.labels import list_labels
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.results import HeadResult
from objloc_ros.engine.shared_backbone import use_threads
from objloc_ros.engine.video_tracker import VideoTracker
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.media import write_image
from objloc_ros.io.rle import count_pixels, encode, find_box
from objloc_ros.jobs.shards import Shard, claim_folder
from objloc_ros.prelabels.parts import IMAGES, LABELS, LabelledImage, read_labelled_images
from objloc_ros.prelabels.sources import SUFFIXES, Piece, SourceFrame, read_frames
from objloc_ros.types import Image, size_of

KeepImages = Literal["frames", "all", "none"]
"""Which images are written beside the labels: frames of videos and bags, image files, too, or none."""

TrackObjects = Literal["video", "all", "none"]
"""Where objects are tracked: in videos and bags, among the images of a piece, too, or nowhere."""

ExportFormat = Literal["rerun", "foxglove"]

EXPORT_SUFFIXES: dict[ExportFormat, str] = {"rerun": ".rrd", "foxglove": ".mcap"}
"""How the names of exported files end."""

WriteRecording = Callable[[Path, Iterator[LabelledImage]], None]
"""Writes a recording to a path that does not exist yet."""


@dataclass(frozen=True, kw_only=True)
class LabelTask:
    """Labels the images of a piece: the `ShardTask` of a `Piece`.

    Args:
        config: With one method.
        topics: Image topics to read from bags; empty for all cameras.
        track: Where to track objects.
        keep: Which images to write.
        suffix: Format of written frames, jpg or png; image files are copied as they are.
        threads: Processor threads. Floating-point sums depend on it, in their last digits.
        on_frame: Called after each frame, in the process that runs the task; equal tasks may differ in it.

    Raises:
        ParameterError: There are several methods, or a value is out of range.
    """

    config: PipelineConfig
    topics: tuple[str, ...] = ()
    track: TrackObjects = "video"
    keep: KeepImages = "frames"
    suffix: str = "jpg"
    threads: int = 1
    on_frame: Callable[[], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.config.methods) != 1:
            raise ParameterError(f"pre-labels are made by one method, got {', '.join(self.config.methods)}")
        if self.suffix not in SUFFIXES:
            raise ParameterError(f"frames are written as {' or '.join(SUFFIXES)}, got {self.suffix!r}")
        if self.threads < 1:
            raise ParameterError(f"threads must be at least 1, got {self.threads}")

    @property
    def method(self) -> str:
        """The method."""
        return self.config.methods[0]

    @property
    def categories(self) -> tuple[str, ...]:
        """The labels that objects may have."""
        return list_labels(self.config, self.method)

    def settings(self) -> dict[str, Any]:
        """What the labels depend on, as JSON values."""
        settings = self.config.about(self.method) | {"tracks": self.track, "threads": self.threads}
        return settings | ({"topics": list(self.topics)} if self.topics else {})

    def load(self) -> Pipeline:
        """Load the networks.

        Raises:
            ParameterError: A model or the device is unknown.
            WeightsError: Weights are missing or refused.
        """
        use_threads(self.threads)
        return build_pipeline(self.config)

    def run(self, pipeline: Pipeline, piece: Piece, target: Path) -> None:
        """Label a piece.

        Args:
            pipeline: What `load` has returned.
            piece: What to label.
            target: Folder of the part to make.

        Raises:
            InputError: A video or a bag cannot be read to its end.
        """
        use_threads(self.threads)
        tracks = self.track == "all" or (self.track == "video" and piece.kind != "images")
        trackers = CameraTrackers(pipeline, self.method) if tracks else None
        target.mkdir()
        with (target / LABELS).open("w", encoding="utf-8") as file:
            for frame in read_frames(piece, self.topics, self.suffix):
                file.write(json.dumps(self._label(frame, pipeline, trackers)) + "\n")
                self._write_image(frame, piece, target / IMAGES)
                if self.on_frame is not None:
                    self.on_frame()
            file.flush()
            os.fsync(file.fileno())

    def _label(self, frame: SourceFrame, pipeline: Pipeline, trackers: CameraTrackers | None) -> dict[str, Any]:
        """Make a frame's line of the labels."""
        if frame.image is None:
            return {"file_name": frame.file_name, "reason": frame.problem}
        if trackers is None:
            result = pipeline.run(frame.image)[self.method]
        else:
            result = trackers(frame.image, frame.camera, frame.stamp_ns)
        height, width = size_of(frame.image)
        about = {"file_name": frame.file_name, "width": width, "height": height, **frame.about}
        return about | {"objects": describe_objects(result)}

    def _write_image(self, frame: SourceFrame, piece: Piece, folder: Path) -> None:
        """Write a frame's image, if it is to be kept."""
        if frame.image is None or self.keep == "none" or (self.keep == "frames" and piece.kind == "images"):
            return
        target = folder / frame.file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        if piece.kind == "images":
            shutil.copyfile(piece.root / frame.file_name, target)
        else:
            write_image(target, frame.image)


class CameraTrackers:
    """Runs one method on the frames of several cameras, with ids that no two objects of any of them share.

    Args:
        pipeline: What runs the method.
        method: Its name.
    """

    def __init__(self, pipeline: Pipeline, method: str) -> None:
        self._method = method
        self._trackers = defaultdict[str, VideoTracker](lambda: VideoTracker(pipeline, (method,)))
        self._ids: dict[tuple[str, str], str] = {}

    def __call__(self, image: Image, camera: str, stamp_ns: int | None) -> HeadResult:
        """Run the method on the next frame of a camera.

        Args:
            image: RGB uint8 [H, W, 3].
            camera: Whose frame it is.
            stamp_ns: When it was taken, nanoseconds; None for frames without time, which follow one another.

        Returns:
            The method's result, with ids "1", "2", ... in the order in which objects appeared.
        """
        result = self._trackers[camera](image, stamp_ns)[self._method]
        own_ids = result.detections.ids or ()
        ids = (self._ids.setdefault((camera, own_id), str(len(self._ids) + 1)) for own_id in own_ids)
        return result.with_ids(tuple(ids))


def describe_objects(result: HeadResult) -> list[dict[str, Any]]:
    """Describe the detections of one image as JSON values.

    Returns:
        For each detection "label", "score", "track" where it has an id, and of its mask "segmentation" (`io.rle.Rle`),
        "bbox" [x, y, width, height] and "area" in pixels. A detection whose mask has no pixel, as in images
        smaller than the method's input, is left out: CVAT refuses a file with such a mask.
    """
    instances = np.asfortranarray(result.instances_u16())
    labels, scores, ids = result.detections.labels, result.detections.scores, result.detections.ids
    described = []
    for number, (label, score) in enumerate(zip(labels, scores, strict=True), 1):
        rle = encode(instances == number)
        area = count_pixels(rle)
        if area:
            bbox = [int(side) for side in find_box(rle)]
            about = {"label": label, "score": round(float(score), 4), "bbox": bbox, "area": area, "segmentation": rle}
            described.append(about if ids is None else about | {"track": int(ids[number - 1])})
    return described


@dataclass(frozen=True)
class ExportTask:
    """Writes a part as a recording in a viewer's format: the `ShardTask` of a pair of folders, a part and its images.

    Args:
        format: Name of the viewer.
    """

    format: ExportFormat

    def make_shard(self, part: Path, images: Path) -> Shard:
        """Make the shard of a part whose images lie below a folder."""
        return Shard(part.name + EXPORT_SUFFIXES[self.format], (part, images))

    def load(self) -> WriteRecording:
        """Load the viewer's library."""
        if self.format == "rerun":
            from objloc_ros.prelabels import export_rerun

            return export_rerun.write
        from objloc_ros.prelabels import export_foxglove

        return export_foxglove.write

    def run(self, write: WriteRecording, folders: tuple[Path, Path], target: Path) -> None:
        """Export a part.

        Args:
            write: What `load` has returned.
            folders: The part and the folder of its images.
            target: The recording to write.
        """
        write(target, read_labelled_images(*folders))


def claim_parts(folder: Path, task: LabelTask, shards: Sequence[Shard]) -> None:
    """Write down how and of what the parts in a folder are made, so that only parts that belong together are joined.

    Args:
        folder: That of the parts.
        task: What makes them.
        shards: All of them.

    Raises:
        InputError: There are parts that were made with other options, or of other inputs.
    """
    plan = {
        "made with": task.settings() | {"images": task.keep, "format": task.suffix},
        "made of": {shard.name: _hash_names(shard.input) for shard in shards},
    }
    claim_folder(folder, plan, holds="pre-labels")


def move_images(parts: Sequence[Path], folder: Path) -> None:
    """Move the images of the parts to one folder; images that were moved before stay.

    Raises:
        InputError: The folder cannot be written.
    """
    try:
        for part in parts:
            for where, _, files in os.walk(part / IMAGES):
                target = folder / Path(where).relative_to(part / IMAGES)
                target.mkdir(parents=True, exist_ok=True)
                for name in files:
                    Path(where, name).replace(target / name)
            shutil.rmtree(part / IMAGES, ignore_errors=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error}") from error


def _hash_names(piece: Piece) -> str:
    """Hash the names of a piece's files, of which there may be millions in all."""
    return hashlib.sha256("\0".join((str(piece.root), *piece.files)).encode(errors="surrogateescape")).hexdigest()
