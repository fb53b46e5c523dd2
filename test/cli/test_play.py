"""`objloc play`: a bag's frames over DDS as they were recorded, and what it says of bags that it cannot play."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
import bag_making as making
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from objloc_ros.bags.recorder import BackgroundWriter, RecordedTopic, Recorder
from objloc_ros.cli.main import main


@pytest.fixture
def play(domain: int, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Play something; returns the exit status and the bytes of the images that came, by topic."""
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))

    def _play(*arguments: Any, topics: tuple[str, ...] = ("/front/image",)) -> tuple[int, dict[str, list[bytes]]]:
        heard: dict[str, list[bytes]] = {topic: [] for topic in topics}
        taps = [RecordedTopic(topic, Image, reliable=False) for topic in topics]
        statuses: list[int] = []
        words = ["play", *map(str, arguments), "--wait-for-subscribers", "1", "--linger", "0.3"]
        with (
            Recorder(taps, lambda topic, kind, data, when: heard[topic].append(bytes(data))) as recorder,
            BackgroundWriter(lambda: statuses.append(main(words))) as playing,
        ):
            playing.submit()
            while not statuses:
                recorder.spin(0.05)
        return statuses[0], heard

    return _play


def stamp(data: bytes) -> int:
    header = deserialize_message(data, Image).header
    return int(header.stamp.sec * 10**9 + header.stamp.nanosec)


@pytest.mark.parametrize("container", ["mcap, chunks", "sqlite3, files"])
def test_frames_go_out_as_they_were_recorded(play: Any, tmp_path: Path, container: str) -> None:
    messages = making.square(6)
    bag = making.write(tmp_path / "bag", messages, container)
    before = making.fingerprint(bag)
    account = tmp_path / "account.json"
    status, heard = play(bag, "--topics", "/front/image", "--rate", "2", "--account", account)
    assert status == 0
    came = [deserialize_message(data, Image) for data in heard["/front/image"]]
    assert came == [message for topic, _, message in messages if topic == "/front/image"]
    said = json.loads(account.read_text())
    assert said["sent"] == {"/front/image": 6}
    assert (said["schedule"]["start_ns"], said["schedule"]["rate"]) == (making.START, 2.0)
    assert 0 <= said["behind_ms"]["p50"] <= said["behind_ms"]["p99"] <= said["behind_ms"]["max"]
    assert making.fingerprint(bag) == before


def test_stamps_out_of_order_and_twice_are_played_as_they_are(play: Any, tmp_path: Path) -> None:
    stamps = [making.START + step * making.STEP for step in (0, 3, 3, 1, 2)]
    frames = [("/front/image", making.START + i * making.STEP, making.grey(one)) for i, one in enumerate(stamps)]
    status, heard = play(making.write(tmp_path / "bag", frames), "--topics", "/front/image=/other", topics=("/other",))
    assert status == 0
    assert [stamp(data) for data in heard["/other"]] == stamps


def test_a_bag_that_is_cut_off_is_played_as_far_as_it_can_be_read(play: Any, tmp_path: Path, capsys: Any) -> None:
    bag = making.write(tmp_path / "bag", making.square(30, truth=None), "sqlite3")
    file = bag / "bag.db3"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    status, heard = play(bag, "--rate", "10")
    assert status == 2
    assert "objloc: error: cannot read bag" in capsys.readouterr().err
    assert len(heard["/front/image"]) < 30


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rate", "0"), "rate must lie in"),
        (("--clock", "0"), "clock_hz must lie in"),
        (("--wait-for-subscribers", "-1"), "subscribers and seconds at the end must be 0 or more"),
        (("--linger", "inf"), "--linger must be 1e+09 s at most, got inf"),
        (("--linger", "nan"), "seconds at the end must be 0 or more, got 0 and nan"),
        (("--topics", "/none"), "has no topic /none; it has /front/image"),
    ],
)
def test_bad_options(tmp_path: Path, capsys: Any, more: tuple[str, ...], message: str) -> None:
    bag = making.write(tmp_path / "bag", making.square(2, truth=None))
    assert main(["play", str(bag), *more]) == 2
    assert message in capsys.readouterr().err


def test_no_bag_and_no_images(tmp_path: Path, capsys: Any) -> None:
    assert main(["play", str(tmp_path / "none")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    truth_only = [one for one in making.square(2) if one[0] == "/front/truth"]
    bag = making.write(tmp_path / "bag", [(f"/front/found/{topic[7:]}", when, m) for topic, when, m in truth_only])
    assert main(["play", str(bag)]) == 2
    assert "has no camera" in capsys.readouterr().err
