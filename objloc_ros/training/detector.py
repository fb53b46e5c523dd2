"""Training of the token detector: from the labels of slower methods, or of people, on a frozen backbone.

The idea is CutLER's (Wang et al., CVPR 2023) and LOST's (Siméoni et al., BMVC 2021): a detector that learns from
discovered objects finds them more reliably than the method that discovered them. Here it is a small network on the
tokens that the other heads read (`methods/token_detector.py`), so that a laptop trains it in minutes.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch

from objloc_ros.backbones.vit import ViT
from objloc_ros.backbones.weights import fingerprint
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.detector_file import FACET
from objloc_ros.methods.token_detector import TokenDetector
from objloc_ros.ops.geometry import plan
from objloc_ros.training.copy_paste import FIRST_RATIO, LATER_RATIO
from objloc_ros.training.detector_data import (
    DetectorTraining,
    Item,
    PictureVariants,
    choose_items,
    identify_labels,
)
from objloc_ros.training.detector_labels import Labels
from objloc_ros.training.detector_losses import TERMS, detector_losses, sample_positives
from objloc_ros.training.detector_tokens import (
    CachedExamples,
    Example,
    Examples,
    FreshExamples,
    TokenFolder,
    hash_identity,
    measure_channels,
)
from objloc_ros.training.distributed import ALONE, Replicas
from objloc_ros.training.state import Progress, TrainingState

MASKS_PER_OBJECT = 6
"""Most patches of an object whose masks are compared in one step."""

STATISTICS_IMAGES = 256
"""Most images behind the statistics of the tokens' channels."""

WEIGHT_DECAY = 0.05

_NO_MATTER = ("memory_gb",)
"""Settings that change where things are kept, not what is learned."""


@dataclass(frozen=True)
class DetectorLog:
    """How a training went.

    Args:
        losses: Of every step, by name.
        skipped: Number of steps that were skipped because their loss was not finite.
        unreadable: The reason for each image that was left out, by its file.
    """

    losses: list[dict[str, float]]
    skipped: int
    unreadable: dict[Path, str]


def train_detector(
    backbone: ViT,
    labels: Labels,
    settings: DetectorTraining,
    *,
    checkpoint: Path | None = None,
    cache: Path | None = None,
    start: TokenDetector | None = None,
    workers: int = 1,
    save_every: int = 100,
    replicas: Replicas = ALONE,
    on_cached: Callable[[], None] = lambda: None,
    on_progress: Progress | None = None,
) -> tuple[TokenDetector, DetectorLog]:
    """Train a detector until `settings.steps`, resuming from `checkpoint` when it exists.

    Args:
        backbone: On any device; its parameters are not touched.
        labels: What to learn from.
        settings: The run.
        checkpoint: Where the state is written every `save_every` steps and at the end.
        cache: Folder for cached tokens, which later runs with equal images, labels and settings use; None for memory.
        start: A detector whose weights and statistics to begin with, such as the previous round's.
        workers: Threads that prepare images; the result does not depend on them.
        save_every: Steps between two checkpoints.
        replicas: The processes that train together.
        on_cached: Called for each image whose tokens are there.
        on_progress: Called after each step with its number, from 1, and its losses.

    Returns:
        The averaged detector in eval mode, frozen, on the backbone's device, and how the training went.

    Raises:
        InputError: If there are no labels, no image can be read, or a token is not finite.
        ParameterError: If a setting is out of range, the tokens do not fit into memory, `start` is of another width or
            of other classes, the checkpoint belongs to another run, or the training diverges.
    """
    if workers < 1:
        raise ParameterError(f"workers must be at least 1, got {workers}")
    if not labels.count:
        raise InputError(f"{labels.document}: there are no labels to learn from, in {len(labels.images)} images")
    variants = PictureVariants(labels, settings, FIRST_RATIO if start is None else LATER_RATIO)
    short_side = settings.short_side or backbone.spec.short_side
    run = _Run(settings, len(labels.images), short_side, replicas)
    examples = _make_examples(backbone, variants, run, cache, on_cached)
    detector = _make_detector(backbone, labels, settings, start)
    if start is None and not (checkpoint is not None and checkpoint.exists()):
        _set_statistics(detector, examples, run, variants.unreadable)
    state = TrainingState(
        detector.train(),
        average=settings.average,
        rate=settings.learning_rate,
        weight_decay=WEIGHT_DECAY,
        settings=_describe(backbone, labels, settings, start),
        replicas=replicas,
    )
    if checkpoint is not None:
        state.resume(checkpoint, settings.steps)
    with ThreadPoolExecutor(workers) as pool:
        batches = _iterate_batches(examples, run, state.step, pool)
        state.run(
            lambda batch: _update(state, batch, settings.drop_far),
            batches,
            settings.steps,
            checkpoint,
            save_every=save_every,
            on_progress=on_progress,
            keep_log=True,
        )
    log = DetectorLog(state.log, state.skipped, replicas.join(variants.unreadable))
    return cast(TokenDetector, state.averaged.eval()), log


def hash_weights(detector: TokenDetector) -> str:
    """Return a hash of the weights; files of equal weights may differ, as their metadata have no order."""
    digest = hashlib.sha256()
    for value in detector.state_dict().values():
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class _Run(NamedTuple):
    """What says which images a step of this process sees."""

    settings: DetectorTraining
    total: int
    short_side: int | None
    replicas: Replicas


def _make_examples(
    backbone: ViT, variants: PictureVariants, run: _Run, cache: Path | None, on_cached: Callable[[], None]
) -> Examples:
    """Return the source of examples; cached ones are made now, in a folder by all processes together."""
    settings = run.settings
    fresh = FreshExamples(backbone, variants, bfloat16=settings.bfloat16)
    if settings.tokens == "fresh":
        if cache is not None:
            raise ParameterError(f"a folder for cached tokens, {cache}, was given, but tokens are taken fresh")
        return fresh
    folder = None
    if cache is None:
        _check_memory(backbone, variants.labels, run)
    else:
        folder = TokenFolder(cache, _identify_tokens(backbone, variants))
    cached = CachedExamples(fresh, variants=settings.variants, short_side=run.short_side, folder=folder)
    replicas = run.replicas
    cached.fill(range(run.total) if folder is None else range(replicas.rank, run.total, replicas.count), on_cached)
    replicas.wait()
    return cached


def _check_memory(backbone: ViT, labels: Labels, run: _Run) -> None:
    """Raise ParameterError if the tokens need more memory than allowed, judged by the first image."""
    rows, columns = plan(labels.images[0].size, patch=backbone.patch, short_side=run.short_side).grid
    needed = run.total * run.settings.variants * rows * columns * backbone.embed_dim * 2 / 1e9
    if needed > run.settings.memory_gb:
        raise ParameterError(
            f"{run.total} images in {run.settings.variants} variants need about {needed:.1f} GB of memory for their "
            f"tokens, allowed are {run.settings.memory_gb:g}: raise memory_gb, take fewer variants, name a folder "
            "for the cache, or take tokens fresh"
        )


def _identify_tokens(backbone: ViT, variants: PictureVariants) -> str:
    """Return a hash of what cached tokens and their targets depend on."""
    settings = variants.settings
    names = ("variants", "pastes", "short_side", "bfloat16", *(("seed",) if settings.pastes else ()))
    parts = {name: getattr(settings, name) for name in names}
    parts |= {"backbone": fingerprint(backbone), "facet": FACET, "labels": identify_labels(variants.labels)}
    files = [str(image.file) for image in variants.labels.images]
    return hash_identity(parts | {"files": files, "ratios": variants.ratios})


def _make_detector(
    backbone: ViT, labels: Labels, settings: DetectorTraining, start: TokenDetector | None
) -> TokenDetector:
    device = next(backbone.parameters()).device
    if start is not None:
        if start.channels != backbone.embed_dim or start.classes != labels.classes:
            raise ParameterError(
                f"the detector to start from reads {start.channels} channels and knows {', '.join(start.classes)}; "
                f"the backbone has {backbone.embed_dim} channels, the labels {', '.join(labels.classes)}"
            )
        return copy.deepcopy(start).to(device).requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return TokenDetector(backbone.embed_dim, labels.classes).to(device)


def _set_statistics(detector: TokenDetector, examples: Examples, run: _Run, unreadable: Mapping[Path, str]) -> None:
    """Measure the channels of up to `STATISTICS_IMAGES` images, spread over all, and set them in the detector.

    Raises:
        InputError: If none of them can be read.
    """
    chosen = np.unique(np.linspace(0, run.total - 1, min(run.total, STATISTICS_IMAGES)).astype(int))
    looks = (examples.prepare(Item(int(index), 0, run.short_side)) for index in chosen)
    readable = (look for look in looks if look is not None)
    first = next(readable, None)
    if first is None:
        reasons = "; ".join(list(unreadable.values())[:3])
        raise InputError(f"none of {len(chosen)} images can be learned from: {reasons}")
    mean, std = measure_channels(
        example for look in itertools.chain([first], readable) for example in examples.finish([look])
    )
    detector.mean.copy_(mean)
    detector.std.copy_(std)


def _describe(backbone: ViT, labels: Labels, settings: DetectorTraining, start: TokenDetector | None) -> dict[str, Any]:
    """Return what a run depends on, by name, for comparison with that of a checkpoint."""
    described = {name: value for name, value in asdict(settings).items() if name not in _NO_MATTER}
    described |= {"backbone": fingerprint(backbone), "labels": identify_labels(labels)}
    return described | {"start": None if start is None else hash_weights(start)}


def _iterate_batches(examples: Examples, run: _Run, first: int, pool: Executor) -> Iterator[list[Example]]:
    """Yield this process's part of the batches from a step on; the pool prepares one batch ahead."""
    ahead = _submit(examples, run, first, pool)
    for step in itertools.count(first):
        prepared = [(item, future.result()) for item, future in ahead]
        ahead = _submit(examples, run, step + 1, pool)
        seen = [(item, look) for item, look in prepared if look is not None]
        finished = examples.finish([look for _, look in seen])
        yield [
            _sample_masks(example, (run.settings.seed, 1, step, item.index))
            for (item, _), example in zip(seen, finished, strict=True)
        ]


def _submit(examples: Examples, run: _Run, step: int, pool: Executor) -> list[tuple[Item, Future[Any]]]:
    if step >= run.settings.steps:
        return []
    items = choose_items(run.total, step, run.settings, run.short_side)
    return [(item, pool.submit(examples.prepare, item)) for item in items[run.replicas.rank :: run.replicas.count]]


def _sample_masks(example: Example, key: Sequence[int]) -> Example:
    """Draw the patches whose masks are compared."""
    targets = example.targets
    with_masks = np.flatnonzero(~targets.box_only).tolist()
    sampled = sample_positives(targets.owner, with_masks, MASKS_PER_OBJECT, np.random.default_rng(key))
    return example._replace(targets=replace(targets, sampled=sampled))


def _update(state: TrainingState, batch: Sequence[Example], drop_far: float) -> dict[str, float]:
    """Take one step; return the losses of the whole batch by name, and the number of patches that show an object."""
    parameter = next(state.model.parameters())
    parts = []
    for shape in dict.fromkeys(example.tokens.shape for example in batch):
        alike = [example for example in batch if example.tokens.shape == shape]
        tokens = torch.stack([example.tokens for example in alike]).to(parameter.device).float()
        parts.append(detector_losses(state.model(tokens), [one.targets for one in alike], drop_far=drop_far))
    counts = [sum(part.positives for part in parts), sum(part.compared for part in parts)]
    positives, compared = state.replicas.sum(counts, parameter.device)
    terms = [part.means(positives, compared) for part in parts]
    losses = {name: torch.stack([term[name] for term in terms]).sum() for name in TERMS} if terms else {}
    nothing = torch.stack([weight.sum() for weight in state.model.parameters()]).sum() * 0
    state.descend(torch.stack([nothing, *losses.values()]).sum())
    values = state.replicas.sum([losses[name].item() if terms else 0.0 for name in TERMS], parameter.device)
    return {"loss": sum(values), **dict(zip(TERMS, values, strict=True)), "positives": positives}
