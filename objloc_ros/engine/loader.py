"""Which methods a pipeline can run, and where its networks come from: loaded for it alone, or shared in a process."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.backbones.weights import load_backbone, load_clip_image
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.heads.discovery import DiscoveryHead
from objloc_ros.engine.heads.found import FoundHead
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.engine.heads.segmentation import SegmentationHead, Towers
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.engine.results import Head
from objloc_ros.engine.shared_backbone import PassLane, PassMemory, SharedBackbone
from objloc_ros.methods.clip_dinoiser import load_dinoiser_head
from objloc_ros.methods.found import FoundOptions

T = TypeVar("T")


class Loader:
    """Loads everything afresh."""

    def backbone(
        self, name: str, *, weights: str | Path | None, device: torch.device, short_side: int | None
    ) -> Backbone:
        """A backbone.

        Args:
            name: Name in the weights registry.
            weights: File; None takes the registered one.
            device: Where it runs.
            short_side: See `Backbone`; None takes the model's own.

        Raises:
            ParameterError: If the name is unknown.
            WeightsError: If weights are missing or refused.
        """
        vit = load_backbone(name, path=weights, device=device)
        return Backbone(vit, name=name, device=device, short_side=short_side or vit.spec.short_side)

    def heads(self, methods: Sequence[str], models: Models) -> Mapping[str, Head]:
        """Heads by method, see `build_heads`."""
        return build_heads(methods, models)

    def encoder(self, models: Models) -> PromptEncoder:
        """What encodes prompts."""
        return PromptEncoder(models.clip, path=models.clip_weights, device=models.device)


class SharedLoader:
    """Loads each network once for all the pipelines of a process, and lets it go with the last of them.

    Pipelines with equal backbones share passes, see `SharedBackbone`; there is one worker for each device.

    Args:
        max_batch: Most frames in one batch.
        loader: What loads a network the first time.
        threads: Processor threads for the passes; None takes PyTorch's number, which is that of the cores.
    """

    def __init__(self, max_batch: int = 8, loader: Loader | None = None, *, threads: int | None = None) -> None:
        self.max_batch = max_batch
        self._threads = threads or torch.get_num_threads()  # now: callers reduce it for what comes after them
        self._loader = loader or Loader()
        self._lock = threading.RLock()  # a model needs its device's worker
        self._shared: weakref.WeakValueDictionary[Hashable, Any] = weakref.WeakValueDictionary()
        self._memory = PassMemory()

    def client(self, name: Hashable) -> Loader:
        """A loader for one caller: a camera, to which the workers are fair."""
        return _Client(self, name)

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What was made for this key, as long as somebody holds it."""
        with self._lock:
            known = self._shared.get(key)
            if known is None:
                known = self._shared[key] = make()
            return known

    def backbone(
        self, client: Hashable, name: str, weights: str | Path | None, device: torch.device, short_side: int | None
    ) -> Backbone:
        """A client's view of a shared backbone, see `Loader.backbone`."""
        lane = self.get(("lane", device), lambda: PassLane(device, self.max_batch, self._threads))

        def load() -> Backbone:
            return self._loader.backbone(name, weights=weights, device=device, short_side=None)

        shared = self.get(("backbone", name, weights, device), load)
        short_side = short_side or shared.short_side
        return SharedBackbone(shared, lane, self._memory, client=client, short_side=short_side)

    def heads(self, methods: Sequence[str], models: Models) -> Mapping[str, Head]:
        """Heads of methods for some models, each loaded once."""
        return self.get(("heads", tuple(methods), models), lambda: _Heads(self._loader.heads(methods, models)))

    def encoder(self, models: Models) -> PromptEncoder:
        """The one encoder of a text tower."""
        key = ("encoder", models.clip, models.clip_weights, models.device)
        return self.get(key, lambda: self._loader.encoder(models))


class _Heads(dict[str, Head]):
    """A dictionary that can be held weakly."""


class _Client(Loader):
    """What one client of a `SharedLoader` loads with."""

    def __init__(self, shared: SharedLoader, name: Hashable) -> None:
        self._shared, self._name = shared, name

    def backbone(
        self, name: str, *, weights: str | Path | None, device: torch.device, short_side: int | None
    ) -> Backbone:
        return self._shared.backbone(self._name, name, weights, device, short_side)

    def heads(self, methods: Sequence[str], models: Models) -> Mapping[str, Head]:
        return self._shared.heads(methods, models)

    def encoder(self, models: Models) -> PromptEncoder:
        return self._shared.encoder(models)


HEADS: dict[str, type] = {
    "found": FoundOptions,
    **{method: options for method, (options, _) in DISCOVERY.items()},
    **SEGMENTATION,
}
"""Methods that a pipeline can run, by name, with the dataclass of what can be chosen."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """What heads are built from.

    Args:
        backbone: Name of the backbone whose features they read.
        head_weights: File of FOUND's head for it; None takes the registered one.
        clip: Name of the CLIP model of the open-vocabulary methods.
        clip_weights: File of its weights; None takes the registered ones.
        dinoiser_weights: File of CLIP-DINOiser's head for it; None takes the registered one, if there is one.
        device: Where they run.
    """

    backbone: str
    device: torch.device
    head_weights: str | Path | None = None
    clip: str = "tiny_clip"
    clip_weights: str | Path | None = None
    dinoiser_weights: str | Path | None = None


def build_heads(methods: Sequence[str], models: Models) -> dict[str, Head]:
    """Make the heads of some methods; what several of them need is loaded once.

    Raises:
        ParameterError: If the CLIP model is unknown.
        WeightsError: If weights are missing or refused.
    """
    prompted = [method for method in methods if method in SEGMENTATION]
    heads: dict[str, Head] = {method: DiscoveryHead(method) for method in methods if method in DISCOVERY}
    if prompted or "found" in methods:
        found = FoundHead(backbone=models.backbone, path=models.head_weights, device=models.device)
        heads["found"] = found
    if prompted:
        towers = _towers(found, models, dinoiser="clip_dinoiser" in prompted)
        heads.update({method: SegmentationHead(method, towers, models.device) for method in prompted})
    return {method: heads[method] for method in methods}


def _towers(found: FoundHead, models: Models, *, dinoiser: bool) -> Towers:
    """Load the image tower, and CLIP-DINOiser's head where it is wanted and exists."""
    clip = load_clip_image(models.clip, path=models.clip_weights, device=models.device)
    registered = REGISTRY.get(f"{models.clip}_dinoiser_head")
    exists = models.dinoiser_weights is not None or (registered is not None and registered.path.is_file())
    head = load_dinoiser_head(models.clip, path=models.dinoiser_weights) if dinoiser and exists else None
    return Towers(clip, found, None if head is None else head.to(models.device))
