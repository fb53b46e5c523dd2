"""Which networks look at the images and how: a value that travels to other processes, and makes a pipeline there."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from objloc_ros.engine.loader import HEADS
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.engine.prompts import DEFAULT_TEMPLATES
from objloc_ros.errors import ParameterError
from objloc_ros.types import LabelSet
from objloc_ros.version import __version__

Options = tuple[tuple[str, Any], ...]
"""Names and values of a method's options, those that differ from its defaults."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """What `load_pipeline` takes, with the options and prompts of the methods; picklable, and equal ones are equal.

    Args:
        methods: Keys of `HEADS`.
        options: Of each method, by its place in `methods`; none for the defaults of all.
        prompts: What the open-vocabulary methods look for.
        templates: Sentences around the prompts.

    The others are as in `load_pipeline`.

    Raises:
        ParameterError: If a method or an option is unknown, a value out of range or a prompt none.
    """

    methods: tuple[str, ...]
    options: tuple[Options, ...] = ()
    backbone: str = "tiny"
    device: str = "auto"
    short_side: int | None = None
    weights: Path | None = None
    head_weights: Path | None = None
    prompts: tuple[str, ...] = ()
    templates: tuple[str, ...] = tuple(DEFAULT_TEMPLATES)
    clip: str = "tiny_clip"
    clip_weights: Path | None = None
    dinoiser_weights: Path | None = None

    def __post_init__(self) -> None:
        if not self.methods or any(method not in HEADS for method in self.methods):
            raise ParameterError(f"methods must be one or more of {', '.join(HEADS)}, got {list(self.methods)}")
        for method in self.methods:
            self.all_options(method)
        if self.prompts:
            LabelSet.following(self.prompts)

    def given_options(self, method: str) -> dict[str, Any]:
        """The options that differ from a method's defaults."""
        return dict(self.options[self.methods.index(method)]) if self.options else {}

    def all_options(self, method: str) -> dict[str, Any]:
        """All options of a method, as they are in force."""
        try:
            return asdict(HEADS[method](**self.given_options(method)))
        except TypeError as error:
            raise ParameterError(f"{method} has no such option: {error}") from error

    def load(self) -> Pipeline:
        """Load the networks.

        Raises:
            ParameterError: If a model or the device is unknown.
            WeightsError: If weights are missing or refused.
        """
        pipeline = load_pipeline(
            self.methods,
            self.backbone,
            self.device,
            short_side=self.short_side,
            weights=self.weights,
            head_weights=self.head_weights,
            clip=self.clip,
            clip_weights=self.clip_weights,
            dinoiser_weights=self.dinoiser_weights,
        )
        for method in self.methods:
            pipeline.configure(method, **self.given_options(method))
        if self.prompts:
            pipeline.set_prompts(self.prompts, self.templates)
        return pipeline

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
        files = {
            "weights": self.weights,
            "head_weights": self.head_weights,
            "clip_weights": self.clip_weights,
            "dinoiser_weights": self.dinoiser_weights,
        }
        return about | {name: str(path) for name, path in files.items() if path is not None}
