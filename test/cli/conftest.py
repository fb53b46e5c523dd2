"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from objloc_ros.cli.main import main


@pytest.fixture
def prelabel(tmp_path: Path) -> Callable[..., int]:
    """Run `objloc prelabel` on inputs below tmp_path/in, with results in a folder beside it."""

    def call(*options: str, inputs: tuple[str, ...] = ("in",), out: str = "out") -> int:
        paths = [str(tmp_path / name) for name in inputs]
        return main(["prelabel", *paths, "--out", str(tmp_path / out), "--device", "cpu", *options])

    return call


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of four frames that every method answers rightly."""
    pytest.importorskip("rclpy")
    import bag_making as making

    path: Path = making.write(tmp_path_factory.mktemp("bags") / "square", making.square(4))
    return path
