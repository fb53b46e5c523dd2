"""The axes of `objloc bench` as words on the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from objloc_ros.engine.device import resolve_device
from objloc_ros.engine.heads import HEADS
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.speed.models import architecture
from objloc_ros.types import Size

T = TypeVar("T")

FULL = {
    "methods": "found,lost,tokencut,deep_spectral,maskcut,clip_diy,maskclip,clip_dinoiser",
    "backbones": "tiny",
    "sizes": "640x480,1280x720",
    "batches": "1,4",
    "cameras": "1,4",
    "devices": "cpu",
    "rounds": "11",
}
"""What is measured unless something else is said: five to ten minutes on two cores."""

SMOKE = FULL | {
    "methods": "found,lost,maskclip",
    "sizes": "96x64",
    "batches": "1,2",
    "cameras": "1,2",
    "rounds": "3",
}
"""What --smoke measures: some seconds, to show that everything runs."""

HELP = {
    "methods": f"of {', '.join(HEADS)}",
    "backbones": "names in the weights registry; random:NAME for the architecture with random weights",
    "sizes": "of the camera's images, width x height",
    "batches": "images in one call",
    "cameras": "cameras that share the engine, each with a thread",
    "devices": "cpu, cuda or cuda:N",
    "rounds": "how often everything is measured",
}

MOST = 4096
"""Largest side, batch and number of rounds or cameras."""


def add_axes(parser: argparse.ArgumentParser) -> None:
    """Declare the axes, whose defaults depend on --smoke."""
    for name, text in HELP.items():
        metavar = "N" if name == "rounds" else "LIST"
        parser.add_argument(f"--{name}", metavar=metavar, help=f"{text} (default: {FULL[name]})")


def chosen_axes(args: argparse.Namespace) -> dict[str, str]:
    """What holds for each axis."""
    defaults = SMOKE if args.smoke else FULL
    given = {name: getattr(args, name) for name in defaults}
    return {name: defaults[name] if text is None else text for name, text in given.items()}


def methods_of(text: str) -> list[str]:
    """Split a list of methods.

    Raises:
        ParameterError: If one is unknown or named twice.
    """
    return _each(text, "methods", lambda name: _known(name, "method", list(HEADS)))


def backbones_of(text: str) -> list[str]:
    """Split a list of backbones; ParameterError if one is unknown or named twice."""

    def known(name: str) -> str:
        architecture(name)
        return name

    return _each(text, "backbones", known)


def sizes_of(text: str) -> list[Size]:
    """Split a list of sizes such as 640x480 into heights and widths; ParameterError if one has another form."""

    def size(one: str) -> Size:
        found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", one)
        if found is None or max(int(found[1]), int(found[2])) > MOST:
            raise ParameterError(f"sizes must look like 640x480, with sides from 1 to {MOST}, got {one!r}")
        return int(found[2]), int(found[1])

    return _each(text, "sizes", size)


def numbers_of(text: str, name: str) -> list[int]:
    """Split a list of numbers from 1 to `MOST`; ParameterError if one is something else."""

    def number(one: str) -> int:
        if not one.isascii() or not one.isdigit() or not 1 <= int(one) <= MOST:
            raise ParameterError(f"{name} must be numbers from 1 to {MOST}, got {one!r}")
        return int(one)

    return _each(text, name, number)


def devices_of(text: str) -> list[str]:
    """Split a list of devices.

    Raises:
        ParameterError: If one is not there; the message names those that are.
    """
    there = ["cpu", *(f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count()))]

    def device(one: str) -> str:
        try:
            return str(resolve_device(one))
        except ParameterError as error:
            raise ParameterError(f"{error}; this machine has {', '.join(there)}") from error

    return _each(text, "devices", device)


def _each(text: str, name: str, read: Callable[[str], T]) -> list[T]:
    """Split at commas and read every part."""
    values = [read(part.strip()) for part in text.split(",")]
    if len(set(values)) != len(values):
        raise ParameterError(f"{name} must be different, got {text!r}")
    return values


def _known(name: str, what: str, names: Sequence[str]) -> str:
    if name not in names:
        raise ParameterError(f"unknown {what} {name!r}; known: {', '.join(names)}")
    return name
