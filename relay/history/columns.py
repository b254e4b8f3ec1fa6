"""Columns of values, of which many are alike: what is said of many things at once is written so."""

from __future__ import annotations

from itertools import repeat
from operator import attrgetter
from types import NoneType
from typing import Any, Final, TypeAlias

from relay.mail.address import Address

Column: TypeAlias = list[Any] | tuple[Any, ...]

#: What is the same wherever it is equal.
_TEXTS: Final = frozenset({str, NoneType})
_ADDRESSES: Final = frozenset({Address, NoneType})
_WRITTEN: Final = attrgetter("text")


def texts(column: Column) -> Column:
    """The same with addresses as texts, if all of them are addresses, or some are nobody's."""
    kinds = set(map(type, column))
    if kinds == {Address}:
        return list(map(_WRITTEN, column))
    return list(map(getattr, column, repeat("text"), repeat(None))) if kinds == _ADDRESSES else column


def packed(column: Column, period: int = 1) -> Column:
    """The same, and of what comes again after every so many places only the first: most columns are such."""
    first = column[:period]
    if column != first * (len(column) // period) or len(column) <= period:
        return column
    kinds = set(map(type, first))
    if kinds <= _TEXTS or (kinds == {tuple} and not any(first)):
        return first
    # Other values may be equal and yet not the same: a number and a truth.
    return first if kinds == {int} and set(map(type, column)) == kinds else column


def recurring(column: Column, period: int) -> Column:
    """What is equal to all that stands after it, so many places at a time; the column, if it has nothing such."""
    first = column[:period]
    return first if column == first * (len(column) // period) else column


def unpacked(column: Column, length: int) -> Column:
    """What was `packed`, of this length."""
    return [*column] * (length // len(column)) if column else column
