"""The launch file of a recording in place of a camera."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("launch", reason="launch is not installed here")
pytest.importorskip("launch_ros", reason="launch_ros is not installed here")
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bags"))
import bag_making as making
from launched import parameters, wait_for
from vision_msgs.msg import Detection2DArray
from waiting import PATIENCE_S


def test_a_bag_is_played_to_the_nodes_and_ends_everything(start_file, peer, tmp_path):
    bag = making.write(tmp_path / "bag", making.square(8, truth=None))
    bag_arguments = (f"bag:={bag}", "camera:=/front/image", "rate:=0.5")
    launched = start_file("replay.launch.py", *bag_arguments, "device:=cpu", "log_level:=debug", "respawn:=true")
    got = parameters(peer, "/front/found", ["use_sim_time", "device"], launched)
    assert got == {"use_sim_time": True, "device": "cpu"}
    heard = []
    peer.create_subscription(Detection2DArray, "/front/found/detections", heard.append, 10)
    wait_for(lambda: heard, launched)
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in heard]
    assert set(stamps) <= {making.START + number * making.STEP for number in range(8)}
    assert launched.process.wait(PATIENCE_S) == 0
    assert "played 8 frames" in launched.log
    assert f"frame of stamp {stamps[0]} ns: published" in launched.log
    assert launched.log.count("process started") == 2  # the end of the bag is not a reason to start a node again


def test_without_a_bag_the_nodes_wait(start_file, peer):
    launched = start_file("replay.launch.py", "camera:=/front/image", "device:=cpu", "autostart:=false")
    assert parameters(peer, "/front/found", ["use_sim_time"], launched) == {"use_sim_time": True}
    assert launched.end() == 0


def test_a_bag_that_cannot_be_played_is_named(start_file, peer, tmp_path):
    launched = start_file("replay.launch.py", f"bag:={tmp_path}/none", "device:=cpu", "autostart:=false")
    wait_for(lambda: f"cannot read bag {tmp_path}/none: no such file or folder" in launched.log, launched)
    launched.process.wait(PATIENCE_S)
