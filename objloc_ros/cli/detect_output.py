"""Where `objloc detect` puts its results: pictures and records per method, and one sheet that compares the methods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros import __version__
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, InstanceResult, Result, SemanticResult
from objloc_ros.engine.segmentation import METHODS as SEGMENTATION
from objloc_ros.errors import InputError
from objloc_ros.evaluation.coco import CocoRecords
from objloc_ros.evaluation.shards import free_name
from objloc_ros.ops.contact_sheet import contact_sheet, fitted
from objloc_ros.ops.drawing import overlay
from objloc_ros.ops.legend import label_overlay
from objloc_ros.ops.media import VideoWriter, write_image
from objloc_ros.types import Detections, Image

CELL = (240, 320)
"""Height and width of a picture on the sheet in pixels."""

MOST_ROWS = 60
"""Images on the sheet; more would make a page that no viewer opens."""


class Output:
    """The pictures and records of one method, below one folder.

    Args:
        folder: Where they go.
        method: The method.
        pipeline: What runs it.
    """

    def __init__(self, folder: Path, method: str, pipeline: Pipeline) -> None:
        self.folder, self.method = folder, method
        info: dict[str, Any] = {
            "software": f"objloc_ros {__version__}",
            "method": method,
            "backbone": pipeline.backbone.name,
            "short_side": pipeline.backbone.short_side,
            "options": asdict(pipeline.options[method]),
        }
        if pipeline.labels is not None and method in SEGMENTATION:
            info["labels"] = pipeline.labels.names()
            self.records = CocoRecords(info, pipeline.labels.prompts)
        else:
            self.records = CocoRecords(info)

    def draw(self, image: Image, found: HeadResult, file_name: str, **extra: Any) -> Image:
        """Record what was found in an image, and return its picture with it drawn in."""
        self.records.add(file_name, (image.shape[0], image.shape[1]), found.detections, **extra)
        if isinstance(found, SemanticResult):
            return label_overlay(image, found.classes_u8(), found.labels.names())
        return overlay(image, _mask(found), found.detections)

    def write(self, name: str, found: HeadResult, picture: Image) -> None:
        """Write the masks and the picture of an image."""
        write_image(self.folder / f"{name}_mask.png", found.mask_u8())
        if isinstance(found, InstanceResult):
            write_image(self.folder / f"{name}_instances.png", found.instances_u16())
        if isinstance(found, SemanticResult):
            write_image(self.folder / f"{name}_labels.png", found.classes_u8())
        write_image(self.folder / f"{name}_overlay.png", picture)

    def close(self) -> None:
        """Write the records."""
        (self.folder / "detections.json").write_text(json.dumps(self.records.document(), indent=1) + "\n")


class Outputs:
    """The outputs of all methods, in folders of their own where there are several, and the sheet.

    Args:
        folder: Below which everything goes.
        pipeline: What runs the methods.
        compare: Whether to draw the sheet.
    """

    def __init__(self, folder: Path, pipeline: Pipeline, *, compare: bool) -> None:
        self.folder, self.compare = folder, compare
        several = len(pipeline.methods) > 1
        self._each = [Output(folder / m if several else folder, m, pipeline) for m in pipeline.methods]
        self._names: set[str] = set()
        self._cells: list[Image] = []
        self._captions: list[str] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folders, and write records and sheet in any case: an interrupted run keeps what it has."""
        try:
            for output in self._each:
                output.folder.mkdir(parents=True, exist_ok=True)
            try:
                yield
            finally:
                for output in self._each:
                    output.close()
                if self._cells:
                    sheet = contact_sheet(self._cells, self._captions, columns=len(self._each), cell=CELL)
                    write_image(self.folder / "compare.png", sheet)
        except OSError as error:
            raise InputError(f"cannot write to {self.folder}: {error.strerror}") from error

    def image(self, path: Path, image: Image, result: Result) -> None:
        """Take the results of an image."""
        name = self._target(path)
        for output in self._each:
            found = result[output.method]
            picture = output.draw(image, found, str(path))
            output.write(name, found, picture)
            self._compare(path, output.method, found.detections, picture)

    def video(self, path: Path, fps: float, frames: Iterator[tuple[Image, Result]]) -> Mapping[str, Sequence[int]]:
        """Take the results of a video's frames, the first frame for the sheet; returns the objects of each frame."""
        counts: dict[str, list[int]] = {output.method: [] for output in self._each}
        target = f"{self._target(path)}_overlay.mp4"
        with ExitStack() as stack:
            writers = [stack.enter_context(VideoWriter(output.folder / target, fps)) for output in self._each]
            for number, (image, result) in enumerate(frames):
                for output, writer in zip(self._each, writers, strict=True):
                    found = result[output.method]
                    picture = output.draw(image, found, str(path), frame=number)
                    writer.write(picture)
                    counts[output.method].append(len(found.detections))
                    if number == 0:
                        self._compare(path, output.method, found.detections, picture)
        return counts

    def fail(self, path: Path, reason: str) -> None:
        """Record a file that could not be used."""
        for output in self._each:
            output.records.fail(str(path), reason)

    def document(self) -> dict[str, Any]:
        """The records: of the one method, or of each by its name."""
        documents = {output.method: output.records.document() for output in self._each}
        return documents if len(documents) > 1 else next(iter(documents.values()))

    def _target(self, path: Path) -> str:
        """Choose a name for the outputs of a file, numbered where another file has the same."""
        return free_name(path.stem, self._names)

    def _compare(self, path: Path, method: str, found: Detections, picture: Image) -> None:
        if self.compare and len(self._cells) < MOST_ROWS * len(self._each):
            self._cells.append(fitted(picture, CELL))
            scores = " ".join(f"{score:.2f}" for score in found.scores)
            about = ", ".join(dict.fromkeys(found.labels)) if method in SEGMENTATION else scores
            self._captions.append(f"{method}: {about or 'nothing'} ({path.name})")


def _mask(found: HeadResult) -> npt.NDArray[np.generic]:
    return found.instances_u16() if isinstance(found, InstanceResult) else found.mask_u8()
