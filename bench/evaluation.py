"""How long the metrics take at the size of the papers' data sets, from files, as `objloc evaluate` reads them.

    python bench/evaluation.py            5,000 and 20,000 images of boxes, 100 class maps and 50 saliency maps
    python bench/evaluation.py --smoke    a hundredth of it

Each row is one call of the command inside this process, the files' reading and checking included, imports not; it is
made twice, and the second counts. "metric alone" is the computation on what was read.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from harness import machine, wall_ms, write_json

from objloc_ros.cli.main import main as objloc
from objloc_ros.data.coco_document import read_predictions, read_truth, select_best_boxes
from objloc_ros.metrics import CorLoc, average_precision

SIDE = 500
"""Pixels of maps and images."""

CLASSES = 81


@dataclass(frozen=True)
class CommandTiming:
    """One measurement.

    Args:
        name: What was measured.
        seconds: From files to printed numbers.
        alone: Seconds of the metric itself, None where it cannot be told from the reading.
        aim: Seconds that the project aims at, None without an aim.
    """

    name: str
    seconds: float
    alone: float | None
    aim: float | None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    part = 100 if args.smoke else 1
    about = machine()
    print(about)
    rows: list[CommandTiming] = []
    with tempfile.TemporaryDirectory() as scratch:
        for measure in (_corloc, _coco, _miou, _saliency):
            rows.append(measure(Path(scratch, measure.__name__), part))
            print(line(rows[-1]), flush=True)
    if args.json is not None:
        write_json(args.json, machine=about, rows=rows)


def _corloc(folder: Path, part: int) -> CommandTiming:
    images = 5000 // part
    truth, answers = write_boxes(folder, images, per_image=1)
    known = read_truth(truth)
    best, boxes = select_best_boxes(read_predictions(answers, known)), known.boxes()

    def alone() -> None:
        CorLoc().update([best.get(key) for key in boxes], list(boxes.values()))

    return CommandTiming(f"CorLoc, {images} images", _command("corloc", answers, truth), _seconds(alone), 1.0 / part)


def _coco(folder: Path, part: int) -> CommandTiming:
    images = 20_000 // part
    truth, answers = write_boxes(folder, images, per_image=3)
    known = read_truth(truth)
    alone = functools.partial(average_precision, known.document, read_predictions(answers, known))
    name = f"COCO AP, {images} images of 3 boxes"
    return CommandTiming(name, _command("coco", answers, truth), _seconds(alone), 30.0 / part)


def _miou(folder: Path, part: int) -> CommandTiming:
    images = max(100 // part, 2)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, CLASSES, (images, 10, 10), np.uint8)
    truth = write_maps(folder / "truth", coarse)
    answers = write_maps(folder / "answers", np.where(rng.random(coarse.shape) < 0.3, 0, coarse).astype(np.uint8))
    seconds = _command("miou", answers, truth, "--classes", str(CLASSES))
    return CommandTiming(f"mIoU, {images} images of {SIDE}x{SIDE}, {CLASSES} classes", seconds, None, images / 20)


def _saliency(folder: Path, part: int) -> CommandTiming:
    images = max(50 // part, 2)
    rng = np.random.default_rng(0)
    coarse = np.where(rng.random((images, 10, 10)) < 0.3, 255, 0).astype(np.uint8)
    truth = write_maps(folder / "truth", coarse)
    answers = write_maps(folder / "answers", np.where(rng.random(coarse.shape) < 0.2, 128, coarse).astype(np.uint8))
    return CommandTiming(
        f"saliency, {images} images of {SIDE}x{SIDE}", _command("saliency", answers, truth), None, None
    )


def write_boxes(folder: Path, images: int, per_image: int) -> tuple[Path, Path]:
    """COCO files of true boxes and of answers near them: paths of both."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    corners = rng.integers(0, SIDE // 2, (images * per_image, 2))
    sides = rng.integers(SIDE // 10, SIDE // 2, (images * per_image, 2))
    truth = np.concatenate([corners, sides], 1)
    answers = np.maximum(truth + rng.integers(-30, 31, truth.shape), 1)
    records = [
        {"id": i + 1, "image_id": i // per_image + 1, "category_id": 1, "bbox": box, "area": box[2] * box[3]}
        for i, box in enumerate(truth.tolist())
    ]
    document = {
        "images": [{"id": i + 1, "file_name": f"{i}.jpg", "width": SIDE, "height": SIDE} for i in range(images)],
        "annotations": [{**record, "iscrowd": 0} for record in records],
        "categories": [{"id": 1, "name": "object"}],
    }
    found: list[dict[str, Any]] = [
        {"image_id": record["image_id"], "category_id": 1, "bbox": box, "score": score}
        for record, box, score in zip(records, answers.tolist(), rng.random(len(records)).tolist(), strict=True)
    ]
    paths = folder / "truth.json", folder / "answers.json"
    for path, content in zip(paths, (document, found), strict=True):
        path.write_text(json.dumps(content))
    return paths


def write_maps(folder: Path, coarse: np.ndarray) -> Path:
    """PNG files of maps uint8 [n, h, w], enlarged to `SIDE` by nearest neighbours."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(coarse):
        enlarged = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        cv2.imwrite(str(folder / f"{number:04}.png"), enlarged)
    return folder


def _command(kind: str, answers: Path, truth: Path, *more: str) -> float:
    """Seconds of `objloc evaluate KIND`."""

    def call() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            status = objloc(["evaluate", kind, "--predictions", str(answers), "--ground-truth", str(truth), *more])
        if status:
            raise SystemExit(f"objloc evaluate {kind} failed with status {status}")

    return _seconds(call)


def _seconds(function: Callable[[], Any]) -> float:
    function()
    return wall_ms(function) / 1e3


def line(row: CommandTiming) -> str:
    """One row for people."""
    alone = "" if row.alone is None else f"  metric alone {row.alone:7.3f} s"
    aim = "" if row.aim is None else f"  aim {row.aim:6.2f} s"
    return f"{row.name:50}{row.seconds:8.3f} s{alone}{aim}"


if __name__ == "__main__":
    main()
