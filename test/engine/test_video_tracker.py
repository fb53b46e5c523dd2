"""What lasts from frame to frame, and where it ends."""

from __future__ import annotations

import numpy as np
import pytest

from objloc_ros.engine.temporal import Past
from objloc_ros.types import Detections

S = 1_000_000_000
ONE = Detections(np.array([[10, 10, 30, 30]], np.float32), np.array([0.5], np.float32), ("object",))


@pytest.mark.parametrize(
    ("stamps", "jumps"),
    [
        ((0, 0.1, 0.2), (False, False, False)),
        ((100, 100.1, 100.1, 106), (False, False, False, True)),
        ((100, 99.9, 90), (False, False, True)),
        ((-5,), (False,)),
    ],
)
def test_everything_ends_where_time_jumps(stamps: tuple[float, ...], jumps: tuple[bool, ...]) -> None:
    past, expected = Past(["lost"]), 1
    for stamp, jumped in zip(stamps, jumps, strict=True):
        before = past.memories["lost"]
        assert past.notice(round(stamp * S)) is jumped
        assert (past.memories["lost"] is before) is not jumped
        expected += jumped
        assert past.trackers["lost"].update(ONE, (100, 100)) == (str(expected),)


def test_only_what_was_named_is_remembered() -> None:
    past = Past(())
    past.notice(0)
    assert past.memories == {}
    assert past.trackers["cat"] is not past.trackers["dog"]
