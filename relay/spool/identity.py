"""Queue ids and claim tokens: unique without asking anybody."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable

#: Crockford's base 32: no I, L, O or U, so that an id read out on the telephone arrives.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 14

_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)
_QUEUE_ID = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")

_SECONDS = (1 << 30) - 1
_RANDOM = (1 << 40) - 1
_STEP = (1 << 16) - 1
_WHOLE = (1 << 70) - 1
_REST = (1 << 20) - 1
_PAGE = struct.Struct("<512Q")


class Identities:
    """
    A source of queue ids and of claim tokens. For one thread.

    A queue id is 70 bits: the second in 30 of them (they come round after 34 years), so that ids sort by
    time and an index grows at its end; then 40 random ones. Within a second the next id is the last plus
    a random step, and a clock that goes back is not followed, so one source never says an id twice. Two
    sources, on two machines or before and after a restart, agree with a chance of one in 2**40 for each
    pair of ids of the same second; in one spool the second would be refused with an error, and nothing lost.
    """

    def __init__(self, now: Callable[[], float], random: Callable[[int], bytes] = os.urandom) -> None:
        self._now = now
        self._random = random
        #: Random numbers of 64 bits, each used once.
        self._numbers: list[int] = []
        #: The second of the last id, and when it is over.
        self._second, self._until = -1, 0
        #: The last id: the first ten letters, as a number too, and the number that the other four stand for.
        self._begun = 0
        self._beginning = ""
        self._rest = 0

    def queue_id(self) -> str:
        """An id that no entry has had: 14 letters and digits."""
        rest = self._rest + 1 + ((self._numbers or self._draw()).pop() & _STEP)
        now = self._now()
        if rest > _REST or now >= self._until:
            rest = self._begin(int(now), rest)
        self._rest = rest
        return f"{self._beginning}{_PAIRS[rest >> 10]}{_PAIRS[rest & 1023]}"

    def _begin(self, second: int, rest: int) -> int:
        """Another beginning: that of a new second, or of the next id where `rest` is too large for four letters."""
        if second > self._second:
            self._second, self._until = second, second + 1
            id = (second & _SECONDS) << 40 | (self._numbers or self._draw()).pop() & _RANDOM
        else:
            id = ((self._begun << 20) + rest) & _WHOLE
        self._begun = begun = id >> 20
        self._beginning = "".join(_PAIRS[begun >> shift & 1023] for shift in (40, 30, 20, 10, 0))
        return id & _REST

    def token(self) -> int:
        """The fence of a claim: a positive number that no other claim has, in 63 bits."""
        return ((self._numbers or self._draw()).pop() >> 1) or 1

    def _draw(self) -> list[int]:
        """From the kernel's source, which is asked for a page at a time since a system call each would cost more."""
        self._numbers = list(_PAGE.unpack(self._random(_PAGE.size)))
        return self._numbers


def recipient_id(queue_id: str, number: int) -> str:
    """The identity of an entry's recipient. Counted on for those who are added later, and never used again."""
    return f"{queue_id}.{number}"


def is_queue_id(text: str) -> bool:
    """Whether this can be a queue id of ours."""
    return _QUEUE_ID.fullmatch(text) is not None
