"""One mail log of several: what it is told, each of them is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from zope.interface import implementer

from relay.interfaces import IMailLog, ITakesNote

#: How a log is told of an event: what, and its fields, which stay as they are.
Note: TypeAlias = Callable[[str, Mapping[str, object]], None]


@implementer(ITakesNote)
class Teed:
    """Hands each event on to all of several logs, in order: the lines that people read, the history that they ask."""

    __slots__ = ("notes",)

    def __init__(self, *logs: IMailLog) -> None:
        #: How each of them is told; those of another one among them are told directly.
        self.notes: tuple[Note, ...] = tuple(note for log in logs for note in notes(log))

    def event(self, what: str, /, **fields: object) -> None:
        for note in self.notes:
            note(what, fields)

    def note(self, what: str, fields: Mapping[str, object]) -> None:
        for note in self.notes:
            note(what, fields)


def notes(log: IMailLog) -> tuple[Note, ...]:
    """How `log` is told, or each that it hands events on to."""
    if isinstance(log, Teed):
        return log.notes
    return (log.note if ITakesNote.providedBy(log) else _as_event(log),)


def _as_event(log: IMailLog) -> Note:
    """For one that takes fields as arguments, and so has a mapping of its own each time."""

    def note(what: str, fields: Mapping[str, object]) -> None:
        log.event(what, **fields)

    return note
