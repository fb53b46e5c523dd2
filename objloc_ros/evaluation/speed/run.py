"""The rounds of a benchmark: all combinations take turns, so that all of them see the same machine."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from objloc_ros.backbones.clip import clip_spec
from objloc_ros.engine.device import has_bfloat16_units, resolve_device
from objloc_ros.engine.discovery import METHODS as DISCOVERY
from objloc_ros.engine.lane import OutOfMemoryError
from objloc_ros.engine.loading import Loader, SharedLoader
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.engine.segmentation import METHODS as SEGMENTATION
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.evaluation.speed.cells import FRAME, Cell, Ends, Skipped, time_call
from objloc_ros.evaluation.speed.floor import Work, clip_dense_work, clip_windows_work, gram_work, vit_work
from objloc_ros.evaluation.speed.models import RANDOM, BenchLoader, architecture
from objloc_ros.evaluation.speed.rates import Product, Rates
from objloc_ros.evaluation.speed.results import Floor, Row
from objloc_ros.types import Size

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
