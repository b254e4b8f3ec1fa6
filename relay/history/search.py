"""A question: which lives are found by some keys, the newest first, and what is known of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Final

from attrs import frozen

from relay.history.earlier import UNREADABLE_DECISION
from relay.history.keys import UNREADABLE
from relay.history.shelf import IsBlock, Shelf, Unreadable
from relay.mail.history import Account, Happening, Life

#: Happenings of one life that are told from its beginning, and as many from its end.
HALF: Final = 250

#: Events that are looked at to find lives. Where much has happened lately to messages that began long ago, such as to
#: thousands that wait for one address, those that are older still are not looked for.
_EFFORT: Final = 250_000
#: ... for which a block counts besides those that it has, and so does the beginning of a life that has to be looked up.
_LOOK: Final = 20

#: By this is known what cannot be read; nothing else has such a position.
_SPOILT: Final = -1

#: Blocks that stay at hand, since what is found in one goes on in the next.
_AT_HAND: Final = 32


@frozen
class Found:
    """A life, and the block in which it began, or where it was found if that one has gone."""

    block: int
    #: The queue id, or the position of its only event.
    life: str | int


class Search:
    """For one question, in one thread."""

    def __init__(self, shelf: Shelf, wanted: frozenset[str]) -> None:
        self._shelf = shelf
        self._wanted = wanted
        self._at_hand: dict[int, tuple[IsBlock, Mapping[str, int | None]] | None] = {}
        #: When blocks began that cannot be read.
        self._spoilt: dict[int, float] = {}
        self._effort = _EFFORT
        #: How many rows that were looked at cannot be read.
        self.unreadable = 0
        #: There may be older lives that were not looked for.
        self.gave_up = False

    def lives(self) -> Iterator[Found]:
        """Those that are found: the newest first, which is the one that began last."""
        seen: set[str] = set()
        #: By the block in which they began.
        waiting: dict[int, list[Found]] = {}
        for number in self._shelf.found(self._wanted):
            # Whatever is found from now on began in this block, or before.
            yield from self._in_order(waiting, [each for each in waiting if each > number])
            if self._effort <= 0:
                self.gave_up = True
                break
            for found in self._found_in(number, seen):
                waiting.setdefault(found.block, []).append(found)
        yield from self._in_order(waiting, list(waiting))

    def life(self, found: Found) -> Life | None:
        """What has happened to it, or `None` if nothing has."""
        if found.life == _SPOILT:
            return Life("", (Happening(self._spoilt[found.block], UNREADABLE, {}),))
        happenings = chain.from_iterable(block.happenings(found.life) for block in self._blocks(found))
        first = list(islice(happenings, HALF))
        last: deque[Happening] = deque(maxlen=HALF)
        count = 0
        for each in happenings:
            last.append(each)
            count += 1
        return Life(_id(found), (*first, *last), count - len(last)) if first else None

    def accounts(self, found: Found) -> list[Account]:
        """How what was decided about it came about, the newest first."""
        if found.life == _SPOILT:
            return [Account(self._spoilt[found.block], "", "", UNREADABLE_DECISION)]
        return [each for block in self._blocks(found) for each in block.accounts(found.life)][::-1]

    def _found_in(self, number: int, seen: set[str]) -> Iterator[Found]:
        there = self._block(number)
        if there is None:
            if number in self._spoilt:
                yield Found(number, _SPOILT)
            return
        block, earlier = there
        self._effort -= _LOOK + len(block)
        found = block.found(self._wanted)
        yield from (Found(number, life) for life in found if isinstance(life, int))
        ids = {life for life in found if isinstance(life, str)} - seen
        seen |= ids
        unknown = [id for id in ids if earlier.get(id, number) is None]
        self._effort -= _LOOK * len(unknown)
        began = self._shelf.began(unknown) if unknown else {}
        for id in ids:
            first = earlier.get(id, number)
            yield Found(began.get(id, number) if first is None else first, id)

    def _in_order(self, waiting: dict[int, list[Found]], blocks: list[int]) -> Iterator[Found]:
        """What is waiting and began in these blocks, the newest first."""
        for number in sorted(blocks, reverse=True):
            alike = waiting.pop(number)
            there = self._block(number) if len(alike) > 1 else None
            if there is not None:
                block, _ = there
                alike.sort(key=lambda found: block.place(found.life), reverse=True)
            yield from alike

    def _blocks(self, found: Found) -> Iterator[IsBlock]:
        """Those in which there may be something of it, the oldest first."""
        numbers = [found.block]
        if isinstance(found.life, str):
            numbers = self._shelf.blocks_of(found.life, found.block)
        for number in numbers:
            there = self._block(number)
            if there is not None:
                yield there[0]

    def _block(self, number: int) -> tuple[IsBlock, Mapping[str, int | None]] | None:
        if number not in self._at_hand:
            if len(self._at_hand) >= _AT_HAND:
                del self._at_hand[next(iter(self._at_hand))]
            try:
                self._at_hand[number] = there = self._shelf.block(number)
            except Unreadable as problem:
                self._at_hand[number] = there = None
                self.unreadable += number not in self._spoilt
                self._spoilt[number] = problem.began
            if there is not None:
                self.unreadable += there[0].unreadable
        return self._at_hand[number]


def _id(found: Found) -> str:
    return found.life if isinstance(found.life, str) else ""
