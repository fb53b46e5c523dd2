"""`objloc evaluate voc07|…|ecssd`: a method on one of the papers' data sets; `objloc evaluate report`: all results."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from objloc_ros.benchmark.results import describe_machine
from objloc_ros.cli.dataset_options import add_dataset_parsers, parse_dataset, warn_of_count
from objloc_ros.cli.evaluate_files import BELOW, format_metrics
from objloc_ros.cli.options import (
    add_engine_options,
    add_pipeline_options,
    find_failed_limits,
    parse_limits,
    parse_pipeline,
    run_shards,
)
from objloc_ros.data import Dataset
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.report.results import RESULT_FILE, parse_result
from objloc_ros.evaluation.run import BLOCKS, Evaluation, claim, cut_shards, read_images, write_result
from objloc_ros.evaluation.tasks import class_map
from objloc_ros.io.drawing import OUTLINE_COLOUR, draw_outline, overlay
from objloc_ros.io.files import read_json, write_text
from objloc_ros.io.media import read_image
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.types import Image

if TYPE_CHECKING:
    from objloc_ros.evaluation.report.tables import TableReport

FORMATS = ("markdown", "latex", "html")

SUFFIXES = {".md": "markdown", ".tex": "latex", ".html": "html", ".htm": "html"}
"""Format by the suffix of `--out`, unless `--format` names one."""


def add_arguments(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare a command per data set."""
    for parser in add_dataset_parsers(kinds, "a method on this data set, from its published layout"):
        parser.add_argument(
            "--out", type=Path, metavar="DIR", help="folder of the run (default: runs/NAME_METHOD_BACKBONE)"
        )
        parser.add_argument("--threads", type=int, default=1, help="threads per block of images (default: %(default)s)")
        parser.add_argument(
            "--fail-under",
            action="append",
            default=[],
            metavar="METRIC=NUMBER",
            help=f"exit with status {BELOW} if the metric is below",
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
        InputError: The data set is not complete, or blocks of images failed every time.
        ParameterError: An option is out of range, or the folder is that of another run.
    """
    limits = parse_limits(args.fail_under)
    evaluation, dataset = _parse_evaluation(args)
    folder = (
        args.out
        or Path("runs") / f"{args.dataset}_{evaluation.method}_{evaluation.config.name_network(evaluation.method)}"
    )
    dataset.check()
    claim(folder, evaluation.settings())
    started = time.monotonic()
    outcome = run_shards(args, cut_shards(dataset), evaluation, folder / BLOCKS, unit="block")
    if outcome.failed:
        raise InputError(
            f"{len(outcome.failed)} blocks of images failed; what was done is kept: the same command continues"
        )
    facts = describe_machine(None)
    result = write_result(
        folder,
        evaluation,
        dataset,
        seconds=_choose_duration(folder, time.monotonic() - started, nothing_left=outcome.done_before == outcome.done),
        machine=f"{facts['cpu']}, {facts['cores']} cores",
    )
    _write_page(folder, evaluation, dataset, result)
    numbers = {name: value for name, value in result["metrics"].items() if isinstance(value, (int, float))}
    print(json.dumps(result, indent=1) if args.json else f"{format_metrics(numbers)}\n\nwrote {folder}/report.html")
    failed = find_failed_limits(numbers, limits)
    for text in failed:
        print(sanitize_line(f"objloc: {text}"), file=sys.stderr)
    return BELOW if failed else int(bool(result["failed"]))


def _choose_duration(folder: Path, seconds: float, *, nothing_left: bool) -> float:
    """Choose the seconds of the run: those of an earlier run if it has left all blocks."""
    if not nothing_left or not (folder / RESULT_FILE).exists():
        return seconds
    try:
        return parse_result(read_json(folder / RESULT_FILE)).seconds
    except InputError:  # it will be written again
        return seconds


def _parse_evaluation(args: argparse.Namespace) -> tuple[Evaluation, Dataset]:
    """Parse the evaluation, with the data set's classes as prompts if the method has prompts, and open the data set."""
    if args.threads < 1:
        raise ParameterError(f"threads must be at least 1, got {args.threads}")
    dataset, given = parse_dataset(args)
    if args.prompts is not None:
        raise ParameterError(f"the prompts are the classes of {args.dataset}: --prompts cannot be given")
    if (args.method in SEGMENTATION) != (dataset.kind == "semantic"):
        needed = ", ".join(SEGMENTATION) if dataset.kind == "semantic" else "found or a discovery method"
        raise ParameterError(f"{args.dataset} needs {needed}, got {args.method!r}")
    if dataset.kind == "semantic":
        args.prompts = "object"  # replaced below by the classes, which may contain commas
    if args.limit is None:
        warn_of_count(dataset)
    config = replace(parse_pipeline(args, several=False), prompts=dataset.classes[1:])
    evaluation = Evaluation(args.dataset, args.root.absolute(), config, given, args.limit, args.threads)
    return evaluation, evaluation.open()


def _write_page(folder: Path, evaluation: Evaluation, dataset: Dataset, document: dict[str, Any]) -> None:
    """Write the page; its pictures are predicted again, because maps are not kept for every image."""
    from objloc_ros.engine.pipeline import build_pipeline
    from objloc_ros.evaluation.report.page import write_page

    pipeline = build_pipeline(evaluation.config)
    samples = {sample.key: sample for sample in dataset.samples}

    def draw(key: str) -> Image:
        sample = samples[key]
        image = read_image(sample.image)
        result = pipeline.run(image)[evaluation.method]
        if dataset.kind == "boxes":
            canvas = overlay(image, result.mask_u8(), result.detections)
            for x1, y1, x2, y2 in dataset.boxes(sample).round().astype(int).tolist():
                cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), OUTLINE_COLOUR, 2)
            return canvas
        truth = dataset.mask(sample)
        if dataset.kind == "saliency":
            return draw_outline(overlay(image, result.mask_u8()), truth >= 128)
        return draw_outline(overlay(image, class_map(result).astype(np.uint16)), (truth > 0) & (truth < 255))

    write_page(folder / "report.html", document, read_images(folder), draw)


def add_report_arguments(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among the kinds of evaluation."""
    parser = kinds.add_parser("report", help="tables of all results in a folder, beside the published numbers")
    parser.add_argument("folder", type=Path, help="folder; every result.json below it is read")
    parser.add_argument(
        "--format", choices=FORMATS, help="format (default: by the name of --out (.md, .tex, .html), else markdown)"
    )
    parser.add_argument("--out", type=Path, help="file to write (default: print)")
    parser.add_argument(
        "--published", action="store_true", help="also rows of published methods that have no result here"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.set_defaults(run=run_report)


def run_report(args: argparse.Namespace) -> int:
    """Assemble and write or print the tables.

    Returns:
        0; 1 if some of the results could not be used, which the report and the standard error name.

    Raises:
        InputError: There is no usable result, or the file cannot be written.
    """
    from objloc_ros.evaluation.report.results import find_results
    from objloc_ros.evaluation.report.tables import assemble

    if args.json and args.format is not None:
        raise InputError(f"--json and --format {args.format} are two formats: choose one of them")
    results, refused = find_results(args.folder)
    for path, reason in refused.items():
        print(sanitize_line(f"objloc: not used: {path}: {reason}"), file=sys.stderr)
    if not results:
        raise InputError(f"there is no usable {RESULT_FILE} below {args.folder}")
    text = _choose_format(args)(assemble(results, refused, others=args.published))
    if args.out is None:
        print(text, end="")
    else:
        write_text(args.out, text)
    return 1 if refused else 0


def _choose_format(args: argparse.Namespace) -> Callable[[TableReport], str]:
    from objloc_ros.evaluation.report.markup import format_latex, format_markdown, to_json

    if args.json:
        return lambda report: json.dumps(to_json(report), indent=1) + "\n"
    name = args.format or SUFFIXES.get(args.out.suffix.lower() if args.out else "", "markdown")
    if name == "html":  # the only format that needs templates
        from objloc_ros.evaluation.report.page import render_tables

        return render_tables
    return {"markdown": format_markdown, "latex": format_latex}[name]
