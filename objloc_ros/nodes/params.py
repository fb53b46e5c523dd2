"""One declarative table of parameters per node: descriptors, validation and documentation are all read from it.

On a running node a table is declared, guarded against bad values, and applied all at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from objloc_ros.errors import ObjlocError, ParameterError
from objloc_ros.nodes.camera import TRANSPORTS
from objloc_ros.options import Option, describe

TYPE_NAMES = {bool: "bool", int: "int", float: "double", str: "string", tuple: "string array"}
"""ROS's names of the types of values; a tuple stands for its array of strings."""

Values = dict[str, Any]


def parameters(kind: type, *names: str, **defaults: Any) -> list[Option]:
    """Make parameters of the options of a dataclass.

    ROS has no None: where that is the default, 0 or an empty text stands for it.

    Args:
        kind: The dataclass.
        names: Options to take; all where none is named.
        defaults: Those that are others in the node.
    """
    described = describe(kind)
    return [_as_parameter(described[name], defaults.get(name)) for name in names or described]


def _as_parameter(option: Option, default: Any) -> Option:
    if default is not None:
        return replace(option, default=default, kind=type(default))
    if option.default is not None:
        return option
    default, word = (0, "0") if option.kind is int else ("", "empty")
    help = f"{option.help.rstrip('.')}; {word} takes {option.unset}."
    return replace(option, default=default, kind=type(default), help=help)


class Table(Mapping[str, Option]):
    """A node's parameters by name, in the order of declaration.

    Raises:
        ParameterError: A name occurs twice, or ROS cannot have such a parameter.
    """

    def __init__(self, *options: Option) -> None:
        self._options = {option.name: option for option in options}
        if len(self._options) != len(options):
            raise ParameterError(f"parameter names must be unique, got {[option.name for option in options]}")
        for option in options:
            if type(option.default) not in TYPE_NAMES:
                raise ParameterError(f"{option.name} has a default that is no ROS parameter: {option.default!r}")
            if (option.low is None) != (option.high is None) or option.exclusive:
                raise ParameterError(f"{option.name} needs both ends of its range or none, and both included")

    def __getitem__(self, name: str) -> Option:
        return self._options[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)

    def check(self, values: Mapping[str, object]) -> None:
        """Raise ParameterError, naming value and constraint, unless each value suits its parameter.

        Names outside the table are other people's parameters and pass.
        """
        for name, value in values.items():
            if name in self._options:
                option = self._options[name]
                if type(value) is not type(option.default) and not isinstance(value, list):  # ROS converts nothing
                    type_name = TYPE_NAMES[type(option.default)]
                    raise ParameterError(f"{name} must be {type_name}, got {value!r} ({type(value).__name__})")
                option.check(value)

    def markdown(self) -> str:
        """Lay the table out for the documentation."""
        rows = ["| parameter | type | default | allowed | live | meaning |", "|---|---|---|---|---|---|"]
        for option in self._options.values():
            live = "yes" if option.live else "no"
            cells = (f"`{option.name}`", TYPE_NAMES[type(option.default)], f"`{to_yaml(option.default)}`")
            rows.append(f"| {' | '.join((*cells, option.allowed, live, option.help))} |")
        return "\n".join(rows)


def to_yaml(value: object) -> str:
    """A default as YAML has it."""
    if isinstance(value, tuple):
        return repr(list(value))
    return str(value).lower() if isinstance(value, bool) else repr(value)


def to_descriptor(option: Option) -> ParameterDescriptor:
    """Describe a parameter to `ros2 param describe` and rqt."""
    descriptor = ParameterDescriptor(name=option.name, description=option.help, read_only=not option.live)
    if option.choices:
        descriptor.additional_constraints = f"one of {', '.join(option.choices)}"
    if option.low is not None and option.high is not None:
        if isinstance(option.default, float):
            bounds = FloatingPointRange(from_value=float(option.low), to_value=float(option.high))
            descriptor.floating_point_range = [bounds]
        else:
            descriptor.integer_range = [IntegerRange(from_value=int(option.low), to_value=int(option.high))]
    return descriptor


AUTOSTART = Option("autostart", True, "Configure and activate at start; off for a life-cycle manager.")

MAX_AGE = Option(
    "max_age_ms",
    500.0,
    "Frames older than this when their turn comes are dropped, in milliseconds; 0 switches the limit off.",
    live=True,
    low=0,
    high=60_000,
)

CAMERA = (
    AUTOSTART,
    Option("image_transport", "raw", "Subscribe to `image` or to `image/compressed`.", choices=tuple(TRANSPORTS)),
    MAX_AGE,
)
"""Of every node that looks at images."""

IDLE_PRIORITY = Option(
    "idle_priority",
    True,
    "Use only the processor time that nobody else wants, so that camera-rate nodes keep their pace.",
)
"""Of nodes that follow the camera at the pace they can."""


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
        for option in table.values():
            node.declare_parameter(option.name, option.default, to_descriptor(option))
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
        except ObjlocError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if changes:
            self._changed_soon()
        return SetParametersResult(successful=True)

    def _on_changed(self, parameters: list[Parameter] | None = None) -> None:
        if parameters is None or any(parameter.name in self._table for parameter in parameters):
            self._apply(self.values())
