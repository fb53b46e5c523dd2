"""Command-line options of a method, made from its options dataclass so that neither is written twice."""

from __future__ import annotations

import argparse
import dataclasses
import re
from typing import Any, Literal, get_args, get_origin, get_type_hints


def add_options(parser: argparse.ArgumentParser, options: type, title: str) -> None:
    """Add one option per field: its type and default from the dataclass, its help from the docstring.

    Args:
        parser: The sub-command's parser.
        options: A dataclass whose fields have plain defaults (numbers, strings, or one of a Literal's values) and
            whose docstring describes them under "Args:".
        title: Heading of the group in the help text.
    """
    group = parser.add_argument_group(title)
    hints = get_type_hints(options)
    texts = describe_fields(options)
    for field in dataclasses.fields(options):
        hint = hints[field.name]
        choices = get_args(hint) if get_origin(hint) is Literal else None
        group.add_argument(
            "--" + field.name.replace("_", "-"),
            type=type(field.default),
            choices=choices,
            metavar=None if choices else field.name.upper(),
            help=f"{texts.get(field.name, '')} (default: {field.default})".strip().replace("%", "%%"),
        )


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
