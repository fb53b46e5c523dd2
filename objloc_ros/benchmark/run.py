"""The rounds of a benchmark: all cases take turns, so that all of them see the same machine."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from safetensors.torch import save_file

from objloc_ros.backbones.clip import CLIP_SPECS, build_clip_image, build_text_transformer, find_clip_spec
from objloc_ros.backbones.lite_clip import LITE_CLIP, LiteSpec
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import build_vit
from objloc_ros.backbones.weights import VISUAL, fingerprint
from objloc_ros.benchmark.cases import FRAME, Case, NodeStages, SkippedCase, time_call
from objloc_ros.benchmark.results import CaseResult, Roofline
from objloc_ros.benchmark.roofline import (
    DeviceRates,
    MatrixProduct,
    Workload,
    count_clip_dense,
    count_clip_windows,
    count_detector,
    count_gram,
    count_lite,
    count_vit,
)
from objloc_ros.engine.backbone import Backbone, has_bfloat16_units, resolve_device
from objloc_ros.engine.batcher import OutOfMemoryError
from objloc_ros.engine.config import DISCOVERY, HEADS, PipelineConfig
from objloc_ros.engine.heads.image_methods import IMAGE_METHODS
from objloc_ros.engine.loader import Loader, SharedLoader
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.engine.results import Head
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.methods.clip_dinoiser import DinoiserHead, save_dinoiser_head
from objloc_ros.methods.detector_file import DetectorInfo, save_detector
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.methods.token_detector import TokenDetector
from objloc_ros.ops.geometry import plan
from objloc_ros.options import describe
from objloc_ros.types import Size

T = TypeVar("T")

RANDOM = "random:"
"""Before the name of a backbone or a CLIP model: its architecture with random weights, on which the time of a pass does
not depend."""


def architecture(backbone: str) -> str:
    """The name of a backbone without "random:".

    Raises:
        ParameterError: If there is no such architecture.
    """
    name = backbone.removeprefix(RANDOM)
    if name not in SPECS:
        raise ParameterError(f"unknown backbone {backbone!r}; known: {', '.join(SPECS)}, each also as {RANDOM}NAME")
    return name


class BenchLoader(Loader):
    """Loads each network once and keeps it.

    Args:
        random: Give the backbone, and FOUND's head or the detector for it, random weights. The head then finds
            something in places, but what follows it depends on the weights.
        random_clip: Give both towers of CLIP, and CLIP-DINOiser's head, random weights.
    """

    def __init__(self, *, random: bool, random_clip: bool = False) -> None:
        self._random, self._random_clip = random, random_clip
        self._kept: dict[Hashable, Any] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="objloc-bench-")

    def load_backbone(self, config: PipelineConfig) -> Backbone:
        """See `Loader.load_backbone`."""

        def load() -> Backbone:
            if not self._random:
                return super(BenchLoader, self).load_backbone(config)
            device = torch.device(config.device)
            torch.manual_seed(0)
            vit = build_vit(config.backbone).requires_grad_(False).eval().to(device)
            short_side = config.short_side or vit.spec.short_side
            return Backbone(vit, name=config.backbone, device=device, short_side=short_side)

        return self._once(("backbone", config), load)

    def load_heads(self, config: PipelineConfig) -> Mapping[str, Head]:
        """See `Loader.heads`."""
        if self._random:
            make = self._random_detector if "detector" in config.methods else self._random_head
            config = replace(config, head_weights=make(config))
        if self._random_clip and any(method in SEGMENTATION for method in config.methods):
            towers, head = self._random_towers(config.clip)
            config = replace(config, clip_weights=towers, dinoiser_weights=head)
        return self._once(("heads", config), lambda: super(BenchLoader, self).load_heads(config))

    def load_encoder(self, config: PipelineConfig) -> PromptEncoder:
        """See `Loader.encoder`."""
        if self._random_clip and any(method in SEGMENTATION for method in config.methods):
            config = replace(config, clip_weights=self._random_towers(config.clip)[0])
        return self._once(
            ("encoder", config.clip, config.device), lambda: super(BenchLoader, self).load_encoder(config)
        )

    def _once(self, key: Hashable, load: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = load()
        kept: T = self._kept[key]
        return kept

    def _random_detector(self, config: PipelineConfig) -> Path:
        """A file, as detectors are read from nothing else."""
        path = Path(self._folder.name) / f"{config.backbone}_detector.safetensors"
        if not path.exists():
            vit = self.load_backbone(replace(config, short_side=None)).vit
            torch.manual_seed(0)
            detector = TokenDetector(vit.embed_dim)
            torch.nn.init.zeros_(cast(torch.Tensor, detector.objectness.bias))  # untrained ones find nothing
            info = DetectorInfo(
                backbone=config.backbone, fingerprint=fingerprint(vit), patch=vit.patch, classes=detector.classes
            )
            save_detector(path, detector, info)
        return path

    def _random_towers(self, clip: str) -> tuple[Path, Path]:
        """Two files, as CLIP and CLIP-DINOiser's head are read from nothing else."""
        towers, head = (Path(self._folder.name) / f"{clip}{end}.safetensors" for end in ("", "_dinoiser"))
        if not head.exists():
            spec = find_clip_spec(clip)
            if spec.compact:
                raise ParameterError(f"{RANDOM}{clip} has no tokens: name it without {RANDOM}")
            torch.manual_seed(0)
            image, text = build_clip_image(clip), build_text_transformer(clip)
            state = {f"{VISUAL}{name}": value for name, value in image.visual.state_dict().items()}
            save_file(state | text.state_dict(), towers)
            save_dinoiser_head(head, DinoiserHead(spec.width))
        return towers, head

    def _random_head(self, config: PipelineConfig) -> Path:
        """A file, as FOUND's head is read from nothing else."""
        path = Path(self._folder.name) / f"{config.backbone}.safetensors"
        if not path.exists():
            weight = torch.randn(1, SPECS[config.backbone].embed_dim, 1, 1, generator=torch.Generator().manual_seed(0))
            save_file({"weight": weight, "bias": torch.zeros(1)}, path)
        return path


PROMPTS = ("red circle", "green star", "blue square", "yellow triangle")
"""What the open-vocabulary methods look for."""

ROUND_FRAMES = 4
"""Frames of each camera in one round, where several share the engine."""

GRAPH_METHODS = ("lost", "tokencut", "deep_spectral", "maskcut")
"""Methods that compare all pairs of patches."""


class Measurements(NamedTuple):
    """Results, cases that could not be measured, and the devices' rates."""

    rows: list[CaseResult]
    skipped: list[SkippedCase]
    rates: DeviceRates


class _LoadedCase(NamedTuple):
    """A case with a pipeline for each camera, and the work of its stages."""

    case: Case
    node: NodeStages
    pipelines: list[Pipeline]
    workloads: dict[str, tuple[Workload, MatrixProduct]]


def measure(
    cases: Sequence[Case],
    nodes: Mapping[Size, NodeStages],
    *,
    rounds: int,
    clip: str = "tiny_clip",
    progress: Callable[[], object] = lambda: None,
) -> Measurements:
    """Measure cases in turns, each of them once before.

    Args:
        cases: What to measure.
        nodes: The node's stages for each size.
        rounds: How often.
        clip: CLIP model of the open-vocabulary methods, after "random:" for random weights.
        progress: Called `rounds + 1` times for each case.

    Raises:
        ParameterError: If a name or a device is unknown, or nothing at all can be measured.
    """
    loaded, skipped = _load_cases(cases, nodes, clip, progress)
    if not loaded:
        reasons = "; ".join(dict.fromkeys(skip.reason for skip in skipped))
        raise ParameterError(f"there is nothing to measure: {reasons or 'no combinations'}")
    rates = DeviceRates(dict.fromkeys(product for case in loaded for product in _list_products(case)))
    times: list[list[dict[str, float]]] = [[] for _ in loaded]
    for number in range(1, rounds + 1):
        with _without_collections():
            rates.measure()
            for case, case_times in zip(loaded, times, strict=True):
                case_times.append(_run_round(case, number))
                progress()
    rows = [_make_result(case, case_times, rates) for case, case_times in zip(loaded, times, strict=True)]
    return Measurements(rows, skipped, rates)


def _load_cases(
    cases: Sequence[Case], nodes: Mapping[Size, NodeStages], clip: str, progress: Callable[[], object]
) -> tuple[list[_LoadedCase], list[SkippedCase]]:
    """Load every case and run it once."""
    random_clip, clip = clip.startswith(RANDOM), clip.removeprefix(RANDOM)
    loaders = {
        name: BenchLoader(random=name.startswith(RANDOM), random_clip=random_clip)
        for name in {case.backbone for case in cases}
    }
    loaded, skipped = [], []
    for case in cases:
        loader = loaders[case.backbone]
        shared = SharedLoader(loader=loader) if case.cameras > 1 else None
        try:
            clients = [loader] if shared is None else [shared.make_client(camera) for camera in range(case.cameras)]
            pipelines = [_build(case, client, clip) for client in clients]
            candidate = _LoadedCase(case, nodes[case.size], pipelines, _count_work(case, pipelines[0], clip))
            _run_round(candidate, 0)
        except WeightsError as error:
            skipped.append(SkippedCase(case, str(error)))
        except (torch.OutOfMemoryError, OutOfMemoryError, MemoryError):
            skipped.append(SkippedCase(case, f"{case.device} has no memory for it"))
        else:
            loaded.append(candidate)
        progress()
    return loaded, skipped


def _build(case: Case, loader: Loader, clip: str) -> Pipeline:
    """Build a pipeline with the options that nodes have."""
    name = architecture(case.backbone)
    config = PipelineConfig(methods=(case.method,), backbone=name, device=case.device, clip=clip)
    pipeline = build_pipeline(config, loader)
    if case.method in DISCOVERY and "post" in describe(HEADS[case.method]):
        pipeline.configure(case.method, post="none")
    if case.method in SEGMENTATION:
        pipeline.set_prompts(PROMPTS)
    # Cameras that wait for the device after each stage would wait for each other's work.
    pipeline.fine_timings = case.cameras == 1 or pipeline.device == "cpu"
    return pipeline


def _count_work(case: Case, pipeline: Pipeline, clip: str) -> dict[str, tuple[Workload, MatrixProduct]]:
    """Count the work of the stages that have a roofline, and say at whose rate it may be done."""
    if case.method in IMAGE_METHODS:
        return {}
    backbone, grid = pipeline.backbone, pipeline.geometry(case.size).grid
    workloads = {"vit": count_vit(backbone.vit.spec, grid)}
    if case.method in GRAPH_METHODS:
        workloads["head"] = count_gram(grid[0] * grid[1], backbone.vit.spec.embed_dim)
    elif case.method == "detector":
        workloads["head"] = count_detector(backbone.vit.spec, grid)
    elif case.method in SEGMENTATION and clip == LITE_CLIP:
        spec = LiteSpec()
        side = spec.window_side
        is_square = case.method == "clip_diy"
        size = (side, side) if is_square else plan(case.size, patch=spec.patch, short_side=spec.short_side).padded
        workloads["head"] = count_lite(spec, size)
    elif case.method in SEGMENTATION and clip not in CLIP_SPECS:
        pass  # nothing is counted of timm's networks
    elif case.method == "clip_diy":
        workloads["head"] = count_clip_windows(find_clip_spec(clip))
    elif case.method in SEGMENTATION:
        workloads["head"] = count_clip_dense(find_clip_spec(clip), case.size)
    units = has_bfloat16_units(resolve_device(case.device))
    return {
        stage: (work, MatrixProduct(case.device, "bfloat16" if work.bfloat16 and units else "float32", work.gemm))
        for stage, work in workloads.items()
    }


def _list_products(case: _LoadedCase) -> Iterator[MatrixProduct]:
    """List what to measure the rates of: products of networks in both precisions, whichever of them is used."""
    for work, product in case.workloads.values():
        dtypes = ("float32", "bfloat16") if work.attention else (product.dtype,)
        yield from (replace(product, dtype=dtype) for dtype in dtypes)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Collect garbage before a round, and not in it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _run_round(loaded: _LoadedCase, number: int) -> dict[str, float]:
    """Measure the milliseconds per image of each stage and of the frame."""
    case = loaded.case
    if case.cameras == 1:
        return time_call(loaded.pipelines[0], case, loaded.node, number * case.batch)
    with ThreadPoolExecutor(case.cameras) as threads:
        start = time.perf_counter()
        cameras = [
            threads.submit(_run_camera, loaded, pipeline, ROUND_FRAMES * (number * case.cameras + camera))
            for camera, pipeline in enumerate(loaded.pipelines)
        ]
        frames = [times for camera in cameras for times in camera.result()]
        elapsed_ms = (time.perf_counter() - start) * 1e3
    stages = {stage: float(np.median([times[stage] for times in frames])) for stage in frames[0]}
    return stages | {FRAME: elapsed_ms / len(frames)}


def _run_camera(loaded: _LoadedCase, pipeline: Pipeline, first: int) -> list[dict[str, float]]:
    """Time one camera's frames of a round; they are not published, as publishers would take turns."""
    return [time_call(pipeline, loaded.case, loaded.node, first + i, publish=False) for i in range(ROUND_FRAMES)]


def _make_result(loaded: _LoadedCase, times: Sequence[Mapping[str, float]], rates: DeviceRates) -> CaseResult:
    rounds = {stage: [milliseconds[stage] for milliseconds in times] for stage in times[0]}
    rooflines = {}
    for stage, (work, product) in loaded.workloads.items():
        if stage in rounds:
            rooflines[stage] = Roofline(
                ms=rates.roofline_ms(work, product, loaded.case.batch),
                flops=work.flops,
                attention_flops=work.attention,
                bytes=work.bytes(loaded.case.batch),
                gflop_per_s=rates.flops_per_s(product) / 1e9,
                dtype=product.dtype,
            )
    return CaseResult(loaded.case, rounds, rooflines)
