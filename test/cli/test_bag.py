"""`objloc bag`: reports, limits, what is wrong with bags, and runs that are cut short."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
import bag_making as making
from std_msgs.msg import String

from objloc_ros.cli.main import main
from objloc_ros.evaluation.bag import read_bag

TRUTH = ("--truth", "/front/truth")
PERFECT = ("--fail-under", "corloc=1", "--fail-under", "recall=1", "--fail-over", "flicker=0")


def bag(*bags: Path, out: Path, more: tuple[str, ...] = TRUTH) -> int:
    return main(["bag", *map(str, bags), "--out", str(out), "--device", "cpu", *more])


def report(out: Path, name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / name / "lockstep.json").read_text())
    return document


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "square", making.square(4))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer bag, for runs that are cut short."""
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "film", making.square(300, truth=None), "sqlite3")
    return path


def test_a_bag_with_truth(square: Path, tmp_path: Path, capsys: Any) -> None:
    before = making.fingerprint(square)
    assert bag(square, out=tmp_path, more=(*TRUTH, *PERFECT, "--method", "found,maskcut", "--overlay")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "lockstep"
    assert lines[1].split()[:6] == ["bag", "camera", "method", "frames", "corloc", "ap50"]
    assert lines[2].split()[:5] == ["square", "/front/image", "found", "4/4", "1.000"]
    assert lines[-1] == f"reports in {tmp_path}"
    names = ["lockstep.json", "outputs", "overlay_front_discovery.mp4", "overlay_front_found.mp4", "timing.json"]
    assert sorted(path.name for path in (tmp_path / "square").iterdir()) == names
    assert report(tmp_path, "square")["settings"]["methods"].keys() == {"found", "maskcut"}
    assert making.fingerprint(square) == before


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (("--fail-under", "corloc=1.1"), "corloc of found on /front/image of square is 1.0000, below 1.1"),
        (("--fail-over", "mask_flicker=0.01"), "mask_flicker of found on /front/image of square is"),
    ],
)
def test_limits_turn_into_the_exit_status(
    square: Path, tmp_path: Path, capsys: Any, limit: tuple[str, ...], text: str
) -> None:
    assert bag(square, out=tmp_path, more=(*TRUTH, "--no-outputs", *limit)) == 4
    assert text in capsys.readouterr().err


def test_json_is_all_that_is_printed(square: Path, tmp_path: Path, capsys: Any) -> None:
    assert bag(square, out=tmp_path, more=("--topics", "/front/image", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == [report(tmp_path, "square")]


def test_truth_in_a_coco_document(square: Path, tmp_path: Path, capsys: Any) -> None:
    stamps = [making.START + number * making.STEP for number in range(4)]
    document = {
        "images": [{"id": i, "file_name": f"{stamp}.png"} for i, stamp in enumerate(stamps)],
        "annotations": [{"image_id": i, "bbox": [20 + 8 * i, 40, 48, 48], "track_id": 1} for i in range(4)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(document))
    more = ("--ground-truth", str(tmp_path / "truth.json"), "--topics", "/front/image", "--no-outputs", *PERFECT)
    assert bag(square, out=tmp_path / "out", more=more) == 0
    for image in document["images"]:
        image["file_name"] = str(int(str(image["file_name"])[:-4]) + 1_000_000) + ".png"
    (tmp_path / "truth.json").write_text(json.dumps(document))
    assert bag(square, out=tmp_path / "late", more=(*more, "--slop-ms", "2")) == 0
    assert bag(square, out=tmp_path / "none", more=more) == 2
    assert "none is within 0 ms of one of the 4 frames' stamps; the nearest is 1 ms away" in capsys.readouterr().err


def test_prompts_given_several_times_or_in_a_file(square: Path, tmp_path: Path, capsys: Any) -> None:
    more = ("--topics", "/front/image", "--method", "maskclip", "--no-outputs")
    texts = ("--prompts", "red object, blue object", "--prompts", "green object")
    assert bag(square, out=tmp_path / "a", more=(*more, *texts)) == 0
    methods = report(tmp_path / "a", "square")["cameras"]["/front/image"]["methods"]
    assert list(methods) == ["maskclip (1)", "maskclip (2)"]
    (tmp_path / "sweep.txt").write_text("warm: red object, blue object\ncold: green object\n")
    assert bag(square, out=tmp_path / "b", more=(*more, "--sweep", str(tmp_path / "sweep.txt"))) == 0
    rows = report(tmp_path / "b", "square")["settings"]["methods"]
    assert {name: row["prompts"] for name, row in rows.items()} == {
        "maskclip (warm)": ["red object", "blue object"],
        "maskclip (cold)": ["green object"],
    }
    assert bag(square, out=tmp_path / "c", more=(*more, *texts, "--sweep", "x")) == 2
    assert "from --prompts or from --sweep, not from both" in capsys.readouterr().err


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
    return path, TRUTH, "/front/truth in bag .* has 2 stamps, but none is within 0 ms"


def missing_truth(tmp_path: Path) -> tuple[Path, tuple[str, ...], str]:
    return making.write(tmp_path / "bag", making.square(2, truth=None)), TRUTH, "has no topic /front/truth; it has"


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
    assert bag(path, out=tmp_path / "out", more=(*TRUTH, *PERFECT)) == 0


def test_what_is_done_is_not_done_again(square: Path, tmp_path: Path, capsys: Any) -> None:
    mine = making.write(tmp_path / "mine", making.square(2))
    assert bag(mine, out=tmp_path / "out") == 0
    before = making.fingerprint(tmp_path / "out" / "mine")
    assert bag(mine, square, out=tmp_path / "out") == 0
    assert making.fingerprint(tmp_path / "out" / "mine") == before
    assert bag(mine, out=tmp_path / "out", more=(*TRUTH, "--threshold", "0.6")) == 2
    assert "holds a run with lockstep" in capsys.readouterr().err
    making.write(tmp_path / "new", making.square(5)).rename(tmp_path / "elsewhere")
    for file in mine.iterdir():
        file.unlink()
    mine.rmdir()
    making.write(mine, making.square(5))
    assert bag(mine, out=tmp_path / "out") == 2
    assert "holds results of" in capsys.readouterr().err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "objloc_ros.cli.main", "bag", "--device", "cpu", *arguments]


def test_a_killed_run_leaves_no_half_and_goes_on(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    child = subprocess.Popen(command(str(film), "--out", str(out)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out.is_dir() and any(path.name.startswith(".film.") for path in out.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (out / "film").exists()
    assert bag(film, out=out, more=()) == 0
    assert report(out, "film")["cameras"]["/front/image"]["frames"]["processed"] == 300
    assert len(list(read_bag(out / "film" / "outputs", ["/front/found/detections"]))) == 300


def test_a_full_disk_leaves_no_half(film: Path, tmp_path: Path) -> None:
    """The kernel refuses the write in its middle, as on a full disk."""
    code = (
        "import resource, signal, sys; from objloc_ros.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"sys.exit(main(['bag', {str(film)!r}, '--out', {str(tmp_path / 'out')!r}, '--device', 'cpu']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name != ".source.json"] == ["run.json"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--threads", "0"), "threads must be at least 1, got 0"),
        (("--max-objects", "0"), "max_objects must lie in"),
        (("--fail-under", "corloc"), "must be of the form metric=number"),
        (("--slop-ms", "-1"), "must not be negative"),
        (("--truth-labels", "a,b"), "--truth, which is missing"),
        (("--truth", "/t", "--ground-truth", "x"), "from topics or from a file, not from both"),
        (("--sweep", "x"), "--sweep is for clip_diy"),
        (("--prompts", "car"), "prompts are for clip_diy"),
        (("--method", "maskclip"), "maskclip needs prompts"),
        (("--overlay", "--no-outputs"), "films are made of the outputs"),
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


@pytest.mark.timeout(240)
def test_a_cluster_gives_the_same_bytes(square: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    other = making.write(tmp_path / "drive", making.drive(5))
    for engine in ("local", "ray"):
        assert bag(square, other, out=tmp_path / engine, more=(*TRUTH, "--engine", engine)) == 0
    for name in ("square", "drive"):
        both = [(tmp_path / engine / name / "lockstep.json").read_bytes() for engine in ("local", "ray")]
        assert both[0] == both[1]
