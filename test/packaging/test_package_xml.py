"""The package as ROS's tools see it: a manifest error silently turns ros.ament_python into plain python."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from catkin_pkg.package import parse_package

ROOT = Path(__file__).resolve().parents[2]
PIP_ONLY = {"torch", "torchvision", "timm", "safetensors", "rosbags"} | {
    "array_api_compat",
    "onnxruntime",
    "open_clip",
    "threadpoolctl",
}
# Import name -> PyPI's name, where they differ.
PYPI = {"open_clip": "open_clip_torch"}
# Import name -> rosdep key, where they differ.
KEYS = {name: f"python3-{name}" for name in ("numpy", "scipy", "tqdm", "yaml")} | {
    "cv2": "python3-opencv",
    "PIL": "python3-pil",
    "sklearn": "python3-sklearn",
    "tf2_ros": "tf2_ros_py",
}
# Draws the model card's pictures when the embedded model is trained; named in requirements-dev.txt.
TRAINING_ONLY = {"skimage"}
# Renders training material; installed by the command that does (training/material_views.py).
SELF_INSTALLED = {"vtk"}
# Exports models, for those who want to; named in requirements-dev.txt.
OPTIONAL = {"onnx", "tokenizers"}
# What evaluation needs on top; named in requirements-evaluation.txt under PyPI's names.
EVALUATION = {
    "faster_coco_eval": "faster-coco-eval",
    "foxglove": "foxglove-sdk",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "matplotlib": "matplotlib",
    "py_sod_metrics": "pysodmetrics",
    "ray": "ray",
    "rerun": "rerun-sdk",
}


@pytest.fixture(scope="module")
def manifest():
    warnings = []
    package = parse_package(str(ROOT / "package.xml"), warnings=warnings)
    assert warnings == []
    return package


def test_manifest_is_valid_and_ament_python(manifest):
    manifest.validate()
    assert manifest.name == "objloc_ros"
    assert manifest.get_build_type() == "ament_python"
    assert manifest.licenses == ["Apache-2.0"]
    assert (ROOT / manifest.licenses[0].file).is_file()


def test_version_agrees_with_setup_py(manifest):
    assert f'version="{manifest.version}"' in (ROOT / "setup.py").read_text()


def test_maintainer_agrees_with_setup_py(manifest):
    (maintainer,) = manifest.maintainers
    setup = (ROOT / "setup.py").read_text()
    assert f'maintainer="{maintainer.name}"' in setup
    assert f'maintainer_email="{maintainer.email}"' in setup


def third_party_imports(*folders):
    """Top-level names that these folders import from outside the package and the standard library."""
    import ast

    names = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"objloc_ros"}


def test_every_import_is_declared(manifest):
    declared = {dependency.name for dependency in manifest.exec_depends} | PIP_ONLY
    beside = TRAINING_ONLY | SELF_INSTALLED | OPTIONAL | set(EVALUATION)
    missing = {
        name for name in third_party_imports("objloc_ros", "launch") - beside if KEYS.get(name, name) not in declared
    }
    assert missing == set()


def packages_in(file):
    """Names in a requirements or constraints file."""
    lines = (ROOT / file).read_text().splitlines()
    return {re.match(r"[\w-]+", line)[0] for line in lines if re.match(r"\w", line)}


def test_pip_brings_what_apt_does_not():
    assert {name.replace("-", "_") for name in packages_in("requirements.txt")} == {
        PYPI.get(name, name) for name in PIP_ONLY
    }


def test_what_evaluation_imports_is_required():
    assert set(EVALUATION.values()) <= packages_in("requirements-evaluation.txt")


def test_a_light_installation_has_the_versions_of_the_whole_one() -> None:
    whole = {
        line.partition(";")[0]
        for file in ("requirements.txt", "requirements-detect.txt")
        for line in (ROOT / file).read_text().splitlines()
    }
    light = [line for line in (ROOT / "requirements-light.txt").read_text().splitlines() if not line.startswith("#")]
    assert set(light) <= whole


@pytest.mark.parametrize(
    "file", ["requirements.txt", "requirements-light.txt", "requirements-evaluation.txt", "requirements-dev.txt"]
)
def test_constraints_pin_every_requirement(file):
    pinned = packages_in("constraints.txt") | packages_in("constraints-bare.txt")
    assert packages_in(file) <= pinned
    lines = (ROOT / "constraints.txt").read_text().splitlines() + (
        ROOT / "constraints-bare.txt"
    ).read_text().splitlines()
    assert all("==" in line for line in lines if re.match(r"\w", line))


@pytest.mark.parametrize("name", ["numpy", "scipy", "opencv-python-headless"])
def test_a_robot_keeps_what_apt_has(name):
    assert name not in packages_in("constraints.txt") | packages_in("requirements.txt")


def test_colcon_sees_an_ament_python_package():
    colcon = shutil.which("colcon", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert colcon is not None, "no colcon: pip install -r requirements-dev.txt, or apt's on a ROS 2 machine"
    listed = subprocess.run(
        [colcon, "--log-base", "/dev/null", "list", "--paths", str(ROOT)], capture_output=True, text=True, check=True
    ).stdout
    assert "(ros.ament_python)" in listed
