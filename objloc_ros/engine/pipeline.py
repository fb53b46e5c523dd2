"""One backbone pass, many heads: the same pipeline serves the nodes, the command line and evaluation."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from objloc_ros.backbones.onnx_file import has_found_head
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.heads.found import open_found
from objloc_ros.engine.results import Batch, Head, HeadResult, ImageHead, Result
from objloc_ros.engine.timings import Stopwatch, stage
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.methods.options import PATCH_METHODS
from objloc_ros.ops.areas import Area
from objloc_ros.ops.geometry import Geometry, plan
from objloc_ros.types import DEFAULT_TEMPLATES, Image, LabelSet, Size, check_image, size_of

if TYPE_CHECKING:  # torch's, which FOUND alone does without
    import torch

    from objloc_ros.engine.backbone import Backbone
    from objloc_ros.engine.heads.exemplars import Box
    from objloc_ros.engine.loader import Loader
    from objloc_ros.engine.prompts import ActivePrompts, EncodedPrompts, PromptEncoder
    from objloc_ros.engine.temporal import Memory
    from objloc_ros.methods.exemplar import Exemplar

NO_MEMORIES: Mapping[str, Memory] = MappingProxyType({})
NO_EXEMPLARS: Mapping[str, Exemplar] = MappingProxyType({})


def load_pipeline(
    methods: Sequence[str] = ("found",),
    backbone: str = "tiny",
    device: str = "auto",
    *,
    precision: str = "auto",
    short_side: int | None = None,
    weights: str | Path | None = None,
    head_weights: str | Path | None = None,
    network: str = "",
    clip: str = "tiny_clip",
    clip_weights: str | Path | None = None,
    dinoiser_weights: str | Path | None = None,
    loader: Loader | None = None,
) -> Pipeline:
    """Load a backbone and the heads that share its pass, and the heads with networks of their own.

    Args:
        methods: Keys of `HEADS`.
        backbone: Name in the weights registry; not loaded where no method reads it.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        precision: What the networks compute in: "auto", "float32", "bfloat16" or, on a GPU, "float16"; features and
            all that follows from them are float32 or float64.
        short_side: Images are scaled down until their shorter side has this many pixels, never up. None takes the
            backbone's own size: 192 for the embedded model, the native resolution for DINO, as in the papers.
        weights: File to load the network that looks at the images from, instead of the registered one: the backbone,
            or the network of a method that has one of its own.
        head_weights: File to load FOUND's head, or the token detector, from instead of the registered one.
        network: The network of a method that has one of its own, by its name in the weights registry; "" takes the
            method's default.
        clip: CLIP model of the open-vocabulary methods, by its name in the weights registry.
        clip_weights: File to load it from instead of the registered one.
        dinoiser_weights: File to load CLIP-DINOiser's head from instead of the registered one.
        loader: What loads the networks; None loads them for this pipeline alone.

    Raises:
        ParameterError: If a method, a model, the device or the precision is unknown, or the device lacks it.
        WeightsError: If weights are missing or refused.
    """
    config = PipelineConfig(
        methods=tuple(methods),
        backbone=backbone,
        device=device,
        precision=precision,
        short_side=short_side,
        network=network,
        clip=clip,
        weights=_path(weights),
        head_weights=_path(head_weights),
        clip_weights=_path(clip_weights),
        dinoiser_weights=_path(dinoiser_weights),
    )
    return build_pipeline(config, loader)


def _path(file: str | Path | None) -> Path | None:
    return None if file is None else Path(file)


def build_pipeline(config: PipelineConfig, loader: Loader | None = None) -> Pipeline:
    """Load the networks of a pipeline, and set its options and prompts.

    Args:
        config: What to build.
        loader: What loads the networks; None loads them for this pipeline alone.

    Raises:
        ParameterError: If a model or the device is unknown.
        WeightsError: If weights are missing or refused.
    """
    if loader is None and config.methods == ("found",) and not config.head_weights and has_found_head(config.weights):
        pipeline = _open_found(config)
    else:
        pipeline = _load_networks(config, loader)
    for method in config.methods:
        pipeline.configure(method, **config.given_options(method))
    pipeline.ignore = config.ignore
    if config.prompts:
        pipeline.set_prompts(config.prompts, config.templates)
    return pipeline


def _open_found(config: PipelineConfig) -> Pipeline:
    weights = Path(config.weights or "")
    head = open_found(config.backbone, weights, config.device, config.short_side, config.precision)
    return Pipeline(None, {"found": head}, device=head.device)


def _load_networks(config: PipelineConfig, loader: Loader | None) -> Pipeline:
    try:
        from objloc_ros.engine.loader import load_networks
    except ModuleNotFoundError as error:
        raise WeightsError(
            f"without the Python module {error.name!r}, which is not installed, found alone runs, from weights that "
            f"`objloc export` wrote with FOUND's head: got {', '.join(config.methods)} with weights "
            f"{config.weights or 'registered'}; requirements.txt has what all else needs"
        ) from error
    networks = load_networks(config, loader)
    return Pipeline(networks.backbone, networks.heads, networks.encoder, device=networks.device)


@contextmanager
def _without_gradients() -> Iterator[None]:
    """Keep torch from recording what is done, if anything has imported it."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    with torch.inference_mode():
        yield


class Pipeline:
    """Images in, detections and masks out.

    Args:
        backbone: Shared by the heads; None where every head is an `ImageHead`.
        heads: One head per method.
        encoder: Encodes prompts; needed for open-vocabulary heads only.
        device: Where the networks run; None for the backbone's.

    `fine_timings` may be set to have the results of `run` say how long parts of stages take; the device is then waited
    for after each, which no camera's frame should do.
    """

    def __init__(
        self,
        backbone: Backbone | None,
        heads: Mapping[str, Head],
        encoder: PromptEncoder | None = None,
        *,
        device: torch.device | str | None = None,
    ) -> None:
        self._backbone = backbone
        self._device = device
        self._heads = heads  # itself: pipelines that share heads hold them together
        self._options: dict[str, Any] = {method: head.default_options for method, head in heads.items()}
        self._encoder = encoder
        self._prompts: ActivePrompts | None = None
        self._ignore, self._area = "", Area()
        self.fine_timings = False

    @property
    def backbone(self) -> Backbone:
        """The backbone.

        Raises:
            ParameterError: If there is none, as no method reads it.
        """
        if self._backbone is None:
            raise ParameterError(f"{', '.join(self.methods)} look at images with networks of their own, not a backbone")
        return self._backbone

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
        self._find_head(method)
        try:
            changed = replace(self._options[method], **changes)
        except TypeError as error:
            raise ParameterError(f"{method} has no such option: {error}") from error
        self._options = {**self._options, method: changed}

    @property
    def ignore(self) -> str:
        """Polygons in which nothing is reported, as in `PipelineConfig`; those that are set hold for the next `run`.

        Raises:
            ParameterError: On setting a text that describes no polygons.
        """
        return self._ignore

    @ignore.setter
    def ignore(self, text: str) -> None:
        PipelineConfig.check(ignore=text)
        self._ignore, self._area = text, Area.parse(text)

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

    def encode_prompts(
        self,
        prompts: Sequence[str],
        templates: Sequence[str] = DEFAULT_TEMPLATES,
        exemplars: Mapping[str, Exemplar] = NO_EXEMPLARS,
    ) -> EncodedPrompts:
        """Run the slow half of `set_prompts`: it changes nothing and may run beside `run` in another thread.

        Args:
            prompts: As for `set_prompts`.
            templates: As for `set_prompts`.
            exemplars: Classes that were shown, by names that no prompt has; see `learn_exemplar`.
        """
        if self._encoder is None:
            raise ParameterError("this pipeline has no text tower")
        return replace(self._encoder.encode(prompts, templates), exemplars=exemplars)

    def learn_exemplar(self, image: Image, box: Box) -> Exemplar:
        """Learn what is inside a box of an image by one pass; may run beside `run` in another thread.

        Args:
            image: RGB uint8 [H, W, 3].
            box: Left, top, right and bottom in pixels, maximum exclusive; inside the image, and not all of it.

        Raises:
            InputError: If the image is empty or not RGB uint8, or nothing of it is left around the box.
        """
        from objloc_ros.engine.heads.exemplars import show

        features, (geometry,) = self.backbone.encode([image])
        return show(image, features, geometry, box)

    def use_prompts(self, encoded: EncodedPrompts) -> LabelSet:
        """Run the instant half of `set_prompts`: a running `run` finishes with the prompts it began with.

        Ids are given out here, not when the prompts are encoded: another set may have come into force meanwhile.
        """
        self._prompts = encoded.number(self.labels)
        return self._prompts.labels

    def unknown_words(self) -> list[str]:
        """Return the words of the prompts in force that the text tower has never met."""
        if self._encoder is None or self._prompts is None:
            return []
        return self._encoder.unknown_words(self._prompts.prompts)

    def geometry(self, source: Size) -> Geometry:
        """Return how an image of this height and width is resized and padded for the backbone; not at all without."""
        return plan(source, patch=1, short_side=None) if self._backbone is None else self._backbone.geometry(source)

    def short_side(self, method: str) -> int | None:
        """Return what a method's network makes of the shorter side of images, in pixels; None: it stays as it is."""
        head = self._find_head(method)
        return head.short_side if isinstance(head, ImageHead) else self.backbone.short_side

    @property
    def device(self) -> str:
        """Where the networks run: "cpu", "cuda" or "cuda:N"."""
        return str(self._device or self.backbone.device)

    @property
    def precisions(self) -> dict[str, str]:
        """What the networks compute in: `backbone` and `clip`, as far as there are, else the method's own."""
        if self._backbone is None:
            return {method: head.precision for method, head in self._heads.items() if isinstance(head, ImageHead)}
        from objloc_ros.engine.heads.segmentation import SegmentationHead

        networks = {"backbone": self._backbone.precision}
        for head in self._heads.values():
            if isinstance(head, SegmentationHead):
                networks["clip"] = head.precision
        return networks

    @property
    def precision(self) -> str:
        """The precision of all networks in words: "bfloat16", or "backbone float32, clip bfloat16"."""
        precisions = self.precisions
        if len(set(precisions.values())) > 1:
            return ", ".join(f"{network} {precision}" for network, precision in precisions.items())
        return next(iter(precisions.values()), "float32")

    def warm_up(self, source: Size, methods: Sequence[str] | None = None) -> None:
        """Run once on a grey image of this height and width, so that the first frame does not pay for it."""
        self.run(np.full((*source, 3), 127, np.uint8), methods)

    @overload
    def run(
        self,
        images: Image,
        methods: Sequence[str] | None = None,
        *,
        key: Hashable | None = None,
        memories: Mapping[str, Memory] = NO_MEMORIES,
    ) -> Result: ...

    @overload
    def run(
        self, images: Sequence[Image], methods: Sequence[str] | None = None, *, key: Hashable | None = None
    ) -> list[Result]: ...

    @_without_gradients()
    def run(
        self,
        images: Image | Sequence[Image],
        methods: Sequence[str] | None = None,
        *,
        key: Hashable | None = None,
        memories: Mapping[str, Memory] = NO_MEMORIES,
    ) -> Result | list[Result]:
        """Run heads on one image or on several; images of one padded size share a forward pass.

        Args:
            images: RGB uint8 [H, W, 3], or a list of them.
            methods: Heads to run; None for all.
            key: What stands for the images, in their order, such as a camera's frame. Pipelines around one backbone
                (`SharedLoader`) share the passes of equal keys as long as somebody holds the key. None shares nothing.
            memories: What discovery methods know from the earlier frames of the video whose next one the image is, kept
                by `VideoTracker`; updated. A method without a memory sees the image alone.

        Returns:
            One result, or a list of one per image.

        Raises:
            InputError: If an image is empty or not RGB uint8.
            ParameterError: If the pipeline has no such head, one has a memory that has no use for it, or the key cannot
                be referenced weakly.
        """
        heads = self._heads if methods is None else {method: self._find_head(method) for method in methods}
        for method in memories:
            self._find_head(method)
            if method not in PATCH_METHODS:
                raise ParameterError(f"only discovery methods on a backbone follow a video, not {method!r}")
        # What is changed meanwhile holds for the next run.
        options, prompts, area = self._options, self._prompts, self._area
        reads_features = any(head.reads_features(options[method]) for method, head in heads.items())
        reads_features |= prompts is not None and bool(prompts.exemplars)
        several, groups = ([images], [[0]]) if isinstance(images, np.ndarray) else (images, self._group_by_size(images))
        results: dict[int, Result] = {}
        for numbers in groups:
            group = [several[number] for number in numbers]
            head_results: dict[str, Sequence[HeadResult]] = {}
            with Stopwatch(len(group), self.device if self.fine_timings else None) as stopwatch:
                if reads_features:
                    features, geometries = self.backbone.encode(group, key)
                else:
                    features, geometries = None, [self._plan(image) for image in group]
                batch = Batch(group, geometries, features, prompts, memories, area)
                for method, head in heads.items():
                    with stage(method):
                        of_batch = head(batch, options[method])
                    head_results[method] = [replace(one, ignored=area) for one in of_batch] if area else of_batch
            for i, number in enumerate(numbers):
                of_image = {method: some[i] for method, some in head_results.items()}
                results[number] = Result(size_of(group[i]), of_image, stopwatch.times_ms)
        return results[0] if isinstance(images, np.ndarray) else [results[number] for number in range(len(several))]

    def _find_head(self, method: str) -> Head:
        if method not in self._heads:
            raise ParameterError(f"this pipeline runs {', '.join(self._heads)}, not {method!r}")
        return self._heads[method]

    def _group_by_size(self, images: Sequence[Image]) -> list[list[int]]:
        """Check images, and list the numbers of those that share a padded size."""
        groups: dict[Size, list[int]] = defaultdict(list)
        for number, image in enumerate(images):
            groups[self._plan(image).padded].append(number)
        return list(groups.values())

    def _plan(self, image: Image) -> Geometry:
        check_image(image)
        return self.geometry(size_of(image))
