"""The reactor whose timers nobody can set back."""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor


class MonotonicReactor(EPollReactor):
    """
    Twisted's epoll reactor on the clock that only goes forward.

    The stock reactor computes the time of a delayed call from the clock on the wall. When that is set
    back by an hour every timer of ours stands still for an hour: deadlines of sessions, retries, all.
    Here `seconds` counts from an unknown moment, so it tells how long something took and never what
    the date is.
    """

    seconds = staticmethod(time.monotonic)


def install_monotonic_reactor() -> Any:
    """
    Install a `MonotonicReactor` if no reactor is installed yet, and answer with the one that is.

    What is installed already is respected: somebody asked for it (`twistd --reactor`), or imported it
    before us, and a process has only one.
    """
    if "twisted.internet.reactor" not in sys.modules:
        installReactor(MonotonicReactor())  # type: ignore[no-untyped-call]
    from twisted.internet import reactor

    return reactor
