"""
An end for code of others that does not come to one, where no reactor runs and no watchdog is on duty.

It is run in the main thread, so a signal can reach it: an exception is raised wherever it is at that moment.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Self

from relay.net.exhaustion import Exhaustion
from relay.net.frames import place

#: Seconds from one exception to the next one, for code that catches all of them.
_AGAIN: Final = 1.0
#: Seconds of processor time by which the kernel waits longer than we do: code that lets no signal through.
_LATER: Final = 5.0


class Overtime(BaseException):
    """It has taken too long. No `Exception`: it is meant for whoever has set the time, and for nobody on the way."""

    def __init__(self, seconds: float, whose: str, place: str) -> None:
        super().__init__(f"more than {seconds:g} s, at {place}")
        self.seconds = seconds
        #: Whose code it was, by the word of whoever knows that.
        self.whose = whose
        #: Where in its code, with file and line.
        self.place = place


class Bounded:
    """
    A context that is left with `Overtime` when more than `seconds` have passed since it was entered, or since the last
    `put_off`. 0 seconds: it never is. In a thread that is not the main one it does nothing.
    """

    def __init__(self, seconds: float, whose: Callable[[], str]) -> None:
        self._seconds = seconds
        self._whose = whose
        self._exhaustion = Exhaustion(seconds + _LATER if seconds else 0.0)
        self._on_guard = False
        self._late: Overtime | None = None
        #: Who was called by such a timer before, and when.
        self._before: Any = None
        self._timer = (0.0, 0.0)

    def __enter__(self) -> Self:
        if self._seconds and threading.current_thread() is threading.main_thread():
            self._on_guard = True
            self._timer = signal.setitimer(signal.ITIMER_REAL, 0)
            self._before = signal.signal(signal.SIGALRM, self._expired)
            self._exhaustion.start()
            self.put_off()
        return self

    def put_off(self) -> None:
        """Something has come to an end, and something else begins."""
        if self._on_guard:
            signal.setitimer(signal.ITIMER_REAL, self._seconds, _AGAIN)
            self._exhaustion.put_off()

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._on_guard:
            self._on_guard = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            signal.setitimer(signal.ITIMER_REAL, *self._timer)
            self._exhaustion.stop()
        if self._late is not None and problem is not self._late:
            # Somebody has caught it.
            raise self._late

    def _expired(self, number: int, frame: FrameType | None) -> None:
        if self._late is None:
            at = "its end" if frame is None else place(frame)
            self._late = Overtime(self._seconds, self._whose(), at)
        raise self._late
