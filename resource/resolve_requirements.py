"""Resolve every requirements file for every Python that ROS 2 comes with, without installing anything.

A pinned version that has no wheel for one of them would be noticed by a user only. `make resolve` runs this; it needs
an index (that of pip's configuration), uv, and a minute or two.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[1]
UV = find_uv_bin()
"""Looked for once: Python's sysconfig, which it asks, is not safe to ask first from several threads."""

PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
LINUX = "x86_64-manylinux_2_28"
CONSTRAINTS = {
    "requirements.txt": "constraints.txt",
    "requirements-detect.txt": "constraints-bare.txt",
    "requirements-light.txt": "constraints-bare.txt",
    "requirements-bare.txt": "constraints-bare.txt",
    "requirements-evaluation.txt": "constraints-bare.txt",
    "requirements-dev.txt": "constraints-bare.txt",
}
"""Each requirements file, with the constraints that docs/install.md and the Makefile give it."""

_ANYWHERE = (LINUX, "aarch64-manylinux_2_28", "aarch64-apple-darwin")
PLATFORMS = dict.fromkeys(("requirements-detect.txt", "requirements-light.txt"), _ANYWHERE)
"""Of the files that are for more than x86-64 Linux."""

MACOS = "14.0"
"""The oldest macOS that PyTorch's wheels are for."""

SOURCES = ("empy",)
"""What has no wheels and needs none: pure Python."""


class Gap(NamedTuple):
    """What is known to be missing: a package, and why."""

    package: str
    reason: str


NO_SKIMAGE = Gap("scikit-image", "pysodmetrics wants scikit-image 0.25.2, which has no wheel for Python 3.14")
UNRESOLVED = {
    ("requirements-evaluation.txt", "3.14"): NO_SKIMAGE,
    ("requirements-dev.txt", "3.14"): NO_SKIMAGE,
}
"""Files and Pythons that do not go together. One that does by now is reported, so that this stays true."""

LEFT_OUT = {("requirements.txt", "3.10"): Gap("onnxruntime", "it asks for a newer NumPy than Ubuntu 22.04 has")}
"""What a file leaves out for a Python by a marker. One that is there is reported."""

AT_ONCE = 8
LIMIT_S = 170.0


class Case(NamedTuple):
    """A requirements file for one Python (such as "3.12") on one platform of uv's."""

    file: str
    python: str
    platform: str = LINUX

    def __str__(self) -> str:
        return f"{self.file}, Python {self.python}, {self.platform}"


def list_cases() -> list[Case]:
    """Return what is resolved: all files, Pythons and platforms."""
    return [
        Case(file, python, platform)
        for python in PYTHONS
        for file in CONSTRAINTS
        for platform in PLATFORMS.get(file, (LINUX,))
    ]


def read_pip_config(lines: Sequence[str]) -> dict[str, str]:
    """Return pip's settings from the lines of `pip config list`; the environment's precede those of files."""
    settings: dict[str, str] = {}
    for line in sorted(lines, key=lambda line: line.startswith(":env:")):
        name, separator, value = line.partition("=")
        if separator and name.startswith(("global.", "install.", ":env:.")):
            settings[name.rpartition(".")[2]] = ast.literal_eval(value)
    return settings


def translate(settings: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return uv's arguments and environment variables for pip's index settings: uv does not read pip's."""
    arguments = [word for url in settings.get("index-url", "").split() for word in ("--default-index", url)]
    arguments += [word for url in settings.get("extra-index-url", "").split() for word in ("--index", url)]
    arguments += [word for place in settings.get("find-links", "").split() for word in ("--find-links", place)]
    arguments += [word for file in settings.get("constraint", "").split() for word in ("--constraints", file)]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        arguments.append("--no-index")
    return arguments, {"SSL_CERT_FILE": settings["cert"]} if "cert" in settings else {}


class Result(NamedTuple):
    """What uv answers: the lines that pin every package, and why it failed (empty if it did not)."""

    pins: str
    trouble: str


def resolve(case: Case, root: Path, index: Sequence[str], variables: Mapping[str, str], deadline: float) -> Result:
    """Resolve one case.

    Args:
        case: What is resolved.
        root: Folder of the requirements and constraints files.
        index: uv's arguments for the index.
        variables: Environment variables beside this process's own.
        deadline: `time.monotonic()` at which to give up, in seconds.
    """
    command = [UV, "pip", "compile", "--quiet", "--no-config", "--color", "never", "--no-annotate", *index]
    command += ["--index-strategy", "unsafe-best-match"]  # as pip: the best version of all indexes
    command += ["--no-python-downloads", "--python", sys.executable]
    command += ["--python-version", case.python, "--python-platform", case.platform, "--only-binary", ":all:"]
    command += [word for name in SOURCES for word in ("--no-binary", name)]
    command += ["--constraints", CONSTRAINTS[case.file], case.file]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": MACOS, **variables}
    left_s = max(deadline - time.monotonic(), 0.1)
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, timeout=left_s, check=False
        )
    except subprocess.TimeoutExpired:
        return Result("", f"no answer within the {LIMIT_S:.0f} s for all")
    return Result(done.stdout, (done.stderr.strip() or f"exit status {done.returncode}") if done.returncode else "")


def judge(case: Case, result: Result) -> tuple[str, str]:
    """Return what is wrong with a result, and what is missing from it as it is known to be; empty if nothing is."""
    key = case.file, case.python
    if key in UNRESOLVED:
        gap = UNRESOLVED[key]
        if not result.trouble:
            return f"it resolves by now; out of date in {Path(__file__).name}: {gap.reason}", ""
        return ("", gap.reason) if gap.package in result.trouble else (result.trouble, "")
    if key in LEFT_OUT and not result.trouble:
        gap = LEFT_OUT[key]
        if re.search(rf"^{gap.package}==", result.pins, re.MULTILINE):
            return f"{gap.package} is in by now; out of date in {Path(__file__).name}: {gap.reason}", ""
        return "", f"without {gap.package}: {gap.reason}"
    return result.trouble, ""


def main() -> int:
    """Resolve all cases, side by side; return 1 if one is not as it should be."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    index, variables = translate(read_pip_config(listed.splitlines()))
    begin, failures = time.monotonic(), 0
    cases = list_cases()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = pool.map(lambda case: resolve(case, ROOT, index, variables, begin + LIMIT_S), cases)
        for case, result in zip(cases, results, strict=True):
            wrong, known = judge(case, result)
            failures += bool(wrong)
            if wrong or known:
                print(f"{case}: {wrong or f'as known, {known}'}", flush=True)
    print(f"{len(cases)} cases in {time.monotonic() - begin:.0f} s, {failures} wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
