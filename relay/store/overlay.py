"""A store to try things out on: what is written to it dies with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zope.interface import implementer

from relay.interfaces import IClock, IStore
from relay.store.memory import Bounds, MemoryStore, Part


@implementer(IStore)
class Overlay:
    """
    Reads through to another store, which it never changes: for questions such as "what would become of this mail".
    """

    def __init__(self, below: Any, clock: IClock, bounds: Bounds | None = None) -> None:
        self._below = below
        self._clock = clock
        self._bounds = bounds or Bounds(entries=10_000, octets=16 * 1024 * 1024)
        self.drop()

    def drop(self) -> None:
        """Let go of what was written: from now on it reads as the store below does."""
        self._above = MemoryStore(self._clock, self._bounds)
        #: Keys that count no more as the store below has them: they were written here, or forgotten.
        self._hidden: set[str] = set()

    def get(self, key: str) -> str | None:
        if key in self._hidden:
            return self._above.get(key)
        value: str | None = self._below.get(key)
        return value

    def put(self, key: str, value: str, lifetime: float) -> None:
        self._above.put(key, value, lifetime)
        self._hidden.add(key)

    def forget(self, key: str) -> None:
        self._above.forget(key)
        self._hidden.add(key)

    def items(self, prefix: str = "", most: int = 1000) -> Sequence[tuple[str, str]]:
        hidden = self._hidden
        found = list(self._above.items(prefix, most))
        below = self._below.items(prefix, most + len(hidden))
        return (found + [pair for pair in below if pair[0] not in hidden])[:most]

    def scoped(self, name: str) -> IStore:
        return Part(self, name)
