"""The file of the history: its tables, and what becomes of one that cannot be read."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

#: Says in the database's header that it is a history of ours: "RLAH".
APPLICATION: Final = 0x524C4148
FORMAT: Final = 1

#: Numbers grow with time. A life is a message, by its queue id, or one refusal of something that was none yet.
_TABLES: Final = (
    "CREATE TABLE lives (number INTEGER PRIMARY KEY, began REAL NOT NULL, id TEXT NOT NULL)",
    "CREATE INDEX lives_by_id ON lives (id) WHERE id <> ''",
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY,
        life   INTEGER NOT NULL,
        at     REAL NOT NULL,
        what   TEXT NOT NULL,
        fields TEXT NOT NULL
    )
    """,
    "CREATE INDEX events_by_life ON events (life)",
    "CREATE TABLE keys (key TEXT NOT NULL, life INTEGER NOT NULL, PRIMARY KEY (key, life)) WITHOUT ROWID",
    "CREATE INDEX keys_by_life ON keys (life)",
    f"PRAGMA application_id = {APPLICATION}",
    f"PRAGMA user_version = {FORMAT}",
)

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


def is_damage(problem: sqlite3.Error) -> bool:
    """Whether the file is to blame, and not the disk, the memory or us."""
    return type(problem) is sqlite3.DatabaseError


def open_database(path: Path) -> sqlite3.Connection:
    """The history at `path`, made if there is none. Raises `Damaged`, `sqlite3.Error` or `OSError`."""
    # Made by us first, since SQLite would make it for everybody to read.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    try:
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
        _prepare(connection)
    except sqlite3.Error as problem:
        connection.close()
        if is_damage(problem):
            raise Damaged(str(problem)) from problem
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def set_aside(path: Path) -> Path:
    """
    Give what stands at `path` another name, and return it. One that was set aside before makes room: a disk is not to
    fill up with them. Raises `OSError`.
    """
    aside = path.with_name(f"{path.name}.damaged")
    os.replace(path, aside)
    for suffix in ("-wal", "-shm"):
        # They belong to the one that has gone, and would be taken for those of the new one.
        with suppress(FileNotFoundError):
            os.unlink(f"{path}{suffix}")
    return aside


def _prepare(connection: sqlite3.Connection) -> None:
    application, version = _pragma(connection, "application_id"), _pragma(connection, "user_version")
    if (application, version) == (APPLICATION, FORMAT):
        return
    if application == APPLICATION:
        raise Damaged(f"it has format {version}, and this relay knows format {FORMAT}")
    with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as counted:
        if version or counted.fetchone()[0]:
            raise Damaged("it is a database, but no history")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
