"""Which results, depth images and cameras are put together, and what becomes of results that lack something."""

import pytest

pytest.importorskip("vision_msgs")
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from objloc_ros.nodes.messages import stamp_ns, time_from_ns
from objloc_ros.nodes.pairing import Pairing

MS = 1_000_000
START = 10**18


class World:
    """A pairing, its clock in milliseconds, and what came of it."""

    def __init__(self, *results, slop_ms=10, max_wait_ms=500, queue_size=5, info=True):
        self.now_ms, self.pairs, self.misses = 0, [], []
        self.pairing = Pairing(
            results or ("detections", "mask"),
            queue_size,
            on_pair=self.pairs.append,
            on_miss=self.misses.append,
            clock=lambda: self.now_ms / 1e3,
        )
        self.pairing.slop_ns, self.pairing.max_wait_s = slop_ms * MS, max_wait_ms / 1e3
        if info:
            self.pairing.add_info(make(CameraInfo, 0))

    def depth(self, at_ms):
        self.pairing.add_depth(make(Image, at_ms))

    def result(self, name, at_ms):
        self.pairing.add_result(name, make(Detection2DArray if name == "detections" else Image, at_ms))

    def both(self, at_ms):
        self.result("detections", at_ms)
        self.result("mask", at_ms)

    def wait(self, ms):
        self.now_ms += ms
        self.pairing.look()

    @property
    def paired(self):
        """Stamps of results and of their depth images, milliseconds."""
        return [(at(pair.results["detections"]), at(pair.depth)) for pair in self.pairs]

    @property
    def causes(self):
        return [error.cause for error in self.misses]


def make(kind, at_ms):
    return kind(header=Header(stamp=time_from_ns(START + round(at_ms * MS)), frame_id="camera"))


def at(msg):
    return (stamp_ns(msg.header) - START) / MS


@pytest.mark.parametrize("order", ["dmr", "drm", "rdm", "mrd"])
def test_what_has_one_stamp_is_paired_in_any_order(order):
    world = World()
    steps = {"d": lambda: world.depth(40), "r": lambda: world.result("detections", 40)}
    steps["m"] = lambda: world.result("mask", 40)
    for letter in order:
        assert world.pairs == []
        steps[letter]()
    assert world.paired == [(40, 40)]
    assert set(world.pairs[0].results) == {"detections", "mask"}


def test_what_comes_of_a_pair_has_the_stamp_of_the_results_in_the_frame_of_the_depth_image():
    world = World()
    world.pairing.add_depth(Image(header=Header(stamp=time_from_ns(START + 45 * MS), frame_id="depth")))
    world.both(40)
    assert world.paired == [(40, 45)]
    assert at(world.pairs[0]) == 40
    assert world.pairs[0].header.frame_id == "depth"


def test_the_nearest_depth_image_counts_once_no_nearer_one_can_come():
    world = World()
    world.depth(33)
    world.both(40)
    assert world.pairs == []  # 41 may come
    world.depth(41)
    assert world.paired == [(40, 41)]
    world.depth(66)
    world.depth(100)
    world.both(67)
    assert world.paired[1:] == [(67, 66)]


def test_a_near_one_is_taken_when_the_wait_is_over():
    world = World()
    world.depth(33)
    world.both(40)
    world.wait(499)
    assert world.pairs == []
    world.wait(1)
    assert world.paired == [(40, 33)]
    assert world.misses == []


@pytest.mark.parametrize(
    ("slop_ms", "depth", "pairs"), [(0, 40, True), (0, 40.001, False), (5, 45, True), (5, 46, False)]
)
def test_slop_is_the_largest_distance(slop_ms, depth, pairs):
    world = World(slop_ms=slop_ms)
    world.both(40)
    world.depth(depth)
    world.wait(500)
    assert len(world.pairs) == pairs
    assert world.causes == ([] if pairs else ["no_depth"])


def test_what_is_missing_is_the_cause_and_told_in_words():
    world = World()
    world.both(40)
    world.depth(0)
    world.wait(500)
    assert str(world.misses[-1]) == ("no depth image within 10 ms (slop_ms) of a result, the nearest was 40.0 ms off")
    world.depth(80)
    world.result("detections", 80)
    world.wait(500)
    assert str(world.misses[-1]) == "no 'mask' of the stamp of 'detections' within 500 ms (max_wait_ms)"
    world.depth(120)
    world.result("mask", 120)
    world.wait(500)
    assert world.causes == ["no_depth", "no_mask", "no_detections"]
    assert world.pairs == []


def test_without_a_camera_results_wait_and_are_given_up():
    world = World(info=False)
    world.both(40)
    world.depth(40)
    world.wait(100)
    world.both(80)
    world.depth(80)
    world.wait(400)
    assert world.causes == ["no_camera_info"]
    world.pairing.add_info(make(CameraInfo, 90))
    assert world.paired == [(80, 80)]


def test_the_camera_nearest_in_time_counts():
    world = World(info=False)
    for ms, width in ((0, 1), (40, 2), (80, 3)):
        info = make(CameraInfo, ms)
        info.width = width
        world.pairing.add_info(info)
    world.depth(40)
    world.both(40)
    world.depth(500)
    world.both(500)
    assert [pair.info.width for pair in world.pairs] == [2, 3]


def test_parts_that_come_after_all_is_over_are_no_new_results():
    world = World()
    world.depth(40)
    world.result("detections", 40)
    world.wait(500)
    world.result("mask", 40)
    world.wait(1000)
    assert world.causes == ["no_mask"]
    world.depth(80)
    world.both(80)
    world.result("detections", 80)
    world.wait(1000)
    assert (len(world.pairs), world.causes) == (1, ["no_mask"])


def test_queues_are_bounded():
    world = World(queue_size=3)
    for ms in range(40, 240, 40):
        world.result("detections", ms)
    assert world.causes == ["no_mask"] * 2
    for ms in range(40, 240, 40):
        world.depth(ms)
    assert len(world.pairing._depths) == 3
    for ms in range(120, 240, 40):
        world.result("mask", ms)
    assert world.paired == [(120, 120), (160, 160), (200, 200)]


def test_a_recording_that_starts_over_is_paired_anew():
    world = World()
    world.depth(5000)
    world.both(5000)
    world.result("detections", 5040)
    world.depth(1000)  # the depth image is first, as results take their time
    world.depth(1040)
    world.both(1000)
    assert world.causes == ["time_jump"]
    world.both(1040)
    assert world.paired == [(5000, 5000), (1000, 1000), (1040, 1040)]


def test_results_of_a_little_earlier_are_no_jump():
    world = World("detections")
    world.result("detections", 80)
    world.result("detections", 40)
    world.depth(40)
    world.depth(80)
    assert (world.paired, world.misses) == ([(40, 40), (80, 80)], [])


def test_stamps_of_zero_are_refused_once_for_each_result():
    world = World()
    for name in ("detections", "mask"):
        world.pairing.add_result(name, Detection2DArray())
    assert world.causes == ["zero_stamp"]


def test_results_of_one_kind_need_no_other():
    world = World("detections")
    world.depth(40)
    world.result("detections", 40)
    assert world.paired == [(40, 40)]


def test_clearing_forgets_everything_but_the_camera():
    world = World()
    world.depth(40)
    world.result("mask", 40)
    world.pairing.clear()
    world.both(40)
    world.wait(500)
    assert world.causes == ["no_depth"]
    world.depth(80)
    world.both(80)
    assert world.paired == [(80, 80)]
