"""`objloc evaluate voc07|…|ecssd`: a method on one of the papers' data sets; `objloc evaluate report`: all results."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from objloc_ros.errors import InputError
from objloc_ros.io.files import write_text

if TYPE_CHECKING:
    from objloc_ros.evaluation.report.tables import TableReport
import time
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from objloc_ros.benchmark.results import describe_machine
from objloc_ros.cli.evaluate_files import BELOW, format_metrics
from objloc_ros.cli.options import (
    add_engine_options,
    add_pipeline_options,
    dataset_parsers,
    failed_limits,
    given_dataset,
    note_count,
    parse_limits,
    parse_pipeline,
    run_shards,
)
from objloc_ros.data import Dataset
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.report.results import RESULT_FILE, parse_result
from objloc_ros.evaluation.run import BLOCKS, Evaluation, claim, cut_shards, read_images, write_result
from objloc_ros.evaluation.tasks import class_map
from objloc_ros.io.drawing import overlay
from objloc_ros.io.files import read_json
from objloc_ros.io.media import read_image
from objloc_ros.types import Image

FORMATS = ("markdown", "latex", "html")

SUFFIXES = {".md": "markdown", ".tex": "latex", ".html": "html", ".htm": "html"}
"""Which format a file's name asks for where `--format` does not say."""


def add_report_arguments(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among the kinds of evaluation."""
    parser = kinds.add_parser("report", help="tables of all results of a folder, beside the published numbers")
    parser.add_argument("folder", type=Path, help="every result.json below it is read")
    parser.add_argument("--format", choices=FORMATS, help="by the name of --out (.md, .tex, .html), else markdown")
    parser.add_argument("--out", type=Path, help="file to write; printed by default")
    parser.add_argument("--published", action="store_true", help="rows also for published methods nobody ran here")
    parser.add_argument("--json", action="store_true", help="JSON instead, for programs")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Assemble and write or print the tables.

    Returns:
        0, or 1 if some of the results could not be used; they are named in the report and on the standard error.

    Raises:
        InputError: If there is no result that can be used, or the file cannot be written.
    """
    from objloc_ros.evaluation.report.results import RESULT_FILE, find_results
    from objloc_ros.evaluation.report.tables import assemble

    if args.json and args.format is not None:
        raise InputError(f"--json and --format {args.format} are two formats: one of them")
    results, refused = find_results(args.folder)
    for path, reason in refused.items():
        print(f"objloc: not used: {path}: {reason}", file=sys.stderr)
    if not results:
        raise InputError(f"no {RESULT_FILE} that can be used below {args.folder}")
    text = _render(args)(assemble(results, refused, others=args.published))
    if args.out is None:
        print(text, end="")
    else:
        write_text(args.out, text)
    return 1 if refused else 0


def _render(args: argparse.Namespace) -> Callable[[TableReport], str]:
    from objloc_ros.evaluation.report.markup import format_latex, format_markdown, to_json

    if args.json:
        return lambda report: json.dumps(to_json(report), indent=1) + "\n"
    chosen = args.format or SUFFIXES.get(args.out.suffix.lower() if args.out else "", "markdown")
    if chosen == "html":  # the only one that needs templates
        from objloc_ros.evaluation.report.page import render_tables

        return render_tables
    return {"markdown": format_markdown, "latex": format_latex}[chosen]


TRUTH = (255, 255, 255)
"""Colour of the true outlines in pictures."""


def add_arguments(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare a command per data set."""
    for parser in dataset_parsers(kinds, "a method on this data set, from its published layout"):
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME_METHOD_BACKBONE)"
        )
        parser.add_argument("--threads", type=int, default=1, help="per block of images (default: %(default)s)")
        parser.add_argument(
            "--fail-under", action="append", default=[], metavar="METRIC=NUMBER", help=f"else status {BELOW}"
        )
        parser.add_argument("--json", action="store_true", help="print result.json instead of the table")
        add_engine_options(parser)
        add_pipeline_options(parser, several=False)
        parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Evaluate what is left to evaluate, and write and print the results.

    Returns:
        0; 1 if images could not be evaluated; 4 if a metric is below its limit.

    Raises:
        InputError: If the data set is not complete, or blocks of images failed every time.
        ParameterError: If an option is out of range, or the folder is that of another run.
    """
    limits = parse_limits(args.fail_under)
    evaluation, dataset = _opened(args)
    folder = args.out or Path("runs") / f"{args.dataset}_{evaluation.method}_{evaluation.config.backbone}"
    dataset.check()
    claim(folder, evaluation.settings())
    started = time.monotonic()
    outcome = run_shards(args, cut_shards(dataset), evaluation, folder / BLOCKS, unit="block")
    if outcome.failed:
        raise InputError(
            f"{len(outcome.failed)} blocks of images failed; what was done is kept: the same command goes on"
        )
    facts = describe_machine(None)
    result = write_result(
        folder,
        evaluation,
        dataset,
        seconds=_duration(folder, time.monotonic() - started, nothing_left=outcome.done_before == outcome.done),
        machine=f"{facts['cpu']}, {facts['cores']} cores",
    )
    _write_page(folder, evaluation, dataset, result)
    numbers = {name: value for name, value in result["metrics"].items() if isinstance(value, (int, float))}
    print(json.dumps(result, indent=1) if args.json else f"{format_metrics(numbers)}\n\nwrote {folder}/report.html")
    failed = failed_limits(numbers, limits)
    for text in failed:
        print(f"objloc: {text}", file=sys.stderr)
    return BELOW if failed else int(bool(result["failed"]))


def _duration(folder: Path, seconds: float, *, nothing_left: bool) -> float:
    """Seconds of the run: those of before, where the blocks were all there already."""
    if not nothing_left or not (folder / RESULT_FILE).exists():
        return seconds
    try:
        return parse_result(read_json(folder / RESULT_FILE)).seconds
    except InputError:  # it is written anew
        return seconds


def _opened(args: argparse.Namespace) -> tuple[Evaluation, Dataset]:
    """The evaluation that was asked for, with the data set's classes as prompts where it takes some."""
    if args.threads < 1:
        raise ParameterError(f"threads must be at least 1, got {args.threads}")
    dataset, given = given_dataset(args)
    if args.prompts is not None:
        raise ParameterError(f"the prompts are the classes of {args.dataset}: --prompts cannot be given")
    if (args.method in SEGMENTATION) != (dataset.kind == "semantic"):
        needed = ", ".join(SEGMENTATION) if dataset.kind == "semantic" else "found or a discovery method"
        raise ParameterError(f"{args.dataset} needs {needed}, got {args.method!r}")
    if dataset.kind == "semantic":
        args.prompts = "object"  # until the model has the classes themselves, which may hold commas
    if args.limit is None:
        note_count(dataset)
    config = replace(parse_pipeline(args, several=False), prompts=dataset.classes[1:])
    evaluation = Evaluation(args.dataset, args.root.absolute(), config, given, args.limit, args.threads)
    return evaluation, evaluation.open()


def _write_page(folder: Path, evaluation: Evaluation, dataset: Dataset, result: dict[str, Any]) -> None:
    """The page, whose pictures are made anew: maps are not kept for every image."""
    from objloc_ros.engine.pipeline import build_pipeline
    from objloc_ros.evaluation.report.page import write_page

    pipeline = build_pipeline(evaluation.config)
    samples = {sample.key: sample for sample in dataset.samples}

    def picture(key: str) -> Image:
        sample = samples[key]
        image = read_image(sample.image)
        found = pipeline.run(image)[evaluation.method]
        if dataset.kind == "boxes":
            canvas = overlay(image, found.mask_u8(), found.detections)
            for x1, y1, x2, y2 in dataset.boxes(sample).round().astype(int).tolist():
                cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), TRUTH, 2)
            return canvas
        truth = dataset.mask(sample)
        if dataset.kind == "saliency":
            return _outlined(overlay(image, found.mask_u8()), truth >= 128)
        return _outlined(overlay(image, class_map(found).astype(np.uint16)), (truth > 0) & (truth < 255))

    write_page(folder / "report.html", result, read_images(folder), picture)


def _outlined(canvas: Image, truth: np.ndarray) -> Image:
    contours, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, TRUTH, 2, cv2.LINE_AA)
    return canvas
