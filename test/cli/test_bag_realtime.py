"""`objloc bag --pace realtime`: real nodes over DDS, every frame accounted for, nothing left when something fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cv2
import pytest
from gate import FOLDER, Gate
from waiting import PATIENCE_S, wait_for

pytest.importorskip("rclpy")
import bag_making as making
from sensor_msgs.msg import CompressedImage

from objloc_ros.bags.processes import ChildFailedError
from objloc_ros.bags.reader import read_bag
from objloc_ros.bags.realtime import Realtime
from objloc_ros.cli.main import main
from objloc_ros.engine.config import PipelineConfig

T = TypeVar("T")

TRUTH = ("--truth", "/front/truth")
STAND_IN = Path(__file__).resolve().parents[1] / "ros" / "found_process.py"
"""The real node around a tiny engine, for which bright pixels are the object."""


def bag(path: Path, out: Path, *more: str) -> int:
    return main(["bag", str(path), "--out", str(out), "--device", "cpu", *more])


def report(out: Path, name: str, mode: str = "realtime") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / name / f"{mode}.json").read_text())
    return document


def adds_up(row: dict[str, Any], sent: int) -> None:
    """What player, node and recorder have counted is the same."""
    frames, node = row["frames"], row["node"]
    assert frames["in"] == sent == frames["processed"] + sum(frames["dropped"].values())
    assert node["received"] == node["published"] + sum(node["dropped"].values())
    assert (node["received"], node["in_flight"]) == (sent - frames["dropped"].get("lost", 0), 0)
    assert 0 <= frames["late"] <= frames["processed"]


def test_both_paces_of_a_bag_are_reported_apart(tmp_path: Path, capsys: Any, forked_children: Any) -> None:
    square = making.write(tmp_path / "square", making.square(12))
    before, out = making.fingerprint(square), tmp_path / "out"
    limits = ("--fail-under", "corloc=1", "--fail-over", "age_ms_p50=0.001")
    assert bag(square, out, "--pace", "both", "--overlay", *TRUTH, *limits) == 4
    captured = capsys.readouterr()
    assert "age_ms_p50 of found on /front/image of square in real time is" in captured.err
    assert "corloc" not in captured.err
    assert captured.out.splitlines()[0] == "lockstep"
    assert captured.out.splitlines()[4] == "realtime"
    lockstep = report(out, "square", "lockstep")["cameras"]["/front/image"]
    document = report(out, "square")
    camera = document["cameras"]["/front/image"]
    row = camera["methods"]["found"]
    adds_up(row, 12)
    assert row["frames"]["processed"] >= 1
    assert row["frames"]["late_after_ms"] == 66.0
    assert 0 < row["metrics"]["age_ms_p50"] <= row["metrics"]["age_ms_p95"] <= row["metrics"]["age_ms_p99"]
    assert row["frames_with_truth"] == row["answers"] == row["frames"]["processed"]
    for metric in ("corloc", "ap50", "recall", "precision"):
        assert row["metrics"][metric] == lockstep["methods"]["found"]["metrics"][metric] == 1.0
    assert document["settings"]["rate"] == 1.0
    assert document["player"]["behind_ms"]["p50"] >= 0
    assert making.fingerprint(square) == before
    assert forked_children.ended()
    check_outputs(out / "square" / "realtime", row["frames"]["processed"])


def check_outputs(folder: Path, processed: int) -> None:
    names = {"front_found.log", "outputs", "overlay_front_found.mp4", "player.json", "player.log"}
    assert {path.name for path in folder.iterdir()} == names
    film = cv2.VideoCapture(str(folder / "overlay_front_found.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == processed
    stamps = {making.START + number * making.STEP for number in range(12)}
    counts: dict[str, int] = {}
    for topic, recorded_ns, message in read_bag(folder / "outputs"):
        counts[topic] = counts.get(topic, 0) + 1
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        if topic == "/front/found/label_info":  # holds for images of any stamp
            assert stamp == 0
            continue
        assert stamp in stamps
        assert stamp < recorded_ns  # the bag's time of arrival, later by the age
    outputs = ("detections", "mask", "confidence", "overlay/compressed")
    assert counts.pop("/front/found/label_info") == 1
    assert counts == {f"/front/found/{name}": processed for name in outputs}


def while_playing(work: Callable[[], T], out: Path, then: Callable[[], object], *, done: bool = False) -> T:
    """Do something while a bag is played into a folder below `out`, or right after its last frame."""

    def watch() -> None:
        word = '"sent"' if done else '"schedule"'
        wait_for(lambda: any(word in file.read_text() for file in out.rglob("realtime/player.json")), "the player")
        then()

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        try:
            return work()
        finally:
            watching.result()


def test_nodes_too_slow_for_the_rate_and_a_camera_that_is_broken(
    tmp_path: Path, forked_children: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is held up until all has been played."""
    messages = making.square(30)
    for number in range(30):
        stamp = making.START + number * making.STEP
        broken = CompressedImage(header=making.header(stamp), format="jpeg", data=array("B", b"nonsense"))
        messages.append(("/rear/image/compressed", stamp, broken))
    mixed = making.write(tmp_path / "mixed", sorted(messages, key=lambda one: one[1]))
    forked_children.stand_ins["objloc_ros.nodes.found"] = STAND_IN
    monkeypatch.setenv(FOLDER, str(tmp_path))
    out, gate = tmp_path / "out", Gate("engine", tmp_path)
    words = ("--pace", "realtime", "--rate", "15", "--no-outputs", *TRUTH)
    gate.close()
    assert while_playing(lambda: bag(mixed, out, *words), out, gate.open, done=True) == 0
    cameras = report(tmp_path / "out", "mixed")["cameras"]
    front, rear = (cameras[name]["methods"]["found"] for name in ("/front/image", "/rear/image/compressed"))
    for row in (front, rear):
        adds_up(row, 30)
        assert row["frames"]["processed"] <= 2, "the one in work and the newest"
        assert row["metrics"]["coverage"] == row["frames"]["processed"] / 30
    assert front["frames"]["processed"] >= 1
    assert front["metrics"]["corloc"] == 1.0
    assert rear["node"]["received"] >= 1
    assert rear["metrics"] == {"coverage": 0.0}
    assert not (tmp_path / "out" / "mixed" / "realtime" / "outputs").exists()


def test_odd_stamps_unusable_frames_and_prompts(tmp_path: Path, forked_children: Any) -> None:
    frames = [message for _, _, message in making.square(9, camera="/image", truth=None)]
    frames[3].header, frames[4].header = frames[4].header, frames[3].header  # out of order
    frames[6].header = frames[5].header  # twice
    frames[7].header.stamp.sec = frames[7].header.stamp.nanosec = 0
    frames[8].encoding = "nonsense"
    times = [making.START + number * making.STEP for number in range(9)]
    odd = making.write(tmp_path / "odd", [("/image", *each) for each in zip(times, frames, strict=True)])
    more = ("--method", "maskclip", "--prompts", "red object, blue object", "--rate", "0.5", "--late-ms", "100000")
    assert bag(odd, tmp_path / "out", "--pace", "realtime", *more) == 0
    camera = report(tmp_path / "out", "odd")["cameras"]["/image"]
    assert camera["frames"] == {"in": 9, "out_of_order": 1, "duplicate_stamps": 1, "unstamped": 1}
    row = camera["methods"]["maskclip"]
    adds_up(row, 9)
    assert row["frames"]["dropped"]["encoding"] == 1
    assert row["frames"]["late"] == 0
    outputs = list(read_bag(tmp_path / "out" / "odd" / "realtime" / "outputs"))
    assert outputs[0].topic == "/segmentation/label_info"
    assert [one.class_name for one in outputs[0].message.class_map] == ["red object", "blue object"]
    headers = [message.header for topic, _, message in outputs if topic == "/segmentation/detections"]
    assert len(headers) == row["frames"]["processed"]
    assert all(header in [frame.header for frame in frames] for header in headers)
    # Without a stamp nobody can tell that boxes and mask are of one frame: such answers count, but are not scored.
    assert row["answers"] == sum(header.stamp.sec != 0 for header in headers)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of a minute, for runs that are cut short."""
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "film", making.square(900, truth=None), "sqlite3")
    return path


def test_a_node_that_dies_ends_the_run_with_its_last_words(film: Path, tmp_path: Path, forked_children: Any) -> None:
    task = Realtime(config=PipelineConfig(methods=("found",), device="cpu"))

    def kill() -> None:
        (node,) = [child for child in forked_children if "objloc_ros.nodes.found" in child.args]
        os.kill(node.pid, signal.SIGKILL)

    with pytest.raises(ChildFailedError, match=r"front_found ended with exit code -9(.|\n)*loaded tiny on cpu"):
        while_playing(lambda: task.run(None, film, tmp_path / "out"), tmp_path / "out", kill)
    assert forked_children.ended()
    assert not (tmp_path / "out" / "realtime" / "outputs").exists()
    assert not (tmp_path / "out" / "realtime.json").exists()


def test_a_bag_that_is_cut_off_while_it_is_played(film: Path, tmp_path: Path, forked_children: Any) -> None:
    path = tmp_path / "film"
    path.mkdir()
    for file in film.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    task = Realtime(config=PipelineConfig(methods=("found",), device="cpu"))
    out, file = tmp_path / "out", path / "film.db3"
    with pytest.raises(ChildFailedError, match=r"player ended with exit code 2(.|\n)*cannot read bag .* after \d+ m"):
        while_playing(lambda: task.run(None, path, out), out, lambda: os.truncate(file, 8192))
    assert forked_children.ended()


def test_a_node_that_cannot_start_is_quoted(film: Path, tmp_path: Path, forked_children: Any) -> None:
    (tmp_path / "head.safetensors").write_bytes(b"nothing")
    config = PipelineConfig(methods=("found",), device="cpu", head_weights=tmp_path / "head.safetensors")
    with pytest.raises(ChildFailedError, match=r"front_found ended with exit code 1(.|\n)*head\.safetensors"):
        Realtime(config=config).run(None, film, tmp_path / "out")
    assert forked_children.ended()


def alive(mark: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize(("number", "moment"), [(signal.SIGINT, "player.json"), (signal.SIGKILL, "player.log")])
def test_an_interrupt_leaves_nothing(film: Path, tmp_path: Path, number: signal.Signals, moment: str) -> None:
    """Whether the bag is being played, or the nodes are still about to start."""
    mark, out = uuid.uuid4().hex, tmp_path / "out"
    command = [sys.executable, "-m", "objloc_ros.cli.main", "bag", str(film), "--pace", "realtime", "--out", str(out)]
    process = subprocess.Popen(command, env={**os.environ, "MARK": mark}, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(out.glob(f".film.*/film/realtime/{moment}")), moment)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    assert "Traceback" not in errors
    wait_for(lambda: not alive(mark), "the end of all processes")
    assert not (out / "film").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--rate", "0"), r"rate must lie in (0, 1000], got 0.0"),
        (("--late-ms", "-1"), "late_ms must be positive, got -1.0"),
        (("--engine", "ray"), "it is for --engine local"),
        (("--method", "maskcut", "--tau", "0.5"), "the discovery node has no parameter tau"),
        (("--overlay", "--no-outputs"), "overlay videos are made of the outputs"),
        (("--pace", "lockstep", "--rate", "2"), "--rate is for --pace realtime"),
        (("--pace", "lockstep", "--late-ms", "100"), "--late-ms is for --pace realtime"),
    ],
)
def test_bad_options(tmp_path: Path, capsys: Any, more: tuple[str, ...], message: str) -> None:
    assert bag(tmp_path / "none", tmp_path / "out", "--pace", "realtime", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
