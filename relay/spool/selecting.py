"""
What an operator asks of the queue (`ISpool.select`, `tally`), as SQL. In the writer's thread.

Rare, and nothing that an index of its own would be worth: each commit would pay for it. The recipients are read in
slices, in the order of their table, and other batches go between two slices, so a long queue holds up nobody's commit.
What a selection means is said in `relay.mail.selection`; the words here mean the same, which the contract tries.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Final

from relay.mail.queue import Pending
from relay.mail.selection import NULL_PATH, Group, Holder, Page, Queued, Selection, State, Tally, path_pattern
from relay.spool.codec import Decoder, Row, address_from
from relay.spool.errors import Damaged
from relay.spool.schema import PENDING

#: Recipients that are read by one slice.
SLICE: Final = 5000

_END = "SELECT entry, id FROM recipients WHERE (entry, id) > (?, ?) ORDER BY entry, id LIMIT 1 OFFSET ?"
# The `+` keeps SQLite from the indexes by time and destination, which have no slices.
_ACTIVE = "(r.token <> 0 AND +r.wake > :now)"
_FREE = "(+r.wake IS NOT NULL AND (r.token = 0 OR +r.wake <= :now))"
_STATES: Final[Mapping[State, str]] = {
    State.ACTIVE: _ACTIVE,
    State.HELD: "+r.wake IS NULL",
    State.WAITING: f"{_FREE} AND r.attempts = 0",
    State.DEFERRED: f"{_FREE} AND r.attempts > 0",
}
_STATE = "CASE " + " ".join(f"WHEN {sql} THEN '{state.value}'" for state, sql in _STATES.items()) + " END"
_RELEASE = "CASE WHEN json_valid(e.envelope) THEN json_extract(e.envelope, '$.release') END"
# A destination's name up to its first `;`.
_PLAIN = "substr(r.destination, 1, instr(r.destination || ';', ';') - 1)"
# In the order of `met_text`.
_MET = " || char(10) || ".join(f"json_extract(r.last, '$[{at}]')" for at in range(4))
_GROUPS: Final[Mapping[Group, str]] = {
    Group.DESTINATION: "r.destination",
    Group.POLICY: "r.policy",
    Group.SENDER: "ifnull(e.sender, '<>')",
    Group.REASON: "CASE WHEN r.last IS NULL OR NOT json_valid(r.last) THEN ''"
    " ELSE json_extract(r.last, '$[1]') || ' (' || json_extract(r.last, '$[0]') || ')' END",
}
_FROM = "recipients AS r CROSS JOIN entries AS e ON e.id = r.entry"
_QUEUED = f"r.entry, e.arrived, e.sender, e.size, {_RELEASE}, r.held, {_STATE}, " + ", ".join(
    f"r.{column.strip()}" for column in PENDING.split(",")
)


class Slice:
    """What of a selection one slice looks at: conditions and their values, and where it ends."""

    def __init__(self, database: sqlite3.Connection, selection: Selection, now: float, after: str, size: int) -> None:
        self.values: dict[str, Any] = {"now": now}
        self._conditions = ["e.trouble IS NULL"]
        entry, _, id = after.partition(":")
        #: Where the next one begins, if the whole slice was read.
        self.end = ""
        if selection.ids:
            # What is named is few: there is nothing to cut into slices.
            self._named(selection.ids)
        else:
            found = database.execute(_END, (entry, id, size - 1)).fetchone()
            if found is not None:
                self.end = ":".join(found)
                self._where("(r.entry, r.id) <= (:last_entry, :last_id)", last_entry=found[0], last_id=found[1])
        self._where("(r.entry, r.id) > (:entry, :id)", entry=entry, id=id)
        self._meant(selection, now)

    @property
    def sql(self) -> str:
        return " AND ".join(self._conditions)

    def _where(self, condition: str, **values: Any) -> None:
        self._conditions.append(condition)
        self.values.update(values)

    def _named(self, ids: tuple[str, ...]) -> None:
        """A recipient's id is that of its entry, a dot and a number (`relay.spool.identity.recipient_id`)."""
        entries = {f"n{at}": id for at, id in enumerate(ids)}
        stems = {f"s{at}": id.rpartition(".")[0] or id for at, id in enumerate(ids)}
        marks = ", ".join(f":{name}" for name in entries)
        both = ", ".join(f":{name}" for name in (*entries, *stems))
        self._where(f"r.entry IN ({both}) AND (r.entry IN ({marks}) OR r.id IN ({marks}))", **entries, **stems)

    def _meant(self, selection: Selection, now: float) -> None:
        if selection.to:
            to = _like(path_pattern(selection.to))
            self._where(r"(r.address LIKE :to ESCAPE '\' OR r.original LIKE :to ESCAPE '\')", to=to)
        if selection.sender:
            sender = _like(path_pattern(selection.sender))
            self._where(rf"ifnull(e.sender, '{NULL_PATH}') LIKE :sender ESCAPE '\'", sender=sender)
        if selection.destination:
            self._where(
                rf"(+r.destination LIKE :destination ESCAPE '\' OR {_PLAIN} LIKE :destination ESCAPE '\')",
                destination=_like(selection.destination),
            )
        if selection.policy:
            self._where("r.policy = :policy", policy=selection.policy)
        if selection.state is not None:
            self._where(_STATES[selection.state])
        if selection.older is not None:
            self._where("e.arrived <= :accepted", accepted=now - selection.older)
        if selection.reason:
            reason = f"%{_escaped(selection.reason)}%"
            self._where(rf"CASE WHEN json_valid(r.last) THEN {_MET} LIKE :reason ESCAPE '\' END", reason=reason)


def select(
    database: sqlite3.Connection,
    decoder: Decoder,
    selection: Selection,
    now: float,
    most: int,
    after: str,
    size: int = SLICE,
) -> Page:
    """Up to `most` of those that are meant, from one slice. What cannot be read is left out: it is set aside later."""
    part = Slice(database, selection, now, after, size)
    rows = database.execute(
        f"SELECT {_QUEUED} FROM {_FROM} WHERE {part.sql} ORDER BY r.entry, r.id LIMIT :most",  # noqa: S608
        {**part.values, "most": most},
    ).fetchall()
    found = tuple(queued for queued in (_queued(decoder, row) for row in rows) if queued is not None)
    if len(rows) == most:
        return Page(found, f"{rows[-1][0]}:{rows[-1][_ID]}")
    return Page(found, part.end)


def tally(
    database: sqlite3.Connection, selection: Selection, by: Group, now: float, after: str, size: int = SLICE
) -> Tally:
    """Those of one slice, counted."""
    part = Slice(database, selection, now, after, size)
    rows = database.execute(
        f"SELECT {_GROUPS[by]}, {_STATE}, count(*) FROM {_FROM} WHERE {part.sql} GROUP BY 1, 2",  # noqa: S608
        part.values,
    )
    return Tally({(group, State(state)): count for group, state, count in rows}, part.end)


_ID: Final = 7


def _queued(decoder: Decoder, row: Row) -> Queued | None:
    entry, arrived, sender, size, release, held, state, *columns = row
    try:
        pending: Pending = decoder.pending(tuple(columns))
        path = None if sender is None else address_from(sender)
    except (Damaged, ValueError):
        return None
    known = State(state)
    holder = None
    if known is State.HELD:
        holder = Holder.OPERATOR if held else Holder.POLICY
    return Queued(entry, arrived, path, size, pending, known, holder, release)


def _like(pattern: str) -> str:
    return _escaped(pattern).replace("*", "%")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_")
