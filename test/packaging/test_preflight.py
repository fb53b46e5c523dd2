"""What a machine lacks is said in one message, before anything is downloaded."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LINUX = ("Linux", "x86_64")

# A stand-in interpreter: exit statuses and answers to preflight's questions, told apart by what they mention.
PYTHON = """#!/bin/sh
case "$2" in
*"(3, 10)"*) exit {supported} ;;
*python_version*) echo {version}.0 ;;
*ensurepip*) exit {venv} ;;
*sysconfig*) echo {include} ;;
*) echo {version} ;;
esac
"""


@pytest.fixture
def machine(tmp_path):
    """Builds a PATH with just the given tools and a Python, and runs the check there."""
    headers = tmp_path / "include"
    headers.mkdir()
    (headers / "Python.h").touch()

    def check(
        *tools,
        need_gb=0,
        version="3.12",
        supported=0,
        venv=0,
        include=headers,
        python="python3",
        system=("Linux", "x86_64"),
    ):
        bin_dir = tmp_path / "bin"
        bin_dir.mkdir()
        for tool in ("df", "awk", *tools):
            os.symlink(shutil.which(tool) or "/bin/true", bin_dir / tool)
        uname = bin_dir / "uname"
        uname.write_text("#!/bin/sh\ncase $1 in -s) echo {};; -m) echo {};; esac\n".format(*system))
        uname.chmod(0o755)
        script = bin_dir / "python3"
        script.write_text(PYTHON.format(version=version, supported=supported, venv=venv, include=include))
        script.chmod(0o755)
        command = ["/bin/sh", str(ROOT / "resource/preflight.sh"), python, str(need_gb)]
        return subprocess.run(command, capture_output=True, text=True, env={"PATH": str(bin_dir)}, check=False)

    return check


def test_complete_machine_passes_in_silence(machine):
    done = machine("gcc", "g++")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("tools", "circumstances", "expected"),
    [
        (("g++",), {}, "apt install gcc)"),
        (("gcc",), {}, "apt install g++)"),
        (("gcc", "g++"), {"include": "/nowhere"}, "apt install python3.12-dev"),
        (("gcc", "g++"), {"venv": 1}, "apt install python3.12-venv"),
        (("gcc", "g++"), {"supported": 1, "version": "3.9"}, "'python3' is 3.9.0"),
        (("gcc", "g++"), {"python": "python3.99"}, "'python3.99' is not there"),
        (("gcc", "g++"), {"need_gb": 10**6}, "disk: 1000000 GB free here"),
    ],
)
def test_one_thing_missing_is_named(machine, tools, circumstances, expected):
    done = machine(*tools, **circumstances)
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n  - ") == 1


@pytest.mark.parametrize("system", [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_where_there_are_no_ros_wheels_detect_is_offered_in_one_line(machine, system):
    done = machine("gcc", "g++", system=system, need_gb=10**6)
    expected = "objloc_ros: no ROS 2 wheels for {} on {}; `objloc detect` works there: docs/install.md, Without ROS\n"
    assert (done.returncode, done.stderr) == (1, expected.format(*system))


def test_everything_missing_is_named_at_once(machine):
    done = machine(venv=1, include="/nowhere", need_gb=10**6)
    assert done.returncode == 1
    assert done.stderr.count("\n  - ") == 5
