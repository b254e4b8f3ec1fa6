"""
Statements that take many rows at once. For the writer's thread.

Python lets go of its lock at each step of SQLite and has to win it back from the reactor's thread, which costs far more
than the step, and both of them. Hence as many rows in one step as there are.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Container, Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

Row: TypeAlias = tuple[Any, ...]

#: A statement is prepared for so many rows. What is missing to the next of these sizes is rows of nothing but 0.
SIZES: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_MOST: Final = SIZES[-1]


class Several(NamedTuple):
    """
    How a statement is written for several rows: what stands around them, each of them, and what stands between two.

    It does nothing with a row of nothing but 0. (Not NULL: Python's sqlite3 takes ten times as long to bind a `None`.)
    """

    before: str
    row: str
    behind: str = ""
    between: str = ", "

    def texts(self) -> tuple[str, ...]:
        """The statement for each of the sizes."""
        return tuple(f"{self.before}{self.between.join([self.row] * size)}{self.behind}" for size in SIZES)


def marks(columns: str, optional: Container[str] = ()) -> str:
    """As many question marks as there are columns. In the `optional` ones 0 stands for NULL, because that is faster."""
    return ", ".join("nullif(?, 0)" if name in optional else "?" for name in columns.split(", "))


def change(database: sqlite3.Connection, texts: Sequence[str], rows: Sequence[Row]) -> int:
    """How many rows of the database have been changed by this statement for these rows."""
    if len(texts) == 1:
        return database.executemany(texts[0], rows).rowcount
    changed = 0
    for text, values in _together(texts, rows):
        # `execute` would ask for the last row's number too, and let go of the lock once more.
        changed += database.executemany(text, (values,)).rowcount
    return changed


def begin(database: sqlite3.Connection) -> None:
    """Begin to write. `execute` would let go of the lock three times, for which this does once."""
    if database.in_transaction:
        raise sqlite3.ProgrammingError("what was begun before has no end yet")
    database.executescript("BEGIN IMMEDIATE")


def found(database: sqlite3.Connection, texts: Sequence[str], rows: Sequence[Row]) -> list[Row]:
    """What this statement finds for these rows, in no particular order."""
    return [row for text, values in _together(texts, rows) for row in database.execute(text, values)]


def _together(texts: Sequence[str], rows: Sequence[Row]) -> Iterator[tuple[str, Sequence[Any]]]:
    for at in range(0, len(rows), _MOST):
        some = rows[at : at + _MOST]
        size = bisect_left(SIZES, len(some))
        yield texts[size], [*chain.from_iterable(some), *[0] * ((SIZES[size] - len(some)) * len(some[0]))]
