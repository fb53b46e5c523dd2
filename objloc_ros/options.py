"""Options described once: a dataclass field says what an option means and which values it takes.

Checks, command-line flags, node parameters and the documentation are all made from these descriptions.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import Any, TypeVar

from objloc_ros.errors import ParameterError

T = TypeVar("T")

KINDS: dict[type, tuple[str, tuple[type, ...]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (numbers.Integral,)),
    float: ("a number", (numbers.Real,)),
    str: ("a text", (str,)),
    Path: ("a path", (str, Path)),
    tuple: ("a list of texts", (tuple, list)),
}
"""Kinds of values, in words and as the types that count as such."""


@dataclass(frozen=True)
class Option:
    """The description of one option.

    Args:
        name: Its name.
        default: Its value unless another is given; None where `unset` says what takes its place.
        help: One sentence for people, with the unit.
        live: Whether a running node takes a new value over.
        low: Least number; None for no limit.
        high: Greatest number; None for no limit.
        exclusive: Whether `low` and `high` themselves are not allowed.
        choices: Allowed texts; empty for any.
        kind: Type of the values, a key of `KINDS`; NoneType takes the default's.
        unset: What None stands for.
        parse: Reads a text of another form than any; raises ParameterError, with the reason, where it cannot.

    Raises:
        ParameterError: The default breaks the constraints.
    """

    name: str
    default: Any
    help: str
    live: bool = False
    low: float | None = None
    high: float | None = None
    exclusive: bool = False
    choices: tuple[str, ...] = ()
    kind: type = NoneType
    unset: str = ""
    parse: Callable[[str], object] | None = None

    def __post_init__(self) -> None:
        if self.kind is NoneType:
            object.__setattr__(self, "kind", type(self.default))
        self.check(self.default)

    def check(self, value: object) -> None:
        """Raise ParameterError, naming value and constraint, unless the option takes this value."""
        if value is None and self.default is None:
            return
        words, types = KINDS[self.kind]
        is_kind = isinstance(value, types) and (self.kind is bool or not isinstance(value, bool))
        if not is_kind or (self.kind is tuple and not all(isinstance(text, str) for text in value)):  # type: ignore[attr-defined]
            raise ParameterError(f"{self.name} must be {words}, got {str(value)[:80]!r} ({type(value).__name__})")
        if self.choices and value not in self.choices:
            raise ParameterError(f"{self.name} must be one of {', '.join(self.choices)}; got {value!r}")
        if isinstance(value, numbers.Real) and not self._is_in_range(float(value)):
            raise ParameterError(f"{self.name} must {self._limits()}, got {value}")
        if self.parse is not None:
            try:
                self.parse(str(value))
            except ParameterError as error:
                raise ParameterError(f"{self.name}: {error}") from error

    @property
    def allowed(self) -> str:
        """The allowed values in words, for tables; empty without a constraint."""
        if self.choices:
            return ", ".join(f"`{choice}`" for choice in self.choices)
        if self.low is not None and self.high is not None:
            return f"{_digits(self.low)} to {_digits(self.high)}" + (", both excluded" if self.exclusive else "")
        return "" if self.low is None and self.high is None else self._limits().removeprefix("be ")

    def _is_in_range(self, value: float) -> bool:
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return math.isfinite(value) and (low < value < high if self.exclusive else low <= value <= high)

    def _limits(self) -> str:
        """The range in words that follow "must"."""
        if self.low is not None and self.high is not None:
            low, high = _digits(self.low), _digits(self.high)
            return f"lie between {low} and {high}, both excluded" if self.exclusive else f"lie in [{low}, {high}]"
        if self.low is not None:
            return f"be {'above' if self.exclusive else 'at least'} {_digits(self.low)}"
        if self.high is not None:
            return f"be {'below' if self.exclusive else 'at most'} {_digits(self.high)}"
        return "be finite"


def _digits(limit: float) -> str:
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def option(default: T, help: str, *, live: bool = True, **constraints: Any) -> T:
    """A dataclass field that carries the description of an option.

    Args:
        default: Its value unless another is given.
        help: One sentence for people, with the unit.
        live: Whether a running node takes a new value over.
        constraints: Further fields of `Option`.
    """
    described: T = field(default=default, metadata={"help": help, "live": live, **constraints})
    return described


_descriptions: dict[type, Mapping[str, Option]] = {}


def describe(kind: type) -> Mapping[str, Option]:
    """Return the options of a dataclass by name, in the order of its fields; fields that are none are left out."""
    if kind not in _descriptions:
        described = [item for item in fields(kind) if item.metadata]
        options = {item.name: Option(name=item.name, default=item.default, **item.metadata) for item in described}
        _descriptions[kind] = MappingProxyType(options)
    return _descriptions[kind]


@dataclass(frozen=True)
class Options:
    """Base of dataclasses whose fields are options: values are checked on construction.

    Raises:
        ParameterError: A value breaks its option's constraint.
    """

    def __post_init__(self) -> None:
        self.check(**{name: getattr(self, name) for name in describe(type(self))})

    @classmethod
    def check(cls, **values: object) -> None:
        """Check some values without making an object.

        Raises:
            ParameterError: A value breaks its option's constraint; names value and constraint.
        """
        for name, described in describe(cls).items():
            if name in values:
                described.check(values[name])
