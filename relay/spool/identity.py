"""Queue ids and claim tokens: unique without asking anybody."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

#: Crockford's base 32: no I, L, O or U, so that an id read out on the telephone arrives.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 14

_PAIRS = tuple(high + low for high in ALPHABET for low in ALPHABET)
_QUEUE_ID = re.compile(f"[{ALPHABET}]{{{LENGTH}}}")

_SECONDS = (1 << 30) - 1
_RANDOM_OCTETS = 5
_WHOLE = (1 << 70) - 1
_READ_AT_ONCE = 4096


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
        self._octets = b""
        self._at = 0
        self._second = -1
        self._last = 0

    def queue_id(self) -> str:
        """An id that no entry has had: 14 letters and digits."""
        second = int(self._now())
        if second > self._second:
            self._second = second
            self._last = (second & _SECONDS) << 40 | self._number(_RANDOM_OCTETS)
        else:
            self._last = (self._last + 1 + self._number(2)) & _WHOLE
        return _written(self._last)

    def token(self) -> int:
        """The fence of a claim: a positive number that no other claim has, in 63 bits."""
        return (self._number(8) >> 1) or 1

    def _number(self, octets: int) -> int:
        """From the kernel's source, which is asked for a page at a time since a system call each would cost more."""
        at = self._at
        if at + octets > len(self._octets):
            self._octets = self._random(_READ_AT_ONCE)
            at = 0
        self._at = at + octets
        return int.from_bytes(self._octets[at : self._at])


def recipient_id(queue_id: str, number: int) -> str:
    """The identity of an entry's recipient. Counted on for those who are added later, and never used again."""
    return f"{queue_id}.{number}"


def is_queue_id(text: str) -> bool:
    """Whether this can be a queue id of ours."""
    return _QUEUE_ID.fullmatch(text) is not None


def _written(number: int) -> str:
    pairs = _PAIRS
    return (
        pairs[number >> 60]
        + pairs[number >> 50 & 1023]
        + pairs[number >> 40 & 1023]
        + pairs[number >> 30 & 1023]
        + pairs[number >> 20 & 1023]
        + pairs[number >> 10 & 1023]
        + pairs[number & 1023]
    )
