"""A camera shared by several nodes: subscribed to while one of them wants frames, and who gets which frame when."""

import pytest

pytest.importorskip("rclpy")
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Image

from objloc_ros.engine.latest_slot import SUPERSEDED
from objloc_ros.nodes import qos
from objloc_ros.nodes.camera import Camera
from objloc_ros.nodes.log import ThrottledLogger

LIMIT = 2000  # rounds of the executor


class Client:
    """Notes what it is given: the numbers of frames, None for each that it is told to skip."""

    def __init__(self, *, leads=False, pass_key="same"):
        self.leads, self.pass_key = leads, pass_key
        self.wanting, self.got, self.done = True, [], []

    def wants_frames(self):
        return self.wanting

    def receive(self, frame, on_done=None):
        self.got.append(frame.header.stamp.sec)
        self.done.append(on_done)

    def skip(self):
        self.got.append(None)


class World:
    """A camera driver, and the camera's side of some clients."""

    def __init__(self, context):
        self.node, self.driver = (Node(name, context=context, namespace="/front") for name in ("nodes", "driver"))
        self.publisher = self.driver.create_publisher(Image, "image", qos.make_output_profile(5))
        self.camera = Camera(self.node, "raw", ThrottledLogger(self.node.get_logger()))
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)
        self.sent = 0

    def serve(self, *clients):
        for client in clients:
            self.camera.add(client)
        self.follow(1)

    def follow(self, subscribers):
        self.camera.follow_demand()
        self.spin_until(lambda: self.publisher.get_subscription_count() == subscribers)

    def send(self, arrived):
        """Publish the next frame, numbered from 1; spin until it has arrived."""
        self.sent += 1
        message = Image(height=1, width=1, encoding="mono8", step=1, data=[0])
        message.header.stamp.sec = self.sent
        self.publisher.publish(message)
        self.spin_until(lambda: arrived.got and arrived.got[-1] == self.sent)

    def spin_until(self, condition):
        for _ in range(LIMIT):
            if condition():
                return
            self.executor.spin_once(timeout_sec=0.05)
        pytest.fail("it did not come true")

    def close(self):
        self.executor.shutdown()
        self.node.destroy_node()
        self.driver.destroy_node()


@pytest.fixture
def world(context):
    world = World(context)
    yield world
    world.close()


def test_it_subscribes_while_one_of_its_nodes_wants_frames(world):
    first, second = Client(), Client()
    assert world.publisher.get_subscription_count() == 0
    world.serve(first, second)
    first.wanting = False
    world.follow(1)
    assert (world.camera.serves(first), world.camera.serves(second)) == (False, True)
    world.send(second)
    assert first.got == []
    second.wanting = False
    world.follow(0)
    first.wanting = True
    world.follow(1)
    world.send(first)
    assert (first.got, second.got) == ([2], [1])


def test_without_a_leader_all_get_every_frame_at_once(world):
    clients = Client(), Client(pass_key="other")
    world.serve(*clients)
    world.send(clients[-1])
    assert [client.got for client in clients] == [[1], [1]]


def test_followers_wait_for_the_leader_and_skip_what_it_skips(world):
    follower, leader, other = Client(), Client(leads=True), Client(pass_key="other")
    world.serve(follower, leader, other)
    for _ in range(3):
        world.send(leader)
    assert (follower.got, leader.got, other.got) == ([], [1, 2, 3], [1, 2, 3])
    for on_done, cause in zip(leader.done, ("", SUPERSEDED, "encoding"), strict=True):
        on_done(cause)
    assert follower.got == [1, None, 3]  # what hinders the leader need not hinder others


def test_a_follower_that_has_left_gets_nothing_any_more(world):
    follower, leader = Client(), Client(leads=True)
    world.serve(follower, leader)
    world.send(leader)
    follower.wanting = False
    world.camera.follow_demand()
    leader.done[0]("")
    assert follower.got == []


def test_a_leader_alone_tells_nobody_when_it_is_done(world):
    leader = Client(leads=True)
    world.serve(leader)
    world.send(leader)
    assert leader.done == [None]
