"""What an operator does with recipients of the queue (`ISpool.steer`). In the writer's thread."""

from __future__ import annotations

import sqlite3
from typing import Final

from attrs import frozen

from relay.mail.selection import Act, Course, Queued, Reroute, Selection, State, Steered, Verb, course
from relay.spool.codec import Decoder, Encoder
from relay.spool.questions import gone
from relay.spool.selecting import SLICE, select
from relay.spool.strokes import STEERED, Stroke

#: Recipients that one slice changes at most.
MOST: Final = 500

# Whoever has a claim that has expired finds that it is lost.
_CHANGE = "UPDATE recipients SET wake = ?, due = ?, token = 0, held = ? WHERE entry = ? AND id = ?"
_REROUTE = _CHANGE.replace("held = ?", "held = ?, route = ?, destination = ?")
_DELETE = "DELETE FROM recipients WHERE entry = ? AND id = ?"


@frozen
class Steer:
    """The arguments of `ISpool.steer`, and the time."""

    act: Act
    selection: Selection
    now: float
    after: str = ""


@frozen
class Done:
    """What came of a slice, by what it can be found out later, and which files of content are of no use any more."""

    steered: Steered
    witness: Stroke
    gone: tuple[str, ...] = ()


def steer(
    database: sqlite3.Connection, decoder: Decoder, encoder: Encoder, asked: Steer, most: int = MOST, size: int = SLICE
) -> Done:
    """One slice, within the writer's transaction. Who is claimed by others stays as it is."""
    page = select(database, decoder, asked.selection, asked.now, most, asked.after, size)
    free = [queued for queued in page.queued if queued.state is not State.ACTIVE]
    busy = len(page.queued) - len(free)
    files: tuple[str, ...] = ()
    if asked.act is Verb.DELETE:
        done = free
        files = _delete(database, done)
    else:
        courses = [(queued, course(asked.act, queued, asked.now)) for queued in free]
        changed = [(queued, way) for queued, way in courses if way is not None]
        done = [queued for queued, _ in changed]
        _change(database, encoder, changed, rerouting=asked.act is Verb.FAIL or isinstance(asked.act, Reroute))
    (passed,) = database.execute("SELECT passed FROM probes").fetchone()
    rows = [(passed + 1,)]
    STEERED.strike(database, rows)
    return Done(Steered(tuple(done), busy, len(free) - len(done), page.after), (STEERED, rows), files)


def _change(
    database: sqlite3.Connection, encoder: Encoder, changed: list[tuple[Queued, Course]], *, rerouting: bool
) -> None:
    if rerouting:
        rows = [
            (way.wake, way.due, way.held, encoder.route(way.route), way.destination, *_key(queued))
            for queued, way in changed
        ]
        database.executemany(_REROUTE, rows)
    else:
        database.executemany(_CHANGE, [(way.wake, way.due, way.held, *_key(queued)) for queued, way in changed])


def _delete(database: sqlite3.Connection, done: list[Queued]) -> tuple[str, ...]:
    """The ids of entries that went with their last recipient, and whose content was in a file."""
    in_files = [
        id
        for id in dict.fromkeys(queued.entry for queued in done)
        if database.execute("SELECT 1 FROM entries WHERE id = ? AND content IS NULL", (id,)).fetchone()
    ]
    database.executemany(_DELETE, [_key(queued) for queued in done])
    return gone(database, in_files)


def _key(queued: Queued) -> tuple[str, str]:
    return queued.entry, queued.pending.recipient.id
