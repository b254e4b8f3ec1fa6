"""
What a relay has kept that had rows for each event, in the same database: read on, and removed when its time has come.

Until 0.6 each message had a life in one table, its events in another. Nothing is written there any more, and when the
last life has gone the tables go too. Each of those lives is a block with one life in it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from heapq import merge
from typing import Any, Final, TypeVar

from relay.history.database import has_earlier, transaction
from relay.history.keys import UNREADABLE, legible
from relay.mail.explanation import Explanation, Mail
from relay.mail.history import Account, Happening

T = TypeVar("T")

#: Lives are numbered from here on, where blocks are numbered from 1 on.
_BEFORE: Final = 2**40
#: Lives that are removed at once, or looked for.
_PORTION: Final = 500

_FOUND = """
    SELECT number FROM lives WHERE id <> '' AND id = upper(:key) AND number < :before
    UNION SELECT life FROM keys WHERE key = :key AND life < :before ORDER BY 1 DESC LIMIT :most
"""
_BEGAN = "SELECT id, max(number) FROM lives WHERE id <> '' AND id IN (SELECT value FROM json_each(?)) GROUP BY id"
# An octet that a disk has changed can make another type of a number.
_OLDEST = "SELECT number, CAST(began AS REAL) FROM lives ORDER BY number LIMIT ?"
_HAPPENED = "SELECT CAST(at AS REAL), what, fields FROM events WHERE life = ? ORDER BY number"
_DECIDED = "SELECT CAST(at AS REAL), ref, told FROM decisions WHERE life = ? ORDER BY number"

#: It has no reply, which every decision has.
UNREADABLE_DECISION: Final = Explanation(
    Mail(), (), "", because="the file is damaged here: how it came about cannot be read"
)


class EarlierLife:
    """As `relay.history.block.Block`, but for rows in it that may be unreadable."""

    def __init__(self, id: str, events: Iterable[tuple[float, str, str]], decisions: Iterable[tuple[float, str, str]]):
        self._life: str | int = id or 0
        #: How many rows cannot be read.
        self.unreadable = 0
        self._happenings = []
        for at, what, fields in events:
            told = self._read(fields, dict)
            self._happenings.append(Happening(at, UNREADABLE, {}) if told is None else Happening(at, str(what), told))
        self._accounts = [
            Account(at, id, str(ref), self._read(told, Explanation.from_json) or UNREADABLE_DECISION)
            for at, ref, told in decisions
        ]

    def __len__(self) -> int:
        return len(self._happenings) + len(self._accounts)

    def found(self, wanted: Set[str]) -> set[str | int]:
        return {self._life}

    def place(self, life: str | int) -> int:
        return 0 if life == self._life else -1

    def happenings(self, life: str | int) -> list[Happening]:
        return self._happenings if life == self._life else []

    def accounts(self, life: str | int) -> list[Account]:
        return self._accounts if life == self._life else []

    def _read(self, told: str, make: Callable[[Any], T]) -> T | None:
        """What was kept, or `None`, which is counted: one row that a disk has changed is not to hide the others."""
        try:
            return make(json.loads(told))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self.unreadable += 1
            return None


class Earlier:
    """The tables, while there are any."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self.is_empty = False

    @classmethod
    def of(cls, database: sqlite3.Connection) -> Earlier | None:
        """Those of this database, or `None`."""
        return cls(database) if has_earlier(database) else None

    def found(self, wanted: Collection[str]) -> Iterator[int]:
        """As `relay.history.shelf.Shelf.found`: nothing but what is found."""
        last = 0
        for number in merge(*map(self._found, wanted), reverse=True):
            if number != last:
                last = number
                yield number - _BEFORE

    def _found(self, key: str) -> Iterator[int]:
        """By this one, a portion at a time: an address may have hundreds of thousands, and who asks wants a few."""
        asked = {"key": legible(key), "before": _BEFORE, "most": _PORTION}
        while portion := self._database.execute(_FOUND, asked).fetchall():
            yield from [number for (number,) in portion if isinstance(number, int)]
            asked["before"] = portion[-1][0]

    def began(self, ids: Collection[str]) -> dict[str, int]:
        found = self._database.execute(_BEGAN, (json.dumps(list(ids)),)).fetchall()
        return {id: number - _BEFORE for id, number in found}

    def life(self, number: int) -> EarlierLife:
        life = (number + _BEFORE,)
        row = self._database.execute("SELECT id FROM lives WHERE number = ?", life).fetchone()
        events, decisions = (self._database.execute(asked, life).fetchall() for asked in (_HAPPENED, _DECIDED))
        return EarlierLife("" if row is None else str(row[0]), events, decisions)

    @property
    def since(self) -> float | None:
        row = self._database.execute(_OLDEST, (1,)).fetchone()
        return None if row is None else float(row[1])

    def remove(self, too_old: float, excess: int) -> bool:
        """As `relay.history.shelf.Shelf.remove`. With the last life the tables go."""
        oldest = self._database.execute(_OLDEST, (_PORTION,)).fetchall()
        gone = [number for number, began in oldest if began < too_old or excess > 0]
        if not gone and oldest:
            return False
        with transaction(self._database):
            for table in ("keys", "events", "decisions"):
                self._database.execute(f"DELETE FROM {table} WHERE life <= ?", (max(gone, default=0),))  # noqa: S608
            self._database.execute("DELETE FROM lives WHERE number <= ?", (max(gone, default=0),))
            if len(gone) == len(oldest) and not self._database.execute(_OLDEST, (1,)).fetchone():
                for table in ("lives", "events", "keys", "decisions"):
                    self._database.execute(f"DROP TABLE {table}")
                self.is_empty = True
        return True
