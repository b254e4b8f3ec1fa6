"""Policies that see what happens and decide nothing: a mail log that they read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IObserver, ITakesNote
from relay.policy.asking import Station


@implementer(ITakesNote)
class Observers:
    """Hands each event to all stations whose policies observe. What one of them raises is its own affair."""

    def __init__(self, log: Logger) -> None:
        """Nobody observes until stations are adopted."""
        self._log = log
        self._observers: tuple[tuple[str, Callable[[str, Mapping[str, object]], object]], ...] = ()

    def adopt(self, stations: Iterable[Station]) -> None:
        """From now on those of these observe whose policies do, and nobody else."""
        self._observers = tuple(
            (station.name, station.policy.observe) for station in stations if IObserver.providedBy(station.policy)
        )

    def event(self, what: str, /, **fields: object) -> None:
        self.note(what, fields)

    def note(self, what: str, fields: Mapping[str, object]) -> None:
        for name, observe in self._observers:
            try:
                # Each has fields of its own: what one of them changes is nobody else's.
                observe(what, dict(fields))
            except Exception:
                self._log.failure(
                    "policy {policy} raised an exception when it observed '{what}'", policy=name, what=what
                )
