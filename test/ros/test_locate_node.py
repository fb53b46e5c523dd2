"""The locate node over DDS: life cycle, pairing, what it publishes of simple scenes, and what it makes of bad input."""

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("vision_msgs")
from depth_peer import HALL, NODE, DepthPeer, make_info, read_points
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from rvl_making import rvl
from sensor_msgs.msg import CompressedImage, PointCloud2
from std_srvs.srv import SetBool, Trigger

from objloc_ros.nodes.messages_3d import to_quaternion

SCRIPT = str(Path(__file__).with_name("locate_process.py"))
WIDTH, HEIGHT, F = 160, 120, 150.0
BOX = (60, 40, 100, 80)
"""A plate of 0.4 x 0.4 m, 1.5 m ahead of a wall 3 m away: the middle 40 x 40 pixels."""


def plate(near=1500, far=3000, size=(HEIGHT, WIDTH)):
    """Depth in millimetres, uint16 [H, W]."""
    depth = np.full(size, far, np.uint16)
    scale = size[0] / HEIGHT
    x1, y1, x2, y2 = (round(value * scale) for value in BOX)
    depth[y1:y2, x1:x2] = near
    return depth


def plate_mask(size=(HEIGHT, WIDTH)):
    return (plate(1, 0, size) > 0).astype(np.uint8)


def camera(**changes):
    return make_info(WIDTH, HEIGHT, F, **changes)


@pytest.fixture(scope="module")
def node(start):
    node = start(command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def world(node, peer):
    world = DepthPeer(peer)
    world.name_ids()
    yield world
    world.close()


@pytest.fixture
def good(world, wait_for):
    """Frames as they should be, with changes, until one is answered."""
    usual = {"depth": plate(), "info": camera(), "boxes": [BOX], "mask": plate_mask()}
    return lambda **changes: world.ask(wait_for, **(usual | changes))


def check_plate(answer, near=1.5):
    (detection,) = answer.detections
    box = detection.bbox
    assert np.isclose(box.center.position.z, near, atol=0.01)
    assert abs(box.center.position.x) < 0.01
    assert abs(box.center.position.y) < 0.01
    sides = sorted((box.size.x, box.size.y, box.size.z))
    width = 40 * near / F
    np.testing.assert_allclose(sides, [0, width, width], atol=0.03)


def test_a_plate_is_where_it_stands(good):
    answer = good(track=("7",), labels=("cup",))
    assert answer.header.frame_id == "camera"
    (detection,) = answer.detections
    assert (detection.id, detection.results[0].hypothesis.class_id) == ("7", "cup")
    assert np.isclose(detection.results[0].hypothesis.score, 0.5)
    check_plate(answer)


def test_the_cloud_holds_the_points_of_the_objects_only(world, good):
    cloud = good(inbox=world.points)
    points, objects = read_points(cloud)
    assert cloud.header.frame_id == "camera"
    assert np.allclose(points[:, 2], 1.5)
    assert abs(points[:, :2]).max() < 0.201
    assert 1400 <= len(points) <= 1600
    assert set(objects.tolist()) == {0}


def test_a_cloud_reaches_best_effort_subscribers_as_those_of_nav2(node, peer, world, good, wait_for):
    heard = []
    profile = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    subscription = peer.node.create_subscription(PointCloud2, f"{NODE}/points", heard.append, profile)
    wait_for(lambda: (good(), heard)[1])
    peer.node.destroy_subscription(subscription)


def test_where_nothing_is_found_the_cloud_is_empty(world, good):
    cloud = good(inbox=world.points, boxes=(), mask=np.zeros((HEIGHT, WIDTH), np.uint8))
    assert (cloud.width, len(cloud.data)) == (0, 0)


def test_markers_are_drawn_anew_for_each_image(node, peer, world, good):
    visualization_msgs = pytest.importorskip("visualization_msgs.msg")

    class Stamped:
        """Marker arrays have no header of their own."""

        def __init__(self):
            self.messages = []

        def with_stamp(self, stamp):
            return next((msg for msg in list(self.messages) if msg.markers[0].header.stamp == stamp), None)

    inbox = Stamped()
    subscription = peer.node.create_subscription(
        visualization_msgs.MarkerArray, f"{NODE}/markers", inbox.messages.append, 10
    )
    one = good(inbox=inbox)
    none = good(inbox=inbox, boxes=())
    actions = [[marker.action for marker in answer.markers] for answer in (one, none)]
    marker = visualization_msgs.Marker
    assert actions == [[marker.DELETEALL, marker.ADD, marker.ADD], [marker.DELETEALL]]
    assert np.isclose(one.markers[1].pose.position.z, 1.5, atol=0.01)
    peer.node.destroy_subscription(subscription)


def test_float_metres_and_a_scaled_mask(good):
    check_plate(good(depth=plate().astype(np.float32) / 1000))
    check_plate(good(mask=plate_mask((2 * HEIGHT, 2 * WIDTH)), boxes=[tuple(2 * value for value in BOX)]))


def test_a_depth_image_of_half_the_size_with_the_camera_of_the_whole_one(good):
    check_plate(good(depth=plate(size=(HEIGHT // 2, WIDTH // 2))))


def test_holes_zeros_nan_and_reflections_do_not_move_the_plate(good):
    rng = np.random.default_rng(1)
    depth = plate().astype(np.float32) / 1000
    kind = rng.random(depth.shape)
    depth[kind < 0.1] = 0
    depth[(kind >= 0.1) & (kind < 0.2)] = np.nan
    depth[(kind >= 0.2) & (kind < 0.22)] = np.inf
    depth[(kind >= 0.22) & (kind < 0.24)] = 0.4  # a reflection
    depth[(kind >= 0.24) & (kind < 0.26)] = 8.0
    check_plate(good(depth=depth))


@pytest.mark.parametrize("empty", [0, np.nan])
def test_an_object_without_any_depth_is_left_out_counted_and_told(good, node, facts, wait_for, empty):
    before = facts.count("unlocated")
    depth = np.full((HEIGHT, WIDTH), empty, np.float32)
    assert good(depth=depth).detections == []
    wait_for(lambda: facts.count("unlocated") > before)
    assert "of 0 with a depth" in facts()["unlocated_reason"]
    wait_for(lambda: node.says_once_a_minute("an object has no place"))


def spoil(good, world, facts, wait_for, cause, **changes):
    """Send spoiled frames until they count as dropped for a cause, and see that the node answers good ones after."""
    before, usual = facts.count(f"dropped.{cause}"), {"info": camera(), "boxes": [BOX], "mask": plate_mask()}

    def dropped():
        world.frame(**({"depth": plate()} | usual | changes))
        time.sleep(0.1)
        return facts.count(f"dropped.{cause}") > before

    wait_for(dropped, cause)
    check_plate(good())


@pytest.mark.parametrize(
    ("cause", "changes", "words"),
    [
        (
            "encoding",
            {"depth": np.zeros((HEIGHT, WIDTH, 3), np.uint8), "encoding": "bgr8"},
            "16UC1 or 32FC1, got 'bgr8'",
        ),
        ("size", {"depth": plate(size=(HEIGHT, HEIGHT))}, "of one aspect"),
        ("size", {"mask": plate_mask((HEIGHT, HEIGHT))}, "the mask is 120x120, the depth image 160x120"),
        ("camera_info", {"info": camera(k=[0.0] * 9)}, "a K of zeros"),
        ("camera_info", {"info": camera(distortion_model="spherical", d=[0.1])}, "'spherical'"),
    ],
    ids=["encoding", "depth of another aspect", "mask of another aspect", "uncalibrated", "unknown distortion"],
)
def test_bad_input_is_dropped_by_cause_and_told(good, world, facts, node, wait_for, cause, changes, words):
    spoil(good, world, facts, wait_for, cause, **changes)
    wait_for(lambda: words in facts()["last_error"])
    wait_for(lambda: node.says_once_a_minute(f"dropped a frame ({cause})"))
    settled = facts.settle()
    assert facts.conserved(), settled


def test_truncated_depth_is_refused(good, world, peer, facts, wait_for):
    broken = peer.image(plate(), "16UC1")
    broken.data = broken.data[:-1]
    spoil(good, world, facts, wait_for, "size", depth=broken)


def test_depth_of_another_frame_is_not_registered(good, world, peer, facts, wait_for):
    other = peer.image(plate(), "16UC1")
    other.header.frame_id = "infrared"
    spoil(good, world, facts, wait_for, "frame_id", depth=other)


@pytest.mark.parametrize("missing", ["depth", "mask", "detections"])
def test_what_does_not_come_is_waited_for_and_counted(good, world, peer, facts, wait_for, missing):
    assert peer.set_parameters(NODE, max_wait_ms=50.0) == (True, "")
    usual = {"depth": plate(), "info": camera(), "boxes": [BOX], "mask": plate_mask()}
    before = facts.count(f"dropped.no_{missing}")

    def dropped():
        world.frame(**(usual | {"boxes" if missing == "detections" else missing: None}))
        time.sleep(0.1)
        return facts.count(f"dropped.no_{missing}") > before

    wait_for(dropped)
    facts.settle()
    assert facts.conserved()
    assert peer.set_parameters(NODE, max_wait_ms=500.0) == (True, "")
    check_plate(good())


def test_stamps_may_differ_by_the_slop_and_no_more(world, peer, good, facts, wait_for):
    good()

    def apart(ms):
        stamp = world.frame(depth=None, info=camera(), boxes=[BOX], mask=plate_mask())
        depth = peer.image(plate(), "16UC1")
        total = stamp.sec * 10**9 + stamp.nanosec + ms * 10**6
        depth.header.stamp.sec, depth.header.stamp.nanosec = divmod(total, 10**9)
        world.send("depth", depth)
        return stamp

    def answered():
        stamps.append(apart(8))
        time.sleep(0.2)
        return next((msg for stamp in stamps if (msg := world.boxes.with_stamp(stamp)) is not None), None)

    stamps = []
    answer = wait_for(answered)
    check_plate(answer)
    before, too_far = facts.count("dropped.no_depth"), []

    def dropped():
        too_far.append(apart(12))
        time.sleep(0.2)
        return facts.count("dropped.no_depth") > before

    wait_for(dropped)
    assert all(world.boxes.with_stamp(stamp) is None for stamp in too_far)


def test_parameters_are_live_and_checked(good, peer):
    assert peer.set_parameters(NODE, max_range=1.0) == (True, "")
    assert good().detections == []
    assert peer.set_parameters(NODE, max_range=10.0) == (True, "")
    check_plate(good())
    refused, reason = peer.set_parameters(NODE, slop_ms=-1.0)
    assert not refused
    assert "slop_ms" in reason


def test_disabled_it_lets_go_of_everything_and_a_trigger_answers_one(good, world, peer, wait_for):
    good()
    assert peer.call(SetBool, f"{NODE}/enable", SetBool.Request(data=False)).success
    for topic in ("depth", "camera_info", "detections", "mask", "label_info"):
        wait_for(lambda topic=topic: not peer.node.count_subscribers(topic))
    answer = peer.call(Trigger, f"{NODE}/trigger", Trigger.Request())
    assert answer.message == "the next frame of '/detections' will be answered"
    check_plate(good())
    wait_for(lambda: not peer.node.count_subscribers("depth"))
    assert peer.call(SetBool, f"{NODE}/enable", SetBool.Request(data=True)).success
    check_plate(good())


def test_life_cycle(good, peer, wait_for):
    assert peer.state(NODE) == "active"
    assert peer.change_state("deactivate", NODE)
    wait_for(lambda: not peer.node.count_subscribers("depth"))
    assert peer.change_state("cleanup", NODE)
    assert peer.change_state("configure", NODE)
    assert peer.change_state("activate", NODE)
    check_plate(good())


def test_without_camera_info_it_says_so_waits_and_counts(start, peer, facts, wait_for):
    node = start("-r", "__ns:=/bare", "-p", "max_wait_ms:=50.0", command=[SCRIPT])
    world = DepthPeer(peer, "/bare/locate", "/bare")
    world.name_ids()
    name = "/bare/locate"
    sent = lambda **more: world.frame(depth=plate(), boxes=[BOX], mask=plate_mask(), **more)  # noqa: E731

    def dropped():
        sent()
        time.sleep(0.1)
        return facts.count("dropped.no_camera_info", name)

    wait_for(dropped)
    wait_for(lambda: "no camera_info has come" in node.log)
    wait_for(lambda: "no publisher of '/bare/camera_info'" in facts(name)["message"])
    check_plate(world.ask(wait_for, depth=plate(), info=camera(), boxes=[BOX], mask=plate_mask()))
    facts.settle(name)
    assert facts.conserved(name)
    world.close()


@pytest.mark.parametrize("inputs", ["detections", "mask"])
def test_boxes_alone_and_masks_alone(start, peer, wait_for, inputs):
    start("-r", f"__ns:=/{inputs}", "-p", f"inputs:={inputs}", command=[SCRIPT])
    world = DepthPeer(peer, f"/{inputs}/locate", f"/{inputs}")
    world.name_ids()
    wide = (50, 30, 110, 90)  # more wall than plate
    boxes, mask = ([wide], None) if inputs == "detections" else (None, plate_mask())
    answer = world.ask(wait_for, depth=plate(), info=camera(), boxes=boxes, mask=mask)
    check_plate(answer)
    assert answer.detections[0].results[0].hypothesis.class_id == "object"
    world.close()


@pytest.mark.parametrize("codec", ["png", "rvl"])
def test_compressed_depth(start, peer, wait_for, codec):
    namespace = f"/{codec}"
    start("-r", f"__ns:={namespace}", "-p", "depth_transport:=compressedDepth", command=[SCRIPT])
    world = DepthPeer(peer, f"{namespace}/locate", namespace)
    world.name_ids()
    payload = cv2.imencode(".png", plate())[1].tobytes() if codec == "png" else rvl(plate())
    msg = CompressedImage(format=f"16UC1; compressedDepth {codec}", data=bytes(12) + payload)
    msg.header.frame_id = "camera"
    frame = {"info": camera(), "boxes": [BOX], "mask": plate_mask(), "depth_topic": "depth/compressedDepth"}
    check_plate(world.ask(wait_for, depth=msg, **frame))
    world.close()


def test_places_in_a_target_frame_and_no_transform(start, peer, facts, wait_for):
    node = start("-r", "__ns:=/moved", "-p", "target_frame:=base_link", command=[SCRIPT])
    world = DepthPeer(peer, "/moved/locate", "/moved")
    world.name_ids()
    frame = {"depth": plate(), "info": camera(), "boxes": [BOX], "mask": plate_mask()}
    answer = world.ask(wait_for, **frame)
    assert answer.header.frame_id == "base_link"
    position = answer.detections[0].bbox.center.position
    place = HALL.translation + HALL.rotation @ (0, 0, 1.5)
    np.testing.assert_allclose((position.x, position.y, position.z), place, atol=0.02)
    points, _ = read_points(world.ask(wait_for, world.points, **frame))
    np.testing.assert_allclose((points - HALL.translation) @ HALL.rotation[:, 2], 1.5, atol=1e-3)
    lost = peer.image(plate(), "16UC1")
    lost.header.frame_id = ""
    info = camera()
    info.header.frame_id = ""

    def dropped():
        from std_msgs.msg import Header
        from vision_msgs.msg import Detection2DArray

        header = Header(stamp=peer.stamp(), frame_id="gripper_camera")
        for topic, msg in (("camera_info", info), ("depth", lost), ("detections", Detection2DArray())):
            msg.header.stamp = header.stamp
            if topic == "detections":
                msg.header.frame_id = header.frame_id
            world.send(topic, msg)
        mask = peer.image(plate_mask())
        mask.header = header
        world.send("mask", mask)
        time.sleep(0.1)
        return facts.count("dropped.no_transform", "/moved/locate")

    wait_for(dropped)
    wait_for(lambda: "no transform from 'gripper_camera' to 'base_link'" in node.log)
    world.close()


def test_places_come_through_tf2(start, peer, wait_for):
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not installed here")
    from geometry_msgs.msg import TransformStamped

    pose = TransformStamped(child_frame_id="camera")
    pose.header.frame_id, pose.header.stamp = "map", peer.stamp()
    # The camera looks along x, a metre above the ground.
    pose.transform.translation.z = 1.0
    pose.transform.rotation = to_quaternion(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]))
    broadcaster = tf2_ros.StaticTransformBroadcaster(peer.node)
    broadcaster.sendTransform(pose)
    start("-r", "__ns:=/tf", "-p", "target_frame:=map", command=["-m", "objloc_ros.nodes.locate"])
    world = DepthPeer(peer, "/tf/locate", "/tf")
    world.name_ids()
    answer = world.ask(wait_for, depth=plate(), info=camera(), boxes=[BOX], mask=plate_mask())
    assert answer.header.frame_id == "map"
    position = answer.detections[0].bbox.center.position
    np.testing.assert_allclose((position.x, position.y, position.z), (1.5, 0, 1), atol=0.02)
    world.close()


def test_a_target_frame_without_tf2_is_a_plain_refusal(spawn):
    try:
        import tf2_ros  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("tf2_ros is here")
    node = spawn("-p", "target_frame:=base_link", command=["-m", "objloc_ros.nodes.locate"], patient=False)
    assert node.process.wait(120) == 1
    assert node.log.startswith("cannot start: target_frame needs tf2_ros, which does not import here")
    assert "Traceback" not in node.log
