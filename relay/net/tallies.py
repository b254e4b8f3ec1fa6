"""
What several processes count together: how many are connected, and what came of an address lately.

The counts are in memory that all processes of a relay have mapped. Each has a row that it alone writes, and whoever
wants to know adds up the rows. So there are no locks, and nobody waits for anybody.

A row cannot have a counter for each address that there is. It has lines of counters instead, and an address one counter
in each line, which it shares with others; what is counted of it is the least of them (the "count-min sketch" of Cormode
and Muthukrishnan). That is never less than what is there. It is more only where other addresses have met it in every
line; which ones do is decided by a secret of this relay's, so that nobody can seek them out.
"""

from __future__ import annotations

import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, TypeAlias

#: Counters of a line, and lines. While 2,000 addresses are counted two of ten thousand others meet one of them in every
#: line; while 8,000 are, two of a hundred do.
WIDTH: Final = 16_384
_LINES: Final = 4
#: A span of time is counted in so many pieces: a piece that is partly over still counts, so what is long enough ago
#: counts for a sixth of the time too long, at most.
PIECES: Final = 6
#: And one more, that is counted now.
_SLOTS: Final = PIECES + 1

_HEADER: Final = struct.Struct("=8s32s4Id")
_MAGIC: Final = b"RLTALLY1"

#: The counters of a row for one purpose; and which of them are an address's.
Counters: TypeAlias = "memoryview[int]"
Places: TypeAlias = Callable[[str], tuple[int, int, int, int]]

# A row: the moments at which the pieces of two spans end, how many are connected, and the lines of each purpose.
_ENDS: Final = 8 * _SLOTS
_TOTAL: Final = 2 * _ENDS
_FIRST: Final = _TOTAL + 8
_SKETCH: Final = 4 * _LINES * WIDTH


def _whole_pages(octets: int) -> int:
    return -(-octets // mmap.PAGESIZE) * mmap.PAGESIZE


_HEAD: Final = _whole_pages(_HEADER.size)
_ROW: Final = _whole_pages(_FIRST + (2 + 2 * _SLOTS) * _SKETCH)


class Mismatched(ValueError):
    """The memory is that of another release: its counts mean something else."""


class Tallies:
    """
    The counts, for the process that has one of the rows.

    Times are those of a clock that all processes read alike; the machine's monotonic one is.
    """

    @classmethod
    def create(cls, rows: int, calendar: Callable[[], float] = time.time) -> int:
        """
        Make the memory, for so many processes: the descriptor of it. Only what is used of it takes any.

        It says too when the monotonic clock was 0. So all agree about the time, also where somebody sets the machine's
        clock before one of them begins: what policies keep for each other has moments in it.
        """
        descriptor = os.memfd_create("relay-tallies", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _HEAD + rows * _ROW)
        head = _HEADER.pack(_MAGIC, secrets.token_bytes(32), rows, WIDTH, _LINES, _SLOTS, calendar() - time.monotonic())
        os.pwrite(descriptor, head, 0)
        return descriptor

    @classmethod
    def of(cls, descriptor: int, row: int) -> Tallies:
        """
        The counts in this memory, for the process whose row this is. The descriptor may be closed afterwards.

        Raises `Mismatched` and `OSError`.
        """
        magic, secret, rows, *shape, epoch = _HEADER.unpack(os.pread(descriptor, _HEADER.size, 0).ljust(_HEADER.size))
        if (magic, shape) != (_MAGIC, [WIDTH, _LINES, _SLOTS]):
            raise Mismatched("the processes of this relay are not of one release: start all of it again")
        if not 0 <= row < rows:
            raise ValueError(f"there are {rows} rows, and {row} is none of them")
        return cls(mmap.mmap(descriptor, _HEAD + rows * _ROW), secret, rows, row, epoch)

    @staticmethod
    def clear(descriptor: int, row: int) -> None:
        """Whose row this was is dead: nothing in it counts any more. Only when that is certain."""
        start = _HEAD + row * _ROW
        with mmap.mmap(descriptor, start + _ROW) as memory:
            memory.madvise(mmap.MADV_REMOVE, start, _ROW)

    def __init__(self, memory: mmap.mmap, secret: bytes, rows: int, row: int, epoch: float) -> None:
        #: When the monotonic clock was 0.
        self.epoch = epoch
        #: One that all these processes have, and nobody else; not the one by which addresses are counted.
        self.secret = blake2b(digest_size=32, key=secret, person=b"users").digest()
        whole = memoryview(memory)
        mine = whole[_HEAD + row * _ROW :][:_ROW]
        others = [whole[_HEAD + other * _ROW :][:_ROW] for other in range(rows) if other != row]
        places = lru_cache(8192)(lambda key: _places(key, secret))
        spans = (Recent(_Span.at(mine, at), [_Span.at(other, at) for other in others], places) for at in range(2))
        held = (Present(_sketch(mine, at), [_sketch(other, at) for other in others], places) for at in range(2))
        #: All connections.
        self.connections = Total(_number(mine), [_number(other) for other in others])
        #: Connections of an address, and attempts of it to log in that are under way.
        self.at_once, self.trying = held
        #: Connections that an address has made lately, and attempts of it that have failed.
        self.came, self.failed = spans


class Total:
    """A number of which each process has its part."""

    __slots__ = ("_mine", "_others")

    def __init__(self, mine: Counters, others: Sequence[Counters]) -> None:
        self._mine = mine
        self._others = tuple(others)

    def with_mine(self, mine: int) -> int:
        """All of it, now that this is our part."""
        self._mine[0] = mine
        for other in self._others:
            mine += other[0]
        return mine

    def share(self, more: int, among: int) -> int:
        """
        How many of so many more would be ours, if each of so many processes were to have as many as any other. It is
        less than nothing where we have too many already.
        """
        mine = self._mine[0]
        everywhere = mine + more
        for other in self._others:
            everywhere += other[0]
        return everywhere // among - mine


class Present:
    """How many there are of each key at this moment."""

    __slots__ = ("_mine", "_others", "_places")

    def __init__(self, mine: Counters, others: Sequence[Counters], places: Places) -> None:
        self._mine = mine
        self._others = tuple(others)
        self._places = places

    def enter(self, key: str) -> None:
        """There is one more. For each there is one `leave`."""
        mine = self._mine
        for place in self._places(key):
            mine[place] += 1

    def leave(self, key: str) -> None:
        """One that has entered is gone."""
        mine = self._mine
        for place in self._places(key):
            # Whatever has gone wrong, a counter below nothing would be one of four milliards.
            if mine[place]:
                mine[place] -= 1

    def elsewhere(self, key: str) -> int:
        """How many other processes have; it may be too many, and is never too few."""
        a, b, c, d = self._places(key)
        found = 0
        for other in self._others:
            if other[a]:
                found += min(other[a], other[b], other[c], other[d])
        return found


class _Span:
    """What one process has counted lately: a few pieces of time, and until when each of them lasts."""

    __slots__ = ("ends", "pieces")

    def __init__(self, ends: memoryview[float], pieces: tuple[Counters, ...]) -> None:
        self.ends = ends
        self.pieces = pieces

    @classmethod
    def at(cls, row: memoryview, which: int) -> _Span:
        ends = row[which * _ENDS :][:_ENDS].cast("d")
        return cls(ends, tuple(_sketch(row, 2 + which * _SLOTS + slot) for slot in range(_SLOTS)))


class Recent:
    """How many of each key there were in the last so many seconds, which are a sixth more at times."""

    __slots__ = ("_mine", "_others", "_places", "_slot", "_until")

    def __init__(self, mine: _Span, others: Sequence[_Span], places: Places) -> None:
        self._mine = mine
        self._others = tuple(others)
        self._places = places
        #: Which piece is counted now, and until when. What somebody with this row has left stays what it is.
        self._slot = 0
        self._until = float("-inf")

    def add(self, key: str, now: float, seconds: float) -> None:
        """One more, at this moment; it will be asked for by the same number of seconds."""
        if now >= self._until:
            self._begin(now, seconds / PIECES)
        counters = self._mine.pieces[self._slot]
        places = self._places(key)
        a, b, c, d = places
        # Only the least has to grow: the others have counted somebody else besides.
        least = min(counters[a], counters[b], counters[c], counters[d]) + 1
        for place in places:
            if counters[place] < least:
                counters[place] = least

    def elsewhere(self, key: str, now: float, seconds: float) -> int:
        """How many other processes have counted in so many seconds; it may be too many, and is never too few."""
        a, b, c, d = self._places(key)
        since, found = now - seconds, 0
        for other in self._others:
            for end, counters in zip(other.ends, other.pieces, strict=True):
                # A piece that lasts until later than that may have all of it.
                if end > since and counters[a]:
                    found += min(counters[a], counters[b], counters[c], counters[d])
        return found

    def _begin(self, now: float, length: float) -> None:
        """Another piece, in the place of the oldest, which is over for long enough: there are as many as that takes."""
        mine = self._mine
        self._slot = slot = (self._slot + 1) % _SLOTS
        if mine.ends[slot]:
            # Nobody may count the new ones for old ones, nor the other way round.
            mine.ends[slot] = 0.0
            mine.pieces[slot][:] = _NOTHING
        self._until = mine.ends[slot] = now + length


def _sketch(row: memoryview, which: int) -> Counters:
    return row[_FIRST + which * _SKETCH :][:_SKETCH].cast("I")


def _number(row: memoryview) -> Counters:
    return row[_TOTAL:][:4].cast("I")


_NOTHING: Final = memoryview(bytes(_SKETCH)).cast("I")


def _places(key: str, secret: bytes) -> tuple[int, int, int, int]:
    """Where a key is counted: a counter in each line."""
    a, b, c, d = struct.unpack("=4I", blake2b(key.encode(), digest_size=16, key=secret).digest())
    return a % WIDTH, WIDTH + b % WIDTH, 2 * WIDTH + c % WIDTH, 3 * WIDTH + d % WIDTH
