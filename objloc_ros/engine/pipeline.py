"""One backbone pass, many heads: the same pipeline serves the nodes, the command line and evaluation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from objloc_ros.engine.backbone import Backbone, resolve_device
from objloc_ros.engine.heads.discovery import DiscoveryHead
from objloc_ros.engine.loader import HEADS, Loader, Models
from objloc_ros.engine.prompts import DEFAULT_TEMPLATES, EncodedPrompts, PromptEncoder
from objloc_ros.engine.results import Batch, Head, HeadResult, Result
from objloc_ros.engine.temporal import Memory
from objloc_ros.engine.timings import FineTimings, timed
from objloc_ros.errors import ParameterError
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import Image, LabelSet, Size, check_image, size_of


def load_pipeline(
    methods: Sequence[str] = ("found",),
    backbone: str = "tiny",
    device: str = "auto",
    *,
    short_side: int | None = None,
    weights: str | Path | None = None,
    head_weights: str | Path | None = None,
    clip: str = "tiny_clip",
    clip_weights: str | Path | None = None,
    dinoiser_weights: str | Path | None = None,
    loader: Loader | None = None,
) -> Pipeline:
    """Load a backbone and the heads that share its pass.

    Args:
        methods: Keys of `HEADS`.
        backbone: Name in the weights registry.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        short_side: Images are scaled down until their shorter side has this many pixels, never up. None takes the
            backbone's own size: 192 for the embedded model, the native resolution for DINO, as in the papers.
        weights: File to load the backbone from instead of the registered one.
        head_weights: File to load FOUND's head from instead of the registered one.
        clip: CLIP model of the open-vocabulary methods, by its name in the weights registry.
        clip_weights: File to load it from instead of the registered one.
        dinoiser_weights: File to load CLIP-DINOiser's head from instead of the registered one.
        loader: What loads the networks; None loads them for this pipeline alone.

    Raises:
        ParameterError: If a method, a model or the device is unknown.
        WeightsError: If weights are missing or refused.
    """
    unknown = [method for method in methods if method not in HEADS]
    if unknown or not methods:
        raise ParameterError(f"methods must be one or more of {', '.join(HEADS)}, got {list(methods)}")
    target = resolve_device(device)
    loader = loader or Loader()
    seen = loader.backbone(backbone, weights=weights, device=target, short_side=short_side)
    models = Models(
        backbone=backbone,
        device=target,
        head_weights=head_weights,
        clip=clip,
        clip_weights=clip_weights,
        dinoiser_weights=dinoiser_weights,
    )
    return Pipeline(seen, loader.heads(methods, models), loader.encoder(models))


class Pipeline:
    """Images in, detections and masks out.

    Args:
        backbone: What the heads share.
        heads: One head per method.
        encoder: What prompts are encoded by; needed for open-vocabulary heads only.

    `fine_timings` may be set to have the results of `run` say how long parts of stages take; the device is then waited
    for after each, which no camera's frame should do.
    """

    def __init__(self, backbone: Backbone, heads: Mapping[str, Head], encoder: PromptEncoder | None = None) -> None:
        self.backbone = backbone
        self._heads = heads  # itself: pipelines that share heads hold them together
        self._options: dict[str, Any] = {method: head.default_options for method, head in heads.items()}
        self._encoder = encoder
        self._prompts: EncodedPrompts | None = None
        self.fine_timings = False

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the heads."""
        return tuple(self._heads)

    @property
    def options(self) -> Mapping[str, Any]:
        """The options in force, one frozen dataclass per method."""
        return self._options

    def configure(self, method: str, **changes: Any) -> None:
        """Change options of one method; they hold for the next `run`, all of them or none.

        Raises:
            ParameterError: If the method or an option is unknown or a value is out of range.
        """
        self._checked(method)
        try:
            changed = replace(self._options[method], **changes)
        except TypeError as error:
            raise ParameterError(f"{method} has no such option: {error}") from error
        self._options = {**self._options, method: changed}

    @property
    def labels(self) -> LabelSet | None:
        """The prompts in force and their ids; None before there are any."""
        return None if self._prompts is None else self._prompts.labels

    def set_prompts(self, prompts: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES) -> LabelSet:
        """Look for other prompts from the next `run` on; prompts that stay keep their ids.

        Args:
            prompts: 1 to 254 different texts.
            templates: Texts with one "{}" each, or "imagenet" alone for OpenAI's 80.

        Raises:
            ParameterError: If a constraint is broken; what was in force stays.
            WeightsError: If the text tower's weights are missing or refused.
        """
        return self.use_prompts(self.encode_prompts(prompts, templates))

    def encode_prompts(self, prompts: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES) -> EncodedPrompts:
        """The slow half of `set_prompts`: changes nothing, and may run beside `run` in another thread."""
        if self._encoder is None:
            raise ParameterError("this pipeline has no text tower")
        return self._encoder.encode(prompts, templates)

    def use_prompts(self, encoded: EncodedPrompts) -> LabelSet:
        """The instant half of `set_prompts`: a running `run` finishes with the prompts it began with.

        Ids are given out here, not when the prompts are encoded: another set may have come into force meanwhile.
        """
        self._prompts = encoded.after(self.labels)
        return self._prompts.labels

    def unknown_words(self) -> list[str]:
        """Words of the prompts in force that the text tower has never met."""
        return [] if self._encoder is None or self.labels is None else self._encoder.unknown_words(self.labels.prompts)

    def geometry(self, source: Size) -> Geometry:
        """How an image of this height and width is resized and padded."""
        return self.backbone.geometry(source)

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.backbone.device

    def warm_up(self, source: Size, methods: Sequence[str] | None = None) -> None:
        """Run once on a grey image of this height and width, so that the first frame does not pay for it."""
        self.run(np.full((*source, 3), 127, np.uint8), methods)

    @overload
    def run(self, images: Image, methods: Sequence[str] | None = None) -> Result: ...

    @overload
    def run(self, images: Sequence[Image], methods: Sequence[str] | None = None) -> list[Result]: ...

    def run(self, images: Image | Sequence[Image], methods: Sequence[str] | None = None) -> Result | list[Result]:
        """Run heads on one image or on several; images of one padded size share a forward pass.

        Args:
            images: RGB uint8 [H, W, 3], or a list of them.
            methods: Heads to run; None for all.

        Raises:
            InputError: If an image is empty or not RGB uint8.
            ParameterError: If the pipeline has no such head.
        """
        methods = self.methods if methods is None else [self._checked(method) for method in methods]
        if isinstance(images, np.ndarray):
            return self._run_batch([images], methods)[0]
        batches: dict[Size, list[int]] = defaultdict(list)
        for i, image in enumerate(images):
            check_image(image)
            batches[self.geometry(size_of(image)).padded].append(i)
        results: dict[int, Result] = {}
        for indices in batches.values():
            results.update(zip(indices, self._run_batch([images[i] for i in indices], methods), strict=True))
        return [results[i] for i in range(len(images))]

    @torch.inference_mode()
    def follow(self, image: Image, memories: Mapping[str, Memory], methods: Sequence[str] | None = None) -> Result:
        """Run heads on the next frame of a video.

        Args:
            image: RGB uint8 [H, W, 3].
            memories: What discovery methods know from the earlier frames; updated.
            methods: Heads to run, those without a memory on this frame alone; None for those that have one.

        Raises:
            InputError: If the image is empty or not RGB uint8.
            ParameterError: If the pipeline has no such head, or one has a memory that has no use for it.
        """
        methods = [self._checked(method) for method in (memories if methods is None else methods)]
        timings: dict[str, float] = {}
        options = self._options
        batch = self._batch([image], methods, options, timings)
        answers: dict[str, HeadResult] = {}
        for method in methods:
            head, memory = self._heads[method], memories.get(method)
            with timed(timings, method, 1):
                if memory is None:
                    (answers[method],) = head(batch, options[method])
                elif isinstance(head, DiscoveryHead):
                    answers[method] = head.follow(batch.seen(), image, batch.geometries[0], options[method], memory)
                else:
                    raise ParameterError(f"only discovery methods follow a video, not {method!r}")
        return Result(size_of(image), answers, timings)

    def _checked(self, method: str) -> str:
        if method not in self._heads:
            raise ParameterError(f"this pipeline runs {', '.join(self._heads)}, not {method!r}")
        return method

    @torch.inference_mode()
    def _run_batch(self, images: list[Image], methods: Sequence[str]) -> list[Result]:
        timings: dict[str, float] = FineTimings(self.device) if self.fine_timings else {}
        options = self._options
        batch = self._batch(images, methods, options, timings)
        answers: dict[str, Sequence[HeadResult]] = {}
        for method in methods:
            with timed(timings, method, len(images)):
                answers[method] = self._heads[method](batch, options[method])
        return [
            Result(size_of(image), {method: answers[method][i] for method in answers}, timings)
            for i, image in enumerate(images)
        ]

    def _batch(
        self, images: Sequence[Image], methods: Sequence[str], options: Mapping[str, Any], timings: dict[str, float]
    ) -> Batch:
        """Run the backbone if one of the methods reads its features."""
        prompts = self._prompts
        if any(self._heads[method].reads_features(options[method]) for method in methods):
            features, geometries = self.backbone.encode(images, timings)
            return Batch(images, geometries, features, prompts, timings)
        for image in images:
            check_image(image)
        return Batch(images, [self.geometry(size_of(image)) for image in images], None, prompts, timings)
