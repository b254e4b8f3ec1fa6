"""
Statements that take many rows at once. For the writer's thread.

Python lets go of its lock at each step of SQLite and has to win it back from the reactor's thread, which costs far more
than the step, and both of them. Hence as many rows in one step as there are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

Row: TypeAlias = tuple[Any, ...]

#: A statement takes 64 rows at once, 32, 16, 8, 4, 2 or one: a hundred rows are 64, 32 and 4.
_SIZES: Final = 7


class Several(NamedTuple):
    """How a statement is written for several rows: what stands around them, and each of them."""

    before: str
    row: str
    behind: str = ""

    def texts(self) -> tuple[str, ...]:
        """The statement for one row, for 2, for 4, and so on."""
        return tuple(f"{self.before}{', '.join([self.row] * 2**size)}{self.behind}" for size in range(_SIZES))


def marks(columns: str) -> str:
    """As many question marks as there are columns."""
    return f"({', '.join('?' * len(columns.split(',')))})"


def change(database: sqlite3.Connection, texts: Sequence[str], rows: Sequence[Row]) -> int:
    """How many rows of the database have been changed by this statement for these rows."""
    if len(texts) == 1:
        return database.executemany(texts[0], rows).rowcount
    changed = 0
    for text, values in _taken(texts, rows):
        changed += database.execute(text, values).rowcount
    return changed


def found(database: sqlite3.Connection, texts: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """What this statement finds for these rows, in no particular order."""
    return [row for text, values in _taken(texts, rows) for row in database.execute(text, values)]


def _taken(texts: Sequence[str], rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Any]]]:
    left = len(rows)
    while left:
        size = min(left.bit_length(), len(texts)) - 1
        some = rows[-left : 2**size - left or None]
        left -= len(some)
        yield texts[size], list(chain.from_iterable(some))
