"""How fast a device is: methods and batches, stages against the floor, and cameras around one engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import torch
from gpu_correctness import SMOKE_METHODS, Deadline, Settings, list_settings, name_settings
from gpu_report import Failure, LeftOut, Message, Row

from objloc_ros.benchmark.cases import FRAME, STAGES, Case, EngineOnly
from objloc_ros.benchmark.run import PROMPTS, RANDOM, BenchLoader, measure
from objloc_ros.engine.config import DISCOVERY, HEADS, PipelineConfig
from objloc_ros.engine.frame_stats import FrameStats, percentiles
from objloc_ros.engine.latest_slot import LatestSlot
from objloc_ros.engine.loader import Loader, SharedLoader
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.options import describe
from objloc_ros.types import Image, Size

BATCHES = (1, 8)
CALLS, CALLS_S = (5, 200), 1.0
"""Fewest and most timed calls of a row, and the seconds after which no further one is made."""

CAMERAS, CAMERA_HZ, CAMERAS_S = (1, 4, 8), 30.0, 6.0
"""How many cameras, how fast, and for how long they send."""


class Subject(NamedTuple):
    """What is measured.

    Args:
        method: A key of `HEADS`.
        backbone: Name in the weights registry, after "random:" for random weights of that shape.
        size: Height and width of the images.
        clip: CLIP model, of the methods with prompts.
    """

    method: str
    backbone: str
    size: Size
    clip: str = "tiny_clip"

    def describe(self, setting: dict[str, str]) -> Row:
        """The first cells of its rows."""
        clip = self.clip if self.method in SEGMENTATION else ""
        size = f"{self.size[1]}x{self.size[0]}"
        return {
            "method": self.method,
            "backbone": self.backbone,
            "clip": clip,
            "size": size,
            "settings": name_settings(setting),
        }


def list_subjects(settings: Settings) -> list[Subject]:
    """List what is measured, what the aims are about first."""
    if settings.smoke:
        return [Subject(method, f"{RANDOM}tiny", settings.size) for method in SMOKE_METHODS]
    small, fine = f"{RANDOM}dino_vits16", f"{RANDOM}dino_vits8"
    b32, b16 = f"{RANDOM}clip_vitb32", f"{RANDOM}clip_vitb16"
    return [
        Subject("found", fine, settings.size),
        Subject("found", small, settings.size),
        Subject("tokencut", small, settings.size),
        Subject("maskcut", fine, (480, 480)),
        Subject("clip_diy", fine, settings.size, b32),
        Subject("lost", small, settings.size),
        Subject("maskcut", small, settings.size),
        Subject("deep_spectral", small, settings.size),
        Subject("detector", small, settings.size),
        Subject("clip_dinoiser", fine, settings.size, b16),
        Subject("lost", fine, settings.size),
        Subject("tokencut", fine, settings.size),
        Subject("deep_spectral", fine, settings.size),
        Subject("detector", fine, settings.size),
    ]


def time_methods(settings: Settings, deadline: Deadline) -> Iterator[Message]:
    """Time images on the host to boxes and label map on the host, in a batch of one and of several.

    Other settings than the defaults are tried of FOUND only.
    """
    for subject in list_subjects(settings):
        for setting in list_settings(settings.device) if subject.method == "found" else [{}]:
            first = subject.describe(setting)
            if not deadline.allows(2.0):
                yield LeftOut(f"{' '.join(filter(None, first.values()))}: the time was up")
                continue
            try:
                pipeline = build(subject, settings, setting)
                for batch in BATCHES:
                    if not deadline.allows(1.0):
                        yield LeftOut(f"{' '.join(filter(None, first.values()))}, batch {batch}: the time was up")
                        continue
                    images = settings.draw_images(batch, subject.size)
                    yield first | {"batch": batch} | time_calls(pipeline, subject.method, images, settings, deadline)
            except Exception as error:  # noqa: BLE001 - the other rows are worth as much without this one
                yield Failure(f"{' '.join(filter(None, first.values()))}: {type(error).__name__}: {error}")


def build(subject: Subject, settings: Settings, setting: dict[str, str], loader: Loader | None = None) -> Pipeline:
    """Build a pipeline with the options that nodes have."""
    config = PipelineConfig(
        methods=(subject.method,),
        backbone=subject.backbone.removeprefix(RANDOM),
        clip=subject.clip.removeprefix(RANDOM),
        device=settings.device,
        **setting,
    )
    pipeline = build_pipeline(config, loader or make_loader(subject))
    if subject.method in DISCOVERY and "post" in describe(HEADS[subject.method]):
        pipeline.configure(subject.method, post="none")
    if subject.method in SEGMENTATION:
        pipeline.set_prompts(PROMPTS)
    return pipeline


def make_loader(subject: Subject) -> BenchLoader:
    """What loads its networks."""
    return BenchLoader(random=subject.backbone.startswith(RANDOM), random_clip=subject.clip.startswith(RANDOM))


def time_calls(pipeline: Pipeline, method: str, images: Sequence[Image], settings: Settings, deadline: Deadline) -> Row:
    """Time calls until there are enough of them; the first two do not count."""

    def call() -> None:
        results = pipeline.run(images) if len(images) > 1 else [pipeline.run(images[0])]
        for result in results:
            result[method].label_map()

    if settings.device != "cpu":
        torch.cuda.reset_peak_memory_stats(settings.device)
    for _ in range(1 if settings.smoke else 2):
        call()
    fewest, most = (1, 2) if settings.smoke else CALLS
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < most and (len(times) < fewest or time.perf_counter() - began < CALLS_S):
        settings.synchronize()
        start = time.perf_counter()
        call()
        settings.synchronize()
        times.append((time.perf_counter() - start) * 1e3 / len(images))
        if not deadline.allows():
            break
    low, median, high = np.percentile(times, (25, 50, 75))
    row: Row = {
        "calls": len(times),
        "ms per image": float(median),
        "quartiles ms": f"{low:.2f}–{high:.2f}",
        "frames/s": float(1e3 / median),
    }
    if settings.device != "cpu":
        row["most MiB"] = torch.cuda.max_memory_allocated(settings.device) / 2**20
    return row


def split_stages(settings: Settings, deadline: Deadline) -> Iterator[Message]:
    """Take a frame apart, waiting for the device after each stage, and set the stages beside their floors."""
    rounds = 1 if settings.smoke else 15
    for subject in list_subjects(settings):
        first = subject.describe({})
        if not deadline.allows(2.0):
            yield LeftOut(f"stages of {' '.join(filter(None, first.values()))}: the time was up")
            continue
        case = Case(settings.device, subject.backbone, subject.size, subject.method)
        node = EngineOnly(settings.draw_images(2, subject.size))
        try:
            done = measure([case], {subject.size: node}, rounds=rounds, clip=subject.clip)
        except Exception as error:  # noqa: BLE001 - the other rows are worth as much without this one
            yield Failure(f"stages of {' '.join(filter(None, first.values()))}: {type(error).__name__}: {error}")
            continue
        (result,) = done.rows
        row = first | {"frame ms": result.median(FRAME)}
        row |= {f"{stage} ms": result.median(stage) for stage in STAGES if stage in result.rounds}
        for stage, floor in result.rooflines.items():
            row |= {f"{stage} floor ms": floor.ms, f"{stage} / floor": result.over_roofline(stage)}
            row |= {f"{stage} rate": f"{floor.gflop_per_s:.3g} GFLOP/s {floor.dtype}"}
        yield row


def run_cameras(settings: Settings, deadline: Deadline) -> Iterator[Message]:
    """Have several cameras share one engine as `perception` does: at their rate, then as fast as they are answered."""
    backbones = [f"{RANDOM}tiny"] if settings.smoke else [f"{RANDOM}dino_vits8", f"{RANDOM}dino_vits16"]
    seconds = 0.5 if settings.smoke else CAMERAS_S
    images = settings.draw_images(4)
    for backbone in backbones:
        subject = Subject("found", backbone, settings.size)
        for cameras in CAMERAS[:2] if settings.smoke else CAMERAS:
            first = {"method": "found", "backbone": backbone, "cameras": cameras, "settings": ""}
            if not deadline.allows(2 * seconds):
                yield LeftOut(f"{cameras} cameras on {backbone}: the time was up")
                continue
            shared = SharedLoader(loader=make_loader(subject))
            pipelines = [build(subject, settings, {}, shared.make_client(number)) for number in range(cameras)]
            _run_all(pipelines, images, seconds / 4)
            live = _send(pipelines, images, seconds)
            yield first | live | {"frames/s flat out": _run_all(pipelines, images, seconds / 2)}


def _run_all(pipelines: Sequence[Pipeline], images: Sequence[Image], seconds: float) -> float:
    """Have each camera ask again as soon as it is answered; returns the frames per second of all."""
    counts, end = [0] * len(pipelines), time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            pipelines[number].run(images[counts[number] % len(images)])["found"].label_map()
            counts[number] += 1

    began = time.perf_counter()
    _run_threads(work, len(pipelines))
    return sum(counts) / (time.perf_counter() - began)


def _send(pipelines: Sequence[Pipeline], images: Sequence[Image], seconds: float) -> Row:
    """Offer frames at the cameras' rate, evenly staggered, to slots that keep the newest."""
    ages: list[list[float]] = [[] for _ in pipelines]
    stats = [FrameStats() for _ in pipelines]

    def make_slot(number: int) -> LatestSlot[tuple[float, Image]]:
        def work(frame: tuple[float, Image]) -> None:
            pipelines[number].run(frame[1])["found"].label_map()
            ages[number].append((time.perf_counter() - frame[0]) * 1e3)

        return LatestSlot(work, stats[number], age_ms=lambda frame: (time.perf_counter() - frame[0]) * 1e3)

    slots = [make_slot(number) for number in range(len(pipelines))]
    ticking, began = threading.Event(), time.perf_counter()

    def send(number: int) -> None:
        for tick in count():
            due = began + (tick + number / len(pipelines)) / CAMERA_HZ
            if due - began > seconds:
                return
            ticking.wait(max(0.0, due - time.perf_counter()))
            slots[number].offer((time.perf_counter(), images[tick % len(images)]))

    _run_threads(send, len(pipelines))
    ticking.wait(min(0.5, seconds))  # for the frames in work
    for slot in slots:
        slot.stop()
    seen = [one.snapshot() for one in stats]
    sent, answered = sum(one.received for one in seen), sum(one.published for one in seen)
    ranks = percentiles([age for camera in ages for age in camera])
    row: Row = {"Hz each": CAMERA_HZ, "sent": sent, "answered": answered, "dropped": sent - answered}
    return row | {f"age {rank} ms": value for rank, value in ranks.items()}


def _run_threads(work: object, number: int) -> None:
    threads = [threading.Thread(target=work, args=(i,)) for i in range(number)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
