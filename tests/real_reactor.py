"""A real reactor that a test drives by hand: processes and sockets of this machine, and no state of the whole process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.process import reapAllProcesses
from twisted.python.failure import Failure

from relay.net.clock import ReactorClock

T = TypeVar("T")

PATIENCE = 30.0


class RealReactor:
    """`reactor` is one that nobody runs; `spin` lets it do what there is to do."""

    def __init__(self, kind: Callable[[], Any] = EPollReactor) -> None:
        self.reactor: Any = kind()
        self.clock = ReactorClock(self.reactor)

    def result(self, deferred: Deferred[T]) -> T:
        """What this comes to."""
        came: list[Any] = []
        deferred.addBoth(came.append)
        self.until(lambda: bool(came))
        if isinstance(came[0], Failure):
            came[0].raiseException()
        result: T = came[0]
        return result

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, "it does not come to hold"
            self.turn()

    def turn(self) -> None:
        """What there is to do now, or in a moment."""
        self.reactor.iterate(0.005)
        # Nobody has told the kernel that this reactor wants to hear of children.
        reapAllProcesses()

    def forget_timers(self) -> None:
        """Of what others have left behind: a server's idle connections."""
        for call in self.reactor.getDelayedCalls():
            call.cancel()

    def close(self) -> None:
        """Let go of everything; `AssertionError` if something is still waited for."""
        left = [str(call) for call in self.reactor.getDelayedCalls() if call.active()]
        for reader in self.reactor.removeAll():
            reader.connectionLost(Failure(ConnectionError("the test has ended")))
        self.reactor._poller.close()
        assert not left, left
