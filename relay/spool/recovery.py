"""What the owner does once, before anything else: make the spool whole after whatever ended the last process."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from attrs import frozen

from relay.interfaces import IContent
from relay.mail.queue import Entry, Pending
from relay.net.disk import Disk
from relay.spool.claiming import SetAside, Shelves, set_aside
from relay.spool.disk import remove
from relay.spool.errors import Damaged
from relay.spool.identity import is_queue_id
from relay.spool.layout import Layout
from relay.spool.schema import PENDING

#: In SQLite's own code, since a queue may have a million entries. What passes here and still cannot be
#: read shows when it is claimed.
_SUSPECTS = (
    "SELECT id FROM entries WHERE trouble IS NULL AND NOT (json_valid(envelope) AND typeof(head) = 'blob'"
    " AND form IN ('wire', 'plain') AND (content IS NULL OR length(content) = length))"
    " UNION SELECT entry FROM recipients WHERE NOT (json_valid(route) AND (last IS NULL OR json_valid(last))"
    " AND (wishes IS NULL OR json_valid(wishes)))"
)


@frozen
class Recovered:
    """What was found. `set_aside` has all entries that cannot be read, also those known from before."""

    set_aside: tuple[SetAside, ...]
    #: Entries that had been set aside and can be read again.
    restored: tuple[str, ...]
    #: Files of content without an entry: of mail that was never promised, or is settled. They are removed.
    orphans: tuple[Path, ...]


def recover(database: sqlite3.Connection, shelves: Shelves, layout: Layout, disk: Disk) -> Recovered:
    """Claims end, damage is set aside, orphans are removed. Raises `sqlite3.Error` or `OSError`."""
    files = {path.name: path for shelf in layout.shelves for path in _files(shelf, disk)}
    database.execute("BEGIN IMMEDIATE")
    try:
        database.execute("UPDATE recipients SET token = 0, wake = due WHERE wake IS NOT NULL AND token <> 0")
        known = {id for (id,) in database.execute("SELECT id FROM entries WHERE content IS NULL")}
        before = {id for (id,) in database.execute("SELECT id FROM entries WHERE trouble IS NOT NULL")}
        suspects = {id for (id,) in database.execute(_SUSPECTS)}
        damaged, restored = [], []
        for id in sorted(known | before | suspects):
            trouble = _trouble(database, shelves, id)
            if trouble is not None:
                damaged.append(SetAside(id, trouble))
            elif id in before:
                restored.append(id)
        set_aside(database, damaged, 0.0)
        _restore(database, restored)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    orphans = tuple(path for id, path in sorted(files.items()) if id not in known and _removed(path, disk))
    return Recovered(tuple(damaged), tuple(restored), orphans)


def _removed(path: Path, disk: Disk) -> bool:
    """What cannot be removed now does no harm, and is when the spool recovers the next time."""
    try:
        remove(disk, path)
    except OSError:
        return False
    return True


def _files(shelf: Path, disk: Disk) -> list[Path]:
    """What people put there themselves is not ours to remove."""
    return [shelf / name for name in disk.listdir(str(shelf)) if is_queue_id(name)]


def _trouble(database: sqlite3.Connection, shelves: Shelves, id: str) -> str | None:
    try:
        everything(database, shelves, id)
    except Damaged as problem:
        return str(problem)
    return None


def everything(database: sqlite3.Connection, shelves: Shelves, id: str) -> tuple[Entry, IContent, tuple[Pending, ...]]:
    """All that is kept of one entry. Raises `Damaged`."""
    entry, content = shelves.read(database, id)
    rows = database.execute(f"SELECT {PENDING} FROM recipients WHERE entry = ?", (id,))  # noqa: S608
    return entry, content, tuple(shelves.decoder.pending(row) for row in rows)


def _restore(database: sqlite3.Connection, ids: list[str]) -> None:
    """Claims have ended, so all of an entry's recipients are due as they were, but for held ones."""
    database.executemany("UPDATE entries SET trouble = NULL WHERE id = ?", [(id,) for id in ids])
    database.executemany(
        "UPDATE recipients SET wake = due WHERE entry = ? AND held = 0 AND json_extract(route, '$.hold') IS NULL",
        [(id,) for id in ids],
    )
