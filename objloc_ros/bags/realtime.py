"""A bag in real time: played over DDS to the real nodes, each a process of its own, as on a robot.

The report says what became of every frame, how old the predictions were, and how right. Times are the bag's: at twice
its rate a second of the bag takes half a second, and the camera is twice as fast. Figures change from run to run and
with the machine; they are never mixed with those of lockstep.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.bags.listener import Listener, NodeAccount
from objloc_ros.bags.lockstep import survey_cameras
from objloc_ros.bags.nodes import DIAGNOSTICS, BagNode, nodes_of, parameters_of
from objloc_ros.bags.outputs import write_films
from objloc_ros.bags.player import Schedule
from objloc_ros.bags.predictions import read_answers
from objloc_ros.bags.processes import (
    START_LIMIT_S,
    Background,
    Child,
    ChildFailedError,
    node_command,
    ros_of_its_own,
    terminated_like_interrupted,
)
from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.recorder import Recorder
from objloc_ros.bags.score import Scorer, frames_of, report_of, score
from objloc_ros.bags.settings import BagSettings
from objloc_ros.bags.survey import Stamps, survey
from objloc_ros.bags.truth_files import Truth, open_truths
from objloc_ros.bags.writer import BagWriter
from objloc_ros.engine.frame_stats import PLAUSIBLE_LAG_NS
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_json
from objloc_ros.jobs.shards import Work

REPORT = "realtime.json"

LOST, UNHEARD = "lost", "unheard"
"""Causes beside the nodes' own: the frame did not reach the node, its answer did not reach us."""

Milliseconds = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RealtimeSettings(BagSettings):
    """How bags are to be played.

    Args:
        rate: Times real time.
        late_ms: Greatest age of an answer that is not late, milliseconds of the bag's time; None for the camera's
            period, by which the next frame is there.

    Raises:
        ParameterError: A value is out of range, or the nodes have no parameter for an option.
    """

    rate: float = 1.0
    late_ms: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        Schedule(0, 0, self.rate)
        if self.late_ms is not None and not self.late_ms > 0:
            raise ParameterError(f"late_ms must be positive, got {self.late_ms}")
        for run in self.runs:
            parameters_of(self, run)

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values; the machine besides."""
        return super().settings() | {"rate": self.rate, "late_ms": self.late_ms}


@dataclass(frozen=True)
class Played:
    """What is there when a bag has been played.

    Args:
        recording: The answers, a bag whose times of recording are arrivals in the bag's time.
        account: The player's: frames "sent" by topic, and by how much it was "behind_ms".
        nodes: The nodes' own accounts, by their full names.
    """

    recording: Path
    account: Mapping[str, Any]
    nodes: Mapping[str, NodeAccount]


def report(
    wanted: RealtimeSettings, path: Path, stamps: Mapping[str, Stamps], nodes: Sequence[BagNode], played: Played
) -> dict[str, Any]:
    """Everything about a bag that has been played.

    Args:
        wanted: How it was.
        path: The bag.
        stamps: Of its cameras and truth topics.
        nodes: Those that have answered.
        played: What they said.

    Raises:
        InputError: Truth and answers do not fit each other, or the counts of player and nodes do not.
    """
    cameras: dict[str, dict[str, Any]] = {}
    topics = list(dict.fromkeys(node.camera for node in nodes))
    with BagReader(path) as bag:
        for node in nodes:
            truth = open_truths(bag, stamps, topics, wanted.truth).get(node.camera)  # can be read only once
            frames = stamps[node.camera]
            about = cameras.setdefault(node.camera, {"frames": {"in": len(frames), **frames.oddities()}})
            if truth is not None:
                about["truth"] = truth.counts
            about.setdefault("methods", {})[node.run.name] = _row(wanted, node, frames, truth, played)
    found = report_of("realtime", path.name, cameras, wanted.settings())
    return found | {"player": {"behind_ms": played.account["behind_ms"]}}


def _row(
    wanted: RealtimeSettings, node: BagNode, frames: Stamps, truth: Truth | None, played: Played
) -> dict[str, Any]:
    """What one node made of its camera's frames."""
    answers = Stamps("")
    with BagReader(played.recording) as recording:
        topic = f"{node.name}/detections"
        answered = topic in recording.kinds
        if answered:
            answers = survey(recording, [topic])[topic]
    sent, account = played.account["sent"].get(node.camera, 0), played.nodes[node.name]
    ages, bound_ms = ages_ms(frames, answers), wanted.late_ms or frames.period_ns / 1e6
    late = int(np.count_nonzero(ages > bound_ms))
    coverage = frames_of(sent, len(answers), dropped(sent, account, len(answers)), late, late_after_ms=bound_ms)
    scorer = Scorer(None if truth is None else truth.classes, node.run.prompts.meant if node.run.prompts else None)
    with nullcontext() if truth is None else closing(truth):
        summary = score(read_answers(played.recording, node.name) if answered else (), truth, scorer)
    age = percentiles(ages)
    figures = {"coverage": len(answers) / max(sent, 1)} | {f"age_ms_{name}": value for name, value in age.items()}
    own = {name: value for name, value in asdict(account).items() if name != "at_s"}
    return {"frames": coverage, "node": own, **summary, "metrics": figures | summary["metrics"]}


def dropped(sent: int, account: NodeAccount, heard: int) -> dict[str, int]:
    """Frames without an answer by cause, so that sent = heard + dropped.

    Raises:
        InputError: The counts of player, node and recorder contradict each other.
    """
    lost, unheard = sent - account.received, account.published - heard
    whole = account.published + sum(account.dropped.values()) + account.in_flight
    if lost < 0 or unheard < 0 or account.in_flight or whole != account.received:
        raise InputError(
            f"the counts do not fit: {sent} frames sent, {heard} answers heard, and the node says {account}; is "
            "somebody else in this ROS domain?"
        )
    return account.dropped | ({LOST: lost} if lost else {}) | ({UNHEARD: unheard} if unheard else {})


def ages_ms(frames: Stamps, answers: Stamps) -> Milliseconds:
    """Ages of answers at their arrival, from the stamps of their frames: float64 [m].

    As in the nodes, a stamp that is far from the time of its recording is not believed: the age counts from the
    recording then. Answers whose stamp no frame has are left out.
    """
    keys, recorded = (np.frombuffer(each, np.int64) for each in (frames.keys, frames.recorded))
    asked, arrived = (np.array(each, np.int64) for each in (answers.keys, answers.recorded))
    order = np.argsort(keys, kind="stable")
    place = order[np.minimum(np.searchsorted(keys, asked, sorter=order), len(keys) - 1)]
    began = np.where(np.abs(recorded - keys) <= PLAUSIBLE_LAG_NS, keys, recorded)
    return np.asarray(np.maximum(arrived - began[place], 0)[keys[place] == asked] / 1e6)


def percentiles(ages: Milliseconds) -> dict[str, float]:
    """Median and tails; none of nothing."""
    found = np.percentile(ages, (50, 95, 99)) if len(ages) else ()
    return {name: round(float(value), 2) for name, value in zip(("p50", "p95", "p99"), found, strict=False)}


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
