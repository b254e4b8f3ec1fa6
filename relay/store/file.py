"""
The file of the store, for the thread that has it.

What has changed goes in two hundred rows at a time: each statement lets go of the interpreter's lock and has to wait
for it afterwards, and the thread that it would wait for is the one that talks to all clients.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeAlias

from relay.store.moments import note, settle

#: As it is called unless the operator says another name.
USUAL_NAME: Final = "store.db"
#: Says in the database's header that it is a store of ours: "RLAS".
APPLICATION: Final = 0x524C4153
FORMAT: Final = 1

#: A key, its value and when it expires, in seconds since the epoch.
Row: TypeAlias = tuple[str, str, float]

#: NORMAL: a power cut may take the last second, and nothing else. EXCLUSIVE: nobody else writes to it.
_SETTINGS: Final = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -4096",
    "PRAGMA journal_size_limit = 4194304",
)
_TABLE: Final = (
    "CREATE TABLE entries (key TEXT PRIMARY KEY, value TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)
#: All rows that are not as we write them.
_UNSOUND: Final = (
    "DELETE FROM entries WHERE NOT (typeof(key) = 'text' AND typeof(value) = 'text' "
    "AND typeof(expires) IN ('real', 'integer') AND expires < 9e999)"
)
#: Rows of a statement.
_MANY: Final = 200


class Foreign(Exception):
    """What stands there is not ours: it is left as it is."""


class Damaged(Exception):
    """It is ours and cannot be read: it is of no use but to be set aside."""


class StoreFile:
    """Opened by `load`. Each method raises `sqlite3.Error` or `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        #: Rows that `load` could not read, and has left out.
        self.unreadable = 0

    def load(self, now: float) -> tuple[list[Row], str]:
        """
        All that there is, but for what has expired and was removed (`relay.store.moments`); and what was wrong with the
        file before this one, where it had to be set aside. Raises `Foreign` too.
        """
        with suppress(FileExistsError):
            self.path.parent.mkdir(mode=0o700, parents=True)
        try:
            return self._load(now), ""
        except (sqlite3.Error, Damaged) as problem:
            self.close()
            # Exactly this class: the file is to blame, and not the disk, the memory or us.
            if isinstance(problem, sqlite3.Error) and type(problem) is not sqlite3.DatabaseError:
                raise
            aside = self._set_aside(problem)
            return self._load(now), f"{problem}; it is {aside} now"

    def change(self, kept: Sequence[Row], gone: Sequence[str], now: float, *, anew: bool = False) -> None:
        """These rows are kept, and these keys are gone, or none of it has happened. `anew`: nothing else is there."""
        database = self._connection
        if database is None:
            raise sqlite3.OperationalError("the file is not open")
        database.execute("BEGIN IMMEDIATE")
        try:
            if anew:
                database.execute("DELETE FROM entries")
            for at in range(0, len(gone), _MANY):
                some_keys = gone[at : at + _MANY]
                database.execute(_deletion(len(some_keys)), some_keys)
            for at in range(0, len(kept), _MANY):
                some = kept[at : at + _MANY]
                database.execute(_insertion(len(some)), [field for row in some for field in row])
            note(database, now)
            database.execute("COMMIT")
        except BaseException:
            if database.in_transaction:
                database.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """May be called again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _load(self, now: float) -> list[Row]:
        # Made by us first, since SQLite would make it for everybody to read.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
        database = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1.0)
        self._connection = database
        application = _pragma(database, "application_id")
        with closing(database.execute("SELECT count(*) FROM sqlite_master")) as counted:
            empty = not counted.fetchone()[0]
        if application != APPLICATION and not (empty and not application):
            self.close()
            raise Foreign(f"{self.path} is a database, but not the store's")
        for setting in _SETTINGS:
            database.execute(setting).fetchall()
        if empty:
            database.execute("BEGIN EXCLUSIVE")
            for statement in _TABLE:
                database.execute(statement)
            database.execute("COMMIT")
        elif _pragma(database, "user_version") != FORMAT:
            raise Damaged(f"it has another format than {FORMAT}, which is the one that this relay knows")
        # Where a disk has changed an octet one row is lost, and not the store.
        self.unreadable = database.execute(_UNSOUND).rowcount
        settle(database, now)
        return self._read(database)

    def _read(self, database: sqlite3.Connection) -> list[Row]:
        asked = "SELECT key, value, expires FROM entries"
        try:
            return database.execute(asked).fetchall()
        except sqlite3.OperationalError:
            # Something in it is no UTF-8, or we are told the same again.
            database.text_factory = bytes
            rows: list[Row] = []
            for key, value, expires in database.execute(asked):
                try:
                    rows.append((key.decode(), value.decode(), expires))
                except UnicodeDecodeError:
                    self.unreadable += 1
            return rows

    def _set_aside(self, problem: Exception) -> Path:
        """Give the file another name. One that was set aside before makes room. Raises `Foreign`."""
        if isinstance(problem, sqlite3.Error) and self.path.name != USUAL_NAME and not _says_sqlite(self.path):
            # Where it is no database at all, nothing but its name can tell that it is the store's.
            raise Foreign(f"{self.path} cannot be read as a store: {problem}")
        aside = self.path.with_name(f"{self.path.name}.damaged")
        os.replace(self.path, aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")
        return aside


def _says_sqlite(path: Path) -> bool:
    """Whether it begins like a database with our number in its header, where SQLite has it (its file format, 1.3)."""
    with path.open("rb") as file:
        head = file.read(100)
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION.to_bytes(4, "big")


@lru_cache(maxsize=_MANY + 1)
def _insertion(rows: int) -> str:
    values = ",".join(["(?,?,?)"] * rows)
    return f"INSERT OR REPLACE INTO entries (key, value, expires) VALUES {values}"  # noqa: S608  # only signs


@lru_cache(maxsize=_MANY + 1)
def _deletion(keys: int) -> str:
    return f"DELETE FROM entries WHERE key IN ({','.join('?' * keys)})"  # noqa: S608  # only signs


def _pragma(database: sqlite3.Connection, name: str) -> int:
    value: int = database.execute(f"PRAGMA {name}").fetchone()[0]
    return value
