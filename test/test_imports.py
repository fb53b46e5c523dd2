"""The layering: imports go one way, ROS stays where it belongs, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "objloc_ros"
MODULES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "ops": {"errors", "types"},
    "scenes": {"errors", "types"},
    "backbones": {"errors", "types"},
    "methods": {"errors", "types", "ops", "backbones"},
    "engine": {"errors", "types", "ops", "backbones", "methods"},
    "nodes": {"errors", "types", "ops", "scenes", "backbones", "methods", "engine"},
    "evaluation": {"errors", "types", "ops", "scenes", "backbones", "methods", "engine"},
    "training": {"errors", "types", "ops", "scenes", "backbones", "methods", "engine"},
    "cli": {"errors", "types", "ops", "scenes", "backbones", "methods", "engine", "nodes", "evaluation", "training"},
}
"""Layers of the package and the lower ones each may use; the package's own module offers only the pipeline."""

ROS = {"builtin_interfaces", "cv_bridge", "launch", "launch_ros", "rcl_interfaces", "rclpy", "std_srvs"}
ROS_ALLOWED = ("nodes/", "evaluation/bags/")
"""Beside the nodes only what reads and replays bags, which may use the nodes' own conversions."""

NUMPY_ONLY = ("scenes/", "ops/drawing.py", "ops/contact_sheet.py", "ops/media.py", "ops/files.py", "evaluation/coco.py")
HEAVY = {"torch", "torchvision", "timm", "open_clip"}


def imported(source: str) -> Iterator[str]:
    """Dotted names of everything a module imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(name: str) -> str | None:
    """The layer of a dotted name inside the package; None for others and for the package itself."""
    parts = name.split(".")
    return parts[1] if parts[0] == "objloc_ros" and len(parts) > 1 and parts[1] in MAY_IMPORT else None


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def is_ros(name: str) -> bool:
    top = name.partition(".")[0]
    return top in ROS or top.endswith("_msgs") or top.startswith("rosidl")


def test_helpers_see_what_they_should() -> None:
    source = "import torch\nfrom objloc_ros.engine import pipeline\ndef f():\n    import sensor_msgs.msg\n"
    assert list(imported(source)) == ["torch", "objloc_ros.engine.pipeline", "sensor_msgs.msg"]
    assert [layer(name) for name in imported(source)] == [None, "engine", None]
    assert [is_ros(name) for name in imported(source)] == [False, False, True]
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_imports_go_one_way(path: Path) -> None:
    own = place(path).partition("/")[0].removesuffix(".py")
    allowed = {"engine"} if own == "__init__" else MAY_IMPORT[own] | {own}
    if place(path).startswith(ROS_ALLOWED):
        allowed = allowed | {"nodes"}
    used = {name: layer(name) for name in imported(path.read_text())}
    assert {name: up for name, up in used.items() if up is not None and up not in allowed} == {}


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_ros_is_imported_only_by_nodes_and_the_bag(path: Path) -> None:
    if not place(path).startswith(ROS_ALLOWED):
        assert [name for name in imported(path.read_text()) if is_ros(name)] == []


@pytest.mark.parametrize("path", [p for p in MODULES if place(p).startswith(NUMPY_ONLY)], ids=place)
def test_light_modules_do_without_torch(path: Path) -> None:
    assert [name for name in imported(path.read_text()) if name.partition(".")[0] in HEAVY] == []


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import objloc_ros", {"torch", "cv2", "numpy", "rclpy", "timm"}),
        (
            "import objloc_ros.errors, objloc_ros.backbones.registry, objloc_ros.backbones.store",
            {"torch", "cv2", "rclpy"},
        ),
        ("import objloc_ros.cli.main", {"torch", "cv2", "numpy", "rclpy"}),
        ("import objloc_ros.cli.weights", {"torch", "cv2", "rclpy"}),
        ("import objloc_ros.ops.drawing, objloc_ros.ops.media", {"torch", "rclpy"}),
    ],
)
def test_a_fresh_interpreter_loads_nothing_heavy(statement: str, absent: set[str]) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert absent & set(done.stdout.split()) == set()


def test_pipeline_is_reached_lazily_from_the_package() -> None:
    before, after = ("'torch' not in sys.modules", "'torch' in sys.modules")
    code = f"import objloc_ros, sys; assert {before}; objloc_ros.load_pipeline; assert {after}"
    subprocess.run([sys.executable, "-c", code], timeout=120, check=True)
