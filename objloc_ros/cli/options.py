"""Command-line options of the methods, made from their options dataclasses so that neither is written twice."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints


def add_options(parser: argparse.ArgumentParser, options: Mapping[str, type]) -> None:
    """Add one option per field: its type and default from the dataclass, its help from the docstring.

    A field that several methods have becomes one option, which holds for all of them.

    Args:
        parser: The sub-command's parser.
        options: Per method, a dataclass whose fields have plain defaults (bools, numbers, strings, or one of a
            Literal's values) and whose docstring describes them under "Args:".
    """
    owners: dict[str, list[str]] = {}
    for method, kind in options.items():
        for field in dataclasses.fields(kind):
            owners.setdefault(field.name, []).append(method)
    for methods in dict.fromkeys(tuple(each) for each in owners.values()):
        group = parser.add_argument_group(f"options of {', '.join(methods)}")
        for name in (name for name, each in owners.items() if tuple(each) == methods):
            _add(group, name, {method: options[method] for method in methods})


def given_options(args: argparse.Namespace, options: type) -> dict[str, Any]:
    """Collect the options that were given on the command line; the others keep the dataclass's defaults."""
    values = {field.name: getattr(args, field.name) for field in dataclasses.fields(options)}
    return {name: value for name, value in values.items() if value is not None}


def describe_fields(options: type) -> dict[str, str]:
    """Read the descriptions of the "Args:" section of a Google-style class docstring, one line per field."""
    section = (options.__doc__ or "").partition("Args:\n")[2]
    names = "|".join(field.name for field in dataclasses.fields(options))
    found = re.findall(rf"^ *({names}): (.+?)(?=\n *(?:{names}): |\n\n|\Z)", section, re.MULTILINE | re.DOTALL)
    return {name: " ".join(text.split()).rstrip(".") for name, text in found}


def _add(group: Any, name: str, options: Mapping[str, type]) -> None:
    """Add the option of one field to an argument group."""
    defaults = {method: _default(kind, name) for method, kind in options.items()}
    default = next(iter(defaults.values()))
    *_, described = options.values()
    help_text = f"{describe_fields(described).get(name, '')} (default: {_in_words(defaults)})".strip().replace(
        "%", "%%"
    )
    flag = "--" + name.replace("_", "-")
    if isinstance(default, bool):
        group.add_argument(flag, action=argparse.BooleanOptionalAction, help=help_text)
        return
    choices = _choices(name, options.values())
    metavar = None if choices else name.upper()
    group.add_argument(flag, type=type(default), choices=choices, metavar=metavar, help=help_text)


def _default(options: type, name: str) -> Any:
    return next(field.default for field in dataclasses.fields(options) if field.name == name)


def _choices(name: str, options: Any) -> tuple[str, ...] | None:
    """What any of the methods takes, where they take one of a few words."""
    hints = [get_type_hints(kind)[name] for kind in options]
    words = [word for hint in hints if get_origin(hint) is Literal for word in get_args(hint)]
    return tuple(dict.fromkeys(words)) or None


def _in_words(defaults: Mapping[str, Any]) -> str:
    values = set(defaults.values())
    if len(values) == 1:
        return str(values.pop())
    return ", ".join(f"{value} for {method}" for method, value in defaults.items())
