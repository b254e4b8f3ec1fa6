"""Deadlines that move often and are met seldom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from relay.interfaces import IClock

#: Seconds to a timer at most. A deadline that comes nearer needs another timer, unless there is one before it: and the
#: shortest deadlines of most connections are as long as this.
_SOON: Final = 60.0
_NEVER: Final = float("inf")


def _nobody() -> None:
    """Is told of a deadline that there is no more."""


class Deadline:
    """
    One deadline of a connection, cheap to move: there is at most one timer, and moving the deadline
    forward only notes when it is. A timer that comes too early sets itself again.

    Whoever finds that `length` is what it wants has only to say that it begins anew, `since` now.
    """

    __slots__ = ("_call", "_clock", "_expired", "_seconds", "_timer_at", "length", "since")

    def __init__(self, clock: IClock, expired: Callable[[], None]) -> None:
        self._clock = clock
        self._seconds = clock.seconds
        self._expired = expired
        #: In seconds; `None`: there is no deadline.
        self.length: float | None = None
        #: When it began, by the clock. It may be set to a later moment.
        self.since = 0.0
        self._call: Any = None
        #: When the timer comes, if there is one.
        self._timer_at = _NEVER

    def within(self, seconds: float) -> float:
        """The deadline is `seconds` from now; answers with when that is, by the clock."""
        self.since = now = self._seconds()
        self.length = seconds
        at = now + seconds
        if at < self._timer_at:
            self._arm(at, seconds)
        return at

    def clear(self) -> None:
        """There is no deadline."""
        self.length = None

    def close(self) -> None:
        """
        There will be none any more: let go of the timer, and of whoever would have been told. That one has this here,
        and both would be left to the collector of garbage, with all that they know.
        """
        self.length = None
        self._expired = _nobody
        if self._call is not None:
            self._call.cancel()
            self._call = None
            self._timer_at = _NEVER

    def _arm(self, at: float, seconds: float) -> None:
        if self._call is not None:
            self._call.cancel()
        if seconds > _SOON:
            at, seconds = at - seconds + _SOON, _SOON
        self._timer_at = at
        self._call = self._clock.callLater(seconds, self._tick)

    def _tick(self) -> None:
        self._call = None
        self._timer_at = _NEVER
        if self.length is None:
            return
        at = self.since + self.length
        left = at - self._seconds()
        if left > 0:
            self._arm(at, left)
        else:
            self.length = None
            self._expired()
