"""
The thread's side of the history: everything in this module runs in one thread, which has the database.

What was told in a moment is kept as a block or a few (`relay.history.block`). Each statement lets go of the
interpreter's lock and has to wait for it afterwards, and the thread that it would wait for is the one that talks to all
clients: so there are few of them, however much is kept.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from attrs import frozen

from relay.history.block import MOST, Written, write
from relay.history.database import Damaged, Foreign, is_damage, open_database, set_aside, transaction
from relay.history.decisions import asked_by
from relay.history.keys import key
from relay.history.search import Search
from relay.history.shelf import VOLUME, Shelf
from relay.mail.event import Event
from relay.mail.history import Account, Accounts, Findings, Life

T = TypeVar("T")

#: Messages of which it is known where they began.
_REMEMBERED: Final = 50_000
#: How often something is removed in one go.
_PORTIONS: Final = 20


@frozen
class Bounds:
    """How much is kept."""

    #: Seconds: what happened longer ago goes.
    age: float = 14 * 86400.0
    #: Octets of the database, its log and what is free in it not counted: beyond it the oldest goes.
    size: int = 1024 * 1024 * 1024
    #: Octets of the disk that are left to others: below it nothing is written.
    reserve: int = 256 * 1024 * 1024


#: As much as a relay keeps unless it is told otherwise.
BOUNDS: Final = Bounds()


def free_space(path: Path) -> int:
    """Octets that the disk under `path` has for us."""
    there = os.statvfs(path)
    return there.f_bavail * there.f_frsize


class Records:
    """The history's file. Opened at the first use; what goes wrong with it goes wrong again or not at the next."""

    def __init__(self, path: Path, bounds: Bounds, free: Callable[[Path], int] = free_space) -> None:
        self._path = path
        self._bounds = bounds
        self._free = free
        self._connection: sqlite3.Connection | None = None
        self._shelf: Shelf | None = None
        #: In which blocks messages began, by queue id, or `None` where that is not known. It has those of which
        #: something was heard first lately.
        self._began: dict[str, int | None] = {}
        #: What began in a block before this one has lost its beginning.
        self._first = 0
        self._damage = ""
        self._unreadable = 0
        #: What stands there is not ours, and is not touched again.
        self._foreign: Foreign | None = None

    # What the reactor's side asks for. Each raises `sqlite3.Error` or `OSError`; a file that is damaged is set aside,
    # and the same is done in a new one. `Foreign` if what stands there is somebody else's: from then on, always.

    def keep(self, batch: Sequence[Event], now: float) -> None:
        """Keep these events, or none of them, and remove what is too old or too much by now."""
        self._mending(lambda: self._keep(batch, now))

    def find(self, text: str, most: int, now: float) -> Findings:
        """`IHistory.find`, of what was kept."""
        return self._mending(lambda: self._find(text, most, now))

    def why(self, text: str, most: int, now: float) -> Accounts:
        """`IHistory.why`, of what was kept."""
        return self._mending(lambda: self._why(text, most, now))

    def prune(self, now: float) -> None:
        """Remove what is too old by now."""
        self._mending(lambda: self._prune(now))

    def take_damage(self) -> str:
        """What was wrong with the file that was set aside, and where it is now; "" the next time."""
        damage, self._damage = self._damage, ""
        return damage

    def take_unreadable(self) -> int:
        """How many rows could not be read that were asked for; 0 the next time."""
        unreadable, self._unreadable = self._unreadable, 0
        return unreadable

    def close(self) -> None:
        """Let go of the file. May be called again; a next use opens it anew."""
        connection, self._connection, self._shelf = self._connection, None, None
        self._began.clear()
        self._first = 0
        if connection is not None:
            connection.close()

    def _mending(self, do: Callable[[], T]) -> T:
        if self._foreign is not None:
            raise Foreign(*self._foreign.args)
        try:
            try:
                return do()
            except (sqlite3.Error, Damaged) as problem:
                if isinstance(problem, sqlite3.Error) and not is_damage(problem):
                    raise
                self.close()
                self._damage = f"{problem}; it is {set_aside(self._path)} now"
                return do()
        except Foreign as problem:
            self._foreign = problem
            raise

    # Keeping.

    def _keep(self, batch: Sequence[Event], now: float) -> None:
        database, shelf = self._open()
        if self._free(self._path.parent) < self._bounds.reserve:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # What is told in one go is more than a block by a little, for which there need not be another one.
        blocks = -(-len(batch) // (MOST + MOST // 4))
        most = -(-len(batch) // blocks)
        written = [write(batch[at : at + most]) for at in range(0, len(batch), most)]
        try:
            with transaction(database):
                shelf.add([(each, self._earlier(each, number)) for number, each in enumerate(written, shelf.next)])
        except BaseException:
            # What we thought that we know of lives is wrong now.
            self._began.clear()
            raise
        for id in list(islice(self._began, max(0, len(self._began) - _REMEMBERED))):
            del self._began[id]
        self._prune(now)

    def _earlier(self, block: Written, number: int) -> dict[str, int | None]:
        """Of what happens in this block to messages that may have begun before it: where they did, if that is known."""
        began, first = self._began, self._first
        # Of many that are remembered only those in the block are looked at: `difference` does so with a `dict`, where
        # `-` would go through all of its `keys`.
        unknown = dict.fromkeys((block.ids - block.begun).difference(began))
        earlier = {id: began[id] for id in began.keys() & block.ids}
        if first:
            earlier = {id: there if there and there >= first else None for id, there in earlier.items()}
        began.update(dict.fromkeys(block.begun.difference(began), number))
        began.update(unknown)
        return {**earlier, **unknown}

    # Removing.

    def _prune(self, now: float) -> None:
        """Remove what is too much, a portion at a time so that no commit is long; the next call goes on."""
        database, shelf = self._open()
        removed = False
        for _ in range(_PORTIONS):
            if not shelf.remove(now - self._bounds.age, self._size(database) - self._bounds.size):
                break
            removed = True
        if removed:
            self._first = shelf.first

    @staticmethod
    def _size(database: sqlite3.Connection) -> int:
        pages, free, octets = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * octets)

    # Reading.

    def _find(self, text: str, most: int, now: float) -> Findings:
        self._prune(now)
        _, shelf = self._open()
        search = Search(shelf, frozenset({key(text)} - {""}))
        lives: list[Life] = []
        for found in search.lives():
            life = search.life(found)
            if life is not None:
                lives.append(life)
            if len(lives) > most:
                break
        self._unreadable += search.unreadable
        return Findings(tuple(lives[:most]), more=len(lives) > most or search.gave_up, since=shelf.since)

    def _why(self, text: str, most: int, now: float) -> Accounts:
        self._prune(now)
        _, shelf = self._open()
        search = Search(shelf, asked_by(text))
        accounts: list[Account] = []
        for found in search.lives():
            accounts += search.accounts(found)
            if len(accounts) > most:
                break
        self._unreadable += search.unreadable
        return Accounts(tuple(accounts[:most]), more=len(accounts) > most or search.gave_up, since=shelf.since)

    def _open(self) -> tuple[sqlite3.Connection, Shelf]:
        if self._connection is None or self._shelf is None:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._connection = open_database(self._path)
            # What is left of a volume is to be little of what may be kept at all.
            self._shelf = Shelf(self._connection, min(VOLUME, self._bounds.size // 512))
        return self._connection, self._shelf
