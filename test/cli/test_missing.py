"""Without what evaluation and development bring, all that finds objects works; the rest says what it lacks."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from objloc_ros.cli.missing import BROUGHT_BY, describe_missing

ROOT = Path(__file__).resolve().parents[2]
ABSENT = sorted(BROUGHT_BY["requirements-evaluation.txt"] | BROUGHT_BY["requirements-dev.txt"])
PHOTOGRAPH = ROOT / "objloc_ros/scenes/photographs/1_dogs.jpg"

# Names on PyPI that are not those of the module.
PYPI = {
    "PIL": "pillow",
    "cv2": "opencv",
    "foxglove": "foxglove-sdk",
    "open_clip": "open_clip_torch",
    "py_sod_metrics": "pysodmetrics",
    "rerun": "rerun-sdk",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}

# A Python in which these modules are not installed.
WITHOUT = """
import importlib, sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in NAMES else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
"""


def run_without(names, program, *arguments, folder=None):
    source = f"NAMES = {list(names)}\n{WITHOUT}\n{program}"
    command = [sys.executable, "-c", source, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=PATIENCE_S, check=False)


def objloc_without(names, *arguments, folder=None):
    program = "from objloc_ros.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return run_without(names, program, *arguments, folder=folder)


def test_detect_needs_none_of_them(tmp_path):
    done = objloc_without(ABSENT, "detect", PHOTOGRAPH, "--method", "found,maskcut", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert any(json.loads(path.read_text()) for path in (tmp_path / "out").rglob("*.json"))


def test_nodes_and_demo_need_none_of_them(tmp_path):
    pytest.importorskip("rclpy")
    names = [f"objloc_ros.nodes.{path.stem}" for path in (ROOT / "objloc_ros/nodes").glob("*.py")]
    names.remove("objloc_ros.nodes.launching")  # where launch is installed, launch files need it
    names += [
        "objloc_ros.cli.demo",
        "objloc_ros.cli.demo_report",
        "objloc_ros.bags.lockstep",
        "objloc_ros.bags.realtime",
    ]
    done = run_without(ABSENT, "for name in sys.argv[1:]: importlib.import_module(name)", *names, folder=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["evaluate", "convert", "prelabel", "recurring", "cluster"])
def test_commands_that_need_them_say_which_file_brings_them(command):
    done = objloc_without(ABSENT, command, "--help")
    expected = "objloc: error: this command needs the Python module 'faster_coco_eval': "
    expected += "pip install -r requirements-evaluation.txt (docs/install.md)\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_a_bag_with_truth_says_so_before_it_is_read(tmp_path):
    pytest.importorskip("rclpy")
    done = objloc_without(ABSENT, "bag", "no_bag", "--truth", "/camera/image_raw=/truth", folder=tmp_path)
    assert done.returncode == 2
    assert "needs the Python module 'faster_coco_eval': pip install" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    without_truth = objloc_without(ABSENT, "bag", "no_bag", folder=tmp_path)
    assert "no_bag" in without_truth.stderr  # then it is the bag that is missing


def test_a_machine_without_ros_is_told_so(tmp_path):
    ros = ("rclpy", "rcl_interfaces", "builtin_interfaces", "sensor_msgs", "std_msgs", "lifecycle_msgs", "vision_msgs")
    done = objloc_without(ros, "demo", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith(": it comes with ROS 2 (docs/install.md)\n")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("file", BROUGHT_BY)
def test_files_bring_what_is_said_of_them(file):
    text = (ROOT / file).read_text()
    for module in BROUGHT_BY[file]:
        name = PYPI.get(module, module.replace("_", "-"))
        assert any(line.startswith(name) for line in text.splitlines()), name
        assert file in describe_missing(f"{module}.part")
