"""
A commit's steps as strokes: statements with their rows, which the writer's thread can carry out.

Strokes are made in the reactor's thread and are plain texts, numbers and octets.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from enum import Enum
from typing import TypeAlias

from attrs import frozen

from relay.interfaces import GiveBack, Postpone, Renew
from relay.spool.codec import Encoder, Row
from relay.spool.schema import ENTRY, OPTIONAL, RECIPIENT
from relay.spool.several import Several, change, marks


class Changes(Enum):
    """How many rows of the database a stroke must change; otherwise a claim was lost, and nothing may happen."""

    EACH = "one for each of the stroke's rows"
    SOME = "at least one"


@frozen(eq=False)
class Statement:
    """
    One of the few statements by which a commit changes the spool.

    `witness` finds out later whether it has been committed: with a row's `key` columns it finds something exactly
    if `present` says so. All strokes of a commit, and of its whole batch, have happened if one has.
    """

    #: The text for one row, or those for each of the sizes of `relay.spool.several`.
    texts: Sequence[str]
    changes: Changes
    witness: str = ""
    key: slice = slice(0)
    present: bool = False

    def strike(self, database: sqlite3.Connection, rows: Sequence[Row]) -> int:
        """Carry it out for all these rows, and return how many rows of the database have changed."""
        return change(database, self.texts, rows)


#: A statement and its rows.
Stroke: TypeAlias = tuple[Statement, Sequence[Row]]


def _claimed(before: str) -> tuple[str, ...]:
    """This, of recipients by their claims. SQLite looks up each by its key, without making a table of them first."""
    return Several(before, "(entry = ? AND id = ? AND token = ?)", between=" OR ").texts()


_CLAIMED = "SELECT 1 FROM recipients WHERE entry = ? AND id = ? AND token = ?"


def _keeping(insert: str, row: str) -> tuple[str, ...]:
    """The first column is the entry's id, which is never 0."""
    several = Several(f"{insert}SELECT * FROM (VALUES ", row, ") WHERE column1 <> 0").texts()  # noqa: S608
    return f"{insert}VALUES {row}", *several[1:]


KEEP_ENTRY = Statement(
    _keeping(f"INSERT INTO entries ({ENTRY}) ", f"({marks(ENTRY)})"),
    Changes.EACH,
    "SELECT 1 FROM entries WHERE id = ?",
    slice(0, 1),
    present=True,
)
KEEP_RECIPIENT = Statement(
    _keeping(f"INSERT INTO recipients ({RECIPIENT}, attempts) ", f"({marks(RECIPIENT, OPTIONAL)}, 0)"),
    Changes.EACH,
)
#: The two by which an entry is kept.
ENROLMENT = KEEP_ENTRY, KEEP_RECIPIENT
#: An entry goes with its last recipient (`relay.spool.schema.LAST`).
SETTLE = Statement(
    _claimed("DELETE FROM recipients WHERE "),
    Changes.EACH,
    _CLAIMED,
    slice(0, 3),
)
POSTPONE = Statement(
    (
        "UPDATE recipients SET wake = ?, due = ?, token = 0, attempts = attempts + 1, last = ?"
        " WHERE entry = ? AND id = ? AND token = ?",
    ),
    Changes.EACH,
    _CLAIMED,
    slice(3, 6),
)
GIVE_BACK = Statement(
    _claimed("UPDATE recipients SET wake = due, token = 0 WHERE "),
    Changes.EACH,
    _CLAIMED,
    slice(0, 3),
)
RENEW = Statement(
    ("UPDATE recipients SET wake = ? WHERE entry = ? AND token = ?",),
    Changes.SOME,
    "SELECT 1 FROM recipients WHERE wake = ? AND entry = ? AND token = ?",
    slice(0, 3),
    present=True,
)
#: An operator's act changes what it finds, so that it is found again by a number that only grows.
STEERED = Statement(
    ("UPDATE probes SET passed = ?",),
    Changes.EACH,
    "SELECT 1 FROM probes WHERE passed >= ?",
    slice(0, 1),
    present=True,
)

#: These may be carried out for a whole batch, statement by statement in this order, instead of commit by commit. Two
#: commits that both mean one recipient's claim show in the count of changed rows; the batch is then begun anew. What
#: goes does so before what comes, which can take its place in the same transaction.
MERGED = (SETTLE, POSTPONE, GIVE_BACK, KEEP_ENTRY, KEEP_RECIPIENT)


def postpone(step: Postpone, encoder: Encoder) -> Stroke:
    claim = step.claim
    rows = [
        (when, when, encoder.delayed(delayed), claim.entry.id, recipient.id, claim.token)
        for recipient, when, delayed in step.delays
    ]
    return POSTPONE, rows


def give_back(step: GiveBack) -> Stroke:
    claim = step.claim
    return GIVE_BACK, [(claim.entry.id, recipient.id, claim.token) for recipient in step.recipients]


def renew(step: Renew, expires: float) -> Stroke:
    return RENEW, [(expires, step.claim.entry.id, step.claim.token)]
