"""
A commit's steps as strokes: statements with their rows, which the writer's thread can carry out.

Strokes are made in the reactor's thread and are plain texts, numbers and octets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from attrs import frozen

from relay.interfaces import Claim, GiveBack, Postpone, Renew, Settle
from relay.mail.queue import Recipient
from relay.spool.codec import Encoder, Row
from relay.spool.schema import ENTRY, RECIPIENT


class Changes(Enum):
    """How many rows of the database a stroke must change; otherwise a claim was lost, and nothing may happen."""

    EACH = "one for each of the stroke's rows"
    SOME = "at least one"
    ANY = "as many as there are"


@frozen(eq=False)
class Statement:
    """
    One of the few statements by which a commit changes the spool.

    `witness` finds out later whether it has been committed: with a row's `key` columns it finds something exactly
    if `present` says so. All strokes of a commit, and of its whole batch, have happened if one has.
    """

    sql: str
    changes: Changes
    witness: str = ""
    key: slice = slice(0)
    present: bool = False


class Stroke(NamedTuple):
    statement: Statement
    rows: Sequence[Row]


def _marks(columns: str) -> str:
    return ", ".join("?" * len(columns.split(",")))


_CLAIMED = "SELECT 1 FROM recipients WHERE entry = ? AND id = ? AND token = ?"

KEEP_ENTRY = Statement(
    f"INSERT INTO entries ({ENTRY}) VALUES ({_marks(ENTRY)})",  # noqa: S608
    Changes.EACH,
    "SELECT 1 FROM entries WHERE id = ?",
    slice(0, 1),
    present=True,
)
KEEP_RECIPIENT = Statement(
    f"INSERT INTO recipients ({RECIPIENT}) VALUES ({_marks(RECIPIENT)})",  # noqa: S608
    Changes.EACH,
)
SETTLE = Statement(
    "DELETE FROM recipients WHERE entry = ? AND id = ? AND token = ?",
    Changes.EACH,
    _CLAIMED,
    slice(0, 3),
)
POSTPONE = Statement(
    "UPDATE recipients SET wake = ?, due = ?, token = 0, attempts = attempts + 1, last = ?"
    " WHERE entry = ? AND id = ? AND token = ?",
    Changes.EACH,
    _CLAIMED,
    slice(3, 6),
)
DROP_ENTRY = Statement(
    "DELETE FROM entries WHERE id = ? AND trouble IS NULL AND NOT EXISTS (SELECT 1 FROM recipients WHERE entry = ?)",
    Changes.ANY,
)
GIVE_BACK = Statement(
    "UPDATE recipients SET wake = due, token = 0 WHERE entry = ? AND id = ? AND token = ?",
    Changes.EACH,
    _CLAIMED,
    slice(0, 3),
)
RENEW = Statement(
    "UPDATE recipients SET wake = ? WHERE entry = ? AND token = ?",
    Changes.SOME,
    "SELECT 1 FROM recipients WHERE wake = ? AND entry = ? AND token = ?",
    slice(0, 3),
    present=True,
)
#: An operator's act changes what it finds, so that it is found again by a number that only grows.
STEERED = Statement(
    "UPDATE probes SET passed = ?",
    Changes.EACH,
    "SELECT 1 FROM probes WHERE passed >= ?",
    slice(0, 1),
    present=True,
)

#: These may be carried out for a whole batch, statement by statement in this order, instead of commit by commit. Two
#: commits that both mean one recipient's claim show in the count of changed rows; the batch is then begun anew.
MERGED = (KEEP_ENTRY, KEEP_RECIPIENT, SETTLE, POSTPONE, DROP_ENTRY)


def settle(step: Settle) -> list[Stroke]:
    claim = step.claim
    id = claim.entry.id
    return [
        Stroke(SETTLE, [(id, recipient.id, claim.token) for recipient, _ in step.outcomes]),
        Stroke(DROP_ENTRY, [(id, id)]),
    ]


def postpone(step: Postpone, encoder: Encoder) -> list[Stroke]:
    claim = step.claim
    rows = [
        (when, when, encoder.delayed(delayed), claim.entry.id, recipient.id, claim.token)
        for recipient, when, delayed in step.delays
    ]
    return [Stroke(POSTPONE, rows)]


def give_back(step: GiveBack) -> list[Stroke]:
    return [Stroke(GIVE_BACK, _claimed(step.claim, step.recipients))]


def renew(step: Renew, expires: float) -> list[Stroke]:
    return [Stroke(RENEW, [(expires, step.claim.entry.id, step.claim.token)])]


def _claimed(claim: Claim, recipients: Iterable[Recipient]) -> list[Row]:
    return [(claim.entry.id, recipient.id, claim.token) for recipient in recipients]
