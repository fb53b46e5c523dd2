"""`objloc weights`: which weights there are, fetching them, and checking that they are what they claim."""

from __future__ import annotations

import argparse
import json
from typing import Any

from tqdm import tqdm

from objloc_ros.backbones.registry import REGISTRY, WeightsEntry, cache_dir, find_entry
from objloc_ros.backbones.store import check_terms, fetch, verify
from objloc_ros.errors import WeightsError
from objloc_ros.io.tables import text_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions list, fetch and verify."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    action = actions.add_parser("list", help="show names, licences, sizes and which are on this machine")
    action.set_defaults(action=list_weights)
    _add_json(action)
    action = actions.add_parser("fetch", help="download into the cache; the only command that uses the network")
    action.add_argument("names", nargs="+", metavar="NAME", help="name as in `objloc weights list`")
    action.add_argument(
        "--non-commercial",
        action="store_true",
        help="confirm that the weights are for non-commercial use: CutLER's licence, for one, allows no other",
    )
    action.add_argument(
        "--accept-licence",
        action="store_true",
        help="confirm that you have read and accept a licence that asks for it, as DINOv3's does; without this the "
        "command says where it stands",
    )
    action.set_defaults(action=fetch_weights)
    _add_json(action)
    action = actions.add_parser("verify", help="check the SHA-256 of the files on this machine")
    action.add_argument(
        "names", nargs="*", metavar="NAME", help="weights to check (default: all that are on this machine)"
    )
    action.set_defaults(action=verify_weights)
    _add_json(action)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    status: int = args.action(args)
    return status


def list_weights(args: argparse.Namespace) -> int:
    """Print the registry with the state of each file."""
    rows = [describe_entry(entry) for entry in REGISTRY.values()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [(row["name"], row["terms"], format_size(row["size_bytes"]), row["state"], row["source"]) for row in rows]
    print(text_table([("NAME", "LICENCE", "SIZE", "STATE", "SOURCE"), *table]))
    print(f"\ncache: {cache_dir()}")
    return 0


def fetch_weights(args: argparse.Namespace) -> int:
    """Download each named file, say where it came from and under which licence.

    Raises:
        WeightsError: A licence forbids commercial use, and the command does not rule it out, or has to be accepted:
            nothing is fetched. Or a file cannot be fetched; the next ones are not tried.
        ParameterError: A name is unknown.
    """
    for name in args.names:
        check_terms(name, non_commercial=args.non_commercial, accept_licence=args.accept_licence)
    rows = []
    for name in args.names:
        entry = find_entry(name)
        if not args.json:
            terms = entry.terms if entry.agreement is None else f"{entry.terms} ({entry.agreement})"
            print(f"{name}: {terms}, {entry.source}\n  from {entry.url or 'this package'}", flush=True)
        with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, leave=False, disable=None) as bar:

            def advance(done: int, total: int | None, bar: tqdm[Any] = bar) -> None:
                bar.total = total
                bar.update(done - bar.n)

            path = fetch(
                name,
                progress=advance,
                non_commercial=args.non_commercial,
                accept_licence=args.accept_licence,
            )
        rows.append(describe_entry(entry))
        if not args.json:
            print(f"  to {path}")
    if args.json:
        print(json.dumps(rows, indent=2))
    return 0


def verify_weights(args: argparse.Namespace) -> int:
    """Check files and print one line each; 1 if any is missing or wrong."""
    names = args.names or [name for name, entry in REGISTRY.items() if entry.embedded or entry.path.is_file()]
    rows = [verify_entry(name) for name in names]
    if args.json:
        print(json.dumps(rows, indent=2))
    elif rows:
        print(text_table([(row["name"], row["state"], row["error"] or row["sha256"]) for row in rows]))
    return int(any(row["state"] == "failed" for row in rows))


def verify_entry(name: str) -> dict[str, str | None]:
    """Verify one entry: its state is "ok", "unpinned" (no hash is known or recorded) or "failed"."""
    try:
        checked = verify(name)
    except WeightsError as error:
        return {"name": name, "state": "failed", "sha256": None, "error": str(error)}
    return {"name": name, "state": "ok" if checked.expected else "unpinned", "sha256": checked.sha256, "error": None}


def describe_entry(entry: WeightsEntry) -> dict[str, Any]:
    """Describe an entry of the registry, as JSON values."""
    present = entry.path.is_file()
    return {
        "name": entry.name,
        "layout": entry.layout,
        "licence": entry.licence,
        "terms": entry.terms,
        "agreement": entry.agreement,
        "size_bytes": entry.path.stat().st_size if present else entry.size_bytes,
        "state": ("embedded" if entry.embedded else "cached") if present else "missing",
        "path": str(entry.path),
        "url": entry.url,
        "sha256": entry.sha256,
        "source": entry.source,
    }


def format_size(size_bytes: int | None) -> str:
    """Write a size for people, in kB or MB."""
    if size_bytes is None:
        return "?"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")
