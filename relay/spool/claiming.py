"""Claiming recipients that are due, and setting aside what cannot be read. In the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from attrs import frozen

from relay.interfaces import Claim, IContent
from relay.mail.queue import Entry, Pending
from relay.net.disk import Disk
from relay.spool.codec import Decoder
from relay.spool.contents import FileContent, MemoryContent
from relay.spool.errors import Damaged
from relay.spool.layout import Layout
from relay.spool.questions import due
from relay.spool.schema import ENTRY, PENDING


@frozen
class Wanted:
    """The arguments of `ISpool.claim`, and when the lease ends."""

    now: float
    most: int
    expires: float
    excluding: frozenset[str]


class SetAside(NamedTuple):
    """An entry that cannot be read, and why."""

    id: str
    trouble: str


@frozen
class Claimed:
    """What came of it: claims, and entries that turned out to be damaged."""

    claims: tuple[Claim, ...]
    set_aside: tuple[SetAside, ...]


class Shelves:
    """Reads entries with their content."""

    def __init__(self, layout: Layout, disk: Disk, token: Callable[[], int]) -> None:
        self._layout = layout
        self._disk = disk
        self._token = token
        self.decoder = Decoder()

    def claim(self, database: sqlite3.Connection, wanted: Wanted) -> Claimed:
        """
        Within the writer's transaction: mark recipients as claimed, and read them.

        What is damaged is set aside in the same transaction, so that nobody stumbles on it again.
        """
        groups: dict[str, dict[str, list[str]]] = {}
        for _, entry, recipient, destination in due(database, wanted.now, wanted.most, wanted.excluding):
            groups.setdefault(entry, {}).setdefault(destination, []).append(recipient)
        claims: list[Claim] = []
        damaged: list[SetAside] = []
        for id, by_destination in groups.items():
            try:
                entry_and_content = self.read(database, id)
                made = [
                    self._claim(database, wanted.expires, *entry_and_content, recipients)
                    for recipients in by_destination.values()
                ]
            except Damaged as trouble:
                damaged.append(SetAside(id, str(trouble)))
                continue
            claims += made
        for claim in claims:
            database.executemany(
                "UPDATE recipients SET wake = ?, token = ? WHERE entry = ? AND id = ?",
                [(claim.expires, claim.token, claim.entry.id, pending.recipient.id) for pending in claim.pending],
            )
        set_aside(database, damaged, wanted.now)
        return Claimed(tuple(claims), tuple(damaged))

    def read(self, database: sqlite3.Connection, id: str) -> tuple[Entry, IContent]:
        """The entry, and its content if that is where it should be. Raises `Damaged`."""
        row = database.execute(f"SELECT {ENTRY} FROM entries WHERE id = ?", (id,)).fetchone()  # noqa: S608
        if row is None:
            raise Damaged("the entry is gone, though its recipients are there")
        return self.decoder.entry(row[:5]), self.content(id, *row[5:])

    def content(self, id: str, form: Any, size: Any, length: Any, octets: Any) -> IContent:
        known = self.decoder.form(form)
        if not isinstance(size, int) or not isinstance(length, int):
            raise Damaged("the size of the content is no number")
        if octets is None:
            path = self._layout.file(id)
            try:
                found = self._disk.stat(str(path)).st_size
            except OSError as problem:
                raise Damaged(f"its content cannot be found: {path}: {problem.strerror}") from problem
            if found != length:
                raise Damaged(f"its content has {found} octets, not {length}: {path}")
            return FileContent(known, size, length, path, self._disk)
        if not isinstance(octets, bytes) or len(octets) != length:
            raise Damaged("its content is not what was kept")
        return MemoryContent(known, size, octets)

    def _claim(
        self, database: sqlite3.Connection, expires: float, entry: Entry, content: IContent, recipients: list[str]
    ) -> Claim:
        pending = tuple(self._pending(database, entry.id, recipient) for recipient in recipients)
        return Claim(token=self._token(), expires=expires, entry=entry, pending=pending, content=content)

    def _pending(self, database: sqlite3.Connection, entry: str, recipient: str) -> Pending:
        row = database.execute(
            f"SELECT {PENDING} FROM recipients WHERE entry = ? AND id = ?",  # noqa: S608
            (entry, recipient),
        ).fetchone()
        return self.decoder.pending(row)


def set_aside(database: sqlite3.Connection, damaged: list[SetAside], now: float) -> None:
    """
    Keep these entries, and let nobody claim their recipients.

    Who has claimed one of them already may still settle it: what has been carried must not be carried again.
    """
    database.executemany("UPDATE entries SET trouble = ? WHERE id = ?", [(why, id) for id, why in damaged])
    database.executemany(
        "UPDATE recipients SET wake = NULL, token = 0 WHERE entry = ? AND (token = 0 OR wake <= ?)",
        [(id, now) for id, _ in damaged],
    )
