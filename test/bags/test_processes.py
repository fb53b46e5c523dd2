"""Child processes: watched, ended, never left behind; the command lines of nodes, and a ROS domain of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import wait_for

pytest.importorskip("rclpy")

from objloc_ros.bags import processes
from objloc_ros.bags.processes import Child, ChildFailedError, isolated_ros_domain, make_node_command


def child(tmp_path, code):
    return Child("worker", [sys.executable, "-S", "-c", code], log=tmp_path / "worker.log")


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid_in(path):
    wait_for(lambda: path.exists() and path.read_text().strip())
    return int(path.read_text())


def test_a_failure_is_told_with_the_last_words(tmp_path):
    code = "import sys; print('\\n'.join(map(str, range(100)))); sys.exit('out of coffee')"
    with child(tmp_path, code) as worker:
        wait_for(lambda: not worker.running)
        with pytest.raises(ChildFailedError, match=r"worker ended with exit code 1(.|\n)*out of coffee") as error:
            worker.check(may_end=True)
    assert " 99\n" in str(error.value)
    assert " 50\n" not in str(error.value)


def test_an_early_end_is_a_failure_unless_allowed(tmp_path):
    with child(tmp_path, "") as worker:
        wait_for(lambda: not worker.running)
        worker.check(may_end=True)
        with pytest.raises(ChildFailedError, match=r"exit code 0(.|\n)*\(nothing\)"):
            worker.check()


def test_a_running_child_is_fine_and_is_interrupted_at_the_end(tmp_path):
    code = "import time\ntry: print('up', flush=True), time.sleep(3600)\nexcept KeyboardInterrupt: print('bye')"
    with child(tmp_path, code) as worker:
        wait_for(lambda: "up" in worker.log.read_text())
        worker.check()
    assert worker.log.read_text().split() == ["up", "bye"]


def test_a_deaf_child_and_its_own_children_are_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "GRACE_S", 0.3)
    code = (
        "import pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(3600)'])\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(inner.pid))\n"
        "time.sleep(3600)\n"
    )
    with child(tmp_path, code) as worker:
        inner = pid_in(tmp_path / "pid")
        assert alive(inner)
    assert not worker.running
    wait_for(lambda: not alive(inner))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_killing_the_parent_ends_the_child(tmp_path):
    code = (
        "import pathlib, sys, time\n"
        "from objloc_ros.bags.processes import Child\n"
        "sleeper = [sys.executable, '-S', '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(3600)']\n"
        f"Child('sleeper', sleeper, log=pathlib.Path({str(tmp_path / 'pid')!r}))\n"
        "time.sleep(3600)\n"
    )
    root = Path(__file__).resolve().parents[2]
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    try:
        sleeper = pid_in(tmp_path / "pid")
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    wait_for(lambda: not alive(sleeper))


def test_command_lines() -> None:
    parameters = {"prompts": ["a: b", "Bäume"], "threshold": 0.5, "autostart": True, "weights": Path("/x y").as_posix()}
    assert make_node_command(
        ("python", "-m", "found"), "", parameters, {"__node": "other", "image": "/front/image"}
    ) == [
        *("python", "-m", "found", "--ros-args", "-r", "__ns:=/", "-r", "__node:=other", "-r", "image:=/front/image"),
        *("-p", 'prompts:=["a: b", "Bäume"]', "-p", "threshold:=0.5", "-p", "autostart:=true", "-p", 'weights:="/x y"'),
    ]
    assert make_node_command(("found",), "/camera", {}) == ["found", "--ros-args", "-r", "__ns:=/camera"]


def test_a_domain_of_its_own_each_time_and_the_old_one_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE", raising=False)
    before, domains = dict(os.environ), []
    for _ in range(2):
        with isolated_ros_domain():
            assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
            domains.append(int(os.environ["ROS_DOMAIN_ID"]))
        assert dict(os.environ) == before
    assert domains[0] != domains[1]
    assert all(1 <= domain <= 100 for domain in domains)
