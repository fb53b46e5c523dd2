"""A bag in lockstep: every frame goes through the methods, one after the other, however long each takes.

Nothing depends on time: two runs give the same report, byte for byte, and the same messages. The time that a run takes
is written to a file of its own. `realtime.py` measures what real time does to the predictions.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from objloc_ros.bags.images import BagImage, read_images
from objloc_ros.bags.outputs import OutputBag, write_overlay_videos
from objloc_ros.bags.predictions import Prediction
from objloc_ros.bags.prefetch import prefetch
from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.score import Scorer, make_coverage, make_report
from objloc_ros.bags.settings import BagSettings, Pace, RowGroup, load_row_groups
from objloc_ros.bags.survey import Stamps, choose_cameras, choose_namespaces, survey
from objloc_ros.bags.truth import FrameTruth
from objloc_ros.bags.truth_sources import Truth, open_truths
from objloc_ros.bags.writer import BagWriter
from objloc_ros.engine.config import DISCOVERY
from objloc_ros.engine.frame_stats import VideoClock
from objloc_ros.engine.shared_backbone import use_threads
from objloc_ros.engine.video_tracker import VideoTracker
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_json

REPORT, TIMING, OUTPUTS = "lockstep.json", "timing.json", "outputs"
"""The report of a bag, how long it took, and the bag of its predictions."""


@dataclass(frozen=True, kw_only=True)
class Lockstep(BagSettings):
    """How bags are processed frame by frame: the `ShardTask` of a bag.

    Args:
        threads: Processor threads. Floating-point sums depend on it, in their last digits.

    Raises:
        ParameterError: Values contradict each other.
    """

    pace: ClassVar[Pace] = "lockstep"
    report_name: ClassVar[str] = REPORT

    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ParameterError(f"threads must be at least 1, got {self.threads}")
        super().__post_init__()

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""
        return super().settings() | {"threads": self.threads}

    def load(self) -> list[RowGroup]:
        """Load the networks.

        Raises:
            ParameterError: A model or the device is unknown.
            WeightsError: Weights are missing or refused.
        """
        use_threads(self.threads)
        return load_row_groups(self.config, self.rows)

    def run(self, groups: Sequence[RowGroup], path: Path, target: Path) -> None:
        """Process a bag and write its results into a folder.

        Args:
            groups: What `load` has returned.
            path: The bag.
            target: Folder of its results; made if it does not exist.

        Raises:
            InputError: The bag or its truth is damaged, or they do not fit.
        """
        use_threads(self.threads)
        target.mkdir(exist_ok=True)
        began = time.perf_counter()
        with BagReader(path) as bag:
            run = LockstepRun(bag, open_cameras(bag, self, groups), groups)
            self._predict_all(run, target)
        cameras = {topic: camera.summary() for topic, camera in run.cameras.items()}
        settings = self.settings() | {"precision": groups[0].pipeline.precision}
        write_json(target / REPORT, make_report("lockstep", path.name, cameras, settings))
        write_json(target / TIMING, run.timing(time.perf_counter() - began))
        if self.overlay:
            write_overlay_videos(target / OUTPUTS, target)

    def _predict_all(self, run: LockstepRun, target: Path) -> None:
        """Process every frame of a bag."""
        with ExitStack() as stack:
            outputs: OutputBag | None = None
            if self.outputs:
                writer = stack.enter_context(BagWriter(target / OUTPUTS))
                outputs = OutputBag(writer, overlays=self.overlay)
            for frame, truth in stack.enter_context(prefetch(run.read_frames())):
                run.predict(frame, truth, outputs)
                if self.on_frame is not None:
                    self.on_frame()


@dataclass
class CameraState:
    """One camera while its bag is processed.

    Args:
        namespace: Of its results.
        stamps: Of its images.
        truth: Of its frames, if it is known.
        trackers: Predict for its frames, one tracker for each group of rows.
        scorers: Compare the predictions with the truth, by the names of the rows.
        processed: Number of frames with predictions.
        dropped: Frames that hold no image, by cause.
    """

    namespace: str
    stamps: Stamps
    truth: Truth | None
    trackers: Sequence[VideoTracker]
    scorers: Mapping[str, Scorer]
    processed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    _clock: VideoClock = field(default_factory=VideoClock)

    def advance(self, key: int) -> None:
        """Go to the next frame, and let the scorers start a new video if time has jumped."""
        if self._clock.jumps_to(key):
            for scorer in self.scorers.values():
                scorer.start_video()

    def summary(self) -> dict[str, Any]:
        """Return the camera's part of a report."""
        anomalies = self.stamps.count_anomalies()
        about: dict[str, Any] = {
            "frames": make_coverage(len(self.stamps), self.processed, self.dropped, 0, **anomalies)
        }
        if self.truth is not None:
            about["truth"] = self.truth.counts
        return about | {"methods": {name: scorer.summary() for name, scorer in self.scorers.items()}}


def survey_cameras(bag: BagReader, settings: BagSettings) -> tuple[list[str], dict[str, Stamps]]:
    """Find the cameras of a bag, and the stamps of all of them and of the truth topics.

    Raises:
        InputError: The bag is damaged, has no images, or lacks a topic.
    """
    truths = settings.truth.topic_names
    bag.require_topics(truths)
    topics = choose_cameras(bag, settings.topics or None, truths)
    stamps = survey(bag, [*topics, *truths])
    if not any(len(stamps[topic]) for topic in topics):
        raise InputError(f"bag {bag.path} has no image: {', '.join(topics)} are empty")
    return topics, stamps


def open_cameras(bag: BagReader, settings: BagSettings, groups: Sequence[RowGroup]) -> dict[str, CameraState]:
    """Survey a bag, and make the state of each camera before its first frame, by topic.

    Raises:
        InputError: The bag is damaged, has no images, or has truth that belongs to none of them.
    """
    topics, stamps = survey_cameras(bag, settings)
    truths, namespaces = open_truths(bag, stamps, topics, settings.truth), choose_namespaces(topics)
    cameras = {}
    for topic in topics:
        truth = truths.get(topic)
        classes = None if truth is None else truth.classes
        scorers = {row.name: Scorer(classes, row.prompts.class_names if row.prompts else None) for row in settings.rows}
        trackers = [VideoTracker(group.pipeline, group.methods, settings.video, tracked=DISCOVERY) for group in groups]
        cameras[topic] = CameraState(namespaces[topic], stamps[topic], truth, trackers, scorers)
    return cameras


class LockstepRun:
    """Processes the frames of one bag.

    Args:
        bag: An open bag.
        cameras: By topic.
        groups: The rows, by the passes of the backbone that they share.
    """

    def __init__(self, bag: BagReader, cameras: Mapping[str, CameraState], groups: Sequence[RowGroup]) -> None:
        self.bag, self.cameras = bag, cameras
        self._groups = groups
        self._pipeline_s = 0.0
        self._stages_ms: dict[str, float] = {}

    def read_frames(self) -> Generator[tuple[BagImage, FrameTruth | None], None, None]:
        """Read all frames with their truth, which is None where it is unknown.

        Raises:
            InputError: The bag is damaged, or the truth is invalid.
        """
        with ExitStack() as stack:
            for camera in self.cameras.values():
                if camera.truth is not None:
                    stack.callback(camera.truth.close)
            for frame in read_images(self.bag, list(self.cameras)):
                truth = self.cameras[frame.topic].truth
                yield frame, None if truth is None or frame.image is None else truth.take(frame.key)

    def predict(self, frame: BagImage, truth: FrameTruth | None, outputs: OutputBag | None) -> None:
        """Run all methods on a frame, score their predictions, and write them.

        Args:
            frame: The next of its camera.
            truth: The truth of the frame, if it is known.
            outputs: Where to write the predictions, if anywhere.

        Raises:
            InputError: The truth has another size than the frame.
        """
        camera = self.cameras[frame.topic]
        if frame.image is None:
            camera.dropped[frame.cause] += 1
            return
        camera.advance(frame.key)
        for group, tracker in zip(self._groups, camera.trackers, strict=True):
            began = time.perf_counter()
            result = tracker(frame.image, frame.key)
            self._pipeline_s += time.perf_counter() - began
            for stage, spent_ms in result.timings_ms.items():
                self._stages_ms[stage] = self._stages_ms.get(stage, 0.0) + spent_ms
            for row in group.rows:
                prediction = result[row.method]
                try:
                    camera.scorers[row.name].update(Prediction.from_result(prediction), truth)
                except InputError as error:
                    raise InputError(f"{frame.topic} at {frame.key / 1e9:.3f} s: {error}") from error
                if outputs is not None:
                    threshold = getattr(group.pipeline.options[row.method], "threshold", 0.0)
                    outputs.write(f"{camera.namespace}/{row.node}", frame, prediction, threshold)
        camera.processed += 1

    def timing(self, seconds: float) -> dict[str, Any]:
        """Return how long the bag took, as JSON values.

        Args:
            seconds: Time for the whole bag, the survey included.

        Returns:
            "overhead" among them: the time outside the pipeline, as a part of the time inside it.
        """
        frames = sum(camera.processed for camera in self.cameras.values())
        return {
            "frames": frames,
            "seconds": round(seconds, 3),
            "pipeline_seconds": round(self._pipeline_s, 3),
            "overhead": round(seconds / self._pipeline_s - 1, 4) if self._pipeline_s else None,
            "stages_ms": {stage: round(spent_ms / max(frames, 1), 3) for stage, spent_ms in self._stages_ms.items()},
        }
