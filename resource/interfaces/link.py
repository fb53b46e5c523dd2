"""From generated sources to shared libraries in the standard ROS layout, with gcc and g++ only."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy
from generate import (
    FASTRTPS_C,
    GENERATOR_C,
    GENERATOR_PY,
    INTROSPECTION_C,
    PREFIX,
    TYPESUPPORT_C,
    Generated,
)

# Each library and the package's own libraries that it links; ROS opens lib<package>__<kind>.so by name.
LIBRARIES: dict[str, tuple[str, ...]] = {
    GENERATOR_C: (),
    FASTRTPS_C: (GENERATOR_C,),
    INTROSPECTION_C: (GENERATOR_C,),
    TYPESUPPORT_C: (GENERATOR_C, FASTRTPS_C, INTROSPECTION_C),
    GENERATOR_PY: (GENERATOR_C, TYPESUPPORT_C),
}
RUNTIME = (
    "rosidl_runtime_c",
    "rosidl_typesupport_c",
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_fastrtps_cpp",
    "rosidl_typesupport_introspection_c",
    "fastcdr",
    "rcutils",
    "rmw",
)


def compile_sources(generated: Generated, directory: Path) -> dict[Path, Path]:
    """Compile every generated C and C++ source, one process per core; return source -> object file."""
    directory.mkdir(parents=True)
    include = _include_flags(generated)
    sources = [path for kind in LIBRARIES for path in _sources(generated, kind)] + [generated.entry_point]
    objects = {source: directory / f"{index}.o" for index, source in enumerate(sources)}

    def compile_one(source: Path) -> None:
        compiler = ["gcc", "-std=gnu11"] if source.suffix == ".c" else ["g++", "-std=c++17"]
        _run([*compiler, "-O1", "-fPIC", "-w", "-DNDEBUG", *include, "-c", str(source), "-o", str(objects[source])])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, sources))
    return objects


def link_libraries(generated: Generated, objects: dict[Path, Path], stage: Path) -> None:
    """Link the libraries into ``stage/data/lib`` and the CPython extension into ``stage/<package>``."""
    lib = stage / "data" / "lib"
    lib.mkdir(parents=True)
    for kind, own in LIBRARIES.items():
        inputs = [objects[source] for source in _sources(generated, kind)]
        target = lib / f"lib{generated.package}__{kind}.so"
        _link(generated, target, inputs, own=own, foreign=(GENERATOR_C, kind), lib=lib, rpath="$ORIGIN")
    extension = stage / generated.package / f"{generated.package}_s__{TYPESUPPORT_C}.so"
    extension.parent.mkdir(parents=True)
    inputs = [objects[generated.entry_point]]
    to_lib = os.path.relpath(PREFIX / "lib", Path(sysconfig.get_path("platlib")) / generated.package)
    own = (GENERATOR_PY, TYPESUPPORT_C, GENERATOR_C)
    _link(generated, extension, inputs, own=own, foreign=(), lib=lib, rpath=f"$ORIGIN/{to_lib}")


def _sources(generated: Generated, kind: str) -> list[Path]:
    """Return one library's sources, the extension's entry point left out."""
    found = sorted(path for path in generated.output(kind).rglob("*.c*") if path.suffix in (".c", ".cpp"))
    return [path for path in found if path != generated.entry_point]


def _include_flags(generated: Generated) -> list[str]:
    headers = PREFIX / "include"
    nested = [
        path for path in sorted(headers.iterdir()) if (path / path.name).is_dir()
    ]  # include/<package>/<package>/…
    own = [generated.root / kind for kind in LIBRARIES]
    return [f"-I{path}" for path in (*own, sysconfig.get_path("include"), numpy.get_include(), headers, *nested)]


def _link(
    generated: Generated,
    target: Path,
    inputs: Sequence[Path],
    *,
    own: Sequence[str],
    foreign: Sequence[str],
    lib: Path,
    rpath: str,
) -> None:
    """Link against the package's ``own`` libraries and the dependencies' libraries of the ``foreign`` kinds."""
    needed = [f"-l{generated.package}__{kind}" for kind in own]
    needed += [f"-l{name}__{kind}" for name in generated.dependencies for kind in foreign]
    needed += [f"-l{name}" for name in RUNTIME]
    search = [f"-L{lib}", f"-L{PREFIX / 'lib'}"]
    head = ["g++", "-shared", "-s", "-o", str(target), f"-Wl,-soname,{target.name}"]
    _run([*head, *map(str, inputs), *search, "-Wl,--as-needed", *needed, f"-Wl,-rpath,{rpath}"])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
