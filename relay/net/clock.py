"""Time, taken from the reactor and from the machine's clock once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from relay.interfaces import IClock


@implementer(IClock)
class ReactorClock:
    """`IClock` over a reactor (or a `twisted.internet.task.Clock`) and a source of calendar time."""

    def __init__(
        self, reactor: IReactorTime, calendar: Callable[[], float] = time.time, epoch: float | None = None
    ) -> None:
        """`epoch` is when `seconds` was 0, for who has to agree about that with others; `None`: as it seems to us."""
        self.seconds: Callable[[], float] = reactor.seconds
        self.callLater = reactor.callLater
        self.calendar: Callable[[], float] = calendar
        since, seconds = calendar() - reactor.seconds() if epoch is None else epoch, reactor.seconds

        def now() -> float:
            return since + seconds()

        # Asked for several times for each message.
        self.now: Callable[[], float] = now


def cancel(delayed: Any) -> None:
    """Cancel a delayed call that may be `None`, or have run already."""
    if delayed is not None and delayed.active():
        delayed.cancel()
