"""vision_msgs, wherever it comes from, must be what the rest of the ROS world understands by it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

vision_msgs = pytest.importorskip("vision_msgs.msg")
from ament_index_python import get_package_share_directory  # noqa: E402
from rclpy.serialization import deserialize_message, serialize_message  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
MESSAGES = sorted(path.stem for path in (ROOT / "resource/interfaces/vision_msgs/msg").glob("*.msg"))
DETECTION_2D_ARRAY = "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"


@pytest.fixture(autouse=True)
def index(monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", sys.prefix, prepend=":")


def test_type_hash_is_the_released_one():
    path = Path(get_package_share_directory("vision_msgs"), "msg", "Detection2DArray.json")
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(path.read_text())["type_hashes"]}
    assert hashes["vision_msgs/msg/Detection2DArray"] == DETECTION_2D_ARRAY


def test_all_sixteen_messages_are_there():
    assert len(MESSAGES) == 16


@pytest.mark.parametrize("name", MESSAGES)
def test_message_survives_serialization(name):
    kind = getattr(vision_msgs, name)
    assert deserialize_message(serialize_message(kind()), kind) == kind()


def test_nested_values_survive_serialization():
    hypothesis = vision_msgs.ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "cône", 0.25
    detection = vision_msgs.Detection2D(results=[hypothesis], id="7")
    detection.bbox.center.position.x, detection.bbox.size_y = 10.5, 3.0
    array = vision_msgs.Detection2DArray(detections=[detection, vision_msgs.Detection2D()])
    array.header.frame_id = "front"
    assert deserialize_message(serialize_message(array), vision_msgs.Detection2DArray) == array
    info = vision_msgs.LabelInfo(class_map=[vision_msgs.VisionClass(class_id=255, class_name="unlabelled")])
    assert deserialize_message(serialize_message(info), vision_msgs.LabelInfo) == info


def built_here():
    from importlib.metadata import PackageNotFoundError, version

    try:
        return "+" in version("vision_msgs")  # our wheels carry a digest
    except PackageNotFoundError:
        return False


def builder(*arguments, path=None):
    environment = None if path is None else {"PATH": str(path)}
    command = [sys.executable, str(ROOT / "resource/interfaces/build_wheel.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE_S, check=False)


@pytest.mark.skipif(not built_here(), reason="vision_msgs comes from elsewhere")
def test_second_build_has_nothing_to_do(tmp_path):
    done = builder("--build-dir", str(tmp_path / "build"))
    assert done.returncode == 0, done.stderr
    assert "is installed" in done.stdout
    assert not (tmp_path / "build").exists()


@pytest.mark.skipif(not built_here(), reason="vision_msgs comes from elsewhere")
def test_missing_compilers_are_named(tmp_path):
    done = builder("--wheel-only", "--build-dir", str(tmp_path / "build"), path=tmp_path)
    assert done.returncode == 1
    assert "gcc (apt install gcc)" in done.stderr
    assert "g++ (apt install g++)" in done.stderr
    assert "Traceback" not in done.stderr
