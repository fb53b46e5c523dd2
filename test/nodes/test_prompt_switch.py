"""Prompts change hands between frames: all of a set at once, the newest first, whichever of the two threads is slower.

The encoder is gated: it stands still until the test lets it go on, so that nothing here depends on speed.
"""

import contextlib
import threading

import pytest

from objloc_ros.nodes.prompt_switch import Moment, PromptSwitch

LIMIT_S = 60


def settings(*prompts, **others):
    return {"prompts": list(prompts), "templates": ["a {}"], "shown": (), "threshold": 0.0, **others}


class World:
    """A switch with what it calls: `changes` come into force, `encoded` were encoded, `errors` were told."""

    def __init__(self, gated=False):
        self.changes, self.encoded, self.errors = [], [], []
        self.news = threading.Condition()
        self.entered, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.gated = gated
        self.switch = PromptSwitch(
            settings("first"),
            encode=self.encode,
            adopt=lambda change: self.note(self.changes, change),
            on_error=lambda error: self.note(self.errors, error),
            name="prompts",
            valid_from=Moment(),
        )

    def encode(self, prompts, templates, shown):
        self.entered.release()
        assert not self.gated or self.gate.acquire(timeout=LIMIT_S)
        if "unspeakable" in prompts:
            raise ArithmeticError(prompts)
        self.note(self.encoded, prompts)
        return "+".join(prompts)

    def note(self, where, what):
        with self.news:
            where.append(what)
            self.news.notify_all()

    def wait_for(self, condition):
        with self.news:
            assert self.news.wait_for(condition, LIMIT_S)

    @property
    def in_force(self):
        return [change.encoded for change in self.changes]


@pytest.fixture
def make():
    with contextlib.ExitStack() as stack:

        def make(**options):
            world = World(**options)
            stack.callback(world.switch.stop)
            stack.callback(world.gate.release, 100)
            return world

        yield make


def test_between_frames_a_set_comes_into_force_at_once(make):
    world = make()
    world.switch.request(settings("cup"))
    world.wait_for(lambda: world.changes)
    assert world.in_force == ["cup"]
    assert world.switch.current["prompts"] == ["cup"]
    assert world.changes[0].previous["prompts"] == ["first"]


def test_a_frame_keeps_its_set_to_its_end(make):
    world = make()
    with world.switch.frame(Moment(7, "camera")) as current:
        world.switch.request(settings("cup"))
        world.wait_for(lambda: world.encoded)
        world.switch.request(settings("cup", threshold=0.5))  # handled only after the first is ready
        world.switch.request(settings("bowl"))
        world.wait_for(lambda: ("bowl",) in world.encoded)
        assert current["prompts"] == world.switch.current["prompts"] == ["first"]
        assert world.changes == []
    world.wait_for(lambda: world.in_force and world.in_force[-1] == "bowl")
    assert world.changes[0].valid_from == Moment(8, "camera")


def test_sets_that_were_overtaken_are_never_encoded(make):
    world = make(gated=True)
    world.switch.request(settings("one"))
    assert world.entered.acquire(timeout=LIMIT_S)
    for prompt in ("two", "three", "four"):
        world.switch.request(settings(prompt))
    world.gate.release(2)
    world.wait_for(lambda: len(world.changes) == 2)
    assert world.in_force == ["one", "four"]


def test_equal_prompts_are_not_encoded_again_but_what_is_set_with_them_holds(make):
    world = make()
    world.switch.request(settings("first", threshold=0.5))
    world.wait_for(lambda: world.changes)
    assert world.encoded == []
    assert (world.changes[0].encoded, world.switch.current["threshold"]) == (None, 0.5)


def test_prompts_that_wait_for_a_frame_survive_a_later_set_with_the_same_ones(make):
    world = make()
    with world.switch.frame(Moment(1)):
        world.switch.request(settings("cup"))
        world.wait_for(lambda: world.encoded)
        world.switch.request(settings("cup", threshold=0.5))
        world.switch.request(settings("unspeakable", threshold=0.9))
        world.wait_for(lambda: world.errors)
    assert world.in_force == ["cup"]
    assert world.switch.current["threshold"] == 0.9


def test_prompts_that_cannot_be_encoded_are_told_and_asked_for_again(make):
    world = make()
    for number in (1, 2):
        world.switch.request(settings("unspeakable", threshold=0.1 * number))
        world.wait_for(lambda: len(world.errors) == number)  # noqa: B023
    assert world.in_force == [None, None]
    assert world.switch.current["threshold"] == 0.2


def test_a_frame_that_fails_lets_the_next_set_in(make):
    world = make()

    def fail():
        with world.switch.frame(Moment(5)):
            world.switch.request(settings("cup"))
            world.wait_for(lambda: world.encoded)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    world.wait_for(lambda: world.changes)
    assert world.changes[0].valid_from == Moment(6)


def test_after_a_jump_of_time_what_holds_is_announced_for_the_new_frame(make):
    world = make()
    with world.switch.frame(Moment(100, "camera")):
        pass
    assert world.changes == []
    world.switch.restart()
    with world.switch.frame(Moment(3, "camera")):
        (change,) = world.changes
    assert (change.valid_from, change.restarted, change.encoded) == (Moment(3, "camera"), True, None)
    with world.switch.frame(Moment(4, "camera")):
        pass
    assert len(world.changes) == 1


def test_stopping_drops_the_set_that_waits(make):
    world = make(gated=True)
    world.switch.request(settings("one"))
    assert world.entered.acquire(timeout=LIMIT_S)
    world.switch.request(settings("two"))
    stopper = threading.Thread(target=world.switch.stop)
    stopper.start()
    world.gate.release(2)
    stopper.join(LIMIT_S)
    assert not stopper.is_alive()
    assert world.encoded in ([("one",)], [("one",), ("two",)])  # the second only if it was taken before the stop
    world.switch.stop()
