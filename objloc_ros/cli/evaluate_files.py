"""`objloc evaluate corloc|coco|clusters|saliency|miou`: files of predictions against files of truth."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros.cli.options import find_failed_limits, parse_limits
from objloc_ros.data.base import pair_maps, read_map
from objloc_ros.data.coco_document import (
    add_masks,
    read_categories,
    read_predictions,
    read_truth,
    select_best_boxes,
)
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.clusters import evaluate_clusters
from objloc_ros.io.files import write_json
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.io.tables import text_table
from objloc_ros.metrics import CorLoc, MeanIoU, Saliency, average_precision
from objloc_ros.metrics.saliency import RULES, score
from objloc_ros.metrics.semantic import confusion_matrix, resize_as_clip_diy

BELOW = 4
"""Exit status where a metric is below its limit."""

Metrics = dict[str, Any]


def add_arguments(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the evaluations."""
    boxes = "COCO results, or a document such as `objloc detect` writes"
    parser = _add(kinds, "corloc", "how often the best box hits an object", boxes, "COCO document", _measure_corloc)
    parser.add_argument(
        "--no-hard", action="store_true", help="leave out objects that are flagged difficult or truncated"
    )
    parser.add_argument("--round", action="store_true", help="round true boxes to pixels, as COCO20k's protocol does")
    parser.add_argument(
        "--without-truth",
        choices=("miss", "skip"),
        default="miss",
        help="how images without objects count (default: %(default)s)",
    )
    parser = _add(kinds, "coco", "average precision and recall", boxes, "COCO document", _measure_coco)
    parser.add_argument(
        "--iou-type", choices=("bbox", "segm"), default="bbox", help="boxes or masks (default: %(default)s)"
    )
    parser.add_argument("--per-class", action="store_true", help="tell categories apart (default: all are one)")
    parser.add_argument(
        "--no-difficult",
        action="store_true",
        help="leave out objects that are flagged difficult, as `objloc evaluate voc07` does",
    )
    what = "average precision of clusters assigned to classes"
    parser = _add(kinds, "clusters", what, boxes, "COCO document", _measure_clusters)
    parser.set_defaults(show=format_class_ap)
    names = "folder of PNGs of the same names"
    parser = _add(kinds, "saliency", "soft or hard maps", "folder of 8-bit PNGs", names, _measure_saliency)
    parser.add_argument(
        "--truth-rule",
        choices=tuple(RULES),
        default="positive",
        help="true pixels: above 0 (SelfMask, TokenCut), 255 (FOUND), from 128 on (Deep Spectral) (default: "
        "%(default)s)",
    )
    parser = _add(kinds, "miou", "class maps", "folder of PNGs of class ids", names, _measure_miou)
    parser.add_argument("--classes", type=int, required=True, help="number of classes, the background included")
    parser.add_argument(
        "--ignore", type=int, default=255, help="true value whose pixels do not count (default: %(default)s)"
    )
    parser.add_argument(
        "--convention",
        choices=("mmseg", "clip_diy"),
        default="mmseg",
        help="mmseg: full size, absent classes left out; clip_diy: shorter side 448, absent classes count as 0 "
        "(default: %(default)s)",
    )


def _add(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    what: str,
    predictions: str,
    truth: str,
    measure: Callable[[argparse.Namespace], Metrics],
) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=f"{what}, from files", description=f"{what.capitalize()}, from files.")
    parser.add_argument("--predictions", type=Path, required=True, metavar="PATH", help=predictions)
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="PATH", help=truth)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the metrics as JSON")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    parser.add_argument(
        "--fail-under",
        action="append",
        default=[],
        metavar="METRIC=NUMBER",
        help=f"exit with status {BELOW} if the metric is below the number; may be repeated",
    )
    parser.set_defaults(run=run, measure=measure, show=_format_numbers)
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure, print, and compare with the limits.

    Returns:
        0; 4 if a metric is below its limit.

    Raises:
        InputError: A file is missing, damaged or of another kind.
        ParameterError: An option is out of range.
    """
    limits = parse_limits(args.fail_under)
    metrics = args.measure(args)
    numbers = {name: value for name, value in metrics.items() if isinstance(value, (int, float))}
    failed = find_failed_limits(numbers, limits)
    if args.out is not None:
        write_json(args.out, metrics)
    print(json.dumps(metrics, indent=1) if args.json else args.show(metrics))
    for text in failed:
        print(sanitize_line(f"objloc: {text}"), file=sys.stderr)
    return BELOW if failed else 0


def _measure_corloc(args: argparse.Namespace) -> Metrics:
    truth = read_truth(args.ground_truth)
    best = select_best_boxes(read_predictions(args.predictions, truth))
    boxes = truth.boxes(no_hard=args.no_hard, rounded=args.round)
    metric = CorLoc(without_truth=args.without_truth)
    metric.update([best.get(key) for key in boxes], list(boxes.values()))
    return {"corloc": metric.compute(), "hits": metric.hits, "images": metric.images}


def _measure_coco(args: argparse.Namespace) -> Metrics:
    truth = read_truth(args.ground_truth)
    truth = truth.without_difficult() if args.no_difficult else truth
    masks = args.iou_type == "segm"
    results = read_predictions(args.predictions, truth, masks=masks)
    document = add_masks(truth, results) if masks else truth.document
    metrics = average_precision(document, results, iou_type=args.iou_type, class_agnostic=not args.per_class)
    return {**metrics, "images": len(truth.ids), "objects": len(results)}


def _measure_clusters(args: argparse.Namespace) -> Metrics:
    truth = read_truth(args.ground_truth)
    results = read_predictions(args.predictions, truth)
    figures = evaluate_clusters(truth, results, read_categories(args.predictions, results))
    return {**figures, "images": len(truth.ids), "objects": len(results)}


def _measure_saliency(args: argparse.Namespace) -> Metrics:
    metric = Saliency()
    pairs = pair_maps(args.predictions, args.ground_truth)
    for name, prediction, truth in _show_progress(pairs):
        maps = read_map(prediction) / 255, read_map(truth)
        with _locate_errors(name):
            metric.update(score(*maps, truth_rule=args.truth_rule))
    return {**metric.compute(), "images": len(pairs)}


def _measure_miou(args: argparse.Namespace) -> Metrics:
    if not 2 <= args.classes <= 255:
        raise ParameterError(f"classes must be 2 to 255, got {args.classes}")
    metric = MeanIoU(args.classes, absent="zero" if args.convention == "clip_diy" else "skip")
    pairs = pair_maps(args.predictions, args.ground_truth)
    for name, prediction, truth in _show_progress(pairs):
        maps = read_map(truth), read_map(prediction)
        if args.convention == "clip_diy":
            maps = resize_as_clip_diy(*maps)
        with _locate_errors(name):
            metric.update(confusion_matrix(*maps, args.classes, ignore=args.ignore))
    return {**metric.compute(), "images": len(pairs)}


@contextmanager
def _locate_errors(name: str) -> Iterator[None]:
    """Let errors say which image they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _show_progress(pairs: list[tuple[str, Path, Path]]) -> Iterable[tuple[str, Path, Path]]:
    return tqdm(pairs, unit="image", disable=None, leave=False, delay=1)


def _format_numbers(metrics: Metrics) -> str:
    return format_metrics({name: value for name, value in metrics.items() if isinstance(value, (int, float))})


def format_class_ap(figures: Metrics) -> str:
    """Write the average precision of each class and its cluster, a line each, and the means."""
    rows: list[tuple[object, ...]] = [("class", "cluster", "ap50", "ap")]
    for name, about in figures["classes"].items():
        if about is not None:
            rows.append((name, about["cluster"] or "none", f"{about['ap50']:.4f}", f"{about['ap']:.4f}"))
    return text_table([*rows, ("mean", "", f"{figures['ap50']:.4f}", f"{figures['ap']:.4f}")], left=2)


def format_metrics(metrics: Mapping[str, float]) -> str:
    """Write names and numbers, a line each."""
    rows = [(name, f"{value:.4f}" if isinstance(value, float) else value) for name, value in metrics.items()]
    return text_table(rows, left=1)
