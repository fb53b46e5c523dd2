"""`objloc bag` in lockstep against the real nodes: the same frames, the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vision_msgs")

import bag_making as making
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from objloc_ros.bags.lockstep import Lockstep
from objloc_ros.bags.reader import read_bag
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.nodes.qos import make_latched_profile

OUTPUTS = {
    "found/detections": Detection2DArray,
    "found/mask": Image,
    "found/confidence": Image,
    "discovery/detections": Detection2DArray,
    "discovery/instance_mask": Image,
}
BLANK = np.full((*making.SIZE, 3), 127, np.uint8)


def test_lockstep_answers_as_the_nodes_do(start: Any, peer: Any, wait_for: Any, tmp_path: Path) -> None:
    """Frame after frame, each when the last has been answered: so nothing is dropped, and memory is the same."""
    for name in ("found", "discovery"):
        start("-r", f"/diagnostics:=/diagnostics_{name}", command=["-m", f"objloc_ros.nodes.{name}"])
    inboxes = {name: peer.subscribe(kind, f"/{name}") for name, kind in OUTPUTS.items()}
    labels = peer.subscribe(LabelInfo, "/found/label_info", make_latched_profile())
    peer.ask_all(list(inboxes.values()), lambda: peer.image(BLANK))  # then the nodes are there, and empty

    frames = [message for _, _, message in making.drive(12, truth=None)]
    for frame in frames:
        peer.publisher(Image).publish(frame)
        wait_for(lambda: all(inbox.with_stamp(frame.header.stamp) for inbox in inboxes.values()), "an answer")  # noqa: B023

    path = making.write(tmp_path / "bag", [("/image", i, frame) for i, frame in enumerate(frames, start=1)])
    options = ((), (("post", "none"),))
    task = Lockstep(config=PipelineConfig(methods=("found", "maskcut"), options=options))
    task.run(task.load(), path, tmp_path / "out")
    answers: dict[str, list[Any]] = {name: [] for name in (*OUTPUTS, "found/label_info")}
    for topic, _, message in read_bag(tmp_path / "out" / "outputs"):
        answers[topic.removeprefix("/")].append(message)
    for name, inbox in inboxes.items():
        assert answers[name] == [inbox.with_stamp(frame.header.stamp) for frame in frames], name
    (said,), (written,) = labels.messages, answers["found/label_info"]
    assert (written.class_map, written.threshold) == (said.class_map, said.threshold)
    assert sum(len(message.detections) for message in answers["discovery/detections"]) >= 12
