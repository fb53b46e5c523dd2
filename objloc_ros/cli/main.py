"""The `objloc` command: picks a sub-command, imports only that one, turns domain errors into one line."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from objloc_ros.cli.missing import EVALUATION, RUN_LENGTHS, describe_missing, require
from objloc_ros.errors import ObjlocError
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.version import __version__

FAILED = 2
"""Exit status after an error; a command that finished but could not use some of its input returns 1."""

INTERRUPTED = 130


class Command(NamedTuple):
    """A sub-command.

    Attributes:
        module: Module with its `add_arguments(parser)` and `run(args) -> int`.
        help: A line of help.
        needs: Modules without which it would break off later.
    """

    module: str
    help: str
    needs: tuple[str, ...] = ()


SUBCOMMANDS: dict[str, Command] = {
    "detect": Command("objloc_ros.cli.detect", "find objects in images, folders and videos"),
    "demo": Command("objloc_ros.cli.demo", "run the ROS 2 nodes on a short video and record what they publish"),
    "bag": Command("objloc_ros.cli.bag", "run methods on every frame of a bag, and compare them with the truth"),
    "play": Command("objloc_ros.cli.play", "send a bag's images again at their pace, with /clock"),
    "train": Command("objloc_ros.cli.train", "train the embedded model or a FOUND head"),
    "evaluate": Command("objloc_ros.cli.evaluate", "measure quality", EVALUATION),
    "convert": Command("objloc_ros.cli.convert", "write a data set as COCO JSON", RUN_LENGTHS),
    "prelabel": Command("objloc_ros.cli.prelabel", "label images, videos and bags for people to correct", RUN_LENGTHS),
    "recurring": Command(
        "objloc_ros.cli.recurring", "rank what comes back in the recordings of pre-labelled objects", RUN_LENGTHS
    ),
    "cluster": Command(
        "objloc_ros.cli.cluster", "sort pre-labelled objects into kinds that a detector learns", RUN_LENGTHS
    ),
    "bench": Command("objloc_ros.cli.bench", "measure speed, stage by stage, and compare it with a saved run"),
    "export": Command("objloc_ros.cli.export", "write a backbone as an ONNX file that runs in its place"),
    "weights": Command("objloc_ros.cli.weights", "list, fetch and verify model weights"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments after the program name; None for those of the process.

    Returns:
        Exit status: 0 done, 1 done in part, 2 an error in the usage, the input or the weights, 3 (`bench`)
        slower than a saved run, 4 (`evaluate`, `bag`) a metric beyond its limit, 130 interrupted.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        args = build_parser(arguments).parse_args(arguments)
        status: int = args.run(args)
        return status
    except ObjlocError as error:
        print(sanitize_line(f"objloc: error: {error}"), file=sys.stderr)
        return FAILED
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "objloc_ros":
            raise
        print(f"objloc: error: this command needs {describe_missing(error.name)}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("objloc: interrupted", file=sys.stderr)
        return INTERRUPTED


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Build a parser that knows every sub-command by name, but the options only of the one in `arguments`."""
    parser = argparse.ArgumentParser(prog="objloc", description="Find objects nobody has labelled.")
    parser.add_argument("--version", action="version", version=f"objloc {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, command in SUBCOMMANDS.items():
        subparser = commands.add_parser(name, help=command.help, description=f"{command.help.capitalize()}.")
        if name == chosen:
            require(command.needs)
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
