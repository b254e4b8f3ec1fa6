"""
Twisted's epoll reactor with a straight way from an event to who is concerned by it.

Twisted enters a logging context for each event, ten calls and two dictionaries, for the sake of the prefix that
`twisted.python.log.msg` would put in front of a line. Nothing here logs by it but Twisted itself, and that only if
something goes wrong: so the context is entered then.

`RELAY_POLLING=stock` in the environment goes back to Twisted's own (`relay.net.reactor`).
"""

from __future__ import annotations

from select import EPOLLEXCLUSIVE, EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.python import log


class LeanPolling(EPollReactor):
    """
    An exception of whoever is told of an event is logged and ends its connection; one of whoever is told of that end is
    logged.
    """

    _poller: Any
    _reads: set[int]
    _writes: set[int]
    _selectables: dict[int, Any]
    _continuousPolling: Any

    def addReaderAlone(self, reader: Any) -> None:
        """
        As `addReader`, for what other processes wait for, too, and only one of them can have: the kernel wakes one that
        has nothing else to do, and lets the others sleep. Only for who never writes; `removeReader` takes it back.
        """
        descriptor = reader.fileno()
        if descriptor not in self._reads:
            self._poller.register(descriptor, EPOLLIN | EPOLLEXCLUSIVE)
            self._reads.add(descriptor)
            self._selectables[descriptor] = reader

    def addReader(self, reader: Any) -> None:
        """Twisted's own, in one step for what is new here, as nearly all is."""
        descriptor = reader.fileno()
        selectables = self._selectables
        if descriptor in selectables:
            super().addReader(reader)  # type: ignore[no-untyped-call]
            return
        try:
            self._poller.register(descriptor, EPOLLIN)
        except OSError:
            # A file, or a mistake: Twisted's own meets it once more, and tells them apart.
            super().addReader(reader)  # type: ignore[no-untyped-call]
            return
        self._reads.add(descriptor)
        selectables[descriptor] = reader

    def removeReader(self, reader: Any) -> None:
        """Twisted's own, in one step for what is only read."""
        descriptor = reader.fileno()
        if descriptor in self._writes or self._selectables.get(descriptor) is not reader:
            super().removeReader(reader)  # type: ignore[no-untyped-call]
            return
        del self._selectables[descriptor]
        self._poller.unregister(descriptor)
        self._reads.discard(descriptor)

    def removeWriter(self, writer: Any) -> None:
        """Twisted's own, which looks in two places for what nearly always is in none."""
        descriptor = writer.fileno()
        if descriptor < 0 or descriptor in self._writes or self._continuousPolling._writers:
            super().removeWriter(writer)  # type: ignore[no-untyped-call]

    def forget(self, selectable: Any) -> None:
        """`removeReader` and `removeWriter`, in one step for what is only read."""
        descriptor = selectable.fileno()
        selectables = self._selectables
        if (
            selectables.get(descriptor) is not selectable
            or descriptor in self._writes
            or self._continuousPolling._writers
        ):
            self.removeReader(selectable)
            self.removeWriter(selectable)
            return
        del selectables[descriptor]
        self._poller.unregister(descriptor)
        self._reads.discard(descriptor)

    def doPoll(self, timeout: float | None) -> None:
        selectables = self._selectables
        for descriptor, event in self._poller.poll(-1 if timeout is None else timeout, len(selectables)):
            try:
                selectable = selectables[descriptor]
            except KeyError:
                # An event before this one has closed it.
                continue
            try:
                if event != EPOLLIN:
                    self._doReadOrWrite(selectable, descriptor, event)  # type: ignore[no-untyped-call]
                    continue
                # There is something to read, and nothing else: nearly all events are so.
                try:
                    why = selectable.doRead()
                except BaseException as problem:
                    why = problem
                    log.callWithLogger(selectable, log.err)
                if why:
                    self._disconnectSelectable(selectable, why, True)  # type: ignore[no-untyped-call]
            except KeyboardInterrupt:
                raise
            except BaseException:
                log.callWithLogger(selectable, log.err)

    doIteration = doPoll
