"""
Who is next: works wait by destination, and a slow destination takes up less room the more of it there is.

Nothing here waits or reads a clock. Memory is bounded by what is active: a destination of which nothing is held
does not exist.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, Final

from attrs import define, field, frozen
from attrs.validators import ge

from relay.interfaces import Claim

#: How many places one step of priority is worth (RFC 6710 section 5.1). Whoever waits is passed by so many of those
#: that came later for each step at most, hence nobody waits for ever.
PLACES: Final = 20


@frozen
class Limits:
    """How much is under way at once."""

    #: Attempts for one destination.
    destination: int = field(default=20, validator=ge(1))
    #: Attempts for all destinations together.
    total: int = field(default=200, validator=ge(1))
    #: Claims in memory: what is being carried, what waits for its turn, and what waits to be written down.
    held: int = field(default=1000, validator=ge(1))
    #: Recipients in one transaction (RFC 5321 section 4.5.3.1.8 lets a server stop at 100).
    recipients: int = field(default=50, validator=ge(1))


class Cut(Enum):
    """Why an attempt was cut short."""

    #: It took longer than any attempt may.
    LATE = "late"
    #: The relay stops.
    STOPPING = "stopping"
    #: Somebody else holds the recipients now.
    LOST = "lost"


@define(eq=False)
class Work:
    """Some recipients of one entry with one destination, from the claim until their outcomes are written down."""

    claim: Claim
    destination: Destination
    #: Its place among those that wait for the destination: the lower the earlier.
    rank: int = 0
    #: When its attempt began, by `IClock.seconds`.
    began: float = 0.0
    #: The `Deferred` of its attempt, while that waits for something.
    attempt: Any = None
    cut: Cut | None = None
    #: Its outcomes are decided, and in the ledger.
    concluded: bool = False


@define(eq=False)
class Destination:
    """What is held for one destination."""

    name: str
    limit: int
    active: int = 0
    waiting: deque[Work] = field(factory=deque)
    #: Whether it stands in the row of those that could begin something.
    in_row: bool = False

    @property
    def ready(self) -> bool:
        """Something waits, and may begin as far as this destination is concerned."""
        return bool(self.waiting) and self.active < self.limit


class Destinations:
    """
    All that is held, and the order in which it begins.

    Destinations take turns. What one of them may have under way, and what may wait for it, shrink with what is left
    for all: to a quarter of the places that are free. So one slow destination never takes them all, and even ten
    leave something to the next healthy one.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.active = 0
        self.held = 0
        self._destinations: dict[str, Destination] = {}
        self._row: deque[Destination] = deque()
        self._admitted = 0

    def admit(self, claim: Claim, name: str) -> Work | None:
        """Take this in, or `None` where there is no place for it: it is to be given back."""
        if self.held >= self.limits.held:
            return None
        destination = self._destinations.get(name)
        if destination is None:
            destination = self._destinations[name] = Destination(name, self.limits.destination)
        elif len(destination.waiting) >= self.share:
            return None
        self.held += 1
        self._admitted += 1
        rank = self._admitted - PLACES * (claim.entry.envelope.priority or 0)
        work = Work(claim, destination, rank)
        if destination.waiting and destination.waiting[-1].rank > rank:
            _advance(destination.waiting, work)
        else:
            destination.waiting.append(work)
        if not destination.in_row and destination.active < destination.limit:
            destination.in_row = True
            self._row.append(destination)
        return work

    def next(self) -> Work | None:
        """The work whose turn it is, now under way; `None` if nothing may begin."""
        row = self._row
        for _ in range(len(row)):
            free = self.limits.total - self.active
            if free <= 0:
                return None
            destination = row[0]
            if destination.active * 4 >= free + 3:
                row.rotate(-1)
                continue
            work = destination.waiting.popleft()
            destination.active += 1
            self.active += 1
            if destination.ready:
                row.rotate(-1)
            else:
                row.popleft()
                destination.in_row = False
            return work
        return None

    def finished(self, work: Work) -> None:
        """Its attempt is over; it is held until its outcomes are written down."""
        destination = work.destination
        destination.active -= 1
        self.active -= 1
        if destination.ready:
            if not destination.in_row:
                destination.in_row = True
                self._row.append(destination)
        elif not destination.active and not destination.waiting:
            del self._destinations[destination.name]

    def release(self, work: Work) -> None:
        """Its outcomes are written down, or it was lost or given back: it is no longer held."""
        self.held -= 1

    def drain(self) -> list[Work]:
        """All that has not begun, and now will not. It stays held until it is released."""
        drained: list[Work] = []
        for destination in list(self._destinations.values()):
            drained += destination.waiting
            destination.waiting.clear()
            destination.in_row = False
            if not destination.active:
                del self._destinations[destination.name]
        self._row.clear()
        return drained

    @property
    def room(self) -> int:
        """How many more works can be held."""
        return max(0, self.limits.held - self.held)

    @property
    def share(self) -> int:
        """How many may wait for one destination."""
        return max(1, self.room // 4)

    def has_enough(self, name: str) -> bool:
        """
        Whether so much waits for this destination that nothing more should be claimed for it: half of what may wait,
        so that what is claimed next comes in a batch.
        """
        destination = self._destinations.get(name)
        return destination is not None and len(destination.waiting) > self.share // 2

    def with_enough(self) -> frozenset[str]:
        """The names of all destinations that have enough to do."""
        most = self.share // 2
        return frozenset(d.name for d in self._destinations.values() if len(d.waiting) > most)


def _advance(waiting: deque[Work], work: Work) -> None:
    """Queue this before those of a higher rank."""
    at = len(waiting)
    while at and waiting[at - 1].rank > work.rank:
        at -= 1
    waiting.insert(at, work)
