"""The mail log of a test, in memory."""

from __future__ import annotations

from typing import NamedTuple

from zope.interface import implementer

from relay.interfaces import IMailLog
from relay.net.maillog import EVENTS


class Event(NamedTuple):
    """What the log was told."""

    what: str
    #: Without those that would be left out of a line.
    fields: dict[str, object]


@implementer(IMailLog)
class MemoryMailLog:
    """
    Keeps what it is told, in `events`.

    Unlike the real one it raises (`ValueError`) for an event that the list does not have: operators search for these
    words, so a new one is added to `relay.net.maillog.EVENTS` and to docs/mail-log.md first.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, what: str, /, **fields: object) -> None:
        if what not in EVENTS:
            raise ValueError(f"the mail log has no event {what!r}")
        self.events.append(Event(what, {name: value for name, value in fields.items() if value not in (None, "", ())}))

    def named(self, what: str) -> list[dict[str, object]]:
        """The fields of each event of this name, in order."""
        return [event.fields for event in self.events if event.what == what]
