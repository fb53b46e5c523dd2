"""The layering: imports go one way, ROS stays where it belongs, and importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE_S

PACKAGE = Path(__file__).resolve().parents[1] / "objloc_ros"
MODULES = sorted(PACKAGE.rglob("*.py"))

FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "types": {"errors"},
    "options": {"errors"},
    "ops": {"types"},
    "io": {"types"},
    "scenes": {"ops"},
    "backbones": {"types"},
    "methods": {"ops", "backbones", "options"},
    "metrics": {"ops", "io"},
    "engine": {"methods", "ops", "backbones", "io", "version"},
    "training": {"methods", "ops", "backbones", "scenes", "io", "data"},
    "nodes": {"engine", "scenes"},
    "jobs": {"io", "version"},
    "data": {"ops", "io", "version"},
    "benchmark": {"engine"},
    "bags": {"nodes", "jobs", "data", "metrics"},
    "prelabels": {"bags"},
    "fleet": {"engine", "metrics", "jobs", "data"},
    "evaluation": {"engine", "scenes", "metrics", "jobs", "data"},
    "cli": {"evaluation", "prelabels", "fleet", "bags", "benchmark", "training", "nodes"},
}
"""The rooms of the package from the ground up, and those that each stands on; it may use what they stand on, too."""

ROS = {"builtin_interfaces", "cv_bridge", "launch", "launch_ros", "rcl_interfaces", "rclpy", "std_srvs", "tf2_ros"}
ROS_ALLOWED = ("nodes/", "bags/", "benchmark/ros.py")
"""Beside the nodes what reads, replays and writes bags, and what measures a node's part of a frame."""

NUMPY_ONLY = ("scenes/", "io/", "data/coco_document.py")
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
    return parts[1] if parts[0] == "objloc_ros" and len(parts) > 1 and parts[1] in FLOORS else None


def may_import(room: str) -> set[str]:
    """All rooms below one."""
    return FLOORS[room].union(*(may_import(below) for below in FLOORS[room]))


def place(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def is_ros(name: str) -> bool:
    top = name.partition(".")[0]
    return top in ROS or top.endswith("_msgs") or top.startswith("rosidl")


def circles(uses: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that import each other, directly or through others."""
    reach = {module: set(used) for module, used in uses.items()}
    for middle in reach:
        for module in reach:
            if middle in reach[module]:
                reach[module] |= reach[middle]
    groups = {frozenset(other for other in reach[module] if module in reach[other]) for module in reach}
    return [set(group) for group in groups if group]


def test_no_modules_import_each_other() -> None:
    names = {".".join(("objloc_ros", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    uses = {
        module: {used if used in names else used.rpartition(".")[0] for used in imported(path.read_text())} & set(names)
        for module, path in names.items()
    }
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]
    assert circles(uses) == []


def test_helpers_see_what_they_should() -> None:
    source = "import torch\nfrom objloc_ros.engine import pipeline\ndef f():\n    import sensor_msgs.msg\n"
    assert list(imported(source)) == ["torch", "objloc_ros.engine.pipeline", "sensor_msgs.msg"]
    assert [layer(name) for name in imported(source)] == [None, "engine", None]
    assert [is_ros(name) for name in imported(source)] == [False, False, True]
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_rooms_import_only_what_they_stand_on(path: Path) -> None:
    own = place(path).partition("/")[0].removesuffix(".py")
    allowed = {"engine", "version"} if own == "__init__" else may_import(own) | {own}
    if place(path) == "benchmark/ros.py":
        allowed = allowed | {"nodes"}
    used = {name: layer(name) for name in imported(path.read_text())}
    assert {name: up for name, up in used.items() if up is not None and up not in allowed} == {}


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_ros_is_imported_only_where_it_belongs(path: Path) -> None:
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
        ("import objloc_ros.io.drawing, objloc_ros.io.media", {"torch", "rclpy"}),
        ("import objloc_ros.engine.config", {"torch", "scipy", "rclpy"}),
        ("import objloc_ros.engine.pipeline, objloc_ros.engine.video_tracker", {"torch", "scipy", "rclpy"}),
        ("import objloc_ros.cli.detect", {"torch", "scipy", "faster_coco_eval", "rclpy"}),
    ],
)
def test_a_fresh_interpreter_loads_nothing_heavy(statement: str, absent: set[str]) -> None:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    assert absent & set(done.stdout.split()) == set()


def test_nodes_judge_their_parameters_before_they_load_what_takes_seconds() -> None:
    pytest.importorskip("rclpy")
    test_a_fresh_interpreter_loads_nothing_heavy(
        "import objloc_ros.nodes.found, objloc_ros.nodes.segmentation", {"torch", "timm", "open_clip"}
    )


@pytest.mark.parametrize("name", ["load_pipeline", "VideoTracker"])
def test_the_engine_is_reached_lazily_from_the_package(name: str) -> None:
    before, after = (f"'objloc_ros.engine' {state} sys.modules" for state in ("not in", "in"))
    code = f"import objloc_ros, sys; assert {before}; objloc_ros.{name}; assert {after}"
    subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S, check=True)
