"""Nodes as child processes: their command lines, and a ROS domain of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from objloc_ros.bags.processes import node_command, ros_of_its_own


def test_command_lines() -> None:
    parameters = {"prompts": ["a: b", "Bäume"], "threshold": 0.5, "autostart": True, "weights": Path("/x y").as_posix()}
    assert node_command(("python", "-m", "found"), "", parameters, {"__node": "other", "image": "/front/image"}) == [
        *("python", "-m", "found", "--ros-args", "-r", "__ns:=/", "-r", "__node:=other", "-r", "image:=/front/image"),
        *("-p", 'prompts:=["a: b", "Bäume"]', "-p", "threshold:=0.5", "-p", "autostart:=true", "-p", 'weights:="/x y"'),
    ]
    assert node_command(("found",), "/camera", {}) == ["found", "--ros-args", "-r", "__ns:=/camera"]


def test_a_domain_of_its_own_each_time_and_the_old_one_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    monkeypatch.delenv("ROS_AUTOMATIC_DISCOVERY_RANGE", raising=False)
    before, domains = dict(os.environ), []
    for _ in range(2):
        with ros_of_its_own():
            assert os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
            domains.append(int(os.environ["ROS_DOMAIN_ID"]))
        assert dict(os.environ) == before
    assert domains[0] != domains[1]
    assert all(1 <= domain <= 100 for domain in domains)
