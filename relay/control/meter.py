"""How often what has happened, since the relay was started."""

from __future__ import annotations

from collections import Counter

from zope.interface import implementer

from relay.interfaces import IMailLog


@implementer(IMailLog)
class Meter:
    """Counts the events of the mail log on their way there."""

    def __init__(self, log: IMailLog) -> None:
        self._event = log.event
        self.counts: Counter[str] = Counter()

    def event(self, what: str, /, **fields: object) -> None:
        self.counts[what] += 1
        self._event(what, **fields)
