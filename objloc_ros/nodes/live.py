"""A table of parameters on a running node: declared, guarded against bad values, applied all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from objloc_ros.errors import ParameterError
from objloc_ros.nodes.params import Table

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
