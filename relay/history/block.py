"""
What is kept of many events together: a block.

Nothing is done for an event by itself: events with the same fields are columns of values, and each column is looked at
once. `write` makes a block, `Block` reads it.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import chain, compress
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any, Final

from attrs import Factory, define, frozen

from relay.history.columns import Column, packed, texts, unpacked
from relay.history.decisions import InColumns, are_usual, in_columns, kept, keys_of
from relay.history.keys import LONGEST, fields_asked_for, keys, keys_in, legible, plain
from relay.mail.address import Address
from relay.mail.event import Event, Shape
from relay.mail.explanation import Decided, Explanation
from relay.mail.history import Account, Happening

#: How something came about. No event of the mail log has this name.
DECIDED: Final[Shape[tuple[str, str, Decided]]] = Shape("(decided)", "id", "ref", "decision")
#: What begins a life, so that nobody need look whether there is one.
_BEGINNINGS: Final = frozenset({"accepted", DECIDED.what})

#: Events of a block: as many as are written in about a millisecond of Python's lock, and read in two.
MOST: Final = 600

#: Octets of an event, on the average of its block. Where there are more, each value is looked at and cut.
_LONG: Final = LONGEST
#: ... and so many besides: of few events one may be long.
_LONGER: Final = 4 * LONGEST

#: Characters of a value that are too many to be written before they are cut, while everybody waits.
_HUGE: Final = 16 * LONGEST

#: zlib's fastest: it takes 2 us for a message and makes a seventh of it, or less.
_LEVEL: Final = 1

#: What stands in a field by which events are found, unless it has to be looked at.
_TEXTS: Final = frozenset({str, NoneType})
_TEXTS_AND_ADDRESSES: Final = frozenset({str, NoneType, Address})

_what: Final = attrgetter("what")
_where_id: Final = attrgetter("where_id")
_first: Final = itemgetter(0)

_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, default=str).encode


@frozen
class Written:
    """A block as it is kept, and what there is to know of it without reading it."""

    told: bytes
    #: When its first and its last event were told.
    began: float
    ended: float
    #: By which texts something in it is found, besides queue ids.
    keys: set[str]
    #: The queue ids of its events, and those that begin with one of which there is none before.
    ids: set[str]
    begun: set[str]


@define
class _Content:
    #: What has happened, by what it was and its fields' names: positions, and a list for each field but `id`.
    alike: list[tuple[str, Sequence[str], Sequence[int], Sequence[Sequence[Any]]]] = Factory(list)
    #: Positions and `in_columns` of usual decisions.
    decided: list[Any] = Factory(list)
    #: What had to be looked at: position, what, `plain` fields and keys.
    odd: list[tuple[int, str, Mapping[str, Any], Sequence[str]]] = Factory(list)
    #: Position, reference, JSON of the explanation, and keys of each other decision.
    explained: list[tuple[int, str, Mapping[str, Any], Sequence[str]]] = Factory(list)
    keys: set[str] = Factory(set)


def write(batch: Sequence[Event]) -> Written:
    """A block of these events, of which there is at least one."""
    times: tuple[float, ...]
    shapes: tuple[Shape[Any], ...]
    times, shapes, rows = zip(*batch, strict=True)
    try:
        ids = _ids(shapes, rows)
        content = _at_once(shapes, rows)
        "".join(chain(ids, content.keys)).encode()  # so that what nobody could ask for is looked at
        text = _text(ids, content)
    except Exception:
        text = ""  # whatever it is, it has to be looked at
    if not text or len(text) > _LONG * len(batch) + _LONGER:
        ids = [legible(str(id or "")) for id in _said_ids(shapes, rows)]
        content = _one_by_one(shapes, rows)
        text = _text(ids, content)
    #: By what each message was first heard of here.
    first = dict(zip(reversed(ids), map(_what, reversed(shapes)), strict=True))
    first.pop("", None)
    begun = set(compress(first, map(_BEGINNINGS.__contains__, first.values())))
    head = struct.pack(f"<I{len(times)}d", len(times), *times)
    told = zlib.compress(head + text.encode("ascii"), _LEVEL)
    # How something came about is told at once, and what happened some milliseconds later.
    return Written(told, min(times), max(times), content.keys, set(first), begun)


def _text(ids: Sequence[str], content: _Content) -> str:
    return _encode((ids, content.alike, content.decided, content.odd, content.explained))


def _ids(shapes: Sequence[Shape[Any]], rows: Sequence[Sequence[Any]]) -> list[str]:
    ids = _said_ids(shapes, rows)
    kinds = set(map(type, ids))
    if not kinds <= _TEXTS:
        raise TypeError("a queue id is a text")
    return ids if kinds == {str} else [id or "" for id in ids]


def _said_ids(shapes: Sequence[Shape[Any]], rows: Sequence[Sequence[Any]]) -> list[Any]:
    """What each says of its queue id; "" for one that says nothing of it."""
    if not any(map(_where_id, set(shapes))):
        return list(map(_first, rows))
    return [row[shape.where_id] if shape.where_id >= 0 else "" for shape, row in zip(shapes, rows, strict=True)]


def _at_once(shapes: Sequence[Shape[Any]], rows: Sequence[Sequence[Any]]) -> _Content:
    """
    Events as they are, `plain` when they are read. Raises what its parts raise if that cannot be: each of the fields by
    which events are found has to be a text or an address.
    """
    content = _Content()
    groups: defaultdict[Shape[Any], list[int]] = defaultdict(list)
    for position, shape in enumerate(shapes):
        groups[shape].append(position)
    for shape, positions in groups.items():
        what, names = shape.what, shape.names
        alike = zip(*map(rows.__getitem__, positions), strict=True)
        columns: dict[str, Any] = dict(zip(names, alike, strict=True))
        columns.pop("id", None)
        if shape is DECIDED:
            _decide(content, positions, **columns)
            continue
        asked_for = fields_asked_for(what, names)
        for name, column in columns.items():
            columns[name] = said = packed(_texts(column) if name in asked_for else column)
            if len(said) > 1:  # one is soon written, however long it is
                _check(said)
        for name in asked_for:
            content.keys |= keys_in(name, set(filter(None, columns[name])))
        content.alike.append((what, names, positions, list(columns.values())))
    return content


def _texts(column: Column) -> Column:
    kinds = set(map(type, column))
    if not kinds <= _TEXTS_AND_ADDRESSES:
        raise TypeError("it is found by what has to be looked at")
    # Where some are addresses and some are texts, such as the null reverse-path, those are one by one.
    return [each and str(each) for each in column] if str in kinds and Address in kinds else texts(column)


def _check(column: Sequence[Any]) -> None:
    try:
        longest = max(map(len, filter(None, column)), default=0)
    except TypeError:
        return  # they are no texts
    if longest > _HUGE:
        raise ValueError("a value has to be cut")


def _decide(content: _Content, positions: Sequence[int], ref: Sequence[str], decision: Sequence[Decided]) -> None:
    if any(ref) or not are_usual(decision):
        usual = []
        for row in zip(positions, ref, decision, strict=True):
            if not row[1] and are_usual(row[2:]):
                usual.append(row)
            else:
                _explain(content, *row)
        if not usual:
            return
        positions, ref, decision = zip(*usual, strict=True)
    try:
        content.decided += (positions, in_columns(decision))
    except Exception:
        # Such as a step that has more to say, or a verdict of a third party's.
        for row in zip(positions, ref, decision, strict=True):
            _explain(content, *row)


def _explain(content: _Content, position: int, ref: str, decision: Decided) -> None:
    explanation = kept(decision)
    found = keys_of(explanation, ref)
    content.explained.append((position, ref, explanation.to_json(), list(found)))
    content.keys |= found


def _one_by_one(shapes: Sequence[Shape[Any]], rows: Sequence[tuple[Any, ...]]) -> _Content:
    """Whatever the events are."""
    content = _Content()
    for position, (shape, row) in enumerate(zip(shapes, rows, strict=True)):
        if shape is DECIDED:
            _, ref, decision = row
            _explain(content, position, ref, decision)
        else:
            what, fields = shape.what, shape.fields(row)
            told = plain(fields)
            found = keys(what, fields, told)
            content.odd.append((position, what, told, list(found)))
            content.keys |= found
    return content


class Block:
    """
    What `write` has made. Raises `ValueError`, or another `Exception`, if this is something else by now.

    A life is known by its queue id or, where it has none, by the position of the only event that it has.
    """

    #: How many rows in it cannot be read: all of it can, or nothing.
    unreadable: Final = 0

    def __init__(self, told: bytes) -> None:
        octets = zlib.decompress(told)
        (count,) = struct.unpack_from("<I", octets)
        self._times = struct.unpack_from(f"<{count}d", octets, 4)
        self._ids, alike, decided, self._odd, self._explained = json.loads(octets[4 + 8 * count :])
        #: What is to be read at a position.
        self._happenings: dict[int, tuple[Any, ...]] = {}
        self._accounts: dict[int, tuple[Any, ...]] = {}
        for group in alike:
            what, names, positions, columns = group
            kept_names = [name for name in names if name != "id"]
            columns = [unpacked(column, len(positions)) for column in columns]
            group[3] = columns = dict(zip(kept_names, columns, strict=True))
            for number, position in enumerate(positions):
                self._happenings[position] = what, columns, number
        for position, what, fields, _ in self._odd:
            self._happenings[position] = what, fields
        self._alike = alike
        if decided:
            positions, told_together = decided
            decisions = InColumns(told_together)
            for number, position in enumerate(positions):
                self._accounts[position] = decisions, number
        for position, ref, explanation, _ in self._explained:
            self._accounts[position] = ref, explanation

    def __len__(self) -> int:
        """How many events are in it."""
        return len(self._ids)

    def found(self, wanted: Set[str]) -> set[str | int]:
        """The lives of which something is found by one of these keys."""
        return {self._ids[position] or position for position in self._positions(wanted)}

    def _positions(self, wanted: Set[str]) -> Iterator[int]:
        for position, id in enumerate(self._ids):
            if id.casefold() in wanted:
                yield position
        for what, names, positions, columns in self._alike:
            for name in fields_asked_for(what, names):
                column = columns[name]
                said = set(filter(None, column))
                if not wanted.isdisjoint(keys_in(name, said)):
                    meant = {text for text in said if not wanted.isdisjoint(keys_in(name, (text,)))}
                    yield from (position for position, text in zip(positions, column, strict=True) if text in meant)
        for position, *_, found in (*self._odd, *self._explained):
            if not wanted.isdisjoint(found):
                yield position

    def place(self, life: str | int) -> int:
        """The position of the first that is known of this life; -1 if nothing is."""
        return next(self._of(life), -1)

    def happenings(self, life: str | int) -> list[Happening]:
        """What has happened to it."""
        return [self._happening(each) for each in self._of(life) if each in self._happenings]

    def accounts(self, life: str | int) -> list[Account]:
        """How what was decided about it came about, the oldest first."""
        return [self._account(each) for each in self._of(life) if each in self._accounts]

    def _of(self, life: str | int) -> Iterator[int]:
        if isinstance(life, int):
            return iter((life,) if not self._ids[life] else ())
        return (position for position, id in enumerate(self._ids) if id == life)

    def _happening(self, position: int) -> Happening:
        what, *told = self._happenings[position]
        if len(told) == 1:
            return Happening(self._times[position], what, told[0])
        columns, number = told
        fields = {name: column[number] for name, column in columns.items()}
        return Happening(self._times[position], what, plain(fields))

    def _account(self, position: int) -> Account:
        ref, told = self._accounts[position]
        if isinstance(ref, InColumns):
            return Account(self._times[position], self._ids[position], "", ref.explanation(told))
        return Account(self._times[position], self._ids[position], ref, Explanation.from_json(told))
