"""
The thread's side of the history: everything in this module runs in one thread, which has the database.

Rows go in hundreds at a time. Each statement lets go of the interpreter's lock and has to wait for it afterwards, and
the thread that it would wait for is the one that talks to all clients: so it is not done once for each row.
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from attrs import frozen

from relay.history import decisions
from relay.history.database import Damaged, Foreign, is_damage, open_database, set_aside
from relay.history.keys import UNREADABLE, key, keys, plain, row
from relay.history.shorthand import Shorthand
from relay.mail.explanation import Explanation, Mail
from relay.mail.history import Account, Accounts, Findings, Happening, Life

T = TypeVar("T")

#: An event as it was told: when, what, and its fields. Of a `DECIDED` these are `id`, `ref` and `decision`.
Told: TypeAlias = tuple[float, str, Mapping[str, object]]

#: No event of the mail log has this name.
DECIDED: Final = "(decided)"
#: What begins a life, so that nobody need look whether there is one.
_BEGINNINGS: Final = frozenset({"accepted", DECIDED})

#: It has no reply, which every decision has.
_UNREADABLE: Final = Explanation(Mail(), (), "", because="the file is damaged here: how it came about cannot be read")

#: Happenings of one life that are told from its beginning, and as many from its end.
HALF: Final = 250
#: Messages whose number is known without a look at the database.
_REMEMBERED: Final = 50_000
#: Lives that are removed at once, and how often in one go.
_PORTION: Final = 500
_PORTIONS: Final = 20

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

#: How many rows a statement has.
_MANY: Final = (400, 40, 4, 1)
_KNOWN = "SELECT id, number FROM lives WHERE id <> '' AND id IN (SELECT value FROM json_each(?)) ORDER BY number"
_FOUND = """
    SELECT number, id FROM lives WHERE number IN (
        SELECT number FROM lives WHERE id = :id AND id <> '' AND EXISTS (SELECT 1 FROM events WHERE life = lives.number)
        UNION
        SELECT life FROM keys WHERE key = :key AND EXISTS (SELECT 1 FROM events WHERE events.life = keys.life)
        ORDER BY 1 DESC LIMIT :most
    ) ORDER BY number DESC
"""
_DECIDED = """
    SELECT CAST(at AS REAL), id, ref, told FROM decisions JOIN lives ON lives.number = life WHERE life IN (
        SELECT number FROM lives WHERE id = :id AND id <> ''
        AND EXISTS (SELECT 1 FROM decisions WHERE life = lives.number)
        UNION
        SELECT life FROM keys WHERE key IN (:key, :other)
        AND EXISTS (SELECT 1 FROM decisions WHERE decisions.life = keys.life)
        ORDER BY 1 DESC LIMIT :most
    ) ORDER BY life DESC, decisions.number DESC LIMIT :most
"""
# An octet that a disk has changed can make another type of a number.
_OLDEST = "SELECT number, CAST(began AS REAL) FROM lives ORDER BY number LIMIT ?"


@frozen
class Bounds:
    """How much is kept."""

    #: Seconds: a life that began longer ago goes.
    age: float = 14 * 86400.0
    #: Octets of the database, its log and what is free in it not counted: beyond it the oldest lives go.
    size: int = 1024 * 1024 * 1024
    #: Octets of the disk that are left to others: below it nothing is written.
    reserve: int = 256 * 1024 * 1024


#: As much as a relay keeps unless it is told otherwise.
BOUNDS: Final = Bounds()


def free_space(path: Path) -> int:
    """Octets that the disk under `path` has for us."""
    there = os.statvfs(path)
    return there.f_bavail * there.f_frsize


class Records:
    """The history's file. Opened at the first use; what goes wrong with it goes wrong again or not at the next."""

    def __init__(self, path: Path, bounds: Bounds, free: Callable[[Path], int] = free_space) -> None:
        self._path = path
        self._bounds = bounds
        self._free = free
        self._connection: sqlite3.Connection | None = None
        self._next_life = 1
        #: The lives of messages, by queue id: those of which something was heard last.
        self._lives: dict[str, int] = {}
        self._shorthand = Shorthand()
        self._damage = ""
        self._unreadable = 0
        #: What stands there is not ours, and is not touched again.
        self._foreign: Foreign | None = None

    # What the reactor's side asks for. Each raises `sqlite3.Error` or `OSError`; a file that is damaged is set aside,
    # and the same is done in a new one. `Foreign` if what stands there is somebody else's: from then on, always.

    def keep(self, batch: Sequence[Told], now: float) -> None:
        """Keep these events, or none of them, and remove what is too old or too much by now."""
        self._mending(lambda: self._keep(batch, now))

    def find(self, text: str, most: int, now: float) -> Findings:
        """`IHistory.find`, of what was kept."""
        return self._mending(lambda: self._find(text, most, now))

    def why(self, text: str, most: int, now: float) -> Accounts:
        """`IHistory.why`, of what was kept."""
        return self._mending(lambda: self._why(text, most, now))

    def prune(self, now: float) -> None:
        """Remove what is too old by now."""
        self._mending(lambda: self._prune(now))

    def take_damage(self) -> str:
        """What was wrong with the file that was set aside, and where it is now; "" the next time."""
        damage, self._damage = self._damage, ""
        return damage

    def take_unreadable(self) -> int:
        """How many rows could not be read that were asked for; 0 the next time."""
        unreadable, self._unreadable = self._unreadable, 0
        return unreadable

    def close(self) -> None:
        """Let go of the file. May be called again; a next use opens it anew."""
        connection, self._connection = self._connection, None
        self._lives.clear()
        if connection is not None:
            connection.close()

    def _mending(self, do: Callable[[], T]) -> T:
        if self._foreign is not None:
            raise Foreign(*self._foreign.args)
        try:
            try:
                return do()
            except (sqlite3.Error, Damaged) as problem:
                if isinstance(problem, sqlite3.Error) and not is_damage(problem):
                    raise
                self.close()
                self._damage = f"{problem}; it is {set_aside(self._path)} now"
                return do()
        except Foreign as problem:
            self._foreign = problem
            raise

    # Keeping.

    def _keep(self, batch: Sequence[Told], now: float) -> None:
        database = self._database()
        if self._free(self._path.parent) < self._bounds.reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            lives, events, decided, found_by = self._rows(database, batch)
            database.execute("BEGIN IMMEDIATE")
            _insert(database, "INTO lives (number, began, id)", lives)
            _insert(database, "INTO events (life, at, what, fields)", events)
            _insert(database, "INTO decisions (life, at, ref, told)", decided)
            _insert(database, "OR IGNORE INTO keys (key, life)", list(found_by))
            database.execute("COMMIT")
        except BaseException:
            # What we thought that we know of lives is wrong now.
            self._lives.clear()
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._forget()
        self._prune(now)

    def _rows(
        self, database: sqlite3.Connection, batch: Sequence[Told]
    ) -> tuple[
        list[tuple[int, float, str]],
        list[tuple[int, float, str, str]],
        list[tuple[int, float, str, str]],
        set[tuple[str, int]],
    ]:
        known = self._lives
        self._recall(database, batch)
        lives: list[tuple[int, float, str]] = []
        events = []
        decided = []
        found_by = set()
        for at, what, fields in batch:
            id = str(fields.get("id") or "")
            life = known[id] if id else 0
            if not life:
                life = self._next_life
                self._next_life += 1
                lives.append((life, at, id))
                if id:
                    known[id] = life
            found: Iterable[str]
            if what is DECIDED:
                ref: Any = fields["ref"]
                decision: Any = fields["decision"]
                text = decisions.kept_at_once(decision, self._shorthand)
                found = ()
                if text is None or ref:
                    text, explanation = decisions.row(decision)
                    found = decisions.keys_of(explanation, ref)
                decided.append((life, at, ref, text))
            else:
                made = row(what, fields)
                if made is None:
                    told = plain(fields)
                    made = _encode(told), list(keys(what, fields, told))
                text, found = made
                events.append((life, at, what, text))
            for each in found:
                found_by.add((each, life))
        return lives, events, decided, found_by

    def _recall(self, database: sqlite3.Connection, batch: Sequence[Told]) -> None:
        """Look up messages that began before, and of which nothing was heard for a while."""
        known = self._lives
        unknown = set()
        for _, what, fields in batch:
            id = str(fields.get("id") or "")
            if id and id not in known:
                # What is accepted begins, and the next events may be of it.
                known[id] = 0
                if what not in _BEGINNINGS:
                    unknown.add(id)
        if unknown:
            known.update(database.execute(_KNOWN, (_encode(list(unknown)),)).fetchall())

    def _forget(self) -> None:
        """Of messages that we know by heart, those that we know the longest."""
        excess = len(self._lives) - _REMEMBERED
        if excess > 0:
            for id in list(self._lives)[:excess]:
                del self._lives[id]

    # Removing.

    def _prune(self, now: float) -> None:
        """Remove what is too much, a portion at a time so that no commit is long; the next call goes on."""
        database, too_old = self._database(), now - self._bounds.age
        for _ in range(_PORTIONS):
            first = database.execute(_OLDEST, (1,)).fetchone()
            if first is None:
                return
            too_much = self._size(database) > self._bounds.size
            if not too_much and first[1] >= too_old:
                return
            oldest = database.execute(_OLDEST, (_PORTION,)).fetchall()
            self._remove(database, max(number for number, began in oldest if too_much or began < too_old))

    def _remove(self, database: sqlite3.Connection, last: int) -> None:
        """These lives and all before them."""
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute("DELETE FROM keys WHERE life <= ?", (last,))
            database.execute("DELETE FROM events WHERE life <= ?", (last,))
            database.execute("DELETE FROM decisions WHERE life <= ?", (last,))
            database.execute("DELETE FROM lives WHERE number <= ?", (last,))
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise
        self._lives = {id: life for id, life in self._lives.items() if life > last}

    @staticmethod
    def _size(database: sqlite3.Connection) -> int:
        pages, free, octets = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * octets)

    # Reading.

    def _find(self, text: str, most: int, now: float) -> Findings:
        self._prune(now)
        database, wanted = self._database(), key(text)
        asked = {"id": text.strip().upper(), "key": wanted, "most": most + 1}
        found = database.execute(_FOUND, asked).fetchall() if wanted else []
        lives = tuple(self._life(database, number, id) for number, id in found[:most])
        oldest = database.execute(_OLDEST, (1,)).fetchone()
        return Findings(lives, more=len(found) > most, since=None if oldest is None else oldest[1])

    def _why(self, text: str, most: int, now: float) -> Accounts:
        self._prune(now)
        database = self._database()
        wanted = [*decisions.asked_by(text), "", ""]
        asked = {"id": text.strip().upper(), "key": wanted[0], "other": wanted[1], "most": most + 1}
        found = database.execute(_DECIDED, asked).fetchall()
        accounts = tuple(
            Account(at, str(id), str(ref), self._read(told, Explanation.from_json) or _UNREADABLE)
            for at, id, ref, told in found[:most]
        )
        oldest = database.execute(_OLDEST, (1,)).fetchone()
        return Accounts(accounts, more=len(found) > most, since=None if oldest is None else oldest[1])

    def _life(self, database: sqlite3.Connection, number: int, id: str) -> Life:
        asked = "SELECT CAST(at AS REAL), what, fields, number FROM events WHERE life = ? ORDER BY number"
        first = database.execute(f"{asked} LIMIT ?", (number, HALF)).fetchall()
        last: list[Any] = []
        left_out = 0
        if len(first) == HALF:
            seen = first[-1][3]
            after = "SELECT CAST(at AS REAL), what, fields, number FROM events WHERE life = ? AND number > ?"
            last = database.execute(f"{after} ORDER BY number DESC LIMIT ?", (number, seen, HALF)).fetchall()[::-1]
            if len(last) == HALF:
                between = "SELECT count(*) FROM events WHERE life = ? AND number > ? AND number < ?"
                left_out = database.execute(between, (number, seen, last[0][3])).fetchone()[0]
        happenings = tuple(self._happening(at, what, fields) for at, what, fields, _ in first + last)
        return Life(str(id), happenings, left_out)

    def _happening(self, at: float, what: str, fields: str) -> Happening:
        told = self._read(fields, dict)
        return Happening(at, UNREADABLE, {}) if told is None else Happening(at, str(what), told)

    def _read(self, told: str, make: Callable[[Any], T]) -> T | None:
        """What was kept, or `None`, which is counted: one row that a disk has changed is not to hide the others."""
        try:
            return make(json.loads(told))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            self._unreadable += 1
            return None

    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._connection = open_database(self._path)
            self._next_life = 1 + self._connection.execute("SELECT coalesce(max(number), 0) FROM lives").fetchone()[0]
        return self._connection


def _insert(database: sqlite3.Connection, where: str, rows: Sequence[tuple[object, ...]]) -> None:
    """Insert rows of equal width; the texts of the statements are few, so that each is compiled once."""
    at = 0
    for many in _MANY:
        statement = ""
        while len(rows) - at >= many:
            portion = rows[at : at + many]
            if not statement:
                row = f"({','.join('?' * len(portion[0]))})"
                statement = f"INSERT {where} VALUES {','.join([row] * many)}"  # noqa: S608, it is made of ours
            database.execute(statement, [*chain.from_iterable(portion)])
            at += many
