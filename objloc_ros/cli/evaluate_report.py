"""`objloc evaluate report`: all results of a folder as the papers' tables, beside the published numbers."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from objloc_ros.errors import InputError
from objloc_ros.ops.files import write_text

if TYPE_CHECKING:
    from objloc_ros.evaluation.report.tables import Report

FORMATS = ("markdown", "latex", "html")

SUFFIXES = {".md": "markdown", ".tex": "latex", ".html": "html", ".htm": "html"}
"""Which format a file's name asks for where `--format` does not say."""


def add_arguments(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among the kinds of evaluation."""
    parser = kinds.add_parser("report", help="tables of all results of a folder, beside the published numbers")
    parser.add_argument("folder", type=Path, help="every result.json below it is read")
    parser.add_argument("--format", choices=FORMATS, help="by the name of --out (.md, .tex, .html), else markdown")
    parser.add_argument("--out", type=Path, help="file to write; printed by default")
    parser.add_argument("--published", action="store_true", help="rows also for published methods nobody ran here")
    parser.add_argument("--json", action="store_true", help="JSON instead, for programs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Assemble and write or print the tables.

    Returns:
        0, or 1 if some of the results could not be used; they are named in the report and on the standard error.

    Raises:
        InputError: If there is no result that can be used, or the file cannot be written.
    """
    from objloc_ros.evaluation.report.results import FILE, find_results
    from objloc_ros.evaluation.report.tables import assemble

    if args.json and args.format is not None:
        raise InputError(f"--json and --format {args.format} are two formats: one of them")
    results, refused = find_results(args.folder)
    for path, reason in refused.items():
        print(f"objloc: not used: {path}: {reason}", file=sys.stderr)
    if not results:
        raise InputError(f"no {FILE} that can be used below {args.folder}")
    text = _render(args)(assemble(results, refused, others=args.published))
    if args.out is None:
        print(text, end="")
    else:
        write_text(args.out, text)
    return 1 if refused else 0


def _render(args: argparse.Namespace) -> Callable[[Report], str]:
    from objloc_ros.evaluation.report.markup import latex, markdown, to_json

    if args.json:
        return lambda report: json.dumps(to_json(report), indent=1) + "\n"
    chosen = args.format or SUFFIXES.get(args.out.suffix.lower() if args.out else "", "markdown")
    if chosen == "html":  # the only one that needs templates
        from objloc_ros.evaluation.report.web import tables_page

        return tables_page
    return {"markdown": markdown, "latex": latex}[chosen]
