"""A bag in real time: played over DDS to the real nodes, each a process of its own, as on a robot."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from objloc_ros.cli.background import Background
from objloc_ros.cli.bag_options import common_of
from objloc_ros.cli.children import Child, ChildFailedError, terminated_like_interrupted
from objloc_ros.cli.node_children import START_LIMIT_S, node_command, ros_of_its_own
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.bags.job import survey_cameras
from objloc_ros.evaluation.bags.listener import Listener
from objloc_ros.evaluation.bags.nodes import DIAGNOSTICS, BagNode, nodes_of
from objloc_ros.evaluation.bags.outputs import write_films
from objloc_ros.evaluation.bags.reader import BagReader
from objloc_ros.evaluation.bags.realtime import REPORT, Played, RealtimeSettings, report
from objloc_ros.evaluation.bags.rosbag import BagWriter
from objloc_ros.evaluation.bags.survey import Stamps
from objloc_ros.evaluation.shards import Work
from objloc_ros.nodes.recorder import Recorder
from objloc_ros.ops.files import write_json

FOLDER, OUTPUTS = "realtime", "outputs"
"""Where everything but the report goes, and the answers in it."""

CLOSING_LIMIT_S = 120.0
"""How long a node may work on its last frames."""

FOREVER_S = 1e6
"""The clock runs on until nobody needs it any more."""


@dataclass(frozen=True, kw_only=True)
class Realtime(RealtimeSettings):
    """How bags are to be played, and the work of a bag once it is called."""

    def __call__(self) -> Work:
        """The work makes the folder of a bag's results, or adds to it."""

        def work(path: Path, target: Path) -> None:
            folder = target / FOLDER
            folder.mkdir(parents=True)
            with BagReader(path) as bag:
                cameras, stamps = survey_cameras(bag, self)
                nodes = nodes_of(self, bag.kinds, [camera for camera in cameras if len(stamps[camera])])
            with terminated_like_interrupted():
                played = self._play(path, nodes, stamps, folder)
            write_json(target / REPORT, report(self, path, stamps, nodes, played))
            if self.overlay:
                write_films(played.recording, folder)
            if not self.outputs:
                shutil.rmtree(played.recording)

        return work

    def _play(self, path: Path, nodes: Sequence[BagNode], stamps: dict[str, Stamps], folder: Path) -> Played:
        """Start the nodes, play, record, and end everything."""
        recording, account = folder / OUTPUTS, folder / "player.json"
        recorded = np.sort(np.concatenate([stamps[camera].recorded for camera in {node.camera for node in nodes}]))
        with ExitStack() as stack:
            stack.enter_context(ros_of_its_own())
            commands = {node.name.strip("/").replace("/", "_"): _command(node) for node in nodes}
            commands["player"] = self._player(path, nodes, account)
            children = [stack.enter_context(Child(n, c, log=folder / f"{n}.log")) for n, c in commands.items()]
            writer = stack.enter_context(BagWriter(recording))
            writing = stack.enter_context(Background(writer.write_serialized))
            listener = Listener([node.name for node in nodes], account, int(recorded[0]), writing.submit)
            taps = [DIAGNOSTICS, *(tap for node in nodes for tap in node.taps(self))]
            recorder = stack.enter_context(Recorder(taps, listener.hear))
            sent = _follow(recorder, listener, children, self._progress(listener, recorded))
        return Played(recording, sent, listener.accounts)

    def _player(self, path: Path, nodes: Sequence[BagNode], account: Path) -> list[str]:
        played = {node.camera: node.played for node in nodes}
        topics = [camera if camera == name else f"{camera}={name}" for camera, name in played.items()]
        words = ["play", str(path), "--rate", str(self.rate), "--account", str(account), "--linger", str(FOREVER_S)]
        words += ["--wait-for-subscribers", str(len(self.runs)), "--topics", *topics]
        return [sys.executable, "-m", "objloc_ros.cli.main", *words]

    def _progress(self, listener: Listener, recorded: np.ndarray) -> Callable[[], None]:
        """Tells of the frames that have come due since it was last called."""
        told = 0

        def tell() -> None:
            nonlocal told
            if self.on_frame is not None and listener.schedule is not None:
                due = int(np.searchsorted(recorded, listener.schedule.bag_ns(time.monotonic_ns()), "right"))
                for _ in range(told, due):
                    self.on_frame()
                told = due

        return tell


def realtime_of(args: argparse.Namespace) -> Realtime:
    """What the options ask for.

    Raises:
        InputError: The sweep cannot be read.
        ParameterError: An option is out of range or contradicts another.
    """
    if args.engine != "local":
        raise ParameterError("real time needs a machine that does nothing else: it is for --engine local")
    return Realtime(**common_of(args), rate=1.0 if args.rate is None else args.rate, late_ms=args.late_ms)


def _command(node: BagNode) -> list[str]:
    return node_command((sys.executable, "-m", node.module), node.space, node.parameters, node.remappings)


def _follow(
    recorder: Recorder, listener: Listener, children: Sequence[Child], progress: Callable[[], None]
) -> dict[str, object]:
    """Record until everything has been played and answered.

    Returns:
        The player's account.

    Raises:
        ChildFailedError: A process has ended, or does not come to an end.
    """

    def record_until(done: Callable[[], bool], limit_s: float, what: str) -> None:
        begun = time.monotonic()
        while not done():
            recorder.spin(0.1)
            progress()
            for child in children:
                child.check()
            if time.monotonic() > begun + limit_s:
                words = "\n".join(f"{child.name} said:\n{child.last_words()}" for child in children)
                raise ChildFailedError(f"{what} within {limit_s:.0f} s; {words}")

    record_until(lambda: listener.schedule is not None, START_LIMIT_S, "the nodes did not listen to the cameras")
    record_until(lambda: listener.played() is not None, float("inf"), "")
    ended = time.monotonic()
    record_until(lambda: listener.settled(ended), CLOSING_LIMIT_S, "the nodes did not come to an end")
    return listener.played() or {}
