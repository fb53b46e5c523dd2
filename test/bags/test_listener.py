"""What is heard while a bag is played: the bag's times, the nodes' accounts, and when all is done."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.serialization import serialize_message

from objloc_ros.bags import listener as module
from objloc_ros.bags.listener import Listener, NodeAccount

START = 1_000_000_000_000
NOW_NS, STEADY_NS = 7_000_000_000_000, 50_000_000_000
"""What the system's clocks say throughout."""


@pytest.fixture(autouse=True)
def clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = SimpleNamespace(time_ns=lambda: NOW_NS, monotonic_ns=lambda: STEADY_NS)
    monkeypatch.setattr(module, "time", clocks)


class Written(list[tuple[str, int]]):
    """A sink that keeps topics and times."""

    def __call__(self, topic: str, kind: type, data: bytes, stamp_ns: int) -> None:
        self.append((topic, stamp_ns))


def make_listener(tmp_path: Path, written: Written) -> Listener:
    return Listener(["/front/found"], tmp_path / "player.json", START, written)


def say(listener: Listener, ago_s: float = 0.0, name: str = "/front/found: perception", **counts: int) -> None:
    pairs = [KeyValue(key=key.replace("__", "."), value=str(n)) for key, n in counts.items()]
    message = DiagnosticArray(status=[DiagnosticStatus(name=name, values=[*pairs, KeyValue(key="state", value="x")])])
    listener.receive("/diagnostics", DiagnosticArray, serialize_message(message), NOW_NS - round(ago_s * 1e9))


def test_answers_have_the_bags_time_of_their_arrival(tmp_path: Path) -> None:
    written = Written()
    listener = make_listener(tmp_path, written)
    listener.receive("/front/found/label_info", object, b"", NOW_NS)
    assert (listener.playback, listener.read_player_account()) == (None, None)
    origin = STEADY_NS - 2_000_000_000
    facts = {"schedule": {"start_ns": START, "origin_ns": origin, "rate": 3.0}}
    (tmp_path / "player.json").write_text(json.dumps(facts))
    listener.receive("/front/found/detections", object, b"", NOW_NS - 500_000_000)
    listener.receive("/front/found/mask", object, b"", NOW_NS)
    assert written[0] == ("/front/found/label_info", START)  # the bag had not begun
    assert [topic for topic, _ in written[1:]] == ["/front/found/detections", "/front/found/mask"]
    assert [(at_ns - START) / 1e9 for _, at_ns in written[1:]] == [3 * 1.5, 3 * 2.0]
    assert listener.predictions == {"/front/found": 1}
    assert listener.read_player_account() is None
    (tmp_path / "player.json").write_text(json.dumps(facts | {"sent": {"/front/image": 4}}))
    assert listener.read_player_account() == facts | {"sent": {"/front/image": 4}}


def test_accounts_are_the_nodes_own(tmp_path: Path) -> None:
    listener = make_listener(tmp_path, Written())
    say(listener, received=3, published=1, in_flight=1, dropped=1, dropped__superseded=1)
    say(listener, name="/rear/found: perception", received=9, published=9, in_flight=0)
    say(listener, name="/front/found: other", received=9, published=9, in_flight=0)
    (account,) = listener.accounts.values()
    assert account == NodeAccount(account.at_s, 3, 1, 1, {"superseded": 1})


@pytest.mark.parametrize(
    ("since_s", "in_flight", "published", "done"),
    [
        (1.0, 0, 0, True),
        (0.2, 0, 0, False),  # frames may still be on their way
        (1.0, 1, 0, False),
        (1.0, 0, 2, False),  # answers may still be on their way
        (4.0, 0, 2, True),  # those are lost
    ],
)
def test_all_is_done_when_the_nodes_say_so(
    tmp_path: Path, since_s: float, in_flight: int, published: int, done: bool
) -> None:
    listener = make_listener(tmp_path, Written())
    ended = STEADY_NS / 1e9 - since_s
    assert not listener.is_complete(ended)
    say(listener, received=published + in_flight, published=published, in_flight=in_flight)
    assert listener.is_complete(ended) is done
