"""The report of real time: counts that add up, ages by hand, figures of a recording."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import bag_making as making
import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from objloc_ros.bags.listener import NodeAccount
from objloc_ros.bags.lockstep import survey_cameras
from objloc_ros.bags.nodes import list_nodes
from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.realtime import PlayedBag, Realtime, compute_ages_ms, count_dropped, make_realtime_report
from objloc_ros.bags.survey import Stamps
from objloc_ros.bags.truth_sources import TruthSpec
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.nodes.conversions import mask_to_image

MS = 1_000_000


def stamps(*pairs: tuple[int, int]) -> Stamps:
    """Keys and times of recording, milliseconds."""
    keys, recorded = (array("q", [value * MS for value in each]) for each in zip(*pairs, strict=True))
    return Stamps("", keys, recorded)


@pytest.mark.parametrize(
    ("frames", "answers", "expected"),
    [
        ([(1000, 1005), (1066, 1071)], [(1066, 1100), (1000, 1090)], [34, 90]),
        ([(1000, 1005)], [(1000, 995)], [0]),  # a camera whose clock is ahead of the recorder's
        ([(5, 1_000_000)], [(5, 1_000_030)], [30]),  # a stamp that nobody can believe counts from its recording
        ([(1000, 1000)], [(1001, 1050)], []),  # no frame has this stamp
        ([(1000, 1000), (1000, 1066)], [(1000, 1020), (1000, 1096)], [20, 96]),  # the same stamp twice
        ([(2000, 1000), (1000, 1010)], [(1000, 1030)], [30]),  # out of order
    ],
)
def test_ages(frames: Any, answers: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(compute_ages_ms(stamps(*frames), stamps(*answers)), expected)


def test_ages_of_nothing() -> None:
    found = compute_ages_ms(stamps((1000, 1000)), Stamps(""))
    assert found.tolist() == []


def account(received: int, published: int, in_flight: int = 0, **causes: int) -> NodeAccount:
    return NodeAccount(0.0, received, published, in_flight, causes)


@pytest.mark.parametrize(
    ("sent", "node", "heard", "expected"),
    [
        (5, account(5, 5), 5, {}),
        (5, account(5, 3, superseded=2), 3, {"superseded": 2}),
        (9, account(6, 4, superseded=1, too_old=1), 3, {"superseded": 1, "too_old": 1, "lost": 3, "unheard": 1}),
        (4, account(0, 0), 0, {"lost": 4}),
    ],
)
def test_every_frame_has_an_answer_or_a_cause(
    sent: int, node: NodeAccount, heard: int, expected: dict[str, int]
) -> None:
    found = count_dropped(sent, node, heard)
    assert found == expected
    assert sent == heard + sum(found.values())


@pytest.mark.parametrize(
    ("sent", "node", "heard"),
    [(5, account(6, 6), 6), (5, account(5, 5), 6), (5, account(5, 4, 1), 4), (5, account(5, 4), 4)],
)
def test_counts_that_contradict_each_other_are_no_result(sent: int, node: NodeAccount, heard: int) -> None:
    with pytest.raises(InputError, match=f"the counts do not fit: {sent} frames sent, {heard} predictions received"):
        count_dropped(sent, node, heard)


@pytest.mark.parametrize(
    ("more", "message"),
    [({"rate": 0.0}, "rate must lie in"), ({"late_ms": 0.0}, "late_ms must be positive, got 0.0")],
)
def test_options_out_of_range(more: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Realtime(config=PipelineConfig(methods=("found",)), **more)


def recorded(path: Path, answers: list[tuple[int, int]]) -> Path:
    """A recording of a node that is right about the sliding square: numbers of frames, and ages in milliseconds."""
    messages = []
    for number, age_ms in answers:
        stamp, left = making.START + number * making.STEP, 20 + 8 * number
        mask = np.zeros(making.SIZE, np.uint8)
        mask[40:88, left : left + 48] = 255
        for name, message in (
            ("detections", making.boxes(stamp, (left, 40, left + 48, 88))),
            ("mask", mask_to_image(mask, making.header(stamp))),
        ):
            messages.append((f"/front/found/{name}", stamp + age_ms * MS, message))
    path_: Path = making.write(path, messages)
    return path_


@pytest.fixture
def square(tmp_path: Path) -> Path:
    path: Path = making.write(tmp_path / "square", making.square(6))
    return path


def reported(square: Path, recording: Path, node: NodeAccount, **more: Any) -> dict[str, Any]:
    wanted = Realtime(config=PipelineConfig(methods=("found",)), truth=TruthSpec((("", "/front/truth"),)), **more)
    with BagReader(square) as bag:
        cameras, found = survey_cameras(bag, wanted)
        nodes = list_nodes(wanted, bag.kinds, cameras)
    player = {"sent": {"/front/image": 6}, "behind_ms": {"p50": 0.1}}
    return make_realtime_report(wanted, square, found, nodes, PlayedBag(recording, player, {"/front/found": node}))


def test_a_recording_becomes_a_report(square: Path, tmp_path: Path) -> None:
    recording = recorded(tmp_path / "recording", [(0, 20), (1, 30), (3, 70), (4, 66)])
    document = reported(square, recording, account(5, 4, superseded=1))
    assert (document["mode"], document["player"]) == ("realtime", {"behind_ms": {"p50": 0.1}})
    camera = document["cameras"]["/front/image"]
    assert camera["frames"] == {"in": 6, "out_of_order": 0, "duplicate_stamps": 0, "unstamped": 0}
    row = camera["methods"]["found"]
    coverage = {"in": 6, "processed": 4, "dropped": {"lost": 1, "superseded": 1}, "late": 1, "late_after_ms": 66.0}
    assert row["frames"] == coverage
    assert (row["answers"], row["frames_with_truth"]) == (4, 4)
    figures = row["metrics"]
    assert figures["coverage"] == pytest.approx(4 / 6)
    assert figures["age_ms_p50"] == 48.0
    assert figures["corloc"] == figures["ap50"] == figures["mask_iou"] == 1.0
    assert figures["flicker"] == 0.0
    assert (
        reported(square, recording, account(5, 4, superseded=1), late_ms=25)["cameras"]["/front/image"]["methods"][
            "found"
        ]["frames"]["late"]
        == 3
    )


def test_a_node_that_never_answers_has_a_row_as_well(square: Path, tmp_path: Path) -> None:
    document = reported(square, recorded(tmp_path / "recording", []), account(6, 0, encoding=6))
    row = document["cameras"]["/front/image"]["methods"]["found"]
    assert row["frames"]["dropped"] == {"encoding": 6}
    assert (row["frames"]["late"], row["answers"], row["metrics"]) == (0, 0, {"coverage": 0.0})
