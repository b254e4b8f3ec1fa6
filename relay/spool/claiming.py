"""Claiming recipients that are due, and setting aside what cannot be read. In the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from attrs import frozen

from relay.interfaces import Claim, IContent
from relay.mail.queue import Entry
from relay.net.disk import Disk
from relay.spool.codec import Decoder
from relay.spool.contents import FileContent, MemoryContent
from relay.spool.errors import Damaged
from relay.spool.layout import Layout
from relay.spool.questions import due
from relay.spool.schema import ENTRY, PENDING
from relay.spool.several import Row, Several, change, found

_ENTRIES = Several(f"SELECT {ENTRY} FROM entries WHERE id IN (", "?", ")").texts()  # noqa: S608
_RECIPIENTS = Several(
    f"SELECT entry, {PENDING} FROM recipients WHERE (entry, id) IN (SELECT * FROM (VALUES ",  # noqa: S608
    "(?, ?)",
    "))",
).texts()
_CLAIM = Several(
    "UPDATE recipients SET wake = claimed.column3, token = claimed.column4 FROM (VALUES ",
    "(?, ?, ?, ?)",
    ") AS claimed WHERE entry = claimed.column1 AND id = claimed.column2",
).texts()


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
        for _, id, recipient, destination in due(database, wanted.now, wanted.most, wanted.excluding):
            groups.setdefault(id, {}).setdefault(destination, []).append(recipient)
        entries = {row[0]: row for row in found(database, _ENTRIES, [(id,) for id in groups])}
        keys = [(id, recipient) for id, lanes in groups.items() for lane in lanes.values() for recipient in lane]
        pending = {row[:2]: row[1:] for row in found(database, _RECIPIENTS, keys)}
        claims: list[Claim] = []
        damaged: list[SetAside] = []
        for id, by_destination in groups.items():
            try:
                entry, content = self._read(id, entries.get(id))
                made = [
                    Claim(
                        self._token(),
                        wanted.expires,
                        entry,
                        tuple(self.decoder.pending(pending[id, recipient]) for recipient in recipients),
                        content,
                    )
                    for recipients in by_destination.values()
                ]
            except Damaged as trouble:
                damaged.append(SetAside(id, str(trouble)))
                continue
            claims += made
        change(
            database,
            _CLAIM,
            [
                (claim.entry.id, pending.recipient.id, claim.expires, claim.token)
                for claim in claims
                for pending in claim.pending
            ],
        )
        if damaged:
            set_aside(database, damaged, wanted.now)
        return Claimed(tuple(claims), tuple(damaged))

    def read(self, database: sqlite3.Connection, id: str) -> tuple[Entry, IContent]:
        """The entry, and its content if that is where it should be. Raises `Damaged`."""
        return self._read(id, next(iter(found(database, _ENTRIES, [(id,)])), None))

    def _read(self, id: str, row: Row | None) -> tuple[Entry, IContent]:
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
