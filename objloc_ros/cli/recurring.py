"""`objloc recurring`: which discovered objects come back in a fleet's recordings, ranked and grouped."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from objloc_ros.cli.fleet import add_fleet_arguments, describe_fleet
from objloc_ros.cli.options import add_flags, choose_engine, collect_options
from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.errors import ParameterError
from objloc_ros.fleet.descriptors import PARTS
from objloc_ros.fleet.objects import Fleet
from objloc_ros.fleet.recurring import FleetNodes, Recurring, RecurringOptions, link_objects, make_nodes, rank_objects
from objloc_ros.fleet.recurring_files import list_groups, write_ranking, write_scored_objects, write_sheets
from objloc_ros.io.tables import text_table
from objloc_ros.jobs.shards import Shard
from objloc_ros.options import describe
from objloc_ros.version import __version__

RANKING = "ranking.json"

SHEETS = 50
"""Groups that get a contact sheet unless another number is given."""

SHOWN = 10
"""Groups that the summary lists."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare inputs, links and ranking."""
    add_fleet_arguments(parser, describe="moments")
    group = parser.add_argument_group("links and ranking")
    options = describe(RecurringOptions)
    add_flags(group, RecurringOptions, *(name for name in options if name != "links"))
    group.add_argument(
        "-r",
        "--links",
        type=int,
        metavar="R",
        help=f"{options['links'].help.rstrip('.')} ({options['links'].allowed}; default: {options['links'].default})",
    )
    group.add_argument(
        "--sheets",
        type=int,
        default=SHEETS,
        metavar="N",
        help="contact sheets of the best groups, in DIR/groups (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Rank the objects of the pre-labels.

    Returns:
        0; 1 if some images could not be used.

    Raises:
        InputError: Pre-labels or images are missing, or nothing can be linked.
        ParameterError: An option is out of range.
        WeightsError: Weights are missing or refused.
    """
    options = RecurringOptions(**collect_options(args, RecurringOptions))
    if args.sheets < 0:
        raise ParameterError(f"sheets must be at least 0, got {args.sheets}")
    fleet, described = describe_fleet(args)
    nodes = make_nodes(fleet, described, options, parts=PARTS[args.describe])
    if nodes.copies:
        print(f"objloc: {nodes.copies} images are copies of others and left out", file=sys.stderr)
    with tqdm(total=len(nodes.images), unit="image", desc="links", disable=None, leave=False) as bar:

        def count_images(shard: Shard) -> None:
            bar.update(shard.input[1] - shard.input[0])

        engine = choose_engine(args, networks=False)
        edges = link_objects(nodes.nodes, options, args.out / "links", engine, on_done=count_images)
    recurring = rank_objects(edges, nodes.nodes, options)
    groups = list(list_groups(recurring))
    info = {"software": f"objloc_ros {__version__}", "describe": args.describe, **asdict(options)}
    write_ranking(args.out / RANKING, info, fleet, nodes, recurring)
    images = write_scored_objects(args.out / PRELABELS, info, fleet, nodes, recurring)
    sheets = write_sheets(args.out / "groups", fleet, nodes, recurring, list(islice(groups, args.sheets)))
    unusable = sum(bool(problem) for problem in described.problems)
    summary = {
        "ranking": str(args.out / RANKING),
        "coco": str(args.out / PRELABELS),
        "file_names_below": str(images),
        "sheets": len(sheets),
        "objects": len(nodes.objects),
        "left_out": len(fleet.objects) - int((nodes.of_objects >= 0).sum()),
        "images": len(fleet.images),
        "recordings": len({image.recording for image in fleet.images}),
        "copies": nodes.copies,
        "unusable": unusable,
        "links": recurring.edges,
        "groups": len(groups),
        "converged": recurring.ranking.converged,
    }
    print(json.dumps(summary, indent=1) if args.json else _describe(summary, fleet, nodes, recurring, groups))
    return int(unusable > 0)


def _describe(
    summary: dict[str, Any],
    fleet: Fleet,
    nodes: FleetNodes,
    recurring: Recurring,
    groups: list[npt.NDArray[np.int64]],
) -> str:
    """Describe the result for people: how much there was, and the best groups."""
    lines = [
        f"{summary['objects']} objects in {summary['images']} images of {summary['recordings']} recordings, "
        f"{summary['links']} links, {summary['groups']} groups: {summary['ranking']}"
    ]
    if not recurring.edges:
        lines.append("no two objects are alike enough: try a lower --tau, a larger --near or another backbone")
    if not recurring.ranking.converged:
        lines.append("the ranking has not settled: groups of nearly equal weight compete for the first place")
    if groups:
        rows: list[tuple[object, ...]] = [("group", "objects", "recordings", "best rank", "best object")]
        for number, members in enumerate(groups[:SHOWN], 1):
            images = [fleet.images[int(fleet.image_numbers[nodes.objects[node]])] for node in members]
            recordings = len({image.recording for image in images})
            rows.append((number, len(members), recordings, recurring.ranks[members[0]], images[0].name))
        lines.append(text_table(rows))
    return "\n".join(lines)
