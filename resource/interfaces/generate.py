"""From ``.msg`` files to C and Python sources: the rosidl generators, called as ament's cmake macros call them."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rosidl_generator_c
import rosidl_generator_py
import rosidl_typesupport_c
import rosidl_typesupport_fastrtps_c
import rosidl_typesupport_introspection_c
from rosidl_adapter import convert_to_idl
from rosidl_generator_type_description import generate_type_hash

GENERATOR_C = "rosidl_generator_c"
GENERATOR_PY = "rosidl_generator_py"
TYPESUPPORT_C = "rosidl_typesupport_c"
FASTRTPS_C = "rosidl_typesupport_fastrtps_c"
# rmw_fastrtps_cpp needs the introspection type support beside its own: it registers the type object from it.
INTROSPECTION_C = "rosidl_typesupport_introspection_c"
DESCRIPTION = "rosidl_generator_type_description"

PREFIX = Path(sys.prefix)
SHARE = PREFIX / "share"


@dataclass(frozen=True)
class Generated:
    """Where one package's definitions and generated sources lie.

    ``root/<kind>/<package>`` holds the output of the generator ``kind``; ``root/idl`` the converted definitions.
    """

    package: str
    definitions: Path
    dependencies: tuple[str, ...]
    messages: tuple[Path, ...]  # relative: msg/Name.msg
    root: Path

    def output(self, kind: str) -> Path:
        """Return the directory of one generator's output."""
        return self.root / kind / self.package

    @property
    def entry_point(self) -> Path:
        """The C source of the CPython extension; every other generated source belongs to a plain library."""
        return self.output(GENERATOR_PY) / f"_{self.package}_s.ep.{TYPESUPPORT_C}.c"


def generate(package: str, definitions: Path, dependencies: Sequence[str], root: Path) -> Generated:
    """Generate everything for ``definitions/msg/*.msg`` under ``root``."""
    messages = tuple(path.relative_to(definitions) for path in sorted(definitions.glob("msg/*.msg")))
    out = Generated(package, definitions, tuple(dependencies), messages, root)
    _convert_to_idl(out)
    include_paths = [f"{name}:{SHARE / name}" for name in dependencies]
    generate_type_hash(_arguments(out, DESCRIPTION, include_paths=include_paths))
    _generate_c(out)
    rosidl_typesupport_fastrtps_c.generate_typesupport_fastrtps_c(_arguments(out, FASTRTPS_C))
    rosidl_typesupport_introspection_c.generate_c(_arguments(out, INTROSPECTION_C))
    rosidl_typesupport_c.generate_c(_arguments(out, TYPESUPPORT_C), [FASTRTPS_C, INTROSPECTION_C])
    rosidl_generator_py.generate_py(_arguments(out, GENERATOR_PY), [TYPESUPPORT_C])
    for kind in (GENERATOR_C, FASTRTPS_C, INTROSPECTION_C):
        _write_visibility_header(out, kind)
    (out.output(GENERATOR_PY) / "__init__.py").touch()
    return out


def _convert_to_idl(out: Generated) -> None:
    idl = out.root / "idl"
    idl.mkdir(parents=True)
    with contextlib.redirect_stdout(io.StringIO()):  # the converter reports every file
        for message in out.messages:
            convert_to_idl(out.definitions, out.package, message, idl)


def _generate_c(out: Generated) -> None:
    descriptions = out.output(DESCRIPTION)
    pairs = [f"{m.with_suffix('.idl')}:{descriptions / m.with_suffix('.json')}" for m in out.messages]
    files = [str(out.root / "idl" / m.with_suffix(".idl")) for m in out.messages]
    arguments = _arguments(out, GENERATOR_C, type_description_tuples=pairs, ros_interface_files=files)
    rosidl_generator_c.generate_c(arguments)


def _arguments(out: Generated, kind: str, **extra: Any) -> str:
    """Write the JSON file that a generator takes its arguments from; return its path."""
    directory = out.output(kind)
    directory.mkdir(parents=True, exist_ok=True)
    arguments = {
        "package_name": out.package,
        "output_dir": str(directory),
        "template_dir": str(SHARE / kind / "resource"),
        "idl_tuples": [f"{out.root / 'idl'}:{m.with_suffix('.idl')}" for m in out.messages],
        "ros_interface_dependencies": [
            f"{name}:{path}" for name in out.dependencies for path in sorted((SHARE / name).glob("*/*.idl"))
        ],
        "target_dependencies": [],
        **extra,
    }
    path = out.root / f"{kind}.json"
    path.write_text(json.dumps(arguments))
    return str(path)


def _write_visibility_header(out: Generated, kind: str) -> None:
    name = f"{kind}__visibility_control.h"
    template = (SHARE / kind / "resource" / f"{name}.in").read_text()
    header = template.replace("@PROJECT_NAME@", out.package).replace("@PROJECT_NAME_UPPER@", out.package.upper())
    (out.output(kind) / "msg" / name).write_text(header)
