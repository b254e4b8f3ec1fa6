"""How often what has happened, since the relay was started."""

from __future__ import annotations

from zope.interface import implementer

from relay.history.teed import notes
from relay.interfaces import IMailLog


@implementer(IMailLog)
class Meter:
    """Counts the events of the mail log on their way there."""

    __slots__ = ("_notes", "counts")

    def __init__(self, log: IMailLog) -> None:
        self._notes = notes(log)
        self.counts: dict[str, int] = {}

    def event(self, what: str, /, **fields: object) -> None:
        try:
            self.counts[what] += 1
        except KeyError:
            self.counts[what] = 1
        for note in self._notes:
            note(what, fields)
