"""Classes by example: what is inside a box on the newest frame gets a name, and is then looked for like a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from sensor_msgs.msg import RegionOfInterest

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.nodes import qos
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.options import Option
from objloc_ros.types import Image, check_prompt_texts, size_of, split_prompts

if TYPE_CHECKING:
    from objloc_ros.engine.heads.exemplars import Box
    from objloc_ros.engine.pipeline import Pipeline
    from objloc_ros.methods.exemplar import Exemplar

EXEMPLARS = Option(
    "exemplars",
    "",
    "Names of the classes that were shown on `~/exemplar`, comma-separated, in their order: as many other names rename "
    "them, some of the names keep those, none forgets all.",
    live=True,
)

LARGEST_PART = 0.75
"""Of the frame's area that a box may take: the class is told from what is around it."""


class Shown:
    """A box on an image, and what was learned from it when it was first needed.

    Args:
        image: RGB uint8 [H, W, 3].
        box: See `Pipeline.learn_exemplar`.
    """

    def __init__(self, image: Image, box: Box) -> None:
        self._image: Image | None = image
        self._box = box
        self._exemplar: Exemplar | None = None

    def learn(self, pipeline: Pipeline) -> Exemplar:
        """Return the exemplar; the first call takes a pass, all others know it."""
        if self._exemplar is None:
            assert self._image is not None
            self._exemplar, self._image = pipeline.learn_exemplar(self._image, self._box), None
        return self._exemplar


class Exemplars:
    """The classes that a node was shown on `~/exemplar`, under the names in its parameter `exemplars`.

    They outlive the engine: a node that is configured anew has the same backbone, and looks for them again.

    Attributes:
        newest: The newest frame that the node has taken, RGB uint8 [H, W, 3]; None before there is one.
    """

    def __init__(self) -> None:
        self.newest: Image | None = None
        self._shown: dict[str, Shown] = {}

    def check(self, text: str, prompts: Sequence[str]) -> None:
        """Raise ParameterError unless these names suit what was shown, and the prompts."""
        self._rename(text)
        check_prompt_texts([*prompts, *_split_names(text)])

    def apply(self, text: str) -> tuple[tuple[str, Shown], ...]:
        """Rename or forget, and return what is left by name."""
        self._shown = self._rename(text)
        return tuple(self._shown.items())

    def listen(self, node: LifecycleNode, log: ThrottledLogger) -> None:
        """Take boxes from the topic; each one sets the parameter."""

        def show(region: RegionOfInterest) -> None:
            self._on_region(region, node, log)

        node.create_subscription(RegionOfInterest, "~/exemplar", show, qos.make_output_profile(depth=10))

    def _rename(self, text: str) -> dict[str, Shown]:
        names = _split_names(text)
        if set(names) <= set(self._shown):
            return {name: self._shown[name] for name in names}
        if len(names) == len(self._shown):
            return dict(zip(names, self._shown.values(), strict=True))
        if not self._shown:
            raise ParameterError(f"nothing was shown on ~/exemplar, so exemplars must be empty, got {names}")
        known = list(self._shown)
        raise ParameterError(
            f"exemplars must be as many names as were shown ({len(known)}), or some of {known}; got {names}"
        )

    def _on_region(self, region: RegionOfInterest, node: LifecycleNode, log: ThrottledLogger) -> None:
        try:
            shown = self._show(region)
        except InputError as error:
            log.refuse("an exemplar", str(error))
            return
        before = self._shown
        taken = {name.lower() for name in (*before, *node.get_parameter("prompts").value)}
        name = next(name for name in (f"exemplar {number}" for number in count(1)) if name not in taken)
        self._shown = {**before, name: shown}
        parameter = Parameter("exemplars", Parameter.Type.STRING, ", ".join(self._shown))
        result = node.set_parameters_atomically([parameter])
        if not result.successful:
            self._shown = before
            log.refuse("an exemplar", result.reason)

    def _show(self, region: RegionOfInterest) -> Shown:
        image = self.newest
        if image is None:
            raise InputError("there is no frame to show it on: the node is not active, or nobody subscribes to it")
        height, width = size_of(image)
        box = (region.x_offset, region.y_offset, region.x_offset + region.width, region.y_offset + region.height)
        if not region.width or not region.height or box[2] > width or box[3] > height:
            raise InputError(
                f"its box must have a width and a height and lie in the frame of {width}x{height} pixels, got "
                f"{region.width}x{region.height} at ({region.x_offset}, {region.y_offset})"
            )
        if region.width * region.height > LARGEST_PART * width * height:
            raise InputError(
                f"its box must leave a quarter of the frame around it, got {region.width}x{region.height} of "
                f"{width}x{height} pixels"
            )
        return Shown(image, box)


def _split_names(text: str) -> list[str]:
    return split_prompts(text) if text.strip() else []
