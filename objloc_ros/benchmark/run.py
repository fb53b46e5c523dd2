"""The rounds of a benchmark: all combinations take turns, so that all of them see the same machine."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file

from objloc_ros.backbones.clip import clip_spec
from objloc_ros.backbones.vit import SPECS, build_vit
from objloc_ros.benchmark.cases import FRAME, Cell, Ends, Skipped, time_call
from objloc_ros.benchmark.results import Floor, Row
from objloc_ros.benchmark.roofline import Product, Rates, Work, clip_dense_work, clip_windows_work, gram_work, vit_work
from objloc_ros.engine.backbone import Backbone, has_bfloat16_units, resolve_device
from objloc_ros.engine.batcher import OutOfMemoryError
from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.engine.loader import Loader, Models, SharedLoader
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.engine.results import Head
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.types import Size

T = TypeVar("T")

RANDOM = "random:"
"""Before the name of a backbone: its architecture with random weights, on which the time of a pass does not depend."""


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
        random: Give the backbone and FOUND's head for it random weights. The head then finds something in places, but
            what follows it depends on the weights.
    """

    def __init__(self, *, random: bool) -> None:
        self._random = random
        self._kept: dict[Hashable, Any] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="objloc-bench-")

    def backbone(
        self, name: str, *, weights: str | Path | None, device: torch.device, short_side: int | None
    ) -> Backbone:
        """See `Loader.backbone`."""

        def load() -> Backbone:
            if not self._random:
                return super(BenchLoader, self).backbone(name, weights=weights, device=device, short_side=short_side)
            torch.manual_seed(0)
            vit = build_vit(name).requires_grad_(False).eval().to(device)
            return Backbone(vit, name=name, device=device, short_side=short_side or vit.spec.short_side)

        return self._once(("backbone", name, weights, device, short_side), load)

    def heads(self, methods: Sequence[str], models: Models) -> Mapping[str, Head]:
        """See `Loader.heads`."""
        if self._random:
            models = replace(models, head_weights=self._random_head(models.backbone))
        return self._once(("heads", tuple(methods), models), lambda: super(BenchLoader, self).heads(methods, models))

    def encoder(self, models: Models) -> PromptEncoder:
        """See `Loader.encoder`."""
        return self._once(("encoder", models.clip, models.device), lambda: super(BenchLoader, self).encoder(models))

    def _once(self, key: Hashable, load: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = load()
        kept: T = self._kept[key]
        return kept

    def _random_head(self, backbone: str) -> Path:
        """A file, as FOUND's head is read from nothing else."""
        path = Path(self._folder.name) / f"{backbone}.safetensors"
        if not path.exists():
            weight = torch.randn(1, SPECS[backbone].embed_dim, 1, 1, generator=torch.Generator().manual_seed(0))
            save_file({"weight": weight, "bias": torch.zeros(1)}, path)
        return path


PROMPTS = ("red circle", "green star", "blue square", "yellow triangle")
"""What the open-vocabulary methods look for."""

FRAMES = 4
"""Frames of each camera in one round, where several share the engine."""

WITH_GRAPH = ("lost", "tokencut", "deep_spectral", "maskcut")
"""Methods that compare all pairs of patches."""


class Measured(NamedTuple):
    """Rows, combinations that could not be measured, and the device's rates."""

    rows: list[Row]
    skipped: list[Skipped]
    rates: Rates


class _Ready(NamedTuple):
    """A combination, loaded: a pipeline for each camera, and the work of its stages."""

    cell: Cell
    ends: Ends
    pipelines: list[Pipeline]
    works: dict[str, tuple[Work, Product]]


def measure(
    cells: Sequence[Cell],
    ends: Mapping[Size, Ends],
    *,
    rounds: int,
    clip: str = "tiny_clip",
    progress: Callable[[], object] = lambda: None,
) -> Measured:
    """Measure combinations in turns, each of them once before.

    Args:
        cells: Which.
        ends: What lies before and behind the engine, for each size.
        rounds: How often.
        clip: CLIP model of the open-vocabulary methods.
        progress: Called `rounds + 1` times for each combination.

    Raises:
        ParameterError: If a name or a device is unknown, or nothing at all can be measured.
    """
    ready, skipped = _load(cells, ends, clip, progress)
    if not ready:
        reasons = "; ".join(dict.fromkeys(one.reason for one in skipped))
        raise ParameterError(f"there is nothing to measure: {reasons or 'no combinations'}")
    rates = Rates(dict.fromkeys(product for one in ready for product in _products(one)))
    times: list[list[dict[str, float]]] = [[] for _ in ready]
    for number in range(1, rounds + 1):
        with _without_collections():
            rates.measure()
            for one, taken in zip(ready, times, strict=True):
                taken.append(_round(one, number))
                progress()
    rows = [_row(one, taken, rates) for one, taken in zip(ready, times, strict=True)]
    return Measured(rows, skipped, rates)


def _load(
    cells: Sequence[Cell], ends: Mapping[Size, Ends], clip: str, progress: Callable[[], object]
) -> tuple[list[_Ready], list[Skipped]]:
    """Load every combination and run it once."""
    loaders = {name: BenchLoader(random=name.startswith(RANDOM)) for name in {cell.backbone for cell in cells}}
    ready, skipped = [], []
    for cell in cells:
        loader = loaders[cell.backbone]
        shared = SharedLoader(loader=loader) if cell.cameras > 1 else None
        try:
            clients = [loader] if shared is None else [shared.client(camera) for camera in range(cell.cameras)]
            pipelines = [_pipeline(cell, client, clip) for client in clients]
            one = _Ready(cell, ends[cell.size], pipelines, _works(cell, pipelines[0], clip))
            _round(one, 0)
        except WeightsError as error:
            skipped.append(Skipped(cell, str(error)))
        except (torch.OutOfMemoryError, OutOfMemoryError, MemoryError):
            skipped.append(Skipped(cell, f"{cell.device} has no memory for it"))
        else:
            ready.append(one)
        progress()
    return ready, skipped


def _pipeline(cell: Cell, loader: Loader, clip: str) -> Pipeline:
    """With the options that nodes have."""
    name = architecture(cell.backbone)
    pipeline = load_pipeline((cell.method,), name, cell.device, clip=clip, loader=loader)
    if cell.method in DISCOVERY:
        pipeline.configure(cell.method, post="none")
    if cell.method in SEGMENTATION:
        pipeline.set_prompts(PROMPTS)
    # Cameras that wait for the device after each stage would wait for each other's work.
    pipeline.fine_timings = cell.cameras == 1 or pipeline.device.type == "cpu"
    return pipeline


def _works(cell: Cell, pipeline: Pipeline, clip: str) -> dict[str, tuple[Work, Product]]:
    """The work of the stages that have a floor, and at whose rate it may be done."""
    backbone, grid = pipeline.backbone, pipeline.geometry(cell.size).grid
    works = {"vit": vit_work(backbone.vit.spec, grid)}
    if cell.method in WITH_GRAPH:
        works["head"] = gram_work(grid[0] * grid[1], backbone.vit.spec.embed_dim)
    elif cell.method == "clip_diy":
        works["head"] = clip_windows_work(clip_spec(clip))
    elif cell.method in SEGMENTATION:
        works["head"] = clip_dense_work(clip_spec(clip), cell.size)
    units = has_bfloat16_units(resolve_device(cell.device))
    dtypes = {stage: "bfloat16" if work.bfloat16 and units else "float32" for stage, work in works.items()}
    return {stage: (work, Product(cell.device, dtypes[stage], work.gemm)) for stage, work in works.items()}


def _products(one: _Ready) -> Iterator[Product]:
    """What to measure the rates of: products of networks in both precisions, whichever of them is used."""
    for work, product in one.works.values():
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


def _round(one: _Ready, number: int) -> dict[str, float]:
    """Milliseconds per image of each stage and of the frame."""
    if one.cell.cameras == 1:
        return time_call(one.pipelines[0], one.cell, one.ends, number * one.cell.batch)
    with ThreadPoolExecutor(one.cell.cameras) as threads:
        start = time.perf_counter()
        cameras = [
            threads.submit(_camera, one, pipeline, FRAMES * (number * one.cell.cameras + camera))
            for camera, pipeline in enumerate(one.pipelines)
        ]
        taken = [times for camera in cameras for times in camera.result()]
        elapsed_ms = (time.perf_counter() - start) * 1e3
    stages = {stage: float(np.median([times[stage] for times in taken])) for stage in taken[0]}
    return stages | {FRAME: elapsed_ms / len(taken)}


def _camera(one: _Ready, pipeline: Pipeline, first: int) -> list[dict[str, float]]:
    """One camera's frames of a round; nobody listens to them, as publishers would take turns."""
    return [time_call(pipeline, one.cell, one.ends, first + i, publish=False) for i in range(FRAMES)]


def _row(one: _Ready, taken: Sequence[Mapping[str, float]], rates: Rates) -> Row:
    rounds = {stage: [times[stage] for times in taken] for stage in taken[0]}
    floors = {}
    for stage, (work, product) in one.works.items():
        if stage in rounds:
            floors[stage] = Floor(
                ms=rates.floor_ms(work, product, one.cell.batch),
                flops=work.flops,
                attention_flops=work.attention,
                bytes=work.bytes(one.cell.batch),
                gflop_per_s=rates.flops_per_s(product) / 1e9,
                dtype=product.dtype,
            )
    return Row(one.cell, rounds, floors)
