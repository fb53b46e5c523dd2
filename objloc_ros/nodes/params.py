"""One declarative table per node: descriptors, validation and the README's table are all read from it.

`python -m objloc_ros.nodes.params` prints the tables as Markdown.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

from objloc_ros.errors import ParameterError

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


def tables() -> dict[str, Table]:
    """Parameter tables of all nodes, by node name."""
    from objloc_ros.nodes import discovery, found, image_source, perception, segmentation

    nodes = {
        "found": found,
        "discovery": discovery,
        "segmentation": segmentation,
        "perception": perception,
        "image_source": image_source,
    }
    return {name: module.PARAMETERS for name, module in nodes.items()}


def marked(name: str, table: Table) -> str:
    """Put the table between the markers that the README carries."""
    return f"<!-- parameters:{name} -->\n{table.markdown()}\n<!-- /parameters -->"


def main() -> int:
    """Print every node's table as Markdown."""
    for name, table in tables().items():
        sys.stdout.write(f"{marked(name, table)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
