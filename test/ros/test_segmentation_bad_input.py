"""Prompts and templates that cannot be used: refused with a reason, and the frames are answered with the old ones."""

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE_S

pytest.importorskip("vision_msgs")

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

EMBEDDED = ["-m", "objloc_ros.nodes.segmentation"]
STRIPED = str(Path(__file__).with_name("striped_process.py"))
NAME = "/segmentation"
MANY = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
CPU = ("-p", "device:=cpu")
FITS = " ".join(["red"] * 71)  # "a photo of a" and the two ends are the other 6 of 77 tokens


@pytest.fixture(scope="module")
def node(start):
    """The embedded models by the method that takes least, and a label for every pixel."""
    node = start(*CPU, "-p", "method:=maskclip", "-p", "background:=none", command=EMBEDDED)
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture(scope="module")
def announced(node, peer, wait_for):
    """Every label set that is announced, as {id: prompt}."""
    sets = []
    subscription = peer.node.create_subscription(
        LabelInfo,
        f"{NAME}/label_info",
        lambda msg: sets.append({c.class_id: c.class_name for c in msg.class_map}),
        MANY,
    )
    wait_for(lambda: sets)
    yield sets
    peer.node.destroy_subscription(subscription)


@pytest.fixture(scope="module")
def mask(node, peer):
    return peer.subscribe(Image, f"{NAME}/mask")


def scene():
    """A picture of many colours: RGB uint8 [60, 80, 3]."""
    return np.random.default_rng(1).integers(0, 256, (6, 8, 3), np.uint8).repeat(10, axis=0).repeat(10, axis=1)


def ids(image):
    return set(np.unique(np.frombuffer(image.data, np.uint8)).tolist())


def given(name, value):
    """A parameter message; the type is that of the value unless it is a message already."""
    return value if isinstance(value, ParameterMessage) else Parameter(name, value=value).to_parameter_msg()


def nothing(name, kind):
    """What `ros2 param set` and C++ clients make of an empty list, or of no value at all."""
    message = ParameterMessage(name=name)
    message.value.type = Parameter.Type[kind].value
    return message


REFUSED = {
    "no_prompts": (nothing("prompts", "STRING_ARRAY"), ("prompts", "1 to 254", "got 0")),
    "empty_list_without_a_type": (nothing("prompts", "BYTE_ARRAY"), ("STRING_ARRAY", "BYTE_ARRAY")),
    "no_value": (nothing("prompts", "NOT_SET"), ("cannot be undeclared",)),
    "empty": ([""], ("prompts", "not be empty", "''")),
    "empty_among_others": (["car", ""], ("prompts", "not be empty", "''")),
    "spaces": (["   "], ("prompts", "not be empty", "'   '")),
    "other_white_space": (["\u3000\u2003"], ("prompts", "not be empty")),
    "twice": (["car", "cup", "car"], ("prompts", "different", "'car'")),
    "twice_by_case": (["Car", "cAR"], ("prompts", "different", "'Car'", "'cAR'")),
    "twice_by_spaces": (["red car", " red  car"], ("prompts", "different", "'red car'", "' red  car'")),
    "255_prompts": ([f"thing {n}" for n in range(255)], ("prompts", "1 to 254", "got 255")),
    "100000_prompts": (["x"] * 100_000, ("prompts", "1 to 254", "got 100000")),
    "too_many_tokens": ([f"{FITS} red"], ("78 tokens", "at most 77")),
    "new_line": (["car\n"], ("prompts", "control characters", r"'car\n'")),
    "escape": (["\x1b[31mcar"], ("prompts", "control characters", r"\x1b")),
    "delete": (["c\x7far"], ("prompts", "control characters", r"\x7f")),
    "c1": (["c\x85ar"], ("prompts", "control characters", r"\x85")),
    "one_megabyte": (["x" * 1_000_000], ("prompts", "at most 500 characters", "1000000")),
    "one_megabyte_of_spaces": ([" " * 1_000_000], ("prompts",)),
    "one_megabyte_of_emoji": (["🚲" * 250_000], ("prompts", "at most 500 characters", "250000")),
    "string": ("car", ("STRING_ARRAY", "STRING")),
    "integers": ([1, 2], ("STRING_ARRAY", "INTEGER_ARRAY")),
    "booleans": ([True], ("STRING_ARRAY", "BOOL_ARRAY")),
    "boolean": (True, ("STRING_ARRAY", "BOOL")),
}
TEMPLATES = {
    "no_templates": (nothing("templates", "STRING_ARRAY"), ("templates", "1 to 100", "got 0")),
    "empty": ([""], ("template", "''")),
    "no_place": (["a photo"], ("template", "one {}", "'a photo'")),
    "two_places": (["a {} and a {}"], ("template", "one {}", "'a {} and a {}'")),
    "imagenet_among_others": (["imagenet", "a {}"], ("template", "one {}", "'imagenet'")),
    "101_templates": ([f"{n} {{}}" for n in range(101)], ("templates", "1 to 100", "got 101")),
    "201_characters": (["{}" + "x" * 199], ("template", "200 characters")),
    "one_megabyte": (["{}" + "x" * 1_000_000], ("template", "200 characters")),
    "too_many_tokens": (["a " * 76 + "{}"], ("tokens", "77")),
    "string": ("a {}", ("STRING_ARRAY", "STRING")),
}
CASES = [("prompts", *case) for case in REFUSED.items()] + [("templates", *case) for case in TEMPLATES.items()]


@pytest.mark.parametrize(
    ("name", "value", "words"), [(name, *case) for name, _, case in CASES], ids=[f"{n}-{case}" for n, case, _ in CASES]
)
def test_a_refused_set_says_why_and_changes_nothing(name, value, words, peer, node, announced, mask):
    before, count = peer.get_parameters("prompts", "templates", node=NAME), len(announced)
    for service, kind in (("set_parameters", SetParameters), ("set_parameters_atomically", SetParametersAtomically)):
        request = kind.Request(parameters=[given(name, value)])
        response = peer.call(kind, f"{NAME}/{service}", request)
        result = response.results[0] if service == "set_parameters" else response.result
        assert not result.successful
        assert all(word in result.reason for word in words), result.reason[:500]
        assert len(result.reason) < 500
    assert peer.get_parameters("prompts", "templates", node=NAME) == before
    _, answer = peer.ask(mask, lambda: peer.image(scene()))
    assert ids(answer) <= set(announced[-1])
    assert len(announced) == count


FINE = {
    "254_prompts": [f"thing {n}" for n in range(254)],
    "as_many_tokens_as_fit": [FITS],
    "other_scripts": ["Straßenschild", "自転車", "حصان", "ΑΛΟΓΟ"],
    "emoji": ["🚲", "👩‍🚀 🦄"],
    "marks_of_programs": ["{}", "100 % {name}", "'quoted', \"twice\"", "a: [b]", "\\n"],
    "spaces_around": ["  red   car "],
    "the_word_background": ["background", "car"],
    "one": ["car"],
}


@pytest.mark.parametrize("case", FINE)
def test_an_unusual_set_is_announced_word_by_word(case, peer, node, announced, mask, wait_for):
    assert peer.set_parameters(NAME, prompts=FINE[case]) == (True, "")
    wait_for(lambda: list(announced[-1].values()) == FINE[case])
    assert peer.get_parameters("prompts", node=NAME) == [FINE[case]]
    _, answer = peer.ask(mask, lambda: peer.image(scene()))
    assert ids(answer) <= set(announced[-1])


def test_changes_without_a_pause_hold_no_frame_up(peer, node, announced, wait_for):
    """Changes come as fast as they are taken, for as long as it takes to answer some frames meanwhile."""
    inbox, stop = peer.subscribe(Image, f"{NAME}/mask"), threading.Event()

    def film():
        while not stop.wait(0.02):
            peer.publisher(Image).publish(peer.image(scene()))

    camera = threading.Thread(target=film, daemon=True)
    camera.start()
    number, deadline = 0, time.monotonic() + PATIENCE_S
    while number < 300 or len(inbox.messages) < 30:
        assert peer.set_parameters(NAME, prompts=[f"red thing {number}", f"blue thing {number}"]) == (True, "")
        number += 1
        assert time.monotonic() < deadline, f"{len(inbox.messages)} frames were answered among {number} changes"
    wait_for(lambda: list(announced[-1].values()) == [f"{c} thing {number - 1}" for c in ("red", "blue")])
    stop.set()
    camera.join()
    _, answer = peer.ask(inbox, lambda: peer.image(scene()))
    assert ids(answer) <= set(announced[-1])
    assert "Traceback" not in node.log
    peer.unsubscribe(inbox)


def test_a_text_tower_at_work_holds_no_frame_up(start, peer, wait_for):
    name, sets = "/busy", []
    node = start(
        *CPU, "-r", "__node:=busy", "-r", "image:=busy_image", "-r", "/diagnostics:=/diagnostics_busy",
        command=[STRIPED, "0", "0"],
    )  # fmt: skip
    subscription = peer.node.create_subscription(
        LabelInfo, f"{name}/label_info", lambda msg: sets.append([c.class_name for c in msg.class_map]), MANY
    )
    inbox = peer.subscribe(Image, f"{name}/mask")
    peer.ask(inbox, lambda: peer.image(scene()), "busy_image")
    count = len(sets)
    with node.held_up("prompts") as reached:
        assert peer.set_parameters(name, prompts=["in work"]) == (True, "")
        reached()
        for number in range(5):
            assert peer.set_parameters(name, prompts=[f"waiting {number}"]) == (True, "")
            peer.ask(inbox, lambda: peer.image(scene()), "busy_image")
        assert len(sets) == count
    wait_for(lambda: sets[-1] == ["waiting 4"])
    assert sets[count:] in ([["in work"], ["waiting 4"]], [["waiting 4"]])
    peer.unsubscribe(inbox)
    peer.node.destroy_subscription(subscription)


def test_prompts_that_change_before_during_and_after_the_life_of_the_engine(start, peer, wait_for):
    """Slow text tower and all: accepted in every state, announced where there is an engine, and never in the way."""
    name, sets, threads = "/managed", [], ThreadPoolExecutor(1)

    def change_state(label):
        """Ask for a transition that has to wait for the text tower."""
        asked = threads.submit(peer.change_state, label, name)
        time.sleep(0.1)
        return asked

    node = start(
        *CPU, "-p", "autostart:=false", "-r", "__node:=managed", "-r", "image:=managed_image",
        "-r", "/diagnostics:=/diagnostics_managed", command=[STRIPED, "0", "0"],
    )  # fmt: skip
    subscription = peer.node.create_subscription(
        LabelInfo, f"{name}/label_info", lambda msg: sets.append([c.class_name for c in msg.class_map]), MANY
    )
    assert peer.set_parameters(name, prompts=["never used"]) == (True, "")
    assert peer.set_parameters(name, prompts=["first"]) == (True, "")
    assert peer.set_parameters(name, prompts=["second", "second"])[0] is False
    assert peer.change_state("configure", name)
    wait_for(lambda: sets == [["first"]])
    assert peer.set_parameters(name, prompts=["while inactive"]) == (True, "")
    wait_for(lambda: sets[-1] == ["while inactive"])
    with node.held_up("prompts") as reached:
        assert peer.set_parameters(name, prompts=["still being encoded"]) == (True, "")
        reached()
        cleanup = change_state("cleanup")
    assert cleanup.result()
    assert peer.set_parameters(name, prompts=["again"]) == (True, "")
    assert peer.change_state("configure", name)
    wait_for(lambda: sets[-1] == ["again"])
    assert peer.change_state("activate", name)
    inbox = peer.subscribe(Image, f"{name}/mask")
    peer.ask(inbox, lambda: peer.image(scene()), "managed_image")
    with node.held_up("prompts") as reached:
        assert peer.set_parameters(name, prompts=["too late"]) == (True, "")
        reached()
        shutdown = change_state("shutdown")
    assert shutdown.result()
    assert peer.state(name) == "finalized"
    count = len(sets)
    assert peer.set_parameters(name, prompts=["much too late"]) == (True, "")
    assert peer.set_parameters(name, prompts=[""])[0] is False
    assert node.end() == 0, node.log
    assert len(sets) == count
    assert ["never used"] not in sets
    assert ["much too late"] not in sets
    assert "Traceback" not in node.log
    peer.unsubscribe(inbox)
    peer.node.destroy_subscription(subscription)


def test_changes_that_arrive_while_the_process_ends_do_it_no_harm(spawn, peer, wait_for):
    name, sets = "/ending", []
    node = spawn(
        *CPU, "-r", "__node:=ending", "-r", "image:=ending_image", "-r", "/diagnostics:=/diagnostics_ending",
        command=[STRIPED, "20", "50"],
    )  # fmt: skip
    subscription = peer.node.create_subscription(LabelInfo, f"{name}/label_info", sets.append, MANY)
    wait_for(lambda: sets)
    inbox = peer.subscribe(Image, f"{name}/mask")
    peer.ask(inbox, lambda: peer.image(scene()), "ending_image")
    client = peer.node.create_client(SetParameters, f"{name}/set_parameters")
    assert client.wait_for_service(PATIENCE_S)
    for number in range(100):
        client.call_async(SetParameters.Request(parameters=[given("prompts", [f"thing {number}"])]))
        peer.publisher(Image, "ending_image").publish(peer.image(scene()))
        if number in (50, 52):
            node.kill(signal.SIGINT)
        time.sleep(0.005)
    assert node.end() == 0, node.log
    assert "Traceback" not in node.log
    peer.unsubscribe(inbox)
    peer.node.destroy_subscription(subscription)
    peer.node.destroy_client(client)
