"""Networks for measuring: each loaded once, with random weights where none are needed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file

from objloc_ros.backbones.vit import SPECS, build_vit
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.batch import Head
from objloc_ros.engine.heads import Models
from objloc_ros.engine.loading import Loader
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.errors import ParameterError

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
