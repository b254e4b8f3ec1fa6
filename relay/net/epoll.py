"""
Twisted's epoll reactor with a straight way for the one event that nearly all are: there is something to read.

Twisted enters a logging context for each event, five calls of Python and two dictionaries, for the sake of the prefix
that `twisted.python.log.msg` would put in front of a line. Nothing here logs by it but Twisted itself, so the context
is entered when there is something to say: an exception, or a connection that ends.

`RELAY_POLLING=stock` in the environment goes back to Twisted's own (`relay.net.reactor`).
"""

from __future__ import annotations

import sys
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python import log


class LeanPolling(EPollReactor):
    """All that is no plain readiness to read goes Twisted's way, and all that goes wrong does."""

    _poller: Any
    _selectables: dict[int, Any]

    def doPoll(self, timeout: float | None) -> None:
        selectables = self._selectables
        for descriptor, event in self._poller.poll(-1 if timeout is None else timeout, len(selectables)):
            try:
                selectable = selectables[descriptor]
            except KeyError:
                # An event before this one has closed it.
                continue
            if event != EPOLLIN:
                log.callWithLogger(selectable, self._doReadOrWrite, selectable, descriptor, event)
                continue
            why: Any
            try:
                why = selectable.doRead()
            except BaseException:
                why = sys.exc_info()[1]
                log.callWithLogger(selectable, log.err)
            if why:
                log.callWithLogger(selectable, self._disconnectSelectable, selectable, why, True)

    doIteration = doPoll
