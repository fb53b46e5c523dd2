"""The report of real time: what became of every frame, how old the answers were, and how right.

Times are the bag's: at twice its rate a second of the bag takes half a second, and the camera is twice as fast. Figures
change from run to run and with the machine; they are never mixed with those of lockstep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.engine.age import PLAUSIBLE_LAG_NS
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.bags.answers import read_answers
from objloc_ros.evaluation.bags.listener import NodeAccount
from objloc_ros.evaluation.bags.nodes import BagNode, parameters_of
from objloc_ros.evaluation.bags.reader import BagReader
from objloc_ros.evaluation.bags.report import frames_of, report_of
from objloc_ros.evaluation.bags.score import Scorer, score
from objloc_ros.evaluation.bags.settings import BagSettings
from objloc_ros.evaluation.bags.survey import Stamps, survey
from objloc_ros.evaluation.bags.truth_source import Truth, open_truths
from objloc_ros.nodes.player import Schedule

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
