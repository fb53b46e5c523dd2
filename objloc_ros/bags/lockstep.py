"""A bag in lockstep: every frame through the methods, one after the other, however long each takes.

Nothing depends on time: two runs give the same report, byte for byte, and the same messages. How long it took stands in
a file of its own. What real time does to the predictions is measured elsewhere, and reported apart from this.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from objloc_ros.bags.images import BagImage, images
from objloc_ros.bags.outputs import OutputBag, write_films
from objloc_ros.bags.predictions import Follower, answer_of
from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.score import Scorer, frames_of, report_of
from objloc_ros.bags.settings import BagSettings, Pass, load_passes
from objloc_ros.bags.survey import Stamps, choose_cameras, namespaces, survey
from objloc_ros.bags.truth import FrameTruth
from objloc_ros.bags.truth_files import Truth, open_truths
from objloc_ros.bags.writer import BagWriter
from objloc_ros.engine.shared_backbone import use_threads
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_json
from objloc_ros.jobs.shards import Work

T = TypeVar("T")

DEPTH = 3

_END = object()


@contextmanager
def ahead(items: Generator[T, None, None], depth: int = DEPTH) -> Iterator[Iterator[T]]:
    """Run a generator in a thread of its own.

    Args:
        items: Used, and closed, by that thread alone from now on.
        depth: Items that wait, at most.

    Yields:
        The same items in the same order. What the generator raises is raised where its next item was expected. The
        thread has ended when the block is left, also if not all items were taken.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            with closing(items):
                for item in items:
                    put(item)
                    if stop.is_set():
                        return
            put(_END)
        except BaseException as error:  # noqa: BLE001 whatever it is belongs to whoever takes the items
            put(_END, error)

    def take() -> Iterator[T]:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        thread.join()


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


@dataclass
class Camera:
    """One camera on the way through its bag.

    Args:
        space: Namespace of its results.
        stamps: Of its images.
        truth: What is true of them, if it is known.
        follower: Answers its frames.
        scorers: Judge the answers, by the names of the rows.
        processed: Frames answered.
        dropped: Frames that hold no image, by cause.
    """

    space: str
    stamps: Stamps
    truth: Truth | None
    follower: Follower
    scorers: Mapping[str, Scorer]
    processed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def begin(self, frame: BagImage) -> None:
        """Notice jumps of time before the next frame."""
        if self.follower.notice(frame.key):
            for scorer in self.scorers.values():
                scorer.cut()

    def summary(self) -> dict[str, Any]:
        """The camera's part of a report."""
        oddities = self.stamps.oddities()
        about: dict[str, Any] = {"frames": frames_of(len(self.stamps), self.processed, self.dropped, 0, **oddities)}
        if self.truth is not None:
            about["truth"] = self.truth.counts
        return about | {"methods": {name: scorer.summary() for name, scorer in self.scorers.items()}}


def survey_cameras(bag: BagReader, wanted: BagSettings) -> tuple[list[str], dict[str, Stamps]]:
    """The cameras of a bag, and the stamps of all of them and of the truth topics.

    Raises:
        InputError: The bag is damaged, has no images, or not the topics that were asked for.
    """
    truths = wanted.truth.names()
    bag.need(truths)
    topics = choose_cameras(bag, wanted.topics or None, truths)
    stamps = survey(bag, [*topics, *truths])
    if not any(len(stamps[topic]) for topic in topics):
        raise InputError(f"bag {bag.path} has no image: {', '.join(topics)} are empty")
    return topics, stamps


def cameras_of(bag: BagReader, wanted: BagSettings) -> dict[str, Camera]:
    """Survey a bag before the work.

    Raises:
        InputError: It is damaged, has no images, or truth that belongs to none of them.
    """
    topics, stamps = survey_cameras(bag, wanted)
    known, spaces = open_truths(bag, stamps, topics, wanted.truth), namespaces(topics)
    cameras = {}
    for topic in topics:
        truth = known.get(topic)
        classes = None if truth is None else truth.classes
        scorers = {run.name: Scorer(classes, run.prompts.meant if run.prompts else None) for run in wanted.runs}
        follower = Follower([run.method for run in wanted.runs], wanted.follow)
        cameras[topic] = Camera(spaces[topic], stamps[topic], truth, follower, scorers)
    return cameras


class Job:
    """Answers the frames of one bag.

    Args:
        bag: An open bag.
        cameras: By topic.
        passes: What looks at each frame.
    """

    def __init__(self, bag: BagReader, cameras: Mapping[str, Camera], passes: Sequence[Pass]) -> None:
        self.bag, self.cameras = bag, cameras
        self._passes = passes
        self._pipeline_s = 0.0
        self._stages_ms: dict[str, float] = {}

    def frames(self) -> Generator[tuple[BagImage, FrameTruth | None], None, None]:
        """Read all frames, with what is true of them.

        Raises:
            InputError: The bag is damaged, or the truth is none.
        """
        with ExitStack() as stack:
            for camera in self.cameras.values():
                if camera.truth is not None:
                    stack.callback(camera.truth.close)
            for frame in images(self.bag, list(self.cameras)):
                truth = self.cameras[frame.topic].truth
                yield frame, None if truth is None or frame.image is None else truth.at(frame.key)

    def answer(self, frame: BagImage, truth: FrameTruth | None, outputs: OutputBag | None) -> None:
        """Answer a frame, and judge the answers.

        Args:
            frame: The next of its camera.
            truth: What is true of it.
            outputs: Where the answers go, too.

        Raises:
            InputError: The truth has another size than the frame.
        """
        camera = self.cameras[frame.topic]
        if frame.image is None:
            camera.dropped[frame.cause] += 1
            return
        camera.begin(frame)
        for one in self._passes:
            began = time.perf_counter()
            result = camera.follower.run(one.pipeline, frame.image, one.methods)
            self._pipeline_s += time.perf_counter() - began
            for stage, spent in result.timings_ms.items():
                self._stages_ms[stage] = self._stages_ms.get(stage, 0.0) + spent
            for run in one.runs:
                named = camera.follower.named(result, run.method)
                answer = answer_of(named.found, named.ids)
                try:
                    camera.scorers[run.name].add(answer, truth)
                except InputError as error:
                    raise InputError(f"{frame.topic} at {frame.key / 1e9:.3f} s: {error}") from error
                if outputs is not None:
                    threshold = getattr(one.pipeline.options[run.method], "threshold", 0.0)
                    outputs.add(f"{camera.space}/{run.node}", frame, named, answer, threshold)
        camera.processed += 1

    def timing(self, seconds: float) -> dict[str, Any]:
        """How long it took; `seconds` are those of everything, the survey included.

        "overhead" is what everything beside the pipeline took, as a part of the pipeline's time.
        """
        frames = sum(camera.processed for camera in self.cameras.values())
        return {
            "frames": frames,
            "seconds": round(seconds, 3),
            "pipeline_seconds": round(self._pipeline_s, 3),
            "overhead": round(seconds / self._pipeline_s - 1, 4) if self._pipeline_s else None,
            "stages_ms": {stage: round(spent / max(frames, 1), 3) for stage, spent in self._stages_ms.items()},
        }
