"""A store that is gone with its process: for tests, for a relay whose spool is in memory, and in front of a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Final

from attrs import frozen
from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IClock, IStore

#: Seconds. What is to stay for longer than ten years is no matter of a policy's memory.
LONGEST: Final = 10 * 366 * 86400.0
#: Characters.
LONGEST_KEY: Final = 1000
LONGEST_VALUE: Final = 10_000

#: Octets that an entry costs beside its characters, measured: two strings, a number, two tuples, its two places.
OVERHEAD: Final = 300
#: Seconds between two warnings that the store is full.
_WARN_EVERY: Final = 60.0
#: Moments that mean nothing any more, before those that do are gathered anew.
_STALE: Final = 1000


@frozen
class Bounds:
    """How much is kept. Beyond either, what would expire first goes."""

    entries: int = 200_000
    #: Octets of memory, about.
    octets: int = 128 * 1024 * 1024


#: As much as a relay keeps unless it is told otherwise.
BOUNDS: Final = Bounds()


@implementer(IStore)
class MemoryStore:
    """
    A dictionary, and a heap of the moments at which its entries expire.

    An entry whose time is prolonged keeps its place in the heap, and gets another when that moment has come: so a
    counter that is written with each message does not fill the heap.
    """

    def __init__(self, clock: IClock, bounds: Bounds = BOUNDS, log: Logger | None = None) -> None:
        self._now = clock.now
        self._bounds = bounds
        self._log = log or Logger(namespace="relay.store")
        #: Value and moment (by `IClock.now`) of each key.
        self._entries: dict[str, tuple[str, float]] = {}
        #: Of each key one moment that is not later than its own; and others that mean nothing.
        self._moments: list[tuple[float, str]] = []
        self._octets = 0
        #: How many entries had to go before their time since the start.
        self.displaced = 0
        self._unsaid = 0
        self._warned: float | None = None

    # The contract.

    def get(self, key: str) -> str | None:
        entry = self._entries.get(key)
        return entry[0] if entry is not None and entry[1] > self._now() else None

    def put(self, key: str, value: str, lifetime: float) -> None:
        if not (0 < lifetime <= LONGEST and 0 < len(key) <= LONGEST_KEY and len(value) <= LONGEST_VALUE):
            raise ValueError(_wrong(key, value, lifetime))
        if not (key.isascii() and value.isascii()):
            (key + value).encode()  # a `UnicodeEncodeError` is a `ValueError`
        now = self._now()
        self._keep(key, value, now + lifetime)
        moments = self._moments
        # Two for each that comes: so the old are gone sooner or later, and nobody ever waits for all of them.
        if moments[0][0] <= now:
            self._pop(now)
            if moments and moments[0][0] <= now:
                self._pop(now)
        if len(self._entries) > self._bounds.entries or self._octets > self._bounds.octets:
            self._make_room(now)

    def forget(self, key: str) -> None:
        if key in self._entries:
            self._drop(key)

    def items(self, prefix: str = "", most: int = 1000) -> Sequence[tuple[str, str]]:
        now = self._now()
        found: list[tuple[str, str]] = []
        for key, (value, until) in self._entries.items():
            if len(found) >= most:
                break
            if until > now and key.startswith(prefix):
                found.append((key, value))
        return found

    def scoped(self, name: str) -> IStore:
        return Part(self, name)

    # For those who keep several stores alike.

    def all_keys(self) -> Sequence[str]:
        """Those whose time is over, too."""
        return list(self._entries)

    def left(self, key: str) -> tuple[str, float] | None:
        """The value, and for how many seconds more it is kept; `None` if there is none or its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        seconds = entry[1] - self._now()
        return (entry[0], seconds) if seconds > 0 else None

    # Ours.

    def _keep(self, key: str, value: str, until: float) -> None:
        entries = self._entries
        before = entries.get(key)
        entries[key] = (value, until)
        if before is None:
            self._octets += len(key) + len(value) + OVERHEAD
        else:
            self._octets += len(value) - len(before[0])
            if until >= before[1]:
                return
        heappush(self._moments, (until, key))
        if len(self._moments) > 2 * len(entries) + _STALE:
            self._gather()

    def _gather(self) -> None:
        """One moment for each entry, and no others."""
        self._moments[:] = [(until, key) for key, (_, until) in self._entries.items()]
        heapify(self._moments)

    def _drop(self, key: str) -> None:
        value, _ = self._entries.pop(key)
        self._octets -= len(key) + len(value) + OVERHEAD

    def _pop(self, now: float) -> None:
        """Look at the moment that comes first: its entry goes if it has expired."""
        _, key = heappop(self._moments)
        entry = self._entries.get(key)
        if entry is None:
            return
        if entry[1] <= now:
            self._drop(key)
        else:
            heappush(self._moments, (entry[1], key))

    def _make_room(self, now: float) -> None:
        entries, bounds, moments = self._entries, self._bounds, self._moments
        while len(entries) > bounds.entries or self._octets > bounds.octets:
            moment, key = heappop(moments)
            entry = entries.get(key)
            if entry is None:
                continue
            if entry[1] > moment:
                heappush(moments, (entry[1], key))
                continue
            self._drop(key)
            if moment > now:
                self.displaced += 1
                self._unsaid += 1
        if self._unsaid and (self._warned is None or now - self._warned >= _WARN_EVERY):
            self._log.warn(
                "The store of the policies is full ({entries} entries, about {octets} octets): {count} entries had to "
                "go before their time. See 'entries' and 'size' in [store]",
                entries=len(entries),
                octets=self._octets,
                count=self._unsaid,
            )
            self._warned = now
            self._unsaid = 0


@implementer(IStore)
class Part:
    """The part of a store that has a name. Its keys are the whole's, behind the name and a blank."""

    def __init__(self, whole: Any, name: str) -> None:
        if not name or " " in name:
            raise ValueError(f"{name!r} is no name for a part of the store")
        self._prefix = f"{name} "
        self._get: Callable[[str], str | None] = whole.get
        self._put: Callable[[str, str, float], None] = whole.put
        self._whole = whole

    def get(self, key: str) -> str | None:
        return self._get(self._prefix + key)

    def put(self, key: str, value: str, lifetime: float) -> None:
        if not key:
            raise ValueError("a key should not be empty")
        self._put(self._prefix + key, value, lifetime)

    def forget(self, key: str) -> None:
        self._whole.forget(self._prefix + key)

    def items(self, prefix: str = "", most: int = 1000) -> Sequence[tuple[str, str]]:
        own = len(self._prefix)
        return [(key[own:], value) for key, value in self._whole.items(self._prefix + prefix, most)]

    def scoped(self, name: str) -> IStore:
        return Part(self, name)


def _wrong(key: str, value: str, lifetime: float) -> str:
    if not key or len(key) > LONGEST_KEY:
        return f"a key should have 1 to {LONGEST_KEY} characters, and not {len(key)}"
    if len(value) > LONGEST_VALUE:
        return f"a value should have at most {LONGEST_VALUE} characters, and not {len(value)}"
    return f"{lifetime!r} is no lifetime: seconds, above 0 and at most ten years"
