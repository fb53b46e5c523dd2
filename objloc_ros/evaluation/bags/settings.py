"""What is to be done with bags, whatever the pace: who looks at which images, and what is true of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from objloc_ros import __version__
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.bags.follow import FollowOptions
from objloc_ros.evaluation.bags.runs import PromptSet, Run, runs_of
from objloc_ros.evaluation.bags.truth_source import TruthSpec
from objloc_ros.evaluation.model import Model


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
