"""What is asked of the database: who comes next, what there is. In the writer's thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, TypeAlias

from relay.interfaces import SpoolError
from relay.mail.queue import Census, Entry, Pending
from relay.spool.codec import Decoder
from relay.spool.schema import PENDING

#: When, whose entry, which recipient, to which destination.
Candidate: TypeAlias = tuple[float, str, str, str]

#: So many recipients of excluded destinations are passed over one by one; then the others are asked for by name.
PASSED_OVER = 1000

_BY_WAKE = (
    "SELECT wake, entry, id, destination FROM recipients INDEXED BY recipients_by_wake"
    " WHERE wake IS NOT NULL AND wake <= ? ORDER BY wake LIMIT ?"
)
_BY_LANE = (
    "SELECT wake, entry, id, destination FROM recipients INDEXED BY recipients_by_lane"
    " WHERE destination = ? AND wake IS NOT NULL AND wake <= ? ORDER BY wake LIMIT ?"
)
_LANE = (
    "SELECT destination, wake FROM recipients INDEXED BY recipients_by_lane"
    " WHERE destination {} ? AND wake IS NOT NULL ORDER BY destination, wake LIMIT 1"
)
_FIRST_LANE = _LANE.format(">=")
_NEXT_LANE = _LANE.format(">")
_FOREVER = float("inf")


class Lane(NamedTuple):
    """A destination that somebody waits for, and since when."""

    wake: float
    destination: str


def due(database: sqlite3.Connection, now: float, most: int, excluding: Collection[str]) -> list[Candidate]:
    """Up to `most` recipients that may be claimed at `now`, the longest due first."""
    if not excluding:
        return database.execute(_BY_WAKE, (now, most)).fetchall()
    seen = database.execute(_BY_WAKE, (now, most + PASSED_OVER)).fetchall()
    chosen = [candidate for candidate in seen if candidate[3] not in excluding][:most]
    if len(chosen) == most or len(seen) < most + PASSED_OVER:
        return chosen
    return _from_lanes(database, now, most, excluding)


def next_due(database: sqlite3.Connection, excluding: Collection[str]) -> float | None:
    """When the first recipient may be claimed whose destination is not excluded."""
    seen = database.execute(_BY_WAKE, (_FOREVER, PASSED_OVER if excluding else 1)).fetchall()
    for wake, _, _, destination in seen:
        if destination not in excluding:
            return float(wake)
    if len(seen) < PASSED_OVER:
        return None
    return min((lane.wake for lane in _lanes(database) if lane.destination not in excluding), default=None)


def look_up(database: sqlite3.Connection, decoder: Decoder, id: str) -> tuple[Entry, tuple[Pending, ...]] | None:
    row = database.execute(
        "SELECT trouble, id, arrived, sender, envelope, head FROM entries WHERE id = ?", (id,)
    ).fetchone()
    if row is None:
        return None
    if row[0] is not None:
        raise SpoolError(f"{id} is set aside: {row[0]}")
    pending = database.execute(f"SELECT {PENDING} FROM recipients WHERE entry = ?", (id,))  # noqa: S608
    return decoder.entry(row[1:]), tuple(decoder.pending(row) for row in pending)


def gone(database: sqlite3.Connection, ids: Iterable[str]) -> tuple[str, ...]:
    """Which of these entries are no more."""
    return tuple(id for id in ids if database.execute("SELECT 1 FROM entries WHERE id = ?", (id,)).fetchone() is None)


def census(database: sqlite3.Connection, now: float) -> Census:
    """Counted in indexes alone, so that a long queue is not read for it."""
    waiting, active = database.execute(
        "SELECT count(*) FILTER (WHERE token = 0 OR wake <= ?), count(*) FILTER (WHERE token <> 0 AND wake > ?)"
        " FROM recipients INDEXED BY recipients_by_wake WHERE wake IS NOT NULL",
        (now, now),
    ).fetchone()
    held, aside = database.execute(
        "SELECT count(*), count(*) FILTER (WHERE entry IN (SELECT id FROM entries WHERE trouble IS NOT NULL))"
        " FROM recipients INDEXED BY recipients_parked WHERE wake IS NULL"
    ).fetchone()
    corrupt = database.execute("SELECT count(*) FROM entries WHERE trouble IS NOT NULL").fetchone()[0]
    entries = database.execute("SELECT count(*) FROM entries").fetchone()[0]
    oldest = database.execute("SELECT arrived FROM entries ORDER BY id LIMIT 1").fetchone()
    return Census(
        waiting=waiting,
        active=active,
        held=held - aside,
        corrupt=corrupt,
        entries=entries,
        oldest=None if oldest is None else oldest[0],
    )


def _lanes(database: sqlite3.Connection) -> Iterator[Lane]:
    """Every destination that somebody waits for, one look into the index for each."""
    row = database.execute(_FIRST_LANE, ("",)).fetchone()
    while row is not None:
        destination, wake = row
        yield Lane(wake, destination)
        row = database.execute(_NEXT_LANE, (destination,)).fetchone()


def _from_lanes(database: sqlite3.Connection, now: float, most: int, excluding: Collection[str]) -> list[Candidate]:
    lanes = sorted(lane for lane in _lanes(database) if lane.wake <= now and lane.destination not in excluding)
    chosen: list[Candidate] = []
    for lane in lanes:
        if len(chosen) == most and lane.wake >= chosen[-1][0]:
            break
        chosen += database.execute(_BY_LANE, (lane.destination, now, most)).fetchall()
        chosen = sorted(chosen)[:most]
    return chosen
