"""
Where blocks are kept, and how those are found in which something is.

A block is found by the checksums of its keys. These come in no order, so that each would be in another page of one
large index, to be read and to be written for it alone. Therefore the index is made of volumes, and written to is only
the newest one, whose pages are few; who asks looks into all of them. Two keys may have the same checksum: who has found
a block sees what is in it.
"""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import repeat
from operator import methodcaller
from typing import Final, TypeAlias
from zlib import crc32

from relay.history.block import Block, Written
from relay.history.database import transaction
from relay.history.earlier import Earlier, EarlierLife

IsBlock: TypeAlias = Block | EarlierLife

#: Keys of a volume, after which the next one begins. With more, more pages are written for each block; with fewer, more
#: places are looked into for each question. They go with its last block, some ten octets each.
VOLUME: Final = 8192
#: Blocks that are removed at once at most.
_PORTION: Final = 500

#: Volumes that are looked into at once: somebody may ask for the newest only.
_AT_ONCE: Final = 64

#: Behind all volumes.
_END: Final = 2**62

_ADD = "INSERT INTO blocks (number, volume, began, ended, earlier, told) VALUES (?, ?, ?, ?, ?, ?)"
_NOTE = "INSERT INTO found_by (volume, key, block) SELECT ?, value, ? FROM json_each(?)"
#: The newest first, until one that began at this block or before: the block is in that one, if it is still there.
_VOLUMES = """
    WITH RECURSIVE volumes (number) AS (
        SELECT max(volume) FROM found_by
        UNION ALL
        SELECT (SELECT max(volume) FROM found_by WHERE volume < number) FROM volumes WHERE number > ?
    )
    SELECT number FROM volumes WHERE number IS NOT NULL
"""
# What is no number any more leads nowhere.
_THERE = """
    volume IN (SELECT value FROM json_each(?)) AND key IN (SELECT value FROM json_each(?))
    AND typeof(block) = 'integer'
"""
_FOUND = f"SELECT DISTINCT block FROM found_by WHERE {_THERE} ORDER BY block DESC"  # noqa: S608, it is made of ours
_BEGAN = f"SELECT key, min(block) FROM found_by WHERE {_THERE} GROUP BY key"  # noqa: S608, it is made of ours
# An octet that a disk has changed can make another type of a number.
_OLDEST = "SELECT number, CAST(ended AS REAL), length(told) FROM blocks ORDER BY number LIMIT ?"

#: What the checksum of a queue id begins with.
_OF_IDS: Final = 1

_octets_of = methodcaller("encode", "utf-8", "replace")


class Unreadable(Exception):
    """A block is no block any more: the disk has changed something in it. It began at `began`."""

    def __init__(self, began: float) -> None:
        super().__init__(began)
        self.began = began


class Shelf:
    """The blocks of a database, by numbers that grow with time; those of an earlier relay's lives are below 0."""

    def __init__(self, database: sqlite3.Connection, most_keys: int = VOLUME) -> None:
        """`most_keys`: of a volume."""
        self._database = database
        self._most_keys = most_keys
        self._earlier = Earlier.of(database)
        self._next = 1 + self._number("SELECT max(number) FROM blocks")
        #: The volume that is written to, and how many keys it has. Whoever opens the database begins another one.
        self._volume = self._next
        self._keys = 0

    def add(self, blocks: Iterable[tuple[Written, Mapping[str, int | None]]]) -> None:
        """
        Keep these, within a transaction of the caller's. With each goes what is known of lives in it that began
        before: the block in which they did, or `None` where that is not known.
        """
        for written, earlier in blocks:
            if self._keys >= self._most_keys:
                self._volume, self._keys = self._next, 0
            number, volume = self._next, self._volume
            sums = sorted({*_checksums(written.keys), *_checksums_of_ids(written.ids)})
            self._database.execute(
                _ADD, (number, volume, written.began, written.ended, json.dumps(earlier), written.told)
            )
            self._database.execute(_NOTE, (volume, number, json.dumps(sums)))
            self._next += 1
            self._keys += len(sums)

    @property
    def next(self) -> int:
        """The number of the block that is added next."""
        return self._next

    def found(self, wanted: Collection[str]) -> Iterator[int]:
        """The numbers of the blocks in which something may be found by one of these keys, the newest first."""
        yield from self._found([*_checksums(wanted), *_checksums_of_ids(wanted)])
        if self._earlier is not None:
            yield from self._earlier.found(wanted)

    def blocks_of(self, id: str, first: int) -> list[int]:
        """The numbers of the blocks in which there may be something of this message; the oldest of them is `first`."""
        return sorted({first, *self._found([*_checksums_of_ids((id,))], first)})

    def began(self, ids: Collection[str]) -> dict[str, int]:
        """The first blocks in which something may be found by these queue ids."""
        sums = dict(zip(ids, _checksums_of_ids(ids), strict=True))
        asked = json.dumps(list(sums.values()))
        first: dict[int, int] = dict(self._database.execute(_BEGAN, (json.dumps(self._volumes()), asked)).fetchall())
        found = {id: first[each] for id, each in sums.items() if each in first}
        return found if self._earlier is None else {**found, **self._earlier.began(ids)}

    def block(self, number: int) -> tuple[IsBlock, Mapping[str, int | None]] | None:
        """
        One of them, and what is known of lives in it that began before; `None` if it has gone. Raises `Unreadable`, or
        `sqlite3.Error`.
        """
        if number < 0:
            return None if self._earlier is None else (self._earlier.life(number), {})
        asked = "SELECT CAST(began AS REAL), earlier, told FROM blocks WHERE number = ?"
        row = self._database.execute(asked, (number,)).fetchone()
        if row is None:
            return None
        began, earlier, told = row
        try:
            return Block(told), {id: None if first is None else int(first) for id, first in json.loads(earlier).items()}
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, struct.error, zlib.error):
            raise Unreadable(began) from None

    @property
    def since(self) -> float | None:
        """When the oldest event was told that is still there."""
        if self._earlier is not None:
            return self._earlier.since
        row = self._database.execute("SELECT CAST(began AS REAL) FROM blocks ORDER BY number LIMIT 1").fetchone()
        return None if row is None else float(row[0])

    @property
    def first(self) -> int:
        """The number of the oldest block; of what is before it nothing is known any more."""
        return self._number("SELECT min(number) FROM blocks") or self._next

    def remove(self, too_old: float, excess: int) -> bool:
        """Remove a portion of what ended before `too_old` and, `excess` octets, of the oldest. Whether anything was."""
        if self._earlier is not None:
            removed = self._earlier.remove(too_old, excess)
            if self._earlier.is_empty:
                self._earlier = None
            return removed
        last = None
        with closing(self._database.execute(_OLDEST, (_PORTION,))) as oldest:
            for number, ended, octets in oldest:
                if ended >= too_old and excess <= 0:
                    break
                last = number
                excess -= octets
        if last is None:
            return False
        with transaction(self._database):
            self._database.execute("DELETE FROM blocks WHERE number <= ?", (last,))
            # The keys of a volume go with its last block: those of one that has gone lead nowhere.
            self._database.execute(
                "DELETE FROM found_by WHERE volume < coalesce((SELECT volume FROM blocks ORDER BY number LIMIT 1), ?)",
                (_END,),
            )
        return True

    def _found(self, sums: Collection[int], since: int = 0) -> Iterator[int]:
        """... by one of these checksums, and at least those that are not older than `since`."""
        asked, volumes = json.dumps(list(sums)), self._volumes(since)
        for at in range(0, len(volumes), _AT_ONCE):
            some = json.dumps(volumes[at : at + _AT_ONCE])
            yield from [number for (number,) in self._database.execute(_FOUND, (some, asked)).fetchall()]

    def _volumes(self, since: int = 0) -> list[int]:
        """The newest first, and at least those with blocks that are not older than `since`."""
        return [number for (number,) in self._database.execute(_VOLUMES, (since,)).fetchall()]

    def _number(self, asked: str, *values: int) -> int:
        """The number that is asked for, 0 where there is none."""
        return int(self._database.execute(asked, values).fetchone()[0] or 0)


def _checksums(keys: Iterable[str]) -> Iterator[int]:
    return map(crc32, map(_octets_of, keys))


def _checksums_of_ids(ids: Iterable[str]) -> Iterator[int]:
    """They differ from those of keys: what happened to another message may be found by a queue id, too."""
    return map(crc32, map(_octets_of, map(str.casefold, ids)), repeat(_OF_IDS))
