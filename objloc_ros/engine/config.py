"""What a pipeline is made of: methods, options, prompts and networks, as a value that travels between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.engine.prompts import DEFAULT_TEMPLATES
from objloc_ros.errors import ParameterError
from objloc_ros.methods.found import FoundOptions
from objloc_ros.types import LabelSet
from objloc_ros.version import __version__

HEADS: dict[str, type] = {
    "found": FoundOptions,
    **{method: options for method, (options, _) in DISCOVERY.items()},
    **SEGMENTATION,
}
"""Methods that a pipeline can run, by name, with the dataclass of their options."""

Options = tuple[tuple[str, Any], ...]
"""Names and values of a method's options, those that differ from its defaults."""


@dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """What `build_pipeline` builds; picklable, and equal ones are equal.

    Args:
        methods: Keys of `HEADS`.
        options: Of each method, by its place in `methods`; none for the defaults of all.
        prompts: What the open-vocabulary methods look for.
        templates: Sentences around the prompts.
        backbone: Name in the weights registry.
        device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".
        short_side: Images are scaled down until their shorter side has this many pixels, never up. None takes the
            backbone's own size: 192 for the embedded model, the native resolution for DINO, as in the papers.
        clip: CLIP model of the open-vocabulary methods, by its name in the weights registry.
        weights: File of the backbone; here and below None takes the registered one.
        head_weights: File of FOUND's head.
        clip_weights: File of the CLIP model.
        dinoiser_weights: File of CLIP-DINOiser's head; it may be missing from the registry.

    Raises:
        ParameterError: If a method or an option is unknown, a value out of range or a prompt invalid.
    """

    methods: tuple[str, ...]
    options: tuple[Options, ...] = ()
    prompts: tuple[str, ...] = ()
    templates: tuple[str, ...] = tuple(DEFAULT_TEMPLATES)
    backbone: str = "tiny"
    device: str = "auto"
    short_side: int | None = None
    clip: str = "tiny_clip"
    weights: Path | None = None
    head_weights: Path | None = None
    clip_weights: Path | None = None
    dinoiser_weights: Path | None = None

    def __post_init__(self) -> None:
        if not self.methods or any(method not in HEADS for method in self.methods):
            raise ParameterError(f"methods must be one or more of {', '.join(HEADS)}, got {list(self.methods)}")
        for method in self.methods:
            self.all_options(method)
        if self.prompts:
            LabelSet.following(self.prompts)

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


NETWORKS = tuple(
    field.name for field in fields(PipelineConfig) if field.name not in ("methods", "options", "prompts", "templates")
)
"""The fields that say which networks look at the images, at what size and where."""

WEIGHTS = tuple(name for name in NETWORKS if name.endswith("weights"))
"""Those that are files of weights."""
