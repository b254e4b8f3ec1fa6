"""
The end of a shard that no worker listens for any more: when it holds nothing, it goes.

Its worker finds out that it does, and ends; then the parent removes the folder, under the lock of the shard, and only
if it finds so itself.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relay.history.database import USUAL_NAME as HISTORY
from relay.interfaces import IClock, ISpool, SpoolError
from relay.net.disk import Disk, opened
from relay.spool.layout import Layout

#: Seconds to the second look, and at most to any further one, each twice as long as the one before.
FIRST, MOST = 1.0, 60.0


class Retirement:
    """Looks from time to time whether a retired worker has anything left to do, and says so once."""

    def __init__(
        self, clock: IClock, spool: ISpool, drained: Callable[[], object], *, history: Callable[[], bool]
    ) -> None:
        """`history`: whether it has anything to tell."""
        self._clock = clock
        self._spool = spool
        self._drained = drained
        self._history = history
        self._pause = FIRST

    def start(self) -> None:
        Deferred.fromCoroutine(self._look())

    async def _look(self) -> None:
        try:
            entries = (await self._spool.census()).entries
        except SpoolError:
            entries = 1  # or more, for all that is known
        if not entries and not self._history():
            self._drained()
            return
        self._clock.callLater(self._pause, self.start)
        self._pause = min(MOST, 2 * self._pause)


def remembers(shard: Path) -> bool:
    """Whether the history in this shard has anything to tell, as far as can be known."""
    return _any_in(shard / HISTORY, "blocks", "lives")


def remove(shard: Path, *, history: bool) -> bool:
    """
    Remove this shard unless somebody has it, or it holds mail, or a `history` that counts. Called in a thread; whether
    it is gone.
    """
    disk, layout = Disk(), Layout(shard)
    log = Logger(namespace="relay.parent")
    try:
        with opened(disk, str(layout.lock), os.O_RDWR | os.O_NOFOLLOW) as lock:
            if not disk.lock(lock) or _any_in(layout.database, "entries") or (history and remembers(shard)):
                return False
            if any(files for shelf in layout.shelves for files in _names(shelf)):
                return False
            shutil.rmtree(shard)
    except OSError as problem:
        log.warn("{shard} holds nothing any more, and cannot be removed: {problem}", shard=shard, problem=str(problem))
        return False
    log.info("{shard} has been removed: it held nothing any more", shard=shard)
    return True


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _any_in(database: Path, *tables: str) -> bool:
    """Whether there is a row in one of these tables, of which it has one at least. What cannot be read may have any."""
    if not database.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)) as connection:
            named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            there = {name for (name,) in named}.intersection(tables)
            found = [connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone() for table in there]  # noqa: S608
    except sqlite3.Error:
        return True
    return not there or any(found)
