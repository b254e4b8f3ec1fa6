"""The file of the history: its tables, and what becomes of one that cannot be read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

#: As it is called unless the operator says another name.
USUAL_NAME: Final = "history.db"
#: Says in the database's header that it is a history of ours: "RLAH".
APPLICATION: Final = 0x524C4148
FORMAT: Final = 2
#: That of a relay that had rows for each event (`relay.history.earlier`).
EARLIER: Final = 1

#: Blocks are numbered as time goes. `found_by` has the checksums of what they are found by (`relay.history.shelf`).
_TABLES: Final = (
    """
    CREATE TABLE blocks (
        number  INTEGER PRIMARY KEY,
        volume  INTEGER NOT NULL,
        began   REAL NOT NULL,
        ended   REAL NOT NULL,
        earlier TEXT NOT NULL,
        told    BLOB NOT NULL
    )
    """,
    """
    CREATE TABLE found_by (
        volume INTEGER NOT NULL,
        key    INTEGER NOT NULL,
        block  INTEGER NOT NULL,
        PRIMARY KEY (volume, key, block)
    ) WITHOUT ROWID
    """,
)

#: What an earlier relay had, as it said it.
_EARLIER_TABLES: Final = (
    "CREATE TABLE lives (number INTEGER PRIMARY KEY, began REAL NOT NULL, id TEXT NOT NULL)",
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        life   INTEGER NOT NULL,
        at     REAL NOT NULL,
        what   TEXT NOT NULL,
        fields TEXT NOT NULL
    )
    """,
    "CREATE TABLE keys (key TEXT NOT NULL, life INTEGER NOT NULL, PRIMARY KEY (key, life)) WITHOUT ROWID",
)
#: ... and the earliest had not.
_DECISIONS: Final = (
    """
    CREATE TABLE IF NOT EXISTS decisions (
        number INTEGER PRIMARY KEY,
        life   INTEGER NOT NULL,
        at     REAL NOT NULL,
        ref    TEXT NOT NULL,
        told   TEXT NOT NULL
    )
    """,
    "CREATE INDEX IF NOT EXISTS decisions_by_life ON decisions (life)",
)

#: What says in the file whose it is.
_MARKS: Final = (f"PRAGMA application_id = {APPLICATION}", f"PRAGMA user_version = {FORMAT}")

#: NORMAL: a power cut may take the last seconds, and nothing else. Nobody was promised them.
_SETTINGS: Final = (
    "PRAGMA page_size = 8192",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -16384",
    "PRAGMA secure_delete = OFF",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 16777216",
)


class Damaged(Exception):
    """It is no history that this relay could read: it is of no use but to be set aside."""


class Foreign(Exception):
    """It is somebody else's: it is left as it is, and there is no history."""


def is_damage(problem: sqlite3.Error) -> bool:
    """Whether the file is to blame, and not the disk, the memory or us."""
    return type(problem) is sqlite3.DatabaseError


def open_database(path: Path) -> sqlite3.Connection:
    """The history at `path`, made if there is none. Raises `Damaged`, `Foreign`, `sqlite3.Error` or `OSError`."""
    # Made by us first, since SQLite would make it for everybody to read. One that is there is not opened but by SQLite:
    # to close it would end all locks that this process has on it, and it may turn out to be somebody else's.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    connection.text_factory = _legible
    try:
        if not _is_history(connection) and not _is_empty(connection):
            raise _foreign(path, "it is a database, but no history")
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
        _prepare(connection)
    except sqlite3.Error as problem:
        connection.close()
        if is_damage(problem):
            raise Damaged(str(problem)) from problem
        raise
    except UnicodeDecodeError as problem:
        connection.close()
        # SQLite says which table it cannot read, and what it calls it is what cannot be read.
        raise Damaged("what it says of its tables cannot be read") from problem
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: Path) -> Path:
    """
    Give what stands at `path` another name, and return it. One that was set aside before makes room: a disk is not to
    fill up with them. Raises `Foreign` if it cannot be told that it was a history, `sqlite3.Error` or `OSError`.
    """
    if not _was_history(path):
        raise _foreign(path, "it cannot be read as a history")
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        # They belong to the one that has gone, and would be taken for those of the new one.
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
    return aside


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """All of what is done within, or nothing."""
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def has_earlier(connection: sqlite3.Connection) -> bool:
    """Whether there is something of a relay that had rows for each event."""
    return set(map(str.strip, _EARLIER_TABLES)) <= _tables(connection)


def _prepare(connection: sqlite3.Connection) -> None:
    statements: tuple[str, ...] = (*_TABLES, *_MARKS)
    if not _is_empty(connection):
        application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
        if version not in (0, EARLIER, FORMAT) or (application and not version):
            raise Damaged(f"it has format {version}, and this relay knows format {FORMAT}")
        if application and version == FORMAT:
            return
        tables = _tables(connection)
        statements = (*(each for each in _TABLES if each.strip() not in tables), *_MARKS)
        if has_earlier(connection):
            statements = (*_DECISIONS, *statements)
    with transaction(connection, "BEGIN EXCLUSIVE"):
        for statement in statements:
            connection.execute(statement)


def _is_history(connection: sqlite3.Connection) -> bool:
    """Whether it says so, or says nothing and has our tables, as one that was made by hand or by an early relay."""
    application = _pragma(connection, "application_id")
    if application:
        return application == APPLICATION
    return has_earlier(connection) or set(map(str.strip, _TABLES)) <= _tables(connection)


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Each as it was made."""
    with closing(connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")) as tables:
        return {str(sql).strip() for (sql,) in tables}


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether nobody has put anything into it yet."""
    if _pragma(connection, "application_id") or _pragma(connection, "user_version"):
        return False
    with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as counted:
        return not counted.fetchone()[0]


def _was_history(path: Path) -> bool:
    """Of a file that cannot be used. Where it is no database at all, nothing but its name can tell."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=1.0)) as connection:
        try:
            _pragma(connection, "application_id")
        except sqlite3.Error as problem:
            if is_damage(problem):
                return path.name == USUAL_NAME
            raise
        try:
            return _is_history(connection)
        except sqlite3.Error as problem:
            if is_damage(problem):
                return False
            raise


def _legible(octets: bytes) -> str:
    """A disk may have changed an octet, which spoils that word and not the answer."""
    return octets.decode("utf-8", "replace")


def _foreign(path: Path, why: str) -> Foreign:
    return Foreign(
        f"{why}. {path} is left as it is, and no history is kept until the relay starts again: say another 'path' "
        "in [history]"
    )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
