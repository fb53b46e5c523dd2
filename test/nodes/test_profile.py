"""Where the Fast DDS profile is found."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
from objloc_ros.nodes import qos
from objloc_ros.nodes.qos import PROFILE_VARIABLES, find_fast_dds_profile, make_fast_dds_environment


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """As if installed: no source tree around the module, no variables set."""
    monkeypatch.setattr(qos, "__file__", str(tmp_path / "site-packages" / "objloc_ros" / "nodes" / "profile.py"))
    monkeypatch.setattr(qos.sys, "prefix", str(tmp_path / "venv"))
    for name in (*PROFILE_VARIABLES, "AMENT_PREFIX_PATH"):
        monkeypatch.delenv(name, raising=False)


def install(folder):
    file = folder / "config" / "fastdds_shm.xml"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


@pytest.mark.parametrize("place", ["site-packages", "venv/share/objloc_ros", "ws/share/objloc_ros"])
def test_every_installation_has_its_place(tmp_path, monkeypatch, place):
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/none:{tmp_path / 'ws'}")
    file = install(tmp_path / place)
    assert find_fast_dds_profile() == file
    assert make_fast_dds_environment() == dict.fromkeys(PROFILE_VARIABLES, str(file))


def test_without_a_profile_nothing_is_set():
    assert find_fast_dds_profile() is None
    assert make_fast_dds_environment() == {}


def test_the_choice_of_the_user_stands(tmp_path, monkeypatch):
    install(tmp_path / "venv/share/objloc_ros")
    monkeypatch.setenv(PROFILE_VARIABLES[0], "/mine.xml")
    assert make_fast_dds_environment() == {}
