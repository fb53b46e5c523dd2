"""Whether a device is right: the golden cases on it, what it answers beside the CPU, and whether its memory stays."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch
from gpu_report import Failure, LeftOut, Message, Row

from objloc_ros.benchmark.run import PROMPTS, BenchLoader
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.results import HeadResult
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.options import describe
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Image, Size

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("found", "lost", "tokencut", "maskcut", "deep_spectral", "detector", "clip_diy", "maskclip", "clip_dinoiser")
SMOKE_METHODS = ("found", "tokencut", "detector", "maskclip")
MEMORY_FRAMES = 2000
PARAMETERS = frozenset(describe(PipelineConfig))
"""What the networks can be told."""


@dataclass(frozen=True)
class Settings:
    """What is run.

    Args:
        device: "cpu", "cuda" or "cuda:N".
        smoke: Whether small sizes do.
    """

    device: str
    smoke: bool

    @property
    def size(self) -> Size:
        """Height and width of the camera's images."""
        return (96, 128) if self.smoke else (480, 640)

    def draw_images(self, count: int, size: Size | None = None) -> list[Image]:
        """Draw frames of the procedural drive."""
        return [image for image, _ in drive_video(seed=5, size=size or self.size, frames=count)]

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)


def list_settings(device: str, known: Collection[str] = PARAMETERS) -> list[dict[str, str]]:
    """List the parameters of networks that are tried, the defaults first; CPUs have no float16."""
    precisions = ("float32", "bfloat16") if device == "cpu" else ("float32", "bfloat16", "float16")
    tried = [{}, *({"precision": name} for name in precisions)]
    return [setting for setting in tried if setting.keys() <= set(known)]


class Deadline:
    """When a section has to end.

    Args:
        seconds: From now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left, 0 at least."""
        return max(0.0, self._end - time.monotonic())

    def allows(self, seconds: float = 0.0) -> bool:
        """Whether so many seconds are left, and some more."""
        return self.left() > seconds


def name_settings(setting: dict[str, str]) -> str:
    """Put parameters into words; "" are the defaults."""
    return ", ".join(f"{name} {value}" for name, value in setting.items())


def try_golden_cases(settings: Settings, deadline: Deadline) -> Iterator[Message]:
    """Run the tests that read the original implementations' outputs, with their tensors on the device.

    A case is a test whose name has that of its file; of a smoke run only those of one number and the papers' methods.
    """
    tests = sorted((ROOT / "test").rglob("test_discovery_golden.py" if settings.smoke else "test_*.py"))
    files = [path for path in tests if "golden_cases" in path.read_text()]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    command += ["-k", "case03" if settings.smoke else "case0 or case1 or case2 or case3 or case4 or case5 or original"]
    kind = settings.device.partition(":")[0]
    env = {**os.environ, "OBJLOC_GOLDEN_DEVICE": settings.device, "PYTHONPATH": os.pathsep.join(sys.path)}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command += [f"--junit-xml={report}", *(str(path.relative_to(ROOT)) for path in files)]
        try:
            done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=deadline.left())
        except subprocess.TimeoutExpired:
            yield LeftOut("golden cases: the time was up before the tests had ended")
            return
        if not report.exists():
            raise RuntimeError(f"pytest made no report: {(done.stderr or done.stdout).strip()[-400:]}")
        suites = ElementTree.parse(report).getroot()
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    failed: dict[str, list[str]] = defaultdict(list)
    for case in suites.iter("testcase"):
        name = case.get("classname", "").removeprefix("test.")
        place = 2 if case.find("skipped") is not None else 0
        for bad in (*case.iter("failure"), *case.iter("error")):
            place = 1
            failed[name].append(f"{case.get('name')}: {(bad.get('message') or '').splitlines()[:1]}"[:160])
        counts[name][place] += 1
    for name, (passed, broken, skipped) in sorted(counts.items()):
        why = "; ".join(failed[name][:3]).replace("|", "\\|")
        yield {"tests": name, "device": kind, "passed": passed, "failed": broken, "skipped": skipped, "why": why}


def compare_with_cpu(settings: Settings, deadline: Deadline) -> Iterator[Message]:
    """Run the embedded model on the same frames on the CPU and on the device, one by one and in a batch."""
    images = settings.draw_images(2 if settings.smoke else 8)
    for method in SMOKE_METHODS if settings.smoke else METHODS:
        expected: list[HeadResult] | None = None
        for setting in list_settings(settings.device):
            what = f"{method} {name_settings(setting)}".strip()
            if not deadline.allows(1.0):
                yield LeftOut(f"agreement of {what}: the time was up")
                continue
            try:
                if expected is None:
                    reference = _load(method, "cpu", {"precision": "float32"} if "precision" in PARAMETERS else {})
                    expected = [reference.run(image)[method] for image in images]
                pipeline = _load(method, settings.device, setting)
                singles = [pipeline.run(image)[method] for image in images]
                batch = [result[method] for result in pipeline.run(images)]
            except Exception as error:  # noqa: BLE001 - the other rows are worth as much without this one
                yield Failure(f"agreement of {what}: {type(error).__name__}: {error}")
                continue
            for how, results in (("one by one", singles), ("in a batch", batch)):
                row = {"method": method, "settings": name_settings(setting), "frames": how}
                yield row | _compare(expected, results)


def _load(method: str, device: str, setting: dict[str, str]) -> Pipeline:
    pipeline = build_pipeline(PipelineConfig(methods=(method,), device=device, **setting))
    if method in SEGMENTATION:
        pipeline.set_prompts(PROMPTS)
    return pipeline


def _compare(expected: list[HeadResult], results: list[HeadResult]) -> Row:
    ious, boxes, scores = [], 0, [0.0]
    for one, other in zip(expected, results, strict=True):
        a, b = one.label_map(), other.label_map()
        either = ((a != _EMPTY[one.prompts is None]) | (b != _EMPTY[one.prompts is None])).sum()
        same = ((a == b) & (a != _EMPTY[one.prompts is None])).sum()
        ious.append(float(same / either) if either else 1.0)
        if len(one.detections) == len(other.detections):
            near = np.abs(one.detections.boxes - other.detections.boxes).max(initial=0) <= 0.5
            boxes += int(near and one.detections.labels == other.detections.labels)
            scores.append(float(np.abs(one.detections.scores - other.detections.scores).max(initial=0)))
    return {
        "least IoU": min(ious),
        "mean IoU": float(np.mean(ious)),
        "equal boxes": f"{boxes} of {len(expected)}",
        "largest difference of scores": max(scores),
    }


_EMPTY = {True: 0, False: 255}
"""What label maps hold where nothing is: without prompts, and with them."""


def watch_memory(settings: Settings, deadline: Deadline) -> Iterator[Message]:
    """Run FOUND on many frames, and look at the memory after a tenth of them and at the end."""
    wanted = 40 if settings.smoke else MEMORY_FRAMES
    backbone, is_random = ("tiny", False) if settings.smoke else ("dino_vits8", True)
    config = PipelineConfig(methods=("found",), backbone=backbone, device=settings.device)
    pipeline = build_pipeline(config, BenchLoader(random=is_random))
    before: dict[str, float] = {}
    count = 0
    for image in islice(cycle(settings.draw_images(4)), wanted):
        if not deadline.allows():
            yield LeftOut(f"frames after the {count}th of {wanted}: the time was up")
            break
        pipeline.run(image)["found"].label_map()
        count += 1
        if count == wanted // 10:
            before = _measure_memory(settings)
    after = _measure_memory(settings)
    for name, value in after.items():
        start = before.get(name)
        yield {
            "memory": name,
            "frames": count,
            f"MiB after {wanted // 10}": start,
            "MiB at the end": value,
            "growth %": None if not start else 100 * (value / start - 1),
        }


def _measure_memory(settings: Settings) -> dict[str, float]:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = {"resident on the host": pages * os.sysconf("SC_PAGE_SIZE") / 2**20}
    if settings.device != "cpu":
        settings.synchronize()
        memory["allocated on the GPU"] = torch.cuda.memory_allocated(settings.device) / 2**20
        memory["reserved on the GPU"] = torch.cuda.memory_reserved(settings.device) / 2**20
        memory["most allocated on the GPU"] = torch.cuda.max_memory_allocated(settings.device) / 2**20
    return memory
