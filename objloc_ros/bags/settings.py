"""What is to be done with bags, whatever the pace: which methods see which images, and what is true of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from objloc_ros.bags.predictions import FollowOptions
from objloc_ros.bags.truth_files import TruthSpec
from objloc_ros.engine.config import Model
from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.types import LabelSet
from objloc_ros.version import __version__


@dataclass(frozen=True, kw_only=True)
class BagSettings:
    """What lockstep and real time have in common; picklable.

    Args:
        model: Networks, methods and their options.
        sets: Prompts to try, of the methods that take some.
        topics: Images to read; none for all cameras.
        truth: Where to look for truth.
        follow: Parameters of discovery.
        outputs: Whether to write the answers as a bag.
        overlay: Whether to write films of the answers, too; needs `outputs`.
        on_frame: Called after each frame, in the process that does the work.

    Raises:
        ParameterError: Values contradict each other.
    """

    model: Model
    sets: tuple[PromptSet, ...] = ()
    topics: tuple[str, ...] = ()
    truth: TruthSpec = field(default_factory=TruthSpec)
    follow: FollowOptions = field(default_factory=FollowOptions)
    outputs: bool = True
    overlay: bool = False
    on_frame: Callable[[], Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.overlay and not self.outputs:
            raise ParameterError("films are made of the outputs: they cannot be left out")
        if set(self.topics) & set(self.truth.names()):
            raise ParameterError(f"{self.truth.names()} cannot be images and truth at the same time")

    @property
    def runs(self) -> list[Run]:
        """The rows of the report."""
        return runs_of(self.model.methods, self.sets)

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""
        rows = {run.name: self._about(run) for run in self.runs}
        truth = {"topics": [list(pair) for pair in self.truth.topics], "labels": list(self.truth.labels)}
        return {
            "software": f"objloc_ros {__version__}",
            "methods": rows,
            **asdict(self.follow),
            "topics": list(self.topics),
            "truth": {**truth, "file": self.truth.file and self.truth.file.name, "slop_ns": self.truth.slop_ns},
        }

    def _about(self, run: Run) -> dict[str, Any]:
        about = self.model.about(run.method)
        if run.prompts is not None:
            about |= {"clip": self.model.clip, "prompts": list(run.prompts.prompts)}
            about |= {"classes": list(run.prompts.classes), "templates": list(self.model.templates)}
        return {name: value for name, value in about.items() if name != "software"}


@dataclass(frozen=True)
class PromptSet:
    """Prompts to try.

    Args:
        name: For reports and topics; "" where there is only one set.
        prompts: The texts.
        classes: The true class that each means.

    Raises:
        ParameterError: The prompts are none.
    """

    name: str
    prompts: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        LabelSet.following(self.prompts)

    @property
    def meant(self) -> dict[str, str]:
        """The class of each prompt."""
        return dict(zip(self.prompts, self.classes, strict=True))

    @classmethod
    def parse(cls, text: str, name: str = "") -> PromptSet:
        """Read "automobile = car, traffic cone": behind "=" stands the true class, where it has another name."""
        pairs = [tuple(side.strip() for side in part.split("=", 1)) for part in text.split(",")]
        return cls(name, tuple(pair[0] for pair in pairs), tuple(pair[-1] for pair in pairs))


@dataclass(frozen=True)
class Run:
    """One row of the results.

    Args:
        name: The method's, and the prompt set's where there are several.
        node: Name of the node that would give these answers.
        method: A key of `HEADS`.
        prompts: What it looks for; None for methods without prompts.
    """

    name: str
    node: str
    method: str
    prompts: PromptSet | None = None


def runs_of(methods: Sequence[str], sets: Sequence[PromptSet]) -> list[Run]:
    """All rows.

    A node's name is `found`, `discovery` or `segmentation`; where several rows would share it, the method's name and
    that of the prompt set follow: `discovery_lost`, `segmentation_clip_diy_colours`.
    """
    rows: list[tuple[str, Run]] = []
    for method in methods:
        if method not in SEGMENTATION:
            rows.append(("discovery" if method in DISCOVERY else method, Run(method, "", method)))
        for one in sets if method in SEGMENTATION else ():
            name = f"{method} ({one.name})" if one.name else method
            rows.append(("segmentation", Run(name, "", method, one)))
    kinds = [kind for kind, _ in rows]
    return [
        replace(run, node=kind if kinds.count(kind) == 1 else re.sub(r"\W+", "_", f"{kind}_{run.name}").strip("_"))
        for kind, run in rows
    ]


@dataclass(frozen=True)
class Pass:
    """Rows that share a pass of the backbone.

    Args:
        pipeline: With the prompts in force, if there are any.
        runs: Its rows.
    """

    pipeline: Pipeline
    runs: tuple[Run, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Those of the rows."""
        return tuple(run.method for run in self.runs)


def load_passes(model: Model, runs: Sequence[Run]) -> list[Pass]:
    """Load the networks once, and encode each set of prompts.

    Returns:
        A pass per set of prompts, the methods without prompts in the first.

    Raises:
        ParameterError: A model is unknown or prompts are too long.
        WeightsError: Weights are missing or refused.
    """
    pipeline = replace(model, prompts=()).load()
    sets: list[PromptSet | None] = [*dict.fromkeys(run.prompts for run in runs if run.prompts is not None)] or [None]
    passes = []
    for place, one in enumerate(sets):
        view = copy.copy(pipeline)  # shares the networks; prompts and their ids are its own
        if one is not None:
            view.set_prompts(one.prompts, model.templates)
        mine = tuple(run for run in runs if run.prompts == one or (run.prompts is None and place == 0))
        passes.append(Pass(view, mine))
    return passes


def read_sweep(path: Path) -> list[PromptSet]:
    """Read sets of prompts: YAML of a list of texts per name, or lines of `name: text, text` or `text, text`.

    Sets without a name are numbered; a prompt may say the true class it means, `automobile = car`.

    Raises:
        InputError: The file cannot be read or holds something else.
        ParameterError: A set is none, or two have the same name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if path.suffix in (".yaml", ".yml"):
        named = _yaml(path, text)
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        named = [(line[: max(line.find(":"), 0)].strip(), line[line.find(":") + 1 :]) for line in lines]
    return number_sets([PromptSet.parse(prompts, name) for name, prompts in named], path)


def number_sets(sets: Sequence[PromptSet], path: Path | None = None) -> list[PromptSet]:
    """Name the sets that have no name by their places from 1 on; a single set needs none.

    Raises:
        ParameterError: There is none, or two have the same name.
    """
    where = "" if path is None else f"{path}: "
    if not sets:
        raise ParameterError(f"{where}there is no set of prompts")
    named = [one if one.name or len(sets) == 1 else replace(one, name=str(i)) for i, one in enumerate(sets, start=1)]
    names = [one.name for one in named]
    if len(set(names)) != len(names):
        raise ParameterError(f"{where}sets of prompts need different names, got {names}")
    return named


def _yaml(path: Path, text: str) -> list[tuple[str, str]]:
    import yaml

    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    sets: Mapping[Any, Any] = document if isinstance(document, dict) else {}
    if not sets or not all(isinstance(v, list) and all(isinstance(p, str) for p in v) for v in sets.values()):
        raise InputError(f"{path}: a sweep is a list of prompts for each name")
    return [(str(name), ", ".join(prompts)) for name, prompts in sets.items()]
