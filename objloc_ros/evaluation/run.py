"""A method on a data set: in blocks of images that stay when the run is killed, on one machine or on many."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from objloc_ros.data import Dataset, open_dataset
from objloc_ros.data.coco_index import fingerprint
from objloc_ros.engine.config import WEIGHTS, PipelineConfig
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.shared_backbone import use_threads
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation import tasks
from objloc_ros.evaluation.report.results import FORMAT, RESULT_FILE
from objloc_ros.io.files import read_json, write_json, write_text
from objloc_ros.io.media import read_image
from objloc_ros.jobs.shards import Shard
from objloc_ros.version import __version__

BLOCK_IMAGES = 20
"""Images per block: what a killed run loses at most."""

BLOCKS = "blocks"
SETTINGS = "run.json"
IMAGES = "images.jsonl"

FILE_OPTIONS = ("chosen", "annotations")
"""Options of data sets that are files, and no conventions of metrics."""


@dataclass(frozen=True)
class Evaluation:
    """A method on a data set: the `ShardTask` of a block of images.

    Args:
        dataset: A key of `DATASETS`.
        root: Its folder.
        options: Of the data set.
        config: With a single method.
        limit: Images, the first ones; None for all.
        threads: Processor threads for a block. Floating-point sums depend on it, in their last digits.
    """

    dataset: str
    root: Path
    config: PipelineConfig
    options: tuple[tuple[str, Any], ...] = ()
    limit: int | None = None
    threads: int = 1

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.config.methods[0]

    def open(self) -> Dataset:
        """Open the data set, with the convention of mIoU of the method's paper where it has none of its own."""
        dataset = open_dataset(self.dataset, self.root, **dict(self.options))
        if dataset.kind == "semantic" and dataset.convention is None:
            dataset = replace(dataset, convention="clip_diy" if self.method == "clip_diy" else "mmseg")
        return dataset if self.limit is None else dataset.first(self.limit)

    def load(self) -> tuple[Dataset, Pipeline]:
        """Open the data set and load the networks."""
        dataset, config = self.open(), self.config
        if dataset.kind == "semantic":
            config = replace(config, prompts=dataset.classes[1:])
        return dataset, build_pipeline(config)

    def run(self, loaded: tuple[Dataset, Pipeline], block: tuple[int, int], target: Path) -> None:
        """Write the records of a block of images, one JSON line each."""
        dataset, pipeline = loaded
        use_threads(self.threads)
        lines = []
        for sample in dataset.samples[slice(*block)]:
            about: dict[str, Any] = {"key": sample.key, "image": str(sample.image)}
            try:
                image = read_image(sample.image)
                about["precision"] = pipeline.precision
                about |= tasks.measure_image(pipeline, self.method, dataset, sample, image)
            except InputError as error:
                about["error"] = str(error)
            lines.append(json.dumps(about, allow_nan=False))
        target.write_text("".join(f"{line}\n" for line in lines))

    def settings(self) -> dict[str, Any]:
        """Return what the result depends on; a run goes on only in the folder of an equal one."""
        about = self.config.about(self.method)
        about |= {f"{name} as of": fingerprint(Path(path)) for name, path in self.options if name == "annotations"}
        return {**about, "dataset": self.dataset, **dict(self.options), "limit": self.limit, "threads": self.threads}


def cut_shards(dataset: Dataset) -> list[Shard]:
    """Cut a data set into blocks."""
    count = len(dataset.samples)
    return [Shard(f"{i:08}.jsonl", (i, min(i + BLOCK_IMAGES, count))) for i in range(0, count, BLOCK_IMAGES)]


def claim(folder: Path, settings: Mapping[str, Any]) -> None:
    """Mark a folder as that of this run.

    Args:
        folder: Where its results go.
        settings: What they depend on, as JSON values.

    Raises:
        ParameterError: If it is that of a run with other settings: the first difference is named.
    """
    settings = json.loads(json.dumps(settings))
    path = folder / SETTINGS
    if not path.exists():
        write_json(path, settings)
        return
    older = read_json(path)
    names = [name for name in {**older, **settings} if older.get(name) != settings.get(name)]
    if names:
        raise ParameterError(
            f"{folder} holds a run with {names[0]} {older.get(names[0])!r}, this one has {settings.get(names[0])!r}: "
            "choose another folder"
        )


def write_result(
    folder: Path, evaluation: Evaluation, dataset: Dataset, *, seconds: float, machine: str
) -> dict[str, Any]:
    """Read all records in the data set's order, and write `result.json` and `images.jsonl`.

    Returns:
        The document of `result.json`.

    Raises:
        InputError: If a block is missing or damaged, or no image could be evaluated.
    """
    records = list(_read_records(folder / BLOCKS, dataset))
    good = [record for record in records if "error" not in record]
    failed = [{"key": record["key"], "reason": record["error"]} for record in records if "error" in record]
    settings = evaluation.settings()
    result = {
        "format": FORMAT,
        "software": f"objloc_ros {__version__}",
        "dataset": dataset.name,
        "split": dataset.split,
        "kind": dataset.kind,
        "method": evaluation.method,
        "backbone": evaluation.config.name_network(evaluation.method),
        "precision": " or ".join(sorted({record["precision"] for record in good if "precision" in record})),
        "options": settings["options"] | _list_networks(settings),
        "images": len(good),
        "failed": failed,
        "metrics": tasks.compute_metrics(dataset, good),
        "class_names": list(dataset.classes),
        "protocol": _describe_protocol(evaluation, dataset),
        "seconds": round(seconds, 1),
        "machine": machine,
    }
    write_json(folder / RESULT_FILE, result)
    write_text(folder / IMAGES, "".join(json.dumps(_summarise_record(record)) + "\n" for record in records))
    return result


def read_images(folder: Path) -> list[dict[str, Any]]:
    """Read the lines of `images.jsonl`."""
    return [json.loads(line) for line in (folder / IMAGES).read_text().splitlines()]


def _describe_protocol(evaluation: Evaluation, dataset: Dataset) -> dict[str, Any]:
    """Say which of several conventions the metrics follow."""
    given = {name: value for name, value in evaluation.options if name not in FILE_OPTIONS}
    return {**given, "convention": dataset.convention} if dataset.kind == "semantic" else given


def _read_records(folder: Path, dataset: Dataset) -> Iterator[dict[str, Any]]:
    for shard in cut_shards(dataset):
        path = folder / shard.name
        try:
            records = [json.loads(line) for line in path.read_text().splitlines()]
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read the block {path}: {error}; remove it, and the same command makes it anew"
            ) from error
        start, stop = shard.input
        if [record["key"] for record in records] != [sample.key for sample in dataset.samples[start:stop]]:
            raise InputError(f"the block {path} is of other images; remove it, and the same command makes it anew")
        yield from records


def _summarise_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what a report needs of a record: its name and score, and the curves that are plotted."""
    curves = record.get("saliency", {})
    about = {"key": record["key"], "image": record["image"], "score": record.get("score")}
    return about | {name: curves[name] for name in ("precision", "recall") if name in curves}


def _list_networks(settings: Mapping[str, Any]) -> dict[str, Any]:
    """List what says which networks were used, where they are not the registered ones at their own size."""
    return {name: settings[name] for name in ("short_side", "clip", *WEIGHTS) if settings.get(name) is not None}
