"""Policies that see what happens and decide nothing: a mail log that they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IMailLog, IObserver
from relay.mail.event import Shape
from relay.policy.asking import FAILURES, Station


@implementer(IMailLog)
class Observers:
    """Hands each event to all stations whose policies observe. What one of them raises is its own affair."""

    def __init__(self, log: Logger) -> None:
        """Nobody observes until stations are adopted."""
        self._log = log
        self._observers: tuple[tuple[str, Callable[[str, Mapping[str, object]], object]], ...] = ()
        #: How they are told: nothing is done for events of which nobody wants to hear.
        self.tellers: list[Callable[[Shape[Any], tuple[Any, ...]], None]] = []

    def adopt(self, stations: Iterable[Station]) -> None:
        """From now on those of these observe whose policies do, and nobody else."""
        self._observers = tuple(
            (station.name, station.policy.observe) for station in stations if IObserver.providedBy(station.policy)
        )
        self.tellers[:] = [self.row] if self._observers else []

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        """As `event`."""
        self.event(shape.what, **shape.fields(row))

    def event(self, what: str, /, **fields: object) -> None:
        for name, observe in self._observers:
            try:
                # Each has fields of its own: what one of them changes is nobody else's.
                observe(what, dict(fields))
            except FAILURES:
                self._log.failure(
                    "policy {policy} raised an exception when it observed '{what}'", policy=name, what=what
                )
