"""Deadlines that move often and are met seldom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.logger import Logger

from relay.interfaces import IClock

#: Seconds to a timer at most. A deadline that comes nearer needs another timer, unless there is one before it: and the
#: shortest deadlines of most connections are as long as this.
_SOON: Final = 60.0
#: Seconds in which those come who share a timer.
_TOGETHER: Final = 10.0
_NEVER: Final = float("inf")

_log: Final = Logger(namespace="relay.net.timeouts")


def _nobody() -> None:
    """Is told of a deadline that there is no more."""


class _Round:
    """Deadlines that are far off, and one timer for all of them: it comes too early for each."""

    __slots__ = ("_call", "at", "full", "members")

    def __init__(self, clock: IClock, now: float) -> None:
        #: When the timer comes, and from when on nobody joins any more.
        self.at = now + _SOON
        self.full = now + _TOGETHER
        #: In the order in which they came.
        self.members: dict[Deadline, None] = {}
        self._call: Any = clock.callLater(_SOON, self._over)

    def empty(self) -> None:
        """With the last one goes the timer."""
        if self._call is not None:
            self._call.cancel()
            self._call, self.full = None, -_NEVER

    def _over(self) -> None:
        self._call, self.full = None, -_NEVER
        for each in tuple(self.members):
            try:
                # One may end another.
                if each in self.members:
                    each.came()
            except Exception:
                # As a timer's own, it is nothing to the others.
                _log.failure("A deadline could not be met")


class Timers:
    """
    The timers of many deadlines: those that are far off share one with all that came a while before and behind them.

    Most connections end long before, and a timer of its own is a tenth of what it costs to have one at all.
    """

    __slots__ = ("clock", "round", "seconds")

    def __init__(self, clock: IClock) -> None:
        self.clock = clock
        self.seconds = clock.seconds
        #: Whom somebody joins that comes now, unless it is full.
        self.round: _Round | None = None

    def begin(self, now: float) -> _Round:
        """Another round, for who comes now and a while behind."""
        self.round = round = _Round(self.clock, now)
        return round


class Deadline:
    """
    One deadline of a connection, cheap to move: there is at most one timer, and moving the deadline
    forward only notes when it is. A timer that comes too early sets itself again.

    Whoever finds that `length` is what it wants has only to say that it begins anew, `since` now.
    """

    __slots__ = ("_call", "_expired", "_round", "_seconds", "_timer_at", "_timers", "length", "since")

    def __init__(self, timers: Timers, expired: Callable[[], None]) -> None:
        self._timers = timers
        self._seconds = timers.seconds
        self._expired = expired
        #: In seconds; `None`: there is no deadline.
        self.length: float | None = None
        #: When it began, by the clock. It may be set to a later moment.
        self.since = 0.0
        #: The timer, if there is one: its own, or that of many.
        self._call: Any = None
        self._round: _Round | None = None
        #: When it comes; `_NEVER` itself where there is none.
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
        self.length, self._expired = None, _nobody
        if self._timer_at is not _NEVER:
            self._disarm()

    def _arm(self, at: float, seconds: float) -> None:
        if self._timer_at is not _NEVER:
            self._disarm()
        timers = self._timers
        if seconds < _SOON:
            self._timer_at = at
            self._call = timers.clock.callLater(seconds, self.came)
            return
        now, round = at - seconds, timers.round
        if round is None or now >= round.full:
            round = timers.begin(now)
        self._round = round
        round.members[self] = None
        self._timer_at = round.at

    def _disarm(self) -> None:
        self._timer_at = _NEVER
        round = self._round
        if round is not None:
            self._round = None
            members = round.members
            del members[self]
            if not members:
                round.empty()
        elif self._call is not None:
            self._call.cancel()
            self._call = None

    def came(self) -> None:
        """The timer has come."""
        self._call = None
        self._disarm()
        if self.length is None:
            return
        at = self.since + self.length
        left = at - self._seconds()
        if left > 0:
            self._arm(at, left)
        else:
            self.length = None
            self._expired()
