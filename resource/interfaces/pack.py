"""The wheel: Python files and the extension beside ``data/lib`` and ``data/share``, unpacked into the prefix."""

from __future__ import annotations

import base64
import hashlib
import shutil
import sys
import sysconfig
import zipfile
from pathlib import Path

from generate import DESCRIPTION, GENERATOR_PY, Generated

PACKAGE_XML = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>{version}</version>
  <description>The interfaces of {name}, built from field definitions.</description>
  <maintainer email="maintainers@objloc.dev">objloc_ros maintainers</maintainer>
  <license>Apache-2.0</license>
  {depends}
  <member_of_group>rosidl_interface_packages</member_of_group>
</package>
"""


def stage_files(generated: Generated, version: str, stage: Path) -> None:
    """Lay out the Python package, ``share/<package>`` and the ament index entries under ``stage``."""
    python = generated.output(GENERATOR_PY)
    for source in python.rglob("*.py"):
        _copy(source, stage / generated.package / source.relative_to(python))
    share = stage / "data" / "share"
    origins = {".msg": generated.definitions, ".idl": generated.root / "idl", ".json": generated.output(DESCRIPTION)}
    files = [(origin, m.with_suffix(suffix)) for m in generated.messages for suffix, origin in origins.items()]
    for origin, relative in files:
        _copy(origin / relative, share / generated.package / relative)
    depends = "\n  ".join(f"<depend>{name}</depend>" for name in generated.dependencies)
    manifest = PACKAGE_XML.format(name=generated.package, version=version, depends=depends)
    (share / generated.package / "package.xml").write_text(manifest)
    index = share / "ament_index" / "resource_index"
    entries = {"packages": "", "rosidl_interfaces": "\n".join(str(relative) for _, relative in files)}
    for kind, text in entries.items():
        (index / kind).mkdir(parents=True)
        (index / kind / generated.package).write_text(text)


def write_wheel(generated: Generated, version: str, stage: Path, directory: Path) -> Path:
    """Zip ``stage`` into a wheel (PEP 427) in ``directory``; return its path."""
    name = f"{generated.package}-{version}"
    files = _payload(generated, name, stage)
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    tag = f"{python}-{python}-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
    requires = "".join(f"Requires-Dist: ros-{d.replace('_', '-')}\n" for d in generated.dependencies)
    info = f"{name}.dist-info"
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {generated.package}\nVersion: {version}\n{requires}"
    ).encode()
    files[f"{info}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: objloc_ros\nRoot-Is-Purelib: false\nTag: {tag}\n"
    ).encode()
    record = "".join(f"{path},{_digest(data)},{len(data)}\n" for path, data in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    wheel = directory / f"{name}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return wheel


def _payload(generated: Generated, name: str, stage: Path) -> dict[str, bytes]:
    """Return archive path -> content of everything staged."""
    roots = {generated.package: stage / generated.package, f"{name}.data/data": stage / "data"}
    return {
        f"{prefix}/{path.relative_to(root)}": path.read_bytes()
        for prefix, root in roots.items()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
