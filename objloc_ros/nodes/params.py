"""One declarative table of parameters per node: descriptors, validation and documentation are all read from it.

On a running node a table is declared, guarded against bad values, and applied all at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from objloc_ros.errors import ParameterError
from objloc_ros.nodes.camera import TRANSPORTS

Value = bool | int | float | str | tuple[str, ...]
"""A tuple stands for ROS's array of strings."""


@dataclass(frozen=True)
class Spec:
    """One parameter.

    Args:
        name: Parameter name.
        default: Value without an override; its type is the parameter's type.
        help: One sentence for people, with the unit.
        live: Whether a running node takes a new value over; otherwise the parameter is read-only.
        minimum: Smallest allowed number, given together with `maximum`.
        maximum: Largest allowed number.
        choices: Allowed strings; empty means any.

    Raises:
        ParameterError: The default breaks the constraints, or a bound stands alone.
    """

    name: str
    default: Value
    help: str
    live: bool = False
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.minimum is None) != (self.maximum is None):
            raise ParameterError(f"{self.name} needs both bounds or none, got {self.minimum} and {self.maximum}")
        self.check(self.default)

    def check(self, value: object) -> None:
        """Raise ParameterError unless `value` has the right type and keeps the constraints."""
        if isinstance(self.default, tuple):
            if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
                raise ParameterError(f"{self.name} must be an array of strings, got {str(value)[:80]}")
        elif type(value) is not type(self.default):
            raise ParameterError(f"{self.name} must be {self.type_name}, got {value!r} ({type(value).__name__})")
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name} must be one of {', '.join(self.choices)}; got {value!r}")
        if self.minimum is None or self.maximum is None or not isinstance(value, int | float):
            return
        if not math.isfinite(value) or not self.minimum <= value <= self.maximum:
            raise ParameterError(f"{self.name} must lie in [{self.minimum:g}, {self.maximum:g}], got {value}")

    @property
    def type_name(self) -> str:
        """ROS's name for the type."""
        names = {bool: "bool", int: "int", float: "double", str: "string", tuple: "string array"}
        return names[type(self.default)]

    @property
    def default_text(self) -> str:
        """The default as YAML has it."""
        if isinstance(self.default, tuple):
            return repr(list(self.default))
        return str(self.default).lower() if isinstance(self.default, bool) else repr(self.default)

    @property
    def constraint(self) -> str:
        """The allowed values in words; empty without a constraint."""
        if self.choices:
            return ", ".join(f"`{choice}`" for choice in self.choices)
        return "" if self.minimum is None else f"{self.minimum:g} to {self.maximum:g}"

    def descriptor(self) -> ParameterDescriptor:
        """Describe the parameter to `ros2 param describe` and rqt."""
        descriptor = ParameterDescriptor(name=self.name, description=self.help, read_only=not self.live)
        if self.choices:
            descriptor.additional_constraints = f"one of {', '.join(self.choices)}"
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, float):
                bounds = FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                descriptor.floating_point_range = [bounds]
            else:
                descriptor.integer_range = [IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum))]
        return descriptor


class Table(Mapping[str, Spec]):
    """A node's parameters by name, in the order of declaration.

    Raises:
        ParameterError: A name occurs twice.
    """

    def __init__(self, *specs: Spec) -> None:
        self._specs = {spec.name: spec for spec in specs}
        if len(self._specs) != len(specs):
            raise ParameterError(f"parameter names must be unique, got {[spec.name for spec in specs]}")

    def __getitem__(self, name: str) -> Spec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)

    def check(self, values: Mapping[str, object]) -> None:
        """Raise ParameterError, naming value and constraint, unless each value suits its parameter.

        Names outside the table are other people's parameters and pass.
        """
        for name, value in values.items():
            if name in self._specs:
                self._specs[name].check(value)

    def markdown(self) -> str:
        """Lay the table out for the README."""
        rows = ["| parameter | type | default | allowed | live | meaning |", "|---|---|---|---|---|---|"]
        for spec in self._specs.values():
            default = spec.default_text
            cells = (f"`{spec.name}`", spec.type_name, f"`{default}`", spec.constraint, "yes" if spec.live else "no")
            rows.append(f"| {' | '.join((*cells, spec.help))} |")
        return "\n".join(rows)


CAMERA = (
    Spec("autostart", True, "Configure and activate at start; off for a life-cycle manager."),
    Spec("image_transport", "raw", "Subscribe to `image` or to `image/compressed`.", choices=tuple(TRANSPORTS)),
    Spec(
        "max_age_ms",
        500.0,
        "Frames older than this when their turn comes are dropped, in milliseconds; 0 switches the limit off.",
        live=True,
        minimum=0.0,
        maximum=60_000.0,
    ),
)
"""Of every perception node."""

BACKBONE = (
    Spec("backbone", "tiny", "Backbone by its name in the weights registry."),
    Spec("device", "auto", "`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."),
    Spec("weights", "", "Path of the backbone's weights; empty takes the registered ones."),
    Spec(
        "short_side",
        0,
        "Images are scaled down until their shorter side has this many pixels; 0 takes the backbone's own size.",
        minimum=0,
        maximum=4096,
    ),
    *CAMERA,
)
"""Of every node with a backbone."""

IDLE_PRIORITY = Spec(
    "idle_priority",
    True,
    "Use only the processor time that nobody else wants, so that camera-rate nodes keep their pace.",
)
"""Of nodes that follow the camera at the pace they can."""


Values = dict[str, Any]


class LiveParameters:
    """Binds a parameter table to a node.

    A set of one or several parameters is first checked, without side effects, and refused with a reason as a whole;
    once the node holds the new values, `apply` gets all of them in one call.

    Args:
        node: Declares the parameters.
        table: What to declare.
        check: Validates the complete set of values that would result; raises ParameterError, changes nothing.
        apply: Takes over the complete set of values after a change.

    Raises:
        ParameterError: A value given at start-up breaks a constraint that ROS itself does not check.
        rclpy.exceptions.ParameterException: It breaks one that ROS checks (a type, a range).
    """

    def __init__(
        self, node: Node, table: Table, *, check: Callable[[Values], None], apply: Callable[[Values], None]
    ) -> None:
        self._node, self._table, self._check, self._apply = node, table, check, apply
        for spec in table.values():
            node.declare_parameter(spec.name, spec.default, spec.descriptor())
        table.check(self.values())
        check(self.values())
        node.add_on_set_parameters_callback(self._on_set)
        add_post_set = getattr(node, "add_post_set_parameters_callback", None)
        if add_post_set is not None:
            add_post_set(self._on_changed)
            self._changed_soon: Callable[[], None] = lambda: None
        else:
            # Humble has no callback after a set, and while this one runs another may still refuse. A guard condition
            # runs right after, reads what the node then holds, and thus applies a refused set as no change.
            self._changed_soon = node.create_guard_condition(self._on_changed).trigger

    def values(self) -> Values:
        """Read the current values of the table's parameters."""
        return {name: self._node.get_parameter(name).value for name in self._table}

    def _on_set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {parameter.name: parameter.value for parameter in parameters if parameter.name in self._table}
        try:
            self._table.check(changes)
            if changes:
                self._check({**self.values(), **changes})
        except ParameterError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if changes:
            self._changed_soon()
        return SetParametersResult(successful=True)

    def _on_changed(self, parameters: list[Parameter] | None = None) -> None:
        if parameters is None or any(parameter.name in self._table for parameter in parameters):
            self._apply(self.values())
