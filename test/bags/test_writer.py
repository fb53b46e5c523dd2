"""Bags written and read back, byte for byte and type for type."""

from __future__ import annotations

from array import array

import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import ParameterDescriptor, ParameterValue
from rclpy.serialization import serialize_message
from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Float32, Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from objloc_ros.bags import reader, writer
from objloc_ros.bags.reader import BagMessage, read_bag
from objloc_ros.bags.writer import BagWriter
from objloc_ros.errors import InputError

HEADER = Header(frame_id="cam")
HEADER.stamp.sec = 7


def detections():
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = "object"
    hypothesis.hypothesis.score = 0.75
    detection = Detection2D(header=HEADER, results=[hypothesis], id="3")
    detection.bbox.center.position.x = 10.5
    detection.bbox.size_x = 4.0
    return Detection2DArray(header=HEADER, detections=[detection])


MESSAGES = [
    BagMessage(
        "/cam/image", 10, Image(header=HEADER, height=1, width=2, step=2, encoding="mono8", data=array("B", b"ab"))
    ),
    BagMessage("/cam/found/detections", 20, detections()),
    BagMessage("/cam/found/age", 20, Float32(data=0.5)),
    BagMessage("/diagnostics", 30, DiagnosticArray(status=[DiagnosticStatus(values=[KeyValue(key="k", value="v")])])),
    BagMessage("/cam/found/detections", 40, Detection2DArray()),
]


def write(path, messages=MESSAGES, **options):
    with BagWriter(path, **options) as writer:
        for topic, stamp_ns, message in messages:
            writer.write(topic, message, stamp_ns)


def test_round_trip(tmp_path):
    write(tmp_path / "run")
    assert list(read_bag(tmp_path / "run")) == MESSAGES
    assert list(read_bag(tmp_path / "run" / "run.mcap")) == MESSAGES
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_choosing_topics(tmp_path):
    write(tmp_path / "run")
    assert [m.stamp_ns for m in read_bag(tmp_path / "run", ["/cam/found/detections"])] == [20, 40]
    with pytest.raises(InputError, match=r"no topic /none; it has /cam/found/age"):
        list(read_bag(tmp_path / "run", ["/none"]))


def test_messages_as_they_came_from_the_wire(tmp_path):
    with BagWriter(tmp_path / "run") as writer:
        writer.write_serialized("/d", Detection2DArray, serialize_message(detections()), 5)
    assert list(read_bag(tmp_path / "run")) == [BagMessage("/d", 5, detections())]


def test_late_writes_are_read_in_order(tmp_path):
    big = Image(data=array("B", bytes(600_000)))  # chunks close at a megabyte
    stamps = [5, 1, 9, 3, 12, 7]
    write(tmp_path / "run", [BagMessage("/image", stamp, big) for stamp in stamps])
    assert [m.stamp_ns for m in read_bag(tmp_path / "run")] == sorted(stamps)


def test_other_readers_understand_the_definitions(tmp_path):
    """The reader of rosbags decodes with the definitions in the bag alone."""
    write(tmp_path / "run")
    with AnyReader([tmp_path / "run"], default_typestore=get_typestore(Stores.EMPTY)) as reader:
        connection = next(c for c in reader.connections if c.topic == "/cam/found/detections")
        _, _, data = next(reader.messages([connection]))
        deserialize = reader.deserialize(data, connection.msgtype)
    assert deserialize.detections[0].bbox.center.position.x == 10.5
    assert deserialize.detections[0].results[0].hypothesis.score == 0.75


@pytest.mark.parametrize("message_class", [Image, CameraInfo, DiagnosticArray, ParameterValue, ParameterDescriptor])
def test_definitions_hash_like_the_published_ones(message_class):
    own, published, name = (
        get_typestore(Stores.EMPTY),
        get_typestore(Stores.ROS2_JAZZY),
        writer.format_type_name(message_class),
    )
    writer.register_type(own, message_class)
    assert own.hash_rihs01(name) == published.hash_rihs01(name)


def test_detections_have_the_hash_of_real_peers():
    own = get_typestore(Stores.EMPTY)
    writer.register_type(own, Detection2DArray)
    expected = "RIHS01_214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968"
    assert own.hash_rihs01("vision_msgs/msg/Detection2DArray") == expected


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("double", "float64"),
        ("sequence<uint8>", "uint8[]"),
        ("sequence<double, 3>", "float64[<=3]"),
        ("double[36]", "float64[36]"),
        ("string<10>", "string<=10"),
        ("sequence<string<10>, 3>", "string<=10[<=3]"),
        ("sequence<vision_msgs/Detection2D>", "vision_msgs/Detection2D[]"),
    ],
)
def test_spelling_of_field_types(kind, text):
    assert writer._translate_type(kind) == text


def test_an_error_while_writing_leaves_nothing(tmp_path):
    def interrupted():
        with BagWriter(tmp_path / "run") as writer:
            writer.write("/age", Float32(data=1.0), 1)
            assert not (tmp_path / "run").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_replacing_must_be_asked_for(tmp_path):
    write(tmp_path / "run", MESSAGES[:1])
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "run")
    write(tmp_path / "run", MESSAGES[2:3], overwrite=True)
    assert list(read_bag(tmp_path / "run")) == MESSAGES[2:3]
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_an_empty_bag(tmp_path):
    write(tmp_path / "run", [])
    assert list(read_bag(tmp_path / "run")) == []


def cut(path):
    file = path / "run.mcap"
    file.write_bytes(file.read_bytes()[:-100])


def spoil(path):
    file = path / "run.mcap"
    zstd_magic = b"\x28\xb5\x2f\xfd"
    file.write_bytes(file.read_bytes().replace(zstd_magic, b"\0" * 4))


def garble(path):
    (path / "metadata.yaml").write_text("][")


@pytest.mark.parametrize("damage", [cut, spoil, garble])
def test_damaged_bags_are_refused(tmp_path, damage):
    write(tmp_path / "run")
    damage(tmp_path / "run")
    with pytest.raises(InputError, match="cannot read bag"):
        list(read_bag(tmp_path / "run"))


def test_no_bag(tmp_path):
    with pytest.raises(InputError, match=r"cannot read bag.*nothing"):
        list(read_bag(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "name", ["nav_none/msg/Odometry", "std_msgs/msg/None_", "String", "", "/msg/", "../msg/String"]
)
def test_unknown_message_types(name):
    with pytest.raises(InputError, match=r"is not (installed|of the form)"):
        reader.load_message_class(name)
