"""What the commands on a fleet's pre-labels share: inputs, descriptors, and where they are computed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from objloc_ros.cli.options import add_engine_options, add_flags, choose_engine, collect_options
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.fleet.descriptors import PARTS, Describe, DescribeTask, Descriptors, compute_descriptors
from objloc_ros.fleet.objects import Fleet, read_fleet
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.jobs.shards import Shard

NETWORKS = ("backbone", "weights", "device", "short_side")
"""Options of a pipeline that descriptors depend on."""


def add_fleet_arguments(parser: argparse.ArgumentParser, describe: Describe = "tokens") -> None:
    """Declare pre-labels, the folder of the results, descriptors and the engine.

    Args:
        parser: The sub-command's parser.
        describe: Descriptor that the command uses unless another is given.
    """
    parser.add_argument(
        "prelabels",
        nargs="+",
        type=Path,
        metavar="PRELABELS",
        help="folder that objloc prelabel has written, or a COCO document",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--images",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="folder below which image files are that were not copied to PRELABELS/images; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON, nothing else")
    group = parser.add_argument_group("descriptors")
    group.add_argument(
        "--describe",
        choices=PARTS,
        default=describe,
        help="tokens: mean key under the mask, of one pass per image; moments: mean and standard deviation; crop: CLS "
        "token of a pass per object, for backbones trained as a whole, as DINO's are and the embedded one is not "
        "(default: %(default)s)",
    )
    add_flags(group, PipelineConfig, *NETWORKS, backbone="that of the pre-labels")
    group.add_argument("--threads", type=int, default=1, help="threads per piece of work (default: %(default)s)")
    add_engine_options(parser)


def describe_fleet(args: argparse.Namespace) -> tuple[Fleet, Descriptors]:
    """Read the fleet and describe its objects, those left that an interrupted run has not described.

    Raises:
        InputError: Pre-labels or images are missing, there is no object, or the folder holds other descriptors.
        ParameterError: An option is out of range, or the pre-labels were made with different backbones.
        WeightsError: Weights are missing or refused.
    """
    engine = choose_engine(args)
    fleet = read_fleet(args.prelabels, args.images)
    if not fleet.objects:
        raise InputError(f"there is no object in {', '.join(map(str, fleet.documents))}")
    given = {name: value for name, value in collect_options(args, PipelineConfig).items() if name in NETWORKS}
    PipelineConfig.check(**given)
    given |= {"weights": given["weights"].absolute()} if "weights" in given else {}
    if "backbone" not in given:
        given["backbone"] = choose_backbone(fleet)
    task = DescribeTask(describe=args.describe, threads=args.threads, **given)
    with tqdm(total=len(fleet.images), unit="image", disable=None, leave=False) as bar:

        def count_images(shard: Shard) -> None:
            bar.update(len(shard.input))

        described = compute_descriptors(fleet, task, args.out / "descriptors", engine, on_done=count_images)
    for problem in filter(None, described.problems):
        print(sanitize_line(f"objloc: {problem}"), file=sys.stderr)
    return fleet, described


def choose_backbone(fleet: Fleet) -> str:
    """Return the backbone that all pre-labels were made with; the embedded one where none of them says.

    Raises:
        ParameterError: They were made with different ones.
    """
    made_with = {
        backbone: document for backbone, document in zip(fleet.backbones, fleet.documents, strict=True) if backbone
    }
    if len(made_with) > 1:
        each = ", ".join(f"{document} with {backbone}" for backbone, document in made_with.items())
        raise ParameterError(f"the pre-labels were made with different backbones: {each}; choose one with --backbone")
    return next(iter(made_with), PipelineConfig.backbone)
