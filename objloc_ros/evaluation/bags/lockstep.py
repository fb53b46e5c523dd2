"""A bag in lockstep: every frame through the methods, one after the other, however long each takes.

Nothing depends on time: two runs give the same report, byte for byte, and the same messages. How long it took stands in
a file of its own. What real time does to the answers is measured elsewhere, and reported apart from this.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objloc_ros.engine.pass_lane import use_threads
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.bags.ahead import ahead
from objloc_ros.evaluation.bags.job import Job, cameras_of
from objloc_ros.evaluation.bags.outputs import OutputBag, write_films
from objloc_ros.evaluation.bags.reader import BagReader
from objloc_ros.evaluation.bags.report import report_of
from objloc_ros.evaluation.bags.rosbag import BagWriter
from objloc_ros.evaluation.bags.runs import load_passes
from objloc_ros.evaluation.bags.settings import BagSettings
from objloc_ros.evaluation.shards import Work
from objloc_ros.ops.files import write_json

REPORT, TIMING, OUTPUTS = "lockstep.json", "timing.json", "outputs"


@dataclass(frozen=True, kw_only=True)
class Lockstep(BagSettings):
    """How bags are to be worked on; the work of a bag once it is called.

    Args:
        threads: Processor threads. Floating-point sums depend on it, in their last digits.

    Raises:
        ParameterError: Values contradict each other.
    """

    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ParameterError(f"threads must be at least 1, got {self.threads}")
        super().__post_init__()

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
                write_films(target / OUTPUTS, target)

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
        return super().settings() | {"threads": self.threads}
