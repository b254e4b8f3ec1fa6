"""
Making due what waits for a domain, because somebody asks for it (`ISpool.hasten`). In the writer's thread.

Rare, and nothing that an index of its own would be worth: each commit would pay for it. The recipients are read in
slices, in the order of their table, and other batches go between two slices, so a long queue holds up nobody's commit.
"""

from __future__ import annotations

import sqlite3

from attrs import frozen

#: Recipients that are read by one slice: 2 ms of the writer's time, or 200 if all of them are concerned.
SLICE = 5000

_END = "SELECT entry, id FROM recipients WHERE (entry, id) > (?, ?) ORDER BY entry, id LIMIT 1 OFFSET ?"

# The `+` keeps SQLite from the index by time, which has no slices. A domain has no `@`, so what an address ends with
# says it all. Who waits for its release (RFC 4865) goes on waiting: only of the few that match, the entry is looked at.
_MATCH = (
    "token = 0 AND +wake > :now AND (destination = :domain OR substr(address, -length(:at)) = :at"
    " OR substr(address, -length(:below)) = :below)"
    " AND NOT EXISTS (SELECT 1 FROM entries WHERE entries.id = recipients.entry"
    " AND CASE WHEN json_valid(envelope) THEN json_extract(envelope, '$.release') > :now END)"
)
_HASTEN = "UPDATE recipients SET wake = :now, due = :now WHERE (entry, id) > (:entry, :id) AND {} AND " + _MATCH  # noqa: S608
_UP_TO_END = _HASTEN.format("(entry, id) <= (:last_entry, :last_id)")
_ALL_THE_REST = _HASTEN.format("TRUE")


@frozen
class Hasten:
    """The arguments of `ISpool.hasten`, and behind which recipient (entry and id) this slice begins."""

    domain: str
    now: float
    below: bool
    after: tuple[str, str] = ("", "")


@frozen
class Hastened:
    """How many recipients of the slice are due now, and where the next slice begins, if there is one."""

    count: int
    next: Hasten | None


def hasten(database: sqlite3.Connection, asked: Hasten, size: int = SLICE) -> Hastened:
    """One slice, within the writer's transaction."""
    entry, id = asked.after
    end = database.execute(_END, (entry, id, size - 1)).fetchone()
    at = f"@{asked.domain}"
    bounds = {
        "now": asked.now,
        "domain": asked.domain,
        "at": at,
        "below": f".{asked.domain}" if asked.below else at,
        "entry": entry,
        "id": id,
    }
    if end is None:
        return Hastened(database.execute(_ALL_THE_REST, bounds).rowcount, None)
    bounds.update(last_entry=end[0], last_id=end[1])
    count = database.execute(_UP_TO_END, bounds).rowcount
    return Hastened(count, Hasten(asked.domain, asked.now, asked.below, (end[0], end[1])))
