"""`objloc bag` with bags that cannot be used, and options that are none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
import bag_making as making
from lockstep_making import PERFECT, TRUTH_OPTIONS, bag
from std_msgs.msg import String


def broken(tmp_path: Path) -> Path:
    path: Path = making.write(tmp_path / "broken", making.square(4), "mcap")
    file = path / "broken.mcap"
    file.write_bytes(file.read_bytes()[:-4000])
    return path


def test_a_bag_that_cannot_be_used_does_not_stop_the_others(square: Path, tmp_path: Path, capsys: Any) -> None:
    other = making.write(tmp_path / "square", making.square(3))
    assert bag(broken(tmp_path), square, other, out=tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "objloc: bag broken failed: cannot read bag" in captured.err
    assert "broken.mcap is cut off: it has no end mark at byte" in captured.err
    assert [line.split()[3] for line in captured.out.splitlines()[2:4]] == ["4/4", "3/3"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")) == [
        "run.json",
        "square",
        "square_2",
    ]


def empty_file(tmp_path: Path) -> tuple[Path, tuple[str, ...], str]:
    path: Path = making.write(tmp_path / "bag", making.square(2), "sqlite3")
    (path / "bag.db3").write_bytes(b"")
    return path, (), "bag.db3 is empty: 0 bytes"


def no_images(tmp_path: Path) -> tuple[Path, tuple[str, ...], str]:
    return making.write(tmp_path / "bag", [("/talk", 1, String())]), (), "has no camera"


def unknown_type(tmp_path: Path) -> tuple[Path, tuple[str, ...], str]:
    path = making.write_unknown(tmp_path / "bag", making.square(2, truth=None))
    return path, ("--topics", "/odd"), "topic /odd of bag .*/bag holds odd_msgs/msg/Odd messages, not images"


def other_stamps(tmp_path: Path) -> tuple[Path, tuple[str, ...], str]:
    truth = [(topic, when, m) for topic, when, m in making.square(2) if topic == "/front/truth"]
    for _, _, message in truth:
        message.header.stamp.sec += 100
    path = making.write(tmp_path / "bag", [*making.square(2, truth=None), *truth])
    return path, TRUTH_OPTIONS, "/front/truth in bag .* has 2 stamps, but none is within 0 ms"


def missing_truth(tmp_path: Path) -> tuple[Path, tuple[str, ...], str]:
    path: Path = making.write(tmp_path / "bag", making.square(2, truth=None))
    return path, TRUTH_OPTIONS, "has no topic /front/truth; it has"


def cut_database(tmp_path: Path) -> tuple[Path, tuple[str, ...], str]:
    path: Path = making.write(tmp_path / "bag", making.square(8), "sqlite3")
    file = path / "bag.db3"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return path, (), "cannot read bag"


@pytest.mark.parametrize("make", [empty_file, no_images, unknown_type, other_stamps, missing_truth, cut_database])
def test_bags_that_cannot_be_used(tmp_path: Path, capsys: Any, make: Any) -> None:
    path, more, message = make(tmp_path)
    before = making.fingerprint(path)
    assert bag(path, out=tmp_path / "out", more=more) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "none of 1 bags could be used" in error
    assert not (tmp_path / "out" / "bag").exists()
    assert making.fingerprint(path) == before


def test_types_that_nobody_has_do_not_matter_on_other_topics(tmp_path: Path) -> None:
    path = making.write_unknown(tmp_path / "bag", making.square(2))
    assert bag(path, out=tmp_path / "out", more=(*TRUTH_OPTIONS, *PERFECT)) == 0


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--threads", "0"), "threads must be at least 1, got 0"),
        (("--max-objects", "0"), "max_objects must lie in"),
        (("--fail-under", "corloc"), "must be of the form metric=number"),
        (("--slop-ms", "-1"), "must not be negative"),
        (("--slop-ms", "nan"), "--slop-ms must be a finite number, got nan"),
        (("--slop-ms", "inf"), "--slop-ms must be a finite number, got inf"),
        (("--truth-labels", "a,b"), "--truth, which is missing"),
        (("--truth", "/t", "--ground-truth", "x"), "from topics or from a file, not from both"),
        (("--sweep", "x"), "--sweep is for clip_diy"),
        (("--prompts", "car"), "prompts are for clip_diy"),
        (("--method", "maskclip"), "maskclip needs prompts"),
        (("--overlay", "--no-outputs"), "overlay videos are made of the outputs"),
    ],
)
def test_bad_options(square: Path, tmp_path: Path, capsys: Any, more: tuple[str, ...], message: str) -> None:
    assert bag(square, out=tmp_path / "out", more=more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_limits_for_what_is_not_measured(square: Path, tmp_path: Path, capsys: Any) -> None:
    more = ("--topics", "/front/image", "--no-outputs", "--fail-under", "corloc=0.5")
    assert bag(square, out=tmp_path, more=more) == 2
    assert "there is no metric corloc; there are mask_flicker" in capsys.readouterr().err


def test_bags_among_the_results_are_refused(square: Path, tmp_path: Path, capsys: Any) -> None:
    assert bag(square, out=square.parent) == 2
    assert "choose another folder for them" in capsys.readouterr().err
