"""`objloc prelabel --engine ray`: the bytes of one process, also where a machine is lost in mid-run."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prelabel_making import COCO_FILE, bag, pictures, tree, video
from waiting import wait_for

IMAGES = 16


def finished(parts: Path) -> int:
    """How many pieces of work are done."""
    return sum(path.is_dir() and not path.name.startswith(".") for path in parts.iterdir()) if parts.exists() else 0


def test_a_cluster_that_loses_a_node_gives_the_same_bytes(
    cluster: Any, prelabel: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "in", *(f"{number:02d}.png" for number in range(IMAGES)))
    video(tmp_path / "in" / "clip.mp4")
    bag(tmp_path / "in" / "run", frames=10)
    (tmp_path / "in" / "torn.mcap").write_bytes(b"no bag")
    options = ("--block", "1", "--method", "maskcut", "--export", "coco,foxglove", "--json")
    doomed = cluster.list_all_nodes()[-1]
    done: list[int] = []

    def lose_a_node() -> None:
        parts = tmp_path / "ray" / "parts"
        wait_for(lambda: finished(parts) >= 3, "some parts")
        cluster.remove_node(doomed, allow_graceful=False)
        done.append(finished(parts))

    thread = threading.Thread(target=lose_a_node, daemon=True)
    thread.start()
    assert prelabel(*options, "--engine", "ray", "--address", cluster.address, out="ray") == 1, "a bag is torn"
    thread.join()
    said = capsys.readouterr()
    failed = json.loads(said.out)["failed"]
    assert list(failed) == ["torn_mcap"]
    assert "cannot read bag" in failed["torn_mcap"]
    assert said.err.count("objloc: torn_mcap: ") == 1, "listed once, at the end"
    assert done, "the node was lost in mid-run"
    assert done[0] < IMAGES + 2
    assert prelabel(*options, out="here") == 1
    for name in (COCO_FILE, "tracks.json"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    for name in ("images", "foxglove"):
        assert tree(tmp_path / "ray" / name) == tree(tmp_path / "here" / name) != {}
    before = tree(tmp_path / "ray")
    assert not any(name.startswith(".") for name in os.listdir(tmp_path / "ray" / "parts")), "no halves are left"
    assert prelabel(*options, out="ray") == 1, "only the torn one is tried again, here as well as there"
    assert tree(tmp_path / "ray") == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", "2"), "are for --engine ray"),
        (("--engine", "ray", "--workers", "0"), "at least 1 Ray task, got 0"),
        (("--engine", "ray", "--address", "127.0.0.1:1"), "cannot join a Ray cluster at '127.0.0.1:1'"),
        (("--threads", "0"), "threads must be at least 1, got 0"),
    ],
)
def test_engines_that_are_none(
    prelabel: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    message: str,
) -> None:
    pictures(tmp_path / "in", "a.png")
    assert prelabel(*options) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / COCO_FILE).exists()
