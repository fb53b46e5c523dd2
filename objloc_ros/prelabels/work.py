"""Pre-labels: what a method finds in images, videos and bags, written down for people to correct.

The work is cut into pieces (`sources.py`) that run here or on a cluster (`objloc_ros.jobs`). Each leaves
a folder with `labels.jsonl`, a line per image, and the frames that were no files before; `coco.py` joins them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from faster_coco_eval import mask as coco_mask

from objloc_ros.engine.config import Model
from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, instance_map
from objloc_ros.engine.shared_backbone import use_threads
from objloc_ros.engine.temporal import Past, Tracker
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import read_json, write_json
from objloc_ros.io.media import write_image
from objloc_ros.io.rle import encode
from objloc_ros.jobs.shards import Shard, Work
from objloc_ros.prelabels.sources import SUFFIXES, Frame, Piece, frames
from objloc_ros.types import Detections, Image, Size, size_of


def objects(found: HeadResult, tracks: Sequence[int | None]) -> list[dict[str, Any]]:
    """Describe the detections of one image as JSON values.

    Args:
        found: What a method says.
        tracks: The number of each detection's track, or None.

    Returns:
        For each detection "label", "score", "track", and of its mask "segmentation" (`io.rle.Rle`), "bbox" [x, y,
        width, height] and "area" in pixels. One whose mask has no pixel, which happens where the image is smaller than
        what the method works on, is left out: CVAT refuses a file with such a mask.
    """
    ids = np.asfortranarray(instance_map(found))
    detections = found.detections
    described = []
    for number, (label, score, track) in enumerate(zip(detections.labels, detections.scores, tracks, strict=True), 1):
        rle = encode(ids == number)
        area = int(coco_mask.area(rle))
        if area:
            bbox = [int(side) for side in coco_mask.toBbox(rle)]
            one = {"label": label, "score": round(float(score), 4), "bbox": bbox, "area": area, "segmentation": rle}
            described.append(one if track is None else one | {"track": track})
    return described


class Follower:
    """Runs one method on frames that belong together, as the nodes do: discovery with a memory, names by a tracker.

    Objects of different prompts are tracked apart, so that none takes another's number where they overlap.

    Args:
        pipeline: What runs the method.
        method: Its name.
    """

    def __init__(self, pipeline: Pipeline, method: str) -> None:
        self._pipeline, self._method = pipeline, method
        self._followed = (method,) if method in DISCOVERY else ()
        self._cameras: dict[str, Past] = {}
        self._numbers: dict[tuple[str, str, str], int] = {}

    def answer(self, image: Image, camera: str, stamp_ns: int | None) -> tuple[HeadResult, list[int]]:
        """Look at the next frame of a camera.

        Args:
            image: RGB uint8 [H, W, 3].
            camera: Whose frame it is.
            stamp_ns: When it was taken, in nanoseconds. Where time jumps, all that was known is forgotten: a bag that
                starts over, a camera that was away. None for frames without time, which follow one another.

        Returns:
            The method's result, and the number of each detection: 1, 2, ... over all cameras, never used again for
            another object.
        """
        past = self._cameras.setdefault(camera, Past(self._followed))
        if stamp_ns is not None:
            past.notice(stamp_ns)
        found: HeadResult = self._pipeline.follow(image, past.memories, (self._method,))[self._method]
        names = _names(past.trackers, found.detections, size_of(image))
        keys = [(camera, label, name) for label, name in zip(found.detections.labels, names, strict=True)]
        return found, [self._numbers.setdefault(key, len(self._numbers) + 1) for key in keys]


def _names(trackers: defaultdict[str, Tracker], detections: Detections, size: Size) -> list[str]:
    """The track of each detection; trackers of labels that are not in sight learn that, too."""
    labels = np.array(detections.labels, dtype=object)
    names = [""] * len(detections)
    for label in dict.fromkeys([*trackers, *detections.labels]):
        places = np.flatnonzero(labels == label)
        part = Detections(detections.boxes[places], detections.scores[places], (label,) * len(places))
        for place, name in zip(places, trackers[label].update(part, size), strict=True):
            names[place] = name
    return names


LABELS = "labels.jsonl"
IMAGES = "images"

Keep = Literal["frames", "all", "none"]
"""Which images are written beside the labels: frames of videos and bags, image files as well, none."""

Track = Literal["video", "all", "none"]
"""Where objects are followed: in videos and bags, among the images of a piece as well, nowhere."""


@dataclass(frozen=True, kw_only=True)
class MakePrelabels:
    """Makes the work on a `Piece`, in whatever process is to do it: loads the networks.

    Args:
        model: With one method.
        topics: Image topics to read from bags; none for all cameras.
        track: Where to follow objects.
        keep: Which images to write.
        suffix: Format of written frames, jpg or png; image files are copied as they are.
        threads: Processor threads. Floating-point sums depend on it, in their last digits.
        on_frame: Called after each frame, in the process that does the work; two makers may differ in it.

    Raises:
        ParameterError: If the model has several methods or another value is none of those.
    """

    model: Model
    topics: tuple[str, ...] = ()
    track: Track = "video"
    keep: Keep = "frames"
    suffix: str = "jpg"
    threads: int = 1
    on_frame: Callable[[], None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if len(self.model.methods) != 1:
            raise ParameterError(f"pre-labels are made by one method, got {', '.join(self.model.methods)}")
        if self.suffix not in SUFFIXES:
            raise ParameterError(f"frames are written as {' or '.join(SUFFIXES)}, got {self.suffix!r}")
        if self.threads < 1:
            raise ParameterError(f"threads must be at least 1, got {self.threads}")

    def __call__(self) -> Work:
        """Load the networks.

        Raises:
            ParameterError: If a model or the device is unknown.
            WeightsError: If weights are missing or refused.
        """
        return _Prelabeller(self)

    @property
    def method(self) -> str:
        """The method."""
        return self.model.methods[0]

    def about(self) -> dict[str, Any]:
        """What the labels depend on, as JSON values."""
        about = self.model.about(self.method) | {"tracks": self.track, "threads": self.threads}
        return about | ({"topics": list(self.topics)} if self.topics else {})

    def categories(self) -> tuple[str, ...]:
        """The labels that objects may have."""
        return self.model.prompts or ("object",)


class _Prelabeller:
    """Labels pieces with networks that are loaded once."""

    def __init__(self, make: MakePrelabels) -> None:
        self._make = make
        use_threads(make.threads)
        self._pipeline = make.model.load()

    def __call__(self, piece: Piece, target: Path) -> None:
        """Label a piece.

        Raises:
            InputError: If a video or a bag cannot be read to its end.
        """
        make = self._make
        use_threads(make.threads)
        followed = make.track == "all" or (make.track == "video" and piece.kind != "images")
        follower = Follower(self._pipeline, make.method) if followed else None
        target.mkdir()
        with (target / LABELS).open("w", encoding="utf-8") as file:
            for frame in frames(piece, make.topics, make.suffix):
                file.write(json.dumps(self._record(frame, follower)) + "\n")
                if frame.image is not None:
                    self._keep(frame, piece, target / IMAGES)
                if make.on_frame is not None:
                    make.on_frame()
            file.flush()
            os.fsync(file.fileno())

    def _record(self, frame: Frame, follower: Follower | None) -> dict[str, Any]:
        if frame.image is None:
            return {"file_name": frame.file_name, "reason": frame.problem}
        if follower is None:
            found = self._pipeline.run(frame.image, self._pipeline.methods)[self._make.method]
            described = objects(found, [None] * len(found.detections))
        else:
            described = objects(*follower.answer(frame.image, frame.camera, frame.stamp_ns))
        height, width = size_of(frame.image)
        image = {"file_name": frame.file_name, "width": width, "height": height, **frame.about}
        return image | {"objects": described}

    def _keep(self, frame: Frame, piece: Piece, folder: Path) -> None:
        """Write an image where it is to be written."""
        keep, target = self._make.keep, folder / frame.file_name
        if keep == "none" or (keep == "frames" and piece.kind == "images"):
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        if piece.kind == "images":
            shutil.copyfile(piece.root / frame.file_name, target)
        elif frame.image is not None:
            write_image(target, frame.image)


def claim(folder: Path, make: MakePrelabels, shards: Sequence[Shard]) -> None:
    """Write down what the parts in a folder are made by and of, so that none are joined that do not belong together.

    Args:
        folder: That of the parts.
        make: What makes them.
        shards: All of them.

    Raises:
        InputError: There are parts that were made with other options, or of other inputs.
    """
    plan = {
        "made with": make.about() | {"images": make.keep, "format": make.suffix},
        "made of": {shard.name: _digest(shard.input) for shard in shards},
    }
    note = folder / "plan.json"
    if note.exists() and len(os.listdir(folder)) > 1:
        before = read_json(note)
        for name, value in plan.items():
            if before.get(name) != value:
                raise InputError(
                    f"{folder} holds pre-labels {name} {_difference(before.get(name), value)}: go on with the same "
                    "command, or choose another folder"
                )
    write_json(note, plan)


def place_images(parts: Sequence[Path], folder: Path) -> None:
    """Move the images that the parts have written to one folder; those that were moved before stay.

    Raises:
        InputError: If it cannot be written.
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


def _digest(piece: Piece) -> str:
    """Stands for the names of a piece's files, of which there may be millions in all."""
    return hashlib.sha256("\0".join((str(piece.root), *piece.files)).encode(errors="surrogateescape")).hexdigest()


def _difference(before: Any, now: dict[str, Any]) -> str:
    """The first thing in which two plans differ."""
    before = before if isinstance(before, dict) else {}
    name = next(name for name in [*now, *before] if before.get(name) != now.get(name))
    if isinstance(now.get(name), str) and len(now[name]) == 64:
        return f"other inputs ({name})"
    return f"{name} {before.get(name)!r}, not {now.get(name)!r}"
