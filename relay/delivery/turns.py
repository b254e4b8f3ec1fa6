"""
Who waits for a destination, and whose turn it is: senders take turns, and what is more urgent passes what is less.

It is start-time fair queueing. A sender's works are numbered one after the other, beginning with the number that is
served now; the lowest number is next. So ten thousand copies of a newsletter stand behind each other, and one
person's mail, which has the next number, stands behind one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from operator import attrgetter
from typing import Final, Generic, TypeAlias, TypeVar

from attrs import define

from relay.mail.envelope import Envelope

#: How many places one step of priority is worth (RFC 6710 section 5.1). Whoever waits is passed by so many of those
#: that came later for each step at most, hence nobody waits for ever.
PLACES: Final = 20

#: Who takes turns: a user, a domain, and the stem of a local part.
Sender: TypeAlias = tuple[str, str, str]

#: Of `bounce-0815-bob=example.org`, which is another one for each recipient, what is before this is the same for all.
_VARIES: Final = re.compile(r"[+=0-9]")


def sender_of(envelope: Envelope) -> Sender:
    """For whom a message takes a turn: notices together, and each other sender by itself, whatever its VERP makes."""
    user, path = envelope.client.user or "", envelope.reverse_path
    if path is None:
        return user, "", ""
    stem = path.local
    if not stem.isalpha() and (varies := _VARIES.search(stem)) is not None:
        stem = stem[: varies.start()]
    return user, path.domain, stem.lower()


W = TypeVar("W")


@define(eq=False)
class _Standing:
    """A sender of whom something waits."""

    sender: Sender
    #: The number of its last work.
    last: float = 0.0
    count: int = 0


class Turns(Generic[W]):
    """What waits for one destination."""

    def __init__(self) -> None:
        #: By rank; of equals the one that came first. To be looked at, by those who ask often whether anything waits.
        self.heap: list[tuple[float, int, float, W, _Standing]] = []
        self._senders: dict[Sender, _Standing] = {}
        #: The number that is served.
        self._served = 0.0
        self._came = 0

    def __len__(self) -> int:
        return len(self.heap)

    def __iter__(self) -> Iterator[W]:
        """In no particular order."""
        return (item[3] for item in self.heap)

    def add(self, work: W, sender: Sender, priority: int = 0) -> None:
        number = self._served
        standing = self._senders.get(sender)
        if standing is None:
            standing = self._senders[sender] = _Standing(sender)
        elif standing.last > number:
            number = standing.last
        standing.last = number = number + 1
        standing.count += 1
        self._came = came = self._came + 1
        heappush(self.heap, (number - PLACES * priority, came, number, work, standing))

    def take(self) -> W:
        """The one whose turn it is."""
        _, _, number, work, standing = heappop(self.heap)
        if number > self._served:
            self._served = number
        standing.count = left = standing.count - 1
        if not left:
            del self._senders[standing.sender]
        return work

    def displace(self, sender: Sender) -> W | None:
        """
        Take out the last of whoever has most here, to make a place for one of `sender`; `None` if it has as many
        itself.
        """
        if not self.yields_to(sender):
            return None
        standing = max(self._senders.values(), key=attrgetter("count"))
        heap = self.heap
        at = max((at for at, item in enumerate(heap) if item[4] is standing), key=self._place)
        work = heap[at][3]
        heap[at] = heap[-1]
        heap.pop()
        heapify(heap)
        standing.last -= 1
        standing.count -= 1  # and more are left
        return work

    def yields_to(self, sender: Sender) -> bool:
        """Whether somebody has so much more here than `sender` that the last of it may be displaced."""
        mine = self._senders.get(sender)
        enough = 1 if mine is None else mine.count + 1
        # No generator: this is asked for each message of a crowd.
        for standing in self._senders.values():  # noqa: SIM110
            if standing.count > enough:
                return True
        return False

    def drain(self) -> list[W]:
        """All of them, in their order."""
        works = [item[3] for item in sorted(self.heap, key=lambda item: item[:2])]
        self.heap.clear()
        self._senders.clear()
        return works

    def _place(self, at: int) -> tuple[float, int]:
        return self.heap[at][:2]
