"""What a pipeline is made of: methods, options, prompts and networks, as a value that travels between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.heads.labelling import METHODS as SEGMENTATION
from objloc_ros.errors import ParameterError
from objloc_ros.methods.found import FoundOptions
from objloc_ros.options import Options, describe, option
from objloc_ros.types import DEFAULT_TEMPLATES, check_prompt_texts
from objloc_ros.version import __version__

HEADS: dict[str, type[Options]] = {
    "found": FoundOptions,
    **{method: options for method, (options, _) in DISCOVERY.items()},
    **SEGMENTATION,
}
"""Methods that a pipeline can run, by name, with the dataclass of their options."""

MethodOptions = tuple[tuple[str, Any], ...]
"""Names and values of a method's options, those that differ from its defaults."""


@dataclass(frozen=True, kw_only=True)
class PipelineConfig(Options):
    """What `build_pipeline` builds; picklable, and equal ones are equal.

    Args:
        methods: Keys of `HEADS`.
        options: Of each method, by its place in `methods`; none for the defaults of all.

    The others describe themselves.

    Raises:
        ParameterError: If a method or an option is unknown, a value out of range or a prompt invalid.
    """

    methods: tuple[str, ...]
    options: tuple[MethodOptions, ...] = ()
    prompts: tuple[str, ...] = option(
        (), "What the open-vocabulary methods look for: 1 to 254 different texts; those that stay keep their ids."
    )
    templates: tuple[str, ...] = option(
        DEFAULT_TEMPLATES, "Sentences around a prompt, averaged; `imagenet` alone stands for OpenAI's 80."
    )
    backbone: str = option("tiny", "Backbone by its name in the weights registry.", live=False)
    device: str = option("auto", "`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.", live=False)
    short_side: int | None = option(
        None,
        "Images are scaled down until their shorter side has this many pixels, never up.",
        live=False,
        kind=int,
        low=0,
        high=4096,
        unset="the backbone's own size",
    )
    clip: str = option("tiny_clip", "CLIP model by its name in the weights registry.", live=False)
    weights: Path | None = option(
        None, "Path of the backbone's weights.", live=False, kind=Path, unset="the registered ones"
    )
    head_weights: Path | None = option(None, "Path of FOUND's head.", live=False, kind=Path, unset="the registered one")
    clip_weights: Path | None = option(
        None, "Path of the CLIP model's weights.", live=False, kind=Path, unset="the registered ones"
    )
    dinoiser_weights: Path | None = option(
        None, "Path of CLIP-DINOiser's head.", live=False, kind=Path, unset="the registered one, if there is one"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods or any(method not in HEADS for method in self.methods):
            raise ParameterError(f"methods must be one or more of {', '.join(HEADS)}, got {list(self.methods)}")
        for method in self.methods:
            self.all_options(method)
        if self.prompts:
            check_prompt_texts(self.prompts)

    @classmethod
    def from_parameters(cls, methods: Sequence[str], parameters: Mapping[str, Any]) -> PipelineConfig:
        """Read the networks from a node's parameters, where "" and 0 stand for the default; ignore all others."""
        given: dict[str, Any] = {name: parameters[name] for name in NETWORKS if parameters.get(name)}
        given |= {name: Path(given[name]) for name in WEIGHTS if name in given}
        return cls(methods=tuple(methods), **given)

    def given_options(self, method: str) -> dict[str, Any]:
        """The options that differ from a method's defaults."""
        return dict(self.options[self.methods.index(method)]) if self.options else {}

    def all_options(self, method: str) -> dict[str, Any]:
        """All options of a method, as they are in force."""
        try:
            return asdict(HEADS[method](**self.given_options(method)))
        except TypeError as error:
            raise ParameterError(f"{method} has no such option: {error}") from error

    def about(self, method: str) -> dict[str, Any]:
        """What the results of a method depend on, as JSON values; the machine is not among it."""
        about: dict[str, Any] = {
            "software": f"objloc_ros {__version__}",
            "method": method,
            "backbone": self.backbone,
            "short_side": self.short_side,
            "options": self.all_options(method),
        }
        if self.prompts:
            about |= {"clip": self.clip, "prompts": list(self.prompts), "templates": list(self.templates)}
        return about | {name: str(path) for name in WEIGHTS if (path := getattr(self, name)) is not None}


NETWORKS = tuple(name for name in describe(PipelineConfig) if name not in ("prompts", "templates"))
"""The fields that say which networks look at the images, at what size and where."""

WEIGHTS = tuple(name for name in NETWORKS if name.endswith("weights"))
"""Those that are files of weights."""
