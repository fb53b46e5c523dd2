"""What is done with bags at any pace: which methods process which images, and where the truth comes from."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from objloc_ros.bags.truth_sources import TruthSpec
from objloc_ros.engine.config import NODES, PipelineConfig
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.video_tracker import VideoOptions
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.types import check_prompt_texts
from objloc_ros.version import __version__

DISCOVERY_VIDEO = VideoOptions(max_objects=3)
"""Defaults of the `discovery` node."""

Pace = Literal["lockstep", "realtime"]


@dataclass(frozen=True)
class PromptSet:
    """Prompts to try.

    Args:
        name: For reports and topics; "" where there is only one set.
        prompts: The texts.
        classes: The true class that each prompt means.

    Raises:
        ParameterError: The prompts are invalid.
    """

    name: str
    prompts: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_prompt_texts(self.prompts)

    @property
    def class_names(self) -> dict[str, str]:
        """The class that each prompt means."""
        return dict(zip(self.prompts, self.classes, strict=True))

    @classmethod
    def parse(cls, text: str, name: str = "") -> PromptSet:
        """Parse "automobile = car, traffic cone": "=" precedes the true class, where its name is not the prompt."""
        pairs = [tuple(side.strip() for side in part.split("=", 1)) for part in text.split(",")]
        return cls(name, tuple(pair[0] for pair in pairs), tuple(pair[-1] for pair in pairs))


@dataclass(frozen=True)
class MethodRow:
    """One row of the report: a method, and the prompts that it looks for.

    Args:
        name: The method's name, and the prompt set's where there are several.
        node: Name of the node that would give these predictions.
        method: A key of `HEADS`.
        prompts: What it looks for; None for methods without prompts.
    """

    name: str
    node: str
    method: str
    prompts: PromptSet | None = None


def make_rows(methods: Sequence[str], sets: Sequence[PromptSet]) -> list[MethodRow]:
    """Make a row for each method, and for each set of prompts that it looks for.

    A node's name is `found`, `discovery` or `segmentation`; where several rows would share it, the method's name and
    that of the prompt set follow: `discovery_lost`, `segmentation_clip_diy_colours`.
    """
    rows: list[tuple[str, MethodRow]] = []
    for method in methods:
        if method not in SEGMENTATION:
            rows.append((NODES[method], MethodRow(method, "", method)))
        for prompts in sets if method in SEGMENTATION else ():
            name = f"{method} ({prompts.name})" if prompts.name else method
            rows.append((NODES[method], MethodRow(name, "", method, prompts)))
    kinds = [kind for kind, _ in rows]
    return [
        replace(row, node=kind if kinds.count(kind) == 1 else re.sub(r"\W+", "_", f"{kind}_{row.name}").strip("_"))
        for kind, row in rows
    ]


@dataclass(frozen=True, kw_only=True)
class BagSettings:
    """What `Lockstep` and `Realtime` have in common; picklable.

    Args:
        config: Networks, methods and their options.
        sets: Sets of prompts to try, for methods with prompts.
        topics: Images to read; empty for all cameras.
        truth: Where to look for truth.
        video: Parameters of discovery over time.
        outputs: Whether to write the predictions as a bag.
        overlay: Whether to write videos of the predictions, too; needs `outputs`.
        on_frame: Called after each frame, in the process that runs the task.

    Raises:
        ParameterError: Values contradict each other.
    """

    pace: ClassVar[Pace]
    report_name: ClassVar[str]

    config: PipelineConfig
    sets: tuple[PromptSet, ...] = ()
    topics: tuple[str, ...] = ()
    truth: TruthSpec = field(default_factory=TruthSpec)
    video: VideoOptions = DISCOVERY_VIDEO
    outputs: bool = True
    overlay: bool = False
    on_frame: Callable[[], Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.overlay and not self.outputs:
            raise ParameterError("overlay videos are made of the outputs, which cannot be left out")
        if set(self.topics) & set(self.truth.topic_names):
            raise ParameterError(f"{self.truth.topic_names} cannot be images and truth at the same time")

    @property
    def rows(self) -> list[MethodRow]:
        """The rows of the report."""
        return make_rows(self.config.methods, self.sets)

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""
        rows = {row.name: self._describe(row) for row in self.rows}
        truth = {"topics": [list(pair) for pair in self.truth.topics], "labels": list(self.truth.labels)}
        return {
            "software": f"objloc_ros {__version__}",
            "methods": rows,
            **asdict(self.video),
            "topics": list(self.topics),
            "truth": {**truth, "file": self.truth.file and self.truth.file.name, "slop_ns": self.truth.slop_ns},
        }

    def _describe(self, row: MethodRow) -> dict[str, Any]:
        about = self.config.about(row.method)
        if row.prompts is not None:
            about |= {"clip": self.config.clip, "prompts": list(row.prompts.prompts)}
            about |= {"classes": list(row.prompts.classes), "templates": list(self.config.templates)}
        return {name: value for name, value in about.items() if name != "software"}


@dataclass(frozen=True)
class RowGroup:
    """Rows that share a pass of the backbone.

    Args:
        pipeline: With the prompts of the rows, if they have some.
        rows: The rows.
    """

    pipeline: Pipeline
    rows: tuple[MethodRow, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of the rows."""
        return tuple(row.method for row in self.rows)


def load_row_groups(config: PipelineConfig, rows: Sequence[MethodRow]) -> list[RowGroup]:
    """Load the networks once, and encode each set of prompts.

    Returns:
        A group per set of prompts, with the methods without prompts in the first.

    Raises:
        ParameterError: A model is unknown or prompts are too long.
        WeightsError: Weights are missing or refused.
    """
    pipeline = build_pipeline(replace(config, prompts=()))
    sets: list[PromptSet | None] = [*dict.fromkeys(row.prompts for row in rows if row.prompts is not None)] or [None]
    groups = []
    for number, prompts in enumerate(sets):
        view = copy.copy(pipeline)  # shares the networks; prompts and their ids are its own
        if prompts is not None:
            view.set_prompts(prompts.prompts, config.templates)
        members = tuple(row for row in rows if row.prompts == prompts or (row.prompts is None and number == 0))
        groups.append(RowGroup(view, members))
    return groups


def read_sweep(path: Path) -> list[PromptSet]:
    """Read sets of prompts: YAML of a list of texts per name, or lines of `name: text, text` or `text, text`.

    Sets without a name are numbered; a prompt may name the true class that it means, `automobile = car`.

    Raises:
        InputError: The file cannot be read or holds something else.
        ParameterError: A set is invalid, or two have the same name.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if path.suffix in (".yaml", ".yml"):
        named = _parse_yaml(path, text)
    else:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
        named = [(line[: max(line.find(":"), 0)].strip(), line[line.find(":") + 1 :]) for line in lines]
    return number_sets([PromptSet.parse(prompts, name) for name, prompts in named], path)


def number_sets(sets: Sequence[PromptSet], path: Path | None = None) -> list[PromptSet]:
    """Name the sets that have no name by their numbers from 1 on; a single set needs no name.

    Raises:
        ParameterError: There is no set, or two have the same name.
    """
    where = "" if path is None else f"{path}: "
    if not sets:
        raise ParameterError(f"{where}there is no set of prompts")
    named = [
        prompts if prompts.name or len(sets) == 1 else replace(prompts, name=str(number))
        for number, prompts in enumerate(sets, start=1)
    ]
    names = [prompts.name for prompts in named]
    if len(set(names)) != len(names):
        raise ParameterError(f"{where}sets of prompts need different names, got {names}")
    return named


def _parse_yaml(path: Path, text: str) -> list[tuple[str, str]]:
    import yaml

    try:
        document: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    sets: Mapping[Any, Any] = document if isinstance(document, dict) else {}
    if not sets or not all(isinstance(v, list) and all(isinstance(p, str) for p in v) for v in sets.values()):
        raise InputError(f"{path}: a sweep is a list of prompts for each name")
    return [(str(name), ", ".join(prompts)) for name, prompts in sets.items()]
