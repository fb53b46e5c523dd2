"""Prompts that change while frames are answered: encoded in a thread, in force from one frame to the next."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from objloc_ros.engine.prompts import EncodedPrompts
    from objloc_ros.nodes.exemplars import Shown

Settings = dict[str, Any]
"""A complete set of parameters, `prompts` and `templates` among them, and what was `shown` by name."""


class Moment(NamedTuple):
    """The stamp of an image, nanoseconds, and its coordinate frame."""

    stamp_ns: int = 0
    frame_id: str = ""


class Change(NamedTuple):
    """What comes into force between two frames.

    Args:
        settings: All parameters.
        previous: Those in force so far.
        encoded: Prompts where they are other ones, else None.
        valid_from: The change holds for images from here on.
        restarted: Whether the images' time has begun anew, so that what holds must be announced anew, too.
    """

    settings: Settings
    previous: Settings
    encoded: EncodedPrompts | None
    valid_from: Moment
    restarted: bool = False


class PromptSwitch:
    """Brings settings and the prompts among them into force, all of a set at once, and never within a frame.

    A thread encodes the newest set requested and forgets those that were overtaken. What is ready while a frame is in
    work comes into force at the end of that frame, else at once.

    Args:
        settings: In force already.
        encode: Encodes prompts with templates, and learns what was shown; takes long.
        adopt: Brings a change into force; called in the order of the changes, never within a frame.
        on_error: Called with what `encode` raised. The other settings of that set come into force all the same.
        name: Name of the thread.
        valid_from: The first image from which on a change would hold.

    Attributes:
        current: The settings in force.
        valid_from: As the argument, moved on by every frame.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        encode: Callable[[Sequence[str], Sequence[str], Sequence[tuple[str, Shown]]], EncodedPrompts],
        adopt: Callable[[Change], None],
        on_error: Callable[[Exception], None],
        name: str,
        valid_from: Moment,
    ) -> None:
        self._encode, self._adopt, self._on_error = encode, adopt, on_error
        self._lock = threading.Condition()  # over all that follows, but for what only the thread knows
        self.current, self.valid_from = settings, valid_from
        self._requested: Settings | None = None
        self._ready: tuple[Settings, EncodedPrompts | None] | None = None
        self._in_frame = self._restarted = self._stopped = False
        self._encoded = _prompts(settings)  # only the thread's
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def request(self, settings: Settings) -> None:
        """Ask for another set; returns at once."""
        with self._lock:
            self._requested = settings
            self._lock.notify()

    @contextlib.contextmanager
    def frame(self, moment: Moment) -> Iterator[Settings]:
        """Hold changes up while the frame of this moment is in work; gives the settings in force."""
        with self._lock:
            if self._restarted:
                self.valid_from = moment
            self._switch()
            self._in_frame = True
        try:
            yield self.current
        finally:
            with self._lock:
                self._in_frame = False
                self.valid_from = Moment(moment.stamp_ns + 1, moment.frame_id)
                self._switch()

    def restart(self) -> None:
        """Announce anew with the next frame, because the images' time has jumped back; call it between frames."""
        self._restarted = True

    def stop(self) -> None:
        """Finish encoding, drop the set that waits, end the thread; safe to call more than once."""
        with self._lock:
            self._stopped = True
            self._lock.notify()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._stopped or self._requested is not None)
                settings, self._requested = self._requested, None
                if self._stopped or settings is None:
                    return
            try:
                self._prepare(settings)
            except Exception as error:  # noqa: BLE001 - told by on_error; the next request must find the thread alive
                self._on_error(error)

    def _prepare(self, settings: Settings) -> None:
        """Encode the prompts of a set if they are other ones, and make the set ready."""
        prompts, encoded = _prompts(settings), None
        try:
            if prompts != self._encoded:
                encoded = self._encode(*prompts)
                self._encoded = prompts
        finally:  # prompts that cannot be encoded do not hold the other settings up
            with self._lock:
                if encoded is None and self._ready is not None:
                    encoded = self._ready[1]
                self._ready = (settings, encoded)
                if not self._in_frame:
                    self._switch()

    def _switch(self) -> None:
        """Adopt what is ready; the lock is held, and no frame is in work."""
        if self._ready is None and not self._restarted:
            return
        settings, encoded = self._ready or (self.current, None)
        change = Change(settings, self.current, encoded, self.valid_from, self._restarted)
        self.current, self._ready, self._restarted = settings, None, False
        self._adopt(change)


def _prompts(settings: Settings) -> tuple[Sequence[str], Sequence[str], Sequence[tuple[str, Shown]]]:
    return tuple(settings["prompts"]), tuple(settings["templates"]), settings["shown"]
