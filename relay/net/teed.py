"""One mail log of several: what it is told, each of them is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from zope.interface import implementer

from relay.interfaces import IMailLog, ITakesRows
from relay.mail.event import Shape

#: How a log is told of an event.
Tell: TypeAlias = Callable[[Shape[Any], tuple[Any, ...]], None]


@implementer(IMailLog)
class Teed:
    """Hands each event on to all of several logs, in order: the lines that people read, the history that they ask."""

    __slots__ = ("logs",)

    def __init__(self, *logs: IMailLog) -> None:
        #: Those that are told; of another one among them, those that it hands events on to.
        self.logs: tuple[IMailLog, ...] = tuple(each for log in logs for each in all_of(log))

    def event(self, what: str, /, **fields: object) -> None:
        for log in self.logs:
            log.event(what, **fields)


def all_of(log: IMailLog) -> tuple[IMailLog, ...]:
    """`log`, or each that it hands events on to."""
    return log.logs if isinstance(log, Teed) else (log,)


def teller(log: IMailLog) -> Tell:
    """How `log` is told of a row."""
    if ITakesRows.providedBy(log):
        return log.row

    def tell(shape: Shape[Any], row: tuple[Any, ...]) -> None:
        # It has a mapping of its own each time.
        log.event(shape.what, **shape.fields(row))

    return tell
