"""The results of evaluation runs, read from their folders and checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as short
from typing import Any

from objloc_ros.errors import InputError
from objloc_ros.io.files import is_number, read_json

FORMAT = "objloc_ros evaluation 1"
RESULT_FILE = "result.json"

_TEXTS = ("dataset", "split", "kind", "method", "backbone")
_MAPPINGS = ("options", "metrics", "protocol")


@dataclass(frozen=True)
class RunResult:
    """What one evaluation run measured.

    Args:
        dataset: Name of the data set.
        split: Its split, "" if it has none.
        kind: What its truth is: "boxes", "saliency" or "semantic".
        method: Name of the method.
        backbone: Name of the backbone.
        images: Number of images that the metrics are of.
        metrics: Finite numbers by metric, mostly fractions in [0, 1].
        options: Options of the method.
        protocol: Which of several conventions the metrics follow.
        failed: Why, by the key of each image that failed.
        seconds: Duration of the run.
        machine: Where it ran, in words.
        software: What ran.
        per_class: Intersection over union by class name, None for a class that is in no image; empty without classes.
        folder: Where the result was found, for people; "" for one that was in no file.
    """

    dataset: str
    split: str
    kind: str
    method: str
    backbone: str
    images: int
    metrics: Mapping[str, float]
    options: Mapping[str, Any] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    machine: str = ""
    software: str = ""
    per_class: Mapping[str, float | None] = field(default_factory=dict)
    folder: str = ""


def parse_result(document: Any, folder: str = "") -> RunResult:
    """Check the document of a run's `result.json`.

    Args:
        document: As JSON has it. Beside the numbers, "metrics" may hold "per_class": IoU or null by class name, or as
            a list in the order of the document's "class_names".
        folder: Where it was found.

    Raises:
        InputError: If it is of another format, or a field is missing or not what it should be; the field is named.
    """
    if not isinstance(document, Mapping) or document.get("format") != FORMAT:
        said = document.get("format") if isinstance(document, Mapping) else document
        raise InputError(f"format must be {FORMAT!r}, got {short(said)}")
    texts = {name: _get_typed(document, name, str) for name in _TEXTS}
    mappings = {name: _get_typed(document, name, Mapping) for name in _MAPPINGS}
    images, seconds = document.get("images"), document.get("seconds", 0.0)
    if isinstance(images, bool) or not isinstance(images, int) or images < 0:
        raise InputError(f"images must be a whole number of at least 0, got {short(images)}")
    if not is_number(seconds) or seconds < 0:
        raise InputError(f"seconds must be a number of at least 0, got {short(seconds)}")
    numbers = dict(mappings["metrics"])
    per_class = _parse_per_class(numbers.pop("per_class", {}), document.get("class_names"))
    metrics = {name: value for name, value in _parse_numbers(numbers, "metrics").items() if value is not None}
    return RunResult(
        **texts,
        images=images,
        metrics=metrics,
        options=mappings["options"],
        protocol=mappings["protocol"],
        failed=_parse_failures(document.get("failed", [])),
        seconds=float(seconds),
        machine=str(document.get("machine", "")),
        software=str(document.get("software", "")),
        per_class=per_class,
        folder=folder,
    )


def find_results(folder: Path) -> tuple[list[RunResult], dict[str, str]]:
    """Read every `result.json` below a folder, except in hidden folders: those hold what is not whole yet.

    Returns:
        The results in the order of their paths, and by its path what is wrong with each file or folder that could not
        be used.

    Raises:
        InputError: If it is not a folder.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    results: list[RunResult] = []
    paths, refused = _find_files(folder)
    for path in paths:
        try:
            results.append(parse_result(read_json(path), path.parent.relative_to(folder).as_posix()))
        except InputError as error:
            refused[path.relative_to(folder).as_posix()] = str(error)
    return results, refused


def _find_files(folder: Path) -> tuple[list[Path], dict[str, str]]:
    """Find the result files below a folder, and the folders that cannot be read."""
    found: list[Path] = []
    refused: dict[str, str] = {}

    def refuse(error: OSError) -> None:
        refused[Path(error.filename).relative_to(folder).as_posix()] = f"cannot be read: {error.strerror}"

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / RESULT_FILE] if RESULT_FILE in files else []
    return sorted(found), refused


def _get_typed(document: Mapping[str, Any], name: str, kind: type) -> Any:
    value = document.get(name)
    if not isinstance(value, kind):
        raise InputError(f"{name} must be {'a text' if kind is str else 'an object'}, got {short(value)}")
    return value


def _parse_per_class(values: Any, names: Any) -> dict[str, float | None]:
    if isinstance(values, list):
        names = range(len(values)) if names is None else names
        if isinstance(names, str) or not isinstance(names, Sequence) or len(names) != len(values):
            raise InputError(
                f"class_names must name the {len(values)} classes of metrics.per_class, got {short(names)}"
            )
        values = dict(zip(map(str, names), values, strict=True))
    return _parse_numbers(values, "metrics.per_class")


def _parse_numbers(values: Any, what: str) -> dict[str, float | None]:
    if not isinstance(values, Mapping):
        raise InputError(f"{what} must be an object of numbers by name, got {short(values)}")
    for name, value in values.items():
        if value is not None and not is_number(value):
            raise InputError(f"{what}.{name} must be a finite number, got {short(value)}")
    return {str(name): None if value is None else float(value) for name, value in values.items()}


def _parse_failures(entries: Any) -> dict[str, str]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) and "key" in entry for entry in entries):
        raise InputError(f'failed must be a list of {{"key", "reason"}}, got {short(entries)}')
    return {str(entry["key"]): str(entry.get("reason", "")) for entry in entries}
