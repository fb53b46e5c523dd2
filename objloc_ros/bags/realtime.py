"""A bag in real time: played over DDS to the real nodes, each a process of its own, as on a robot.

The report says what became of every frame, how old the predictions were, and how good. Times are in bag time: at twice
the rate, a second of the bag takes half a second, and the camera is twice as fast. Figures change from run to run and
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
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from objloc_ros.bags.listener import Listener, NodeAccount
from objloc_ros.bags.lockstep import survey_cameras
from objloc_ros.bags.nodes import DIAGNOSTICS, BagNode, list_nodes, make_parameters
from objloc_ros.bags.outputs import write_overlay_videos
from objloc_ros.bags.player import PlaybackClock
from objloc_ros.bags.predictions import read_predictions
from objloc_ros.bags.processes import (
    START_LIMIT_S,
    Child,
    ChildFailedError,
    handle_sigterm_as_interrupt,
    isolated_ros_domain,
)
from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.recorder import BackgroundWriter, Recorder
from objloc_ros.bags.score import Scorer, make_coverage, make_report, score_predictions
from objloc_ros.bags.settings import BagSettings, Pace
from objloc_ros.bags.survey import Stamps, survey
from objloc_ros.bags.truth_sources import Truth, open_truths
from objloc_ros.bags.writer import BagWriter
from objloc_ros.engine.frame_stats import PLAUSIBLE_LAG_NS, percentiles
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_json

REPORT, FOLDER, OUTPUTS = "realtime.json", "realtime", "outputs"
"""The report of a bag, the folder of everything else, and the recorded predictions in it."""

LOST, UNHEARD = "lost", "unheard"
"""Causes beside the nodes' own: the frame did not reach the node; its prediction did not reach the recorder."""

FINISH_LIMIT_S = 120.0
"""How long nodes may process their last frames, in seconds."""

LINGER_S = 1e6
"""How long the player's clock runs on after the last frame, in seconds: until the player is stopped."""

SPIN_S = 0.1
"""How long to wait for a message before the child processes are checked, in seconds."""

Milliseconds = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Realtime(BagSettings):
    """How bags are played to the nodes: the `ShardTask` of a bag.

    Args:
        rate: Times real time.
        late_ms: Greatest age of a prediction that is not late, milliseconds of bag time; None for the camera's period,
            after which the next frame arrives.

    Raises:
        ParameterError: A value is out of range, or the nodes have no parameter for an option.
    """

    pace: ClassVar[Pace] = "realtime"
    report_name: ClassVar[str] = REPORT

    rate: float = 1.0
    late_ms: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        PlaybackClock(0, 0, self.rate)
        if self.late_ms is not None and not self.late_ms > 0:
            raise ParameterError(f"late_ms must be positive, got {self.late_ms}")
        for row in self.rows:
            make_parameters(self, row)

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values; they depend on the machine, too."""
        return super().settings() | {"rate": self.rate, "late_ms": self.late_ms}

    def load(self) -> None:
        """Load nothing: the nodes load their networks."""

    def run(self, loaded: None, path: Path, target: Path) -> None:
        """Play a bag and write its results into a folder.

        Args:
            loaded: None.
            path: The bag.
            target: Folder of its results; made if it does not exist.

        Raises:
            ChildFailedError: A node or the player has ended, or does not finish.
            InputError: The bag is damaged, or its counts or truth do not fit.
        """
        folder = target / FOLDER
        folder.mkdir(parents=True)
        with BagReader(path) as bag:
            cameras, stamps = survey_cameras(bag, self)
            nodes = list_nodes(self, bag.kinds, [camera for camera in cameras if len(stamps[camera])])
        with handle_sigterm_as_interrupt():
            played = self._play(path, nodes, stamps, folder)
        write_json(target / REPORT, make_realtime_report(self, path, stamps, nodes, played))
        if self.overlay:
            write_overlay_videos(played.recording, folder)
        if not self.outputs:
            shutil.rmtree(played.recording)

    def _play(self, path: Path, nodes: Sequence[BagNode], stamps: dict[str, Stamps], folder: Path) -> PlayedBag:
        """Start the nodes and the player, record, and stop everything."""
        recording, account_file = folder / OUTPUTS, folder / "player.json"
        recorded = np.sort(np.concatenate([stamps[camera].recorded for camera in {node.camera for node in nodes}]))
        with ExitStack() as stack:
            stack.enter_context(isolated_ros_domain())
            commands = {node.name.strip("/").replace("/", "_"): node.command for node in nodes}
            commands["player"] = self._make_player_command(path, nodes, account_file)
            children = [
                stack.enter_context(Child(name, command, log=folder / f"{name}.log"))
                for name, command in commands.items()
            ]
            bag_writer = stack.enter_context(BagWriter(recording))
            writer = stack.enter_context(BackgroundWriter(bag_writer.write_serialized))
            listener = Listener([node.name for node in nodes], account_file, int(recorded[0]), writer.submit)
            topics = [DIAGNOSTICS, *(topic for node in nodes for topic in node.recorded_topics(self))]
            recorder = stack.enter_context(Recorder(topics, listener.receive))
            account = _record(recorder, listener, children, self._make_progress(listener, recorded))
        return PlayedBag(recording, account, listener.accounts)

    def _make_player_command(self, path: Path, nodes: Sequence[BagNode], account: Path) -> list[str]:
        played = {node.camera: node.played for node in nodes}
        topics = [camera if camera == name else f"{camera}={name}" for camera, name in played.items()]
        options = ["--rate", str(self.rate), "--account", str(account), "--linger", str(LINGER_S)]
        options += ["--wait-for-subscribers", str(len(self.rows)), "--topics", *topics]
        return [sys.executable, "-m", "objloc_ros.cli.main", "play", str(path), *options]

    def _make_progress(self, listener: Listener, recorded: npt.NDArray[np.int64]) -> Callable[[], None]:
        """Make a function that calls `on_frame` for every frame that has come due since its last call."""
        reported = 0

        def report_progress() -> None:
            nonlocal reported
            if self.on_frame is not None and listener.playback is not None:
                due = int(np.searchsorted(recorded, listener.playback.bag_ns(time.monotonic_ns()), "right"))
                for _ in range(reported, due):
                    self.on_frame()
                reported = due

        return report_progress


def _record(
    recorder: Recorder, listener: Listener, children: Sequence[Child], report_progress: Callable[[], None]
) -> dict[str, object]:
    """Record until everything has been played and every frame is accounted for.

    Returns:
        The player's account.

    Raises:
        ChildFailedError: A process has ended, or does not finish.
    """

    def record_until(done: Callable[[], bool], limit_s: float, problem: str) -> None:
        begun = time.monotonic()
        while not done():
            recorder.spin(SPIN_S)
            report_progress()
            for child in children:
                child.check()
            if time.monotonic() > begun + limit_s:
                logs = "\n".join(f"{child.name} said:\n{child.read_log_tail()}" for child in children)
                raise ChildFailedError(f"{problem} within {limit_s:.0f} s; {logs}")

    record_until(lambda: listener.playback is not None, START_LIMIT_S, "the nodes did not subscribe to the cameras")
    record_until(lambda: listener.read_player_account() is not None, float("inf"), "")
    ended = time.monotonic()
    record_until(lambda: listener.is_complete(ended), FINISH_LIMIT_S, "the nodes did not finish")
    return listener.read_player_account() or {}


@dataclass(frozen=True)
class PlayedBag:
    """What playing a bag has left.

    Args:
        recording: The predictions, a bag whose times of recording are arrivals in bag time.
        account: The player's account: frames "sent" by topic, and by how much it was "behind_ms".
        nodes: The nodes' own accounts, by their full names.
    """

    recording: Path
    account: Mapping[str, Any]
    nodes: Mapping[str, NodeAccount]


def make_realtime_report(
    settings: Realtime, path: Path, stamps: Mapping[str, Stamps], nodes: Sequence[BagNode], played: PlayedBag
) -> dict[str, Any]:
    """Make the report of a bag that has been played, as `score.make_report` describes it.

    Args:
        settings: How it was played.
        path: The bag.
        stamps: Those of its cameras and truth topics.
        nodes: The nodes to which it was played.
        played: What they published.

    Raises:
        InputError: Truth and predictions do not fit, or the counts of player and nodes contradict each other.
    """
    cameras: dict[str, dict[str, Any]] = {}
    topics = list(dict.fromkeys(node.camera for node in nodes))
    with BagReader(path) as bag:
        for node in nodes:
            truth = open_truths(bag, stamps, topics, settings.truth).get(node.camera)  # can be read only once
            frames = stamps[node.camera]
            about = cameras.setdefault(node.camera, {"frames": {"in": len(frames), **frames.count_anomalies()}})
            if truth is not None:
                about["truth"] = truth.counts
            about.setdefault("methods", {})[node.row.name] = _score_node(settings, node, frames, truth, played)
    report = make_report("realtime", path.name, cameras, settings.settings())
    return report | {"player": {"behind_ms": played.account["behind_ms"]}}


def _score_node(
    settings: Realtime, node: BagNode, frames: Stamps, truth: Truth | None, played: PlayedBag
) -> dict[str, Any]:
    """Make one node's row of the report: coverage, ages and quality of its predictions."""
    predictions = Stamps("")
    with BagReader(played.recording) as recording:
        topic = f"{node.name}/detections"
        has_predictions = topic in recording.kinds
        if has_predictions:
            predictions = survey(recording, [topic])[topic]
    sent, account = played.account["sent"].get(node.camera, 0), played.nodes[node.name]
    ages, bound_ms = compute_ages_ms(frames, predictions), settings.late_ms or frames.period_ns / 1e6
    late = int(np.count_nonzero(ages > bound_ms))
    coverage = make_coverage(
        sent, len(predictions), count_dropped(sent, account, len(predictions)), late, late_after_ms=bound_ms
    )
    scorer = Scorer(
        None if truth is None else truth.classes, node.row.prompts.class_names if node.row.prompts else None
    )
    with nullcontext() if truth is None else closing(truth):
        read = read_predictions(played.recording, node.name, has_prompts=node.row.prompts is not None)
        summary = score_predictions(read if has_predictions else (), truth, scorer)
    age = {f"age_ms_{name}": round(value, 2) for name, value in percentiles(ages).items()}
    figures = {"coverage": len(predictions) / max(sent, 1)} | age
    own = {name: value for name, value in asdict(account).items() if name != "at_s"}
    return {"frames": coverage, "node": own, **summary, "metrics": figures | summary["metrics"]}


def count_dropped(sent: int, account: NodeAccount, heard: int) -> dict[str, int]:
    """Count the frames without a prediction by cause, so that sent = heard + dropped.

    Raises:
        InputError: The counts of player, node and recorder contradict each other.
    """
    lost, unheard = sent - account.received, account.published - heard
    whole = account.published + sum(account.dropped.values()) + account.in_flight
    if lost < 0 or unheard < 0 or account.in_flight or whole != account.received:
        raise InputError(
            f"the counts do not fit: {sent} frames sent, {heard} predictions received, and the node says {account}; "
            "does another process use this ROS domain?"
        )
    return account.dropped | ({LOST: lost} if lost else {}) | ({UNHEARD: unheard} if unheard else {})


def compute_ages_ms(frames: Stamps, predictions: Stamps) -> Milliseconds:
    """Compute the ages of predictions at their arrival, from the stamps of their frames: float64 [m].

    As in the nodes, a stamp that is far from the time of its recording is implausible, and the age counts from the
    recording. Predictions whose stamp no frame has are left out.
    """
    keys, recorded = np.frombuffer(frames.keys, np.int64), np.frombuffer(frames.recorded, np.int64)  # [n]
    predicted, arrived = np.array(predictions.keys, np.int64), np.array(predictions.recorded, np.int64)  # [m]
    order = np.argsort(keys, kind="stable")
    indices = order[np.minimum(np.searchsorted(keys, predicted, sorter=order), len(keys) - 1)]  # [m]
    taken_ns = np.where(np.abs(recorded - keys) <= PLAUSIBLE_LAG_NS, keys, recorded)  # [n]
    return np.asarray(np.maximum(arrived - taken_ns[indices], 0)[keys[indices] == predicted] / 1e6)
