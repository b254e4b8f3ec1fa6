"""One mail log of several: what it is told, each of them is told."""

from __future__ import annotations

from zope.interface import implementer

from relay.interfaces import IMailLog


@implementer(IMailLog)
class Teed:
    """Hands each event on to all of `logs`, in order: the lines that people read, the history that they ask."""

    __slots__ = ("_logs",)

    def __init__(self, *logs: IMailLog) -> None:
        self._logs = logs

    def event(self, what: str, /, **fields: object) -> None:
        for log in self._logs:
            log.event(what, **fields)
