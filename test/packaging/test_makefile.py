"""What `make` would install: the demo only what it needs, the rest on top, PyTorch from the index of choice."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed here")


def plan(tmp_path, *arguments):
    """Commands for a machine on which nothing is set up, not run."""
    command = ["make", "--dry-run", f"VENV={tmp_path / 'venv'}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_demo_needs_neither_evaluation_nor_development(tmp_path):
    commands = plan(tmp_path, "demo")
    assert "-r requirements-bare.txt" in commands
    assert "requirements-dev.txt" not in commands
    assert "-r requirements-evaluation.txt" not in (ROOT / "requirements-bare.txt").read_text()


@pytest.mark.parametrize("target", ["setup", "test", "lint", "bench", "resolve"])
def test_the_rest_comes_on_top(tmp_path, target):
    commands = plan(tmp_path, target)
    assert commands.index("-r requirements-bare.txt") < commands.index("-r requirements-dev.txt")
    assert "--extra-index-url" not in commands


def test_pytorch_comes_from_the_index_of_choice(tmp_path):
    commands = plan(tmp_path, "setup", "TORCH_INDEX=https://wheels.example/cpu")
    assert commands.count('--extra-index-url "https://wheels.example/cpu" -c constraints-bare.txt') == 2
