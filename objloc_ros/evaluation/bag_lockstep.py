"""A bag in lockstep: every frame through the methods, one after the other, however long each takes.

Nothing depends on time: two runs give the same report, byte for byte, and the same messages. How long it took stands in
a file of its own. What real time does to the answers is measured elsewhere, and reported apart from this.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from objloc_ros import __version__
from objloc_ros.engine.pass_lane import use_threads
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.bag import BagWriter
from objloc_ros.evaluation.bag_ahead import ahead
from objloc_ros.evaluation.bag_follow import FollowOptions
from objloc_ros.evaluation.bag_job import Job, cameras_of
from objloc_ros.evaluation.bag_outputs import OVERLAY, OutputBag, write_films
from objloc_ros.evaluation.bag_reader import BagReader
from objloc_ros.evaluation.bag_report import report_of
from objloc_ros.evaluation.bag_runs import PromptSet, Run, load_passes, runs_of
from objloc_ros.evaluation.bag_survey import Stamps, survey
from objloc_ros.evaluation.bag_truth_source import TruthSpec
from objloc_ros.evaluation.model import Model
from objloc_ros.evaluation.shards import Work
from objloc_ros.ops.files import write_json

REPORT, TIMING, OUTPUTS = "lockstep.json", "timing.json", "outputs"


@dataclass(frozen=True, kw_only=True)
class Lockstep:
    """How bags are to be worked on; picklable, and the work of a bag once it is called.

    Args:
        model: Networks, methods and their options.
        sets: Prompts to try, of the methods that take some.
        topics: Images to read; none for all cameras.
        truth: Where to look for truth.
        follow: Parameters of discovery.
        threads: Processor threads. Floating-point sums depend on it, in their last digits.
        outputs: Whether to write the answers as a bag.
        overlay: Whether to write films of the answers, too; needs `outputs`.
        on_frame: Called after each frame, in the process that does the work.

    Raises:
        ParameterError: Values contradict each other.
    """

    model: Model
    sets: tuple[PromptSet, ...] = ()
    topics: tuple[str, ...] = ()
    truth: TruthSpec = field(default_factory=TruthSpec)
    follow: FollowOptions = field(default_factory=FollowOptions)
    threads: int = 1
    outputs: bool = True
    overlay: bool = False
    on_frame: Callable[[], Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ParameterError(f"threads must be at least 1, got {self.threads}")
        if self.overlay and not self.outputs:
            raise ParameterError("films are made of the outputs: they cannot be left out")
        if set(self.topics) & set(self.truth.names()):
            raise ParameterError(f"{self.truth.names()} cannot be images and truth at the same time")

    @property
    def runs(self) -> list[Run]:
        """The rows of the report."""
        return runs_of(self.model.methods, self.sets)

    def __call__(self) -> Work:
        """Load the networks; the work makes the folder of a bag's results.

        Raises:
            ParameterError: A model or the device is unknown.
            WeightsError: Weights are missing or refused.
        """
        use_threads(self.threads)
        passes = load_passes(self.model, self.runs)

        def work(path: Path, target: Path) -> None:
            use_threads(self.threads)
            target.mkdir(exist_ok=True)
            began = time.perf_counter()
            with BagReader(path) as bag:
                job = Job(bag, cameras_of(bag, self), passes)
                self._answer(job, target)
            cameras = {topic: camera.summary() for topic, camera in job.cameras.items()}
            write_json(target / REPORT, report_of("lockstep", path.name, cameras, self.settings()))
            write_json(target / TIMING, job.timing(time.perf_counter() - began))
            if self.overlay:
                _films(target)

        return work

    def _answer(self, job: Job, target: Path) -> None:
        """Answer every frame of a bag."""
        with ExitStack() as stack:
            outputs: OutputBag | None = None
            if self.outputs:
                writer = stack.enter_context(BagWriter(target / OUTPUTS))
                outputs = OutputBag(writer, pictures=self.overlay)
            for frame, truth in stack.enter_context(ahead(job.frames())):
                job.answer(frame, truth, outputs)
                if self.on_frame is not None:
                    self.on_frame()

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""
        rows = {run.name: self._about(run) for run in self.runs}
        truth = {"topics": [list(pair) for pair in self.truth.topics], "labels": list(self.truth.labels)}
        return {
            "software": f"objloc_ros {__version__}",
            "methods": rows,
            **asdict(self.follow),
            "topics": list(self.topics),
            "truth": {**truth, "file": self.truth.file and self.truth.file.name, "slop_ns": self.truth.slop_ns},
            "threads": self.threads,
        }

    def _about(self, run: Run) -> dict[str, Any]:
        about = self.model.about(run.method)
        if run.prompts is not None:
            about |= {"clip": self.model.clip, "prompts": list(run.prompts.prompts)}
            about |= {"classes": list(run.prompts.classes), "templates": list(self.model.templates)}
        return {name: value for name, value in about.items() if name != "software"}


def _films(target: Path) -> None:
    """Make films of the overlays among the outputs."""
    with BagReader(target / OUTPUTS) as bag:
        topics = [topic for topic in bag.kinds if topic.endswith(f"/{OVERLAY}")]
        stamps = survey(bag, topics)
    write_films(target / OUTPUTS, {topic.removesuffix(f"/{OVERLAY}"): _rate(stamps[topic]) for topic in topics}, target)


def _rate(stamps: Stamps) -> float:
    """Frames per second, from the median time between two recordings; 10 where there are too few to tell."""
    steps = np.diff(np.frombuffer(stamps.recorded, np.int64))
    steps = steps[steps > 0]
    return float(np.clip(1e9 / np.median(steps), 1, 120)) if len(steps) else 10.0
