"""The tables, the number of their format, and how a database comes to have it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Final

from relay.net.disk import sync_directory
from relay.spool.disk import SpoolDisk, create
from relay.spool.errors import SpoolUnusable
from relay.spool.layout import Layout

#: Says in the database's header that it is a spool of ours: "RLAY".
APPLICATION = 0x524C4159

#: To a format from the one before it. What is released is never changed here, only added to.
MIGRATIONS: Mapping[int, tuple[str, ...]] = {
    1: (
        # `trouble` says why the entry is set aside. `content` comes last, since large values lie behind the row.
        """
        CREATE TABLE entries (
            number   INTEGER PRIMARY KEY,
            id       TEXT NOT NULL UNIQUE,
            arrived  REAL NOT NULL CHECK (typeof(arrived) = 'real'),
            sender   TEXT,
            envelope TEXT NOT NULL,
            head     BLOB NOT NULL CHECK (typeof(head) = 'blob'),
            form     TEXT NOT NULL,
            size     INTEGER NOT NULL,
            length   INTEGER NOT NULL,
            trouble  TEXT,
            content  BLOB
        )
        """,
        "CREATE INDEX entries_in_files ON entries (id) WHERE content IS NULL",
        "CREATE INDEX entries_set_aside ON entries (id) WHERE trouble IS NOT NULL",
        # `token` is the claim's, 0 for none. `wake` is when somebody may claim the recipient: when it is due, or
        # when its claim expires. NULL: nobody may, since it is held, or its entry is set aside.
        """
        CREATE TABLE recipients (
            entry       TEXT NOT NULL,
            id          TEXT NOT NULL,
            wake        REAL,
            due         REAL NOT NULL,
            token       INTEGER NOT NULL,
            attempts    INTEGER NOT NULL,
            address     TEXT NOT NULL,
            original    TEXT,
            route       TEXT NOT NULL,
            destination TEXT NOT NULL,
            policy      TEXT NOT NULL,
            last        TEXT,
            PRIMARY KEY (entry, id)
        ) WITHOUT ROWID
        """,
        # Who comes next; and who comes next to one destination, when the others have enough to do.
        "CREATE INDEX recipients_by_wake ON recipients (wake, destination, token) WHERE wake IS NOT NULL",
        "CREATE INDEX recipients_by_lane ON recipients (destination, wake) WHERE wake IS NOT NULL",
        "CREATE INDEX recipients_parked ON recipients (entry) WHERE wake IS NULL",
        # One row, written to see whether writing works.
        "CREATE TABLE probes (passed INTEGER NOT NULL)",
        "INSERT INTO probes VALUES (0)",
    ),
    # What the sender wants to be told of the recipient; NULL: nothing was said.
    2: ("ALTER TABLE recipients ADD COLUMN wishes TEXT",),
    # An operator holds it: its `wake` is NULL, whatever its route is.
    3: ("ALTER TABLE recipients ADD COLUMN held INTEGER NOT NULL DEFAULT 0",),
}

#: The number of the format that this relay writes, kept in the database's `user_version`.
FORMAT = max(MIGRATIONS)

ENTRY = "id, arrived, sender, envelope, head, form, size, length, content"
#: Of a recipient of whom nothing has been tried yet, which is what has happened to it (`attempts`, `last`).
RECIPIENT = "entry, id, wake, due, token, address, original, route, destination, policy, wishes"
#: What most recipients have nothing of.
OPTIONAL: Final = frozenset({"original", "wishes"})
PENDING = "id, due, attempts, address, original, route, destination, policy, last, wishes"

#: An entry goes with its last recipient, in the same step, but for one that is set aside. Each connection has this rule
#: for itself, so it is no part of the format.
LAST = """
CREATE TEMPORARY TRIGGER last_recipient AFTER DELETE ON main.recipients BEGIN
    DELETE FROM entries
    WHERE id = OLD.entry AND trouble IS NULL AND NOT EXISTS (SELECT 1 FROM recipients WHERE entry = OLD.entry);
END
"""

#: The page size takes effect in a new database only. FULL is the promise: each commit is synced. Deleted mail
#: need not be overwritten, since a file's content is not either; some builds do it unless told.
_SETTINGS = (
    "PRAGMA page_size = 8192",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA cache_size = -65536",
    "PRAGMA secure_delete = OFF",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA wal_autocheckpoint = 1000",
    "PRAGMA journal_size_limit = 67108864",
)


def open_database(
    layout: Layout, disk: SpoolDisk, migrations: Mapping[int, tuple[str, ...]] = MIGRATIONS
) -> sqlite3.Connection:
    """
    The spool's database, made if there is none, and migrated if it is of an older format.

    Raises `SpoolUnusable`: it is damaged, of a newer format, or not a spool. A database is never replaced
    by an empty one.
    """
    path = layout.database
    try:
        _make_file(layout, disk)
        connection = disk.connect(str(path))
    except (OSError, sqlite3.Error) as problem:
        raise SpoolUnusable(f"{path}: {problem}") from problem
    try:
        for setting in _SETTINGS:
            connection.execute(setting).fetchall()
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            raise SpoolUnusable(f"{path}: this file system is not fit for a spool (no write-ahead log)")
        _bring_up_to_date(connection, layout, migrations)
        connection.execute(LAST)
    except sqlite3.DatabaseError as problem:
        connection.close()
        if isinstance(problem, sqlite3.OperationalError):
            raise SpoolUnusable(f"{path}: {problem}") from problem
        raise SpoolUnusable(
            f"{path} is damaged ({problem}); it is left as it is: restore it, or move the whole spool away"
        ) from problem
    except BaseException:
        connection.close()
        raise
    return connection


def _make_file(layout: Layout, disk: SpoolDisk) -> None:
    """An empty file for us alone, before SQLite makes one that others may read. Its name is durable with it."""
    try:
        file = create(disk, layout.database)
    except FileExistsError:
        return
    disk.close(file)
    sync_directory(disk, str(layout.path))


def _bring_up_to_date(
    connection: sqlite3.Connection, layout: Layout, migrations: Mapping[int, tuple[str, ...]]
) -> None:
    newest = max(migrations)
    found = _pragma(connection, "user_version")
    if found == newest and _pragma(connection, "application_id") == APPLICATION:
        return
    connection.execute("BEGIN EXCLUSIVE")
    try:
        found = _pragma(connection, "user_version")
        empty = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not (empty and found == 0) and _pragma(connection, "application_id") != APPLICATION:
            raise SpoolUnusable(f"{layout.database} is a database, but not a spool of this relay")
        if found > newest:
            raise SpoolUnusable(
                f"{layout.database} has format {found}, and this relay knows formats up to {newest}: "
                "it was last used by a newer relay"
            )
        for number in range(found + 1, newest + 1):
            for statement in migrations[number]:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {newest}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value
