"""Columns of values, of which many are alike: what is said of many things at once is written so."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

from relay.mail.address import Address

_WRITTEN: Final = attrgetter("text")


def texts(column: Sequence[Any]) -> Sequence[Any]:
    """The same with addresses as texts, if all of them are addresses."""
    return list(map(_WRITTEN, column)) if set(map(type, column)) == {Address} else column


def packed(column: Sequence[Any]) -> Sequence[Any]:
    """The same, and of one text that stands in all places only one: most columns are such."""
    first = column[0] if column else 0
    # Other values may be equal and yet not the same: a number and a truth.
    same = (first is None or type(first) is str) and column.count(first) == len(column)
    return column[:1] if same else column


def unpacked(column: Sequence[Any], length: int) -> Sequence[Any]:
    """What was `packed`, of this length."""
    return [*column] * length if len(column) == 1 else column
