"""What a pipeline is made of: methods, options, prompts and networks, as a value that travels between processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objloc_ros.engine.heads.image_methods import IMAGE_METHODS
from objloc_ros.errors import ParameterError
from objloc_ros.methods.options import PATCH_METHODS, SEGMENTATION, DetectorOptions, FoundOptions
from objloc_ros.ops.areas import Area
from objloc_ros.options import Options, describe, option
from objloc_ros.types import DEFAULT_TEMPLATES, check_prompt_texts
from objloc_ros.version import __version__

HEADS: dict[str, type[Options]] = {
    "found": FoundOptions,
    **PATCH_METHODS,
    "detector": DetectorOptions,
    **{method: image_method.options for method, image_method in IMAGE_METHODS.items()},
    **SEGMENTATION,
}
"""Methods that a pipeline can run, by name, with the dataclass of their options."""

NODES: dict[str, str] = {
    **dict.fromkeys(HEADS, "discovery"),
    **{method: image_method.node for method, image_method in IMAGE_METHODS.items()},
    **dict.fromkeys(SEGMENTATION, "segmentation"),
    "found": "found",
}
"""Name of the node that runs each method."""

DISCOVERY = tuple(method for method, node in NODES.items() if node == "discovery")
"""Methods without prompts that find objects with a mask each."""

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
    ignore: str = option(
        "",
        "Polygons in which no object is reported, such as the robot's bonnet: `0,0.9 1,0.9 1,1 0,1`; corners x,y in "
        "fractions of width and height from the top left, polygons separated by semicolons.",
        parse=Area.parse,
    )
    backbone: str = option("tiny", "Backbone by its name in the weights registry.", live=False)
    device: str = option("auto", "`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.", live=False)
    network: str = option(
        "",
        "Network of a method that looks at the images itself, by its name in the weights registry; empty takes the "
        "method's own.",
        live=False,
    )
    short_side: int | None = option(
        None,
        "Images are scaled down until their shorter side has this many pixels, never up (by `network`, to this size).",
        live=False,
        kind=int,
        low=0,
        high=4096,
        unset="the network's own size",
    )
    clip: str = option("tiny_clip", "CLIP model by its name in the weights registry.", live=False)
    weights: Path | None = option(
        None,
        "Path of the weights of the network that looks at the images: the backbone's, or those of `network`.",
        live=False,
        kind=Path,
        unset="the registered ones",
    )
    head_weights: Path | None = option(
        None, "Path of FOUND's head, or of the token detector.", live=False, kind=Path, unset="the registered one"
    )
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
        self._check_networks()

    def _check_networks(self) -> None:
        """Raise ParameterError if `network`, `weights` or `head_weights` would be those of different networks."""
        own = [method for method in self.methods if method in IMAGE_METHODS]
        others = [method for method in self.methods if method not in IMAGE_METHODS]
        if self.network and not own:
            known = ", ".join(IMAGE_METHODS)
            raise ParameterError(
                f"network is for methods that look at images themselves ({known}), not {self.methods[0]}"
            )
        if len(own) > 1 and (self.network or self.weights):
            raise ParameterError(f"network and weights are of one method, got {' and '.join(own)}: run them apart")
        if own and others and self.weights:
            raise ParameterError(
                f"weights would be those of {own[0]}'s network and of the backbone that {', '.join(others)} read: "
                "run them apart"
            )
        found = [method for method in self.methods if method == "found" or method in SEGMENTATION]
        if self.head_weights and found and "detector" in self.methods:
            raise ParameterError(
                f"head_weights would be those of FOUND's head, which {', '.join(found)} read, and of the detector: "
                "run them apart"
            )

    @classmethod
    def from_parameters(cls, methods: Sequence[str], parameters: Mapping[str, Any]) -> PipelineConfig:
        """Read the networks from a node's parameters, where "" and 0 stand for the default; ignore all others."""
        given: dict[str, Any] = {name: parameters[name] for name in NETWORKS if parameters.get(name)}
        given |= {name: Path(given[name]) for name in WEIGHTS if name in given}
        return cls(methods=tuple(methods), **given)

    def given_options(self, method: str) -> dict[str, Any]:
        """Return the options that differ from a method's defaults."""
        return dict(self.options[self.methods.index(method)]) if self.options else {}

    def all_options(self, method: str) -> dict[str, Any]:
        """Return all options of a method, as they are in force."""
        try:
            return asdict(HEADS[method](**self.given_options(method)))
        except TypeError as error:
            raise ParameterError(f"{method} has no such option: {error}") from error

    @property
    def needs_backbone(self) -> bool:
        """Whether a method reads a backbone's features, or its sizes."""
        return any(method not in IMAGE_METHODS for method in self.methods)

    def name_network(self, method: str) -> str:
        """Return what a method's network is called: its name in the weights registry, else its file's."""
        if method not in IMAGE_METHODS:
            return self.backbone
        return self.network or (self.weights.stem if self.weights else IMAGE_METHODS[method].network)

    def about(self, method: str) -> dict[str, Any]:
        """Return what the results of a method depend on, as JSON values; the machine is not among it."""
        about: dict[str, Any] = {
            "software": f"objloc_ros {__version__}",
            "method": method,
            "backbone": self.name_network(method),
            "short_side": self.short_side,
            "options": self.all_options(method),
        }
        if self.prompts:
            about |= {"clip": self.clip, "prompts": list(self.prompts), "templates": list(self.templates)}
        if self.ignore:
            about["ignore"] = self.ignore
        return about | {name: str(path) for name in WEIGHTS if (path := getattr(self, name)) is not None}


NETWORKS = tuple(name for name in describe(PipelineConfig) if name not in ("prompts", "templates", "ignore"))
"""The fields that say which networks look at the images, at what size and where."""

WEIGHTS = tuple(name for name in NETWORKS if name.endswith("weights"))
"""Those that are files of weights."""
