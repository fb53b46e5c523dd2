"""Where the networks of a pipeline come from: loaded for it alone, or shared in a process."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import torch

from objloc_ros.backbones.clip import CLIP_NAMES, CLIP_SPECS
from objloc_ros.backbones.onnx_file import SUFFIX
from objloc_ros.backbones.registry import is_present
from objloc_ros.backbones.weights import load_backbone, load_clip_image
from objloc_ros.engine.backbone import Backbone, resolve_device
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.heads.detector import DetectorHead, load_detector_head
from objloc_ros.engine.heads.discovery import DiscoveryHead
from objloc_ros.engine.heads.found import FoundHead, load_found
from objloc_ros.engine.heads.image_methods import IMAGE_METHODS
from objloc_ros.engine.heads.segmentation import SegmentationHead, Towers
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.engine.results import Head
from objloc_ros.engine.shared_backbone import FeatureCache, PassBatcher, SharedBackbone
from objloc_ros.errors import ParameterError
from objloc_ros.methods.clip_dinoiser import load_dinoiser_head
from objloc_ros.methods.options import PATCH_METHODS, SEGMENTATION

T = TypeVar("T")


class Loader:
    """Loads everything afresh; the configuration names a device as `resolve_device` returns it, not "auto"."""

    def load_backbone(self, config: PipelineConfig) -> Backbone:
        """Load the backbone.

        Raises:
            ParameterError: If its name is unknown.
            WeightsError: If weights are missing or refused.
        """
        device = torch.device(config.device)
        vit = load_backbone(config.backbone, path=config.weights, device=device)
        short_side = config.short_side or vit.spec.short_side
        return Backbone(vit, name=config.backbone, device=device, short_side=short_side)

    def load_heads(self, config: PipelineConfig) -> Mapping[str, Head]:
        """Load the heads, by method, see `build_heads`."""
        return build_heads(config)

    def load_encoder(self, config: PipelineConfig) -> PromptEncoder:
        """Return the encoder of prompts; it loads the text tower with the first of them."""
        return PromptEncoder(config.clip, path=config.clip_weights, device=torch.device(config.device))


class SharedLoader:
    """Loads each network once for all the pipelines of a process, and lets it go with the last of them.

    Pipelines with equal backbones share passes, see `SharedBackbone`; there is one `PassBatcher` per device.

    Args:
        max_batch: Most frames in one batch.
        loader: Loads a network the first time.
        threads: Processor threads for the passes; None takes PyTorch's number, which is that of the cores.
    """

    def __init__(self, max_batch: int = 8, loader: Loader | None = None, *, threads: int | None = None) -> None:
        self.max_batch = max_batch
        self._threads = threads or torch.get_num_threads()  # now: callers reduce it for what comes after them
        self._loader = loader or Loader()
        self._lock = threading.RLock()  # a model needs its device's worker
        self._shared: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._cache = FeatureCache()

    def make_client(self, name: Hashable) -> Loader:
        """Return a loader for one client, such as a camera; the batchers are fair to every client."""
        return _Client(self, name)

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the object of this key, made anew unless somebody still holds the earlier one."""
        with self._lock:
            known = self._shared.get(key)
            if known is None:
                known = self._shared[key] = make()
            return known

    def load_backbone(self, client: Hashable, config: PipelineConfig) -> Backbone:
        """Return a client's view of a shared backbone, see `Loader.load_backbone`."""
        device = torch.device(config.device)
        batcher = self.get_or_make(("batcher", device), lambda: PassBatcher(device, self.max_batch, self._threads))
        key = ("backbone", config.backbone, config.weights, device)
        shared = self.get_or_make(key, lambda: self._loader.load_backbone(replace(config, short_side=None)))
        short_side = config.short_side or shared.short_side
        return SharedBackbone(shared, batcher, self._cache, client=client, short_side=short_side)

    def load_heads(self, config: PipelineConfig) -> Mapping[str, Head]:
        """Return the heads of a configuration; those that read equal networks are loaded once."""
        alike: dict[str, Any] = {"options": (), "prompts": (), "templates": ()}
        if not any(method in IMAGE_METHODS for method in config.methods):
            alike |= {"short_side": None}  # the backbone's
            holds_heads = config.weights is not None and config.weights.suffix == SUFFIX
            alike |= {} if holds_heads else {"weights": None}
        key = ("heads", replace(config, **alike))
        return self.get_or_make(key, lambda: _Heads(self._loader.load_heads(config)))

    def load_encoder(self, config: PipelineConfig) -> PromptEncoder:
        """Return the encoder of a text tower, one for all clients."""
        key = ("encoder", config.clip, config.clip_weights, config.device)
        return self.get_or_make(key, lambda: self._loader.load_encoder(config))


class _Heads(dict[str, Head]):
    """A dictionary that can be held weakly."""


class _Client(Loader):
    """The loader of one client of a `SharedLoader`."""

    def __init__(self, shared: SharedLoader, name: Hashable) -> None:
        self._shared, self._name = shared, name

    def load_backbone(self, config: PipelineConfig) -> Backbone:
        return self._shared.load_backbone(self._name, config)

    def load_heads(self, config: PipelineConfig) -> Mapping[str, Head]:
        return self._shared.load_heads(config)

    def load_encoder(self, config: PipelineConfig) -> PromptEncoder:
        return self._shared.load_encoder(config)


class Networks(NamedTuple):
    """What a pipeline runs.

    Args:
        backbone: None where no method reads one.
        heads: By method.
        encoder: Of prompts.
        device: Where all of it is.
    """

    backbone: Backbone | None
    heads: Mapping[str, Head]
    encoder: PromptEncoder
    device: torch.device


def load_networks(config: PipelineConfig, loader: Loader | None = None) -> Networks:
    """Load the networks of a configuration.

    Args:
        config: What to load.
        loader: What loads them; None loads them for this pipeline alone.

    Raises:
        ParameterError: If a model or the device is unknown.
        WeightsError: If weights are missing or refused.
    """
    device = resolve_device(config.device)
    config = replace(config, device=str(device))
    loader = loader or Loader()
    backbone = loader.load_backbone(config) if config.needs_backbone else None
    heads = loader.load_heads(config)
    if backbone is not None and isinstance(detector := heads.get("detector"), DetectorHead):
        detector.check_backbone(backbone)
    return Networks(backbone, heads, loader.load_encoder(config), device)


def build_heads(config: PipelineConfig) -> dict[str, Head]:
    """Build the heads of the methods; networks that several of them need are loaded once.

    Raises:
        ParameterError: If the CLIP model is unknown.
        WeightsError: If weights are missing or refused.
    """
    prompted = [method for method in config.methods if method in SEGMENTATION]
    heads: dict[str, Head] = {method: DiscoveryHead(method) for method in config.methods if method in PATCH_METHODS}
    device = torch.device(config.device)
    if "detector" in config.methods:
        heads["detector"] = load_detector_head(
            config.backbone, path=config.head_weights, weights=config.weights, device=device
        )
    if prompted or "found" in config.methods:
        found = load_found(config.backbone, path=config.head_weights, weights=config.weights, device=device)
        heads["found"] = found
    for method in config.methods:
        if method in IMAGE_METHODS:
            name = config.network or IMAGE_METHODS[method].network
            heads[method] = IMAGE_METHODS[method].load(name, config.weights, config.short_side, device)
    if prompted:
        towers = _load_towers(found, config, device, dinoiser="clip_dinoiser" in prompted)
        heads.update({method: SegmentationHead(method, towers, device) for method in prompted})
    return {method: heads[method] for method in config.methods}


def _load_towers(found: FoundHead, config: PipelineConfig, device: torch.device, *, dinoiser: bool) -> Towers:
    """Load the image tower, and CLIP-DINOiser's head where it is wanted and exists."""
    if dinoiser and config.clip in CLIP_NAMES and config.clip not in CLIP_SPECS:
        wanted = {"dinoiser_weights": config.dinoiser_weights is not None}
        wanted["correlations: head"] = config.all_options("clip_dinoiser")["correlations"] == "head"
        for setting in (setting for setting, is_set in wanted.items() if is_set):
            raise ParameterError(
                f"clip_dinoiser cannot run with {setting} on {config.clip}: its trained head reads blocks of CLIP's "
                f"own transformers ({', '.join(CLIP_SPECS)}); leave it out, and DINO's correlations take its place"
            )
    clip = load_clip_image(config.clip, path=config.clip_weights, device=device)
    exists = config.dinoiser_weights is not None or is_present(f"{config.clip}_dinoiser_head")
    head = load_dinoiser_head(config.clip, path=config.dinoiser_weights) if dinoiser and exists else None
    return Towers(clip, found, None if head is None else head.to(device))
