"""One mail log of several: what it is told, each of them is told."""

from __future__ import annotations

from zope.interface import implementer

from relay.interfaces import IMailLog


@implementer(IMailLog)
class Teed:
    """Hands each event on to all of `logs`, in order: the lines that people read, the history that they ask."""

    __slots__ = ("_events", "logs")

    def __init__(self, *logs: IMailLog) -> None:
        #: Those of another one among them are told directly.
        self.logs: tuple[IMailLog, ...] = tuple(
            each for log in logs for each in (log.logs if isinstance(log, Teed) else (log,))
        )
        self._events = tuple(log.event for log in self.logs)

    def event(self, what: str, /, **fields: object) -> None:
        for event in self._events:
            event(what, **fields)
