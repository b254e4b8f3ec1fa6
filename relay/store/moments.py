"""
When the file of the store was written, for a relay whose clock was wrong then, or is wrong now.

A machine may start with a clock that is years ahead, or behind, until somebody sets it. Nobody can tell which of two
moments is the right one; so nothing is removed for good, and nothing is kept for years, because they are far apart.
"""

from __future__ import annotations

import sqlite3
from typing import Final

#: Seconds. A relay is seldom off for longer, and a clock that was this far behind, or is this far ahead, is wrong.
APART: Final = 86_400.0
#: The beginning of 2025, when there was no relay yet: a clock that says less is wrong.
EARLIEST: Final = 1_735_689_600.0

# Beside the format's own table: a relay that knows nothing of it leaves it alone.
_TABLE: Final = "CREATE TABLE IF NOT EXISTS moments (written REAL NOT NULL)"


def settle(database: sqlite3.Connection, now: float) -> None:
    """
    Remove what has expired since the file was written, if that is not long ago: what a clock that is ahead takes for
    expired is still there when it has been set.

    If the file was written later than now its clock was ahead: what was put there by that clock keeps as much of its
    life as it had, and not the years between the two clocks besides.
    """
    database.execute(_TABLE)
    if now < EARLIEST:
        return
    written: float | None = database.execute("SELECT max(written) FROM moments").fetchone()[0]
    database.execute("BEGIN IMMEDIATE")
    if written is not None and written > now:
        database.execute("UPDATE entries SET expires = expires - ? WHERE expires > ?", (written - now, written))
    if written is not None and now - written < APART:
        database.execute("DELETE FROM entries WHERE expires <= ?", (now,))
    note(database, now)
    database.execute("COMMIT")


def note(database: sqlite3.Connection, now: float) -> None:
    """It is written now, in the transaction that is under way."""
    if now >= EARLIEST:
        database.execute("DELETE FROM moments")
        database.execute("INSERT INTO moments (written) VALUES (?)", (now,))
