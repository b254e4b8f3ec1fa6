"""How often what has happened, since the relay was started."""

from __future__ import annotations

from collections import Counter

from zope.interface import implementer

from relay.history.teed import Teed
from relay.interfaces import IMailLog


@implementer(IMailLog)
class Meter:
    """Counts the events of the mail log on their way there."""

    __slots__ = ("_events", "counts")

    def __init__(self, log: IMailLog) -> None:
        self._events = tuple(each.event for each in (log.logs if isinstance(log, Teed) else (log,)))
        self.counts: Counter[str] = Counter()

    def event(self, what: str, /, **fields: object) -> None:
        self.counts[what] += 1
        for event in self._events:
            event(what, **fields)
