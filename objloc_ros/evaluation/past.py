"""What is remembered from one frame of a camera to the next, and forgotten where time jumps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from objloc_ros.engine.age import continues
from objloc_ros.engine.memory import Memory
from objloc_ros.engine.tracking import Tracker


class Past:
    """A camera's memories and trackers.

    Args:
        methods: Discovery methods that keep their objects from frame to frame.

    `memories` holds what `Pipeline.follow` takes; `trackers` gives one for every key that is asked for.
    """

    def __init__(self, methods: Iterable[str]) -> None:
        self._methods = tuple(methods)
        self.memories = self._fresh()
        self.trackers: defaultdict[str, Tracker] = defaultdict(Tracker)
        self._latest_ns: int | None = None

    def notice(self, stamp_ns: int) -> bool:
        """Tell the stamp of the next frame, nanoseconds.

        Returns:
            Whether time has jumped, as where a bag starts over or a camera was away: everything is forgotten then.
        """
        jumped = self._latest_ns is not None and not continues(self._latest_ns, stamp_ns)
        if jumped:
            self.memories = self._fresh()
            for tracker in self.trackers.values():
                tracker.forget()
        self._latest_ns = stamp_ns
        return jumped

    def _fresh(self) -> dict[str, Memory]:
        return {method: Memory() for method in self._methods}
