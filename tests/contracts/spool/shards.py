"""Our spools as `relay.testing.spool` tests them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from relay.interfaces import ISpool, OutcomeUnknown, SpoolError
from relay.net.workers import IsWorkers
from relay.spool.disk import SpoolDisk
from relay.spool.layout import Layout
from relay.spool.memory import MemorySpool, Shelf
from relay.spool.sqlite import Limits, SqliteSpool
from relay.testing.disk import FaultyDisk
from relay.testing.spool_case import Shard

T = TypeVar("T")

#: No reserve: the machine that runs the tests may have little room.
LIMITS = Limits(reserve=0)


#: A file system in memory, where there is one: a power cut is not what these tests are about.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None


class AtOnce:
    """Workers without a thread: whoever asks for work does it, and has the answer when asking returns."""

    def __init__(self) -> None:
        self.stopped = False

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        result: T | Exception
        try:
            result = work()
        except Exception as problem:
            result = problem
        answer(result)

    def stop(self) -> None:
        self.stopped = True


class WhenTold(AtOnce):
    """Workers that do nothing before `work`: the time in which a commit waits."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: list[tuple[Callable[[], Any], Callable[[Any], object]]] = []

    def perform(self, work: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        self.tasks.append((work, answer))

    def work(self, most: int = 1000) -> int:
        """Do what was asked for, and what is asked for meanwhile; how much it was."""
        done = 0
        while self.tasks and done < most:
            super().perform(*self.tasks.pop(0))
            done += 1
        return done


class MemoryShard(Shard):
    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf()
        self._holders: list[MemorySpool] = []
        self._failing: list[tuple[Exception, bool]] = []

    def open(self) -> ISpool:
        spool = MemorySpool(self.clock, self.shelf)
        self._holders.append(spool)
        return spool

    def die(self) -> None:
        self._holders.clear()

    def fail_commit(self, *, kept: bool, probes: int = 0) -> None:
        for holder in self._holders:
            if probes:
                holder.fail_next(OutcomeUnknown("nobody knows"), kept=kept)
            elif not kept:
                holder.fail_next(SpoolError("nothing was kept"))

    def damage(self, id: str) -> None:
        self.shelf.damaged[id] = "a test has damaged it"


class FaultyConnection(sqlite3.Connection):
    """A connection whose statements are calls of a `FaultySpoolDisk`."""

    disk: FaultySpoolDisk

    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if sql == "COMMIT" and self.disk.failing_commits:
            if self.disk.failing_commits.pop(0):
                super().execute(sql)
            raise sqlite3.OperationalError("disk I/O error")
        try:
            self.disk.count("execute", sql)
        except BaseException:
            if self.disk.after and not self.disk.done:
                self.disk.done = True
                super().execute(sql, *arguments)
            raise
        return super().execute(sql, *arguments)

    def executescript(self, sql: str) -> sqlite3.Cursor:
        self.disk.count("execute", sql)
        return super().executescript(sql)

    def commit(self) -> None:
        self.execute("COMMIT")

    def executemany(self, sql: str, *arguments: Any) -> sqlite3.Cursor:  # type: ignore[override]
        self.disk.count("execute", sql)
        return super().executemany(sql, *arguments)


class FaultySpoolDisk(FaultyDisk, SpoolDisk):
    """
    A disk whose `n`-th call fails, as `FaultyDisk` has it, with SQLite's statements counted as calls.

    `after`: a statement that fails has been executed before, so that a COMMIT may have happened.
    """

    def __init__(
        self, n: int | None = None, error: int | None = None, *, stays: bool = False, after: bool = False
    ) -> None:
        super().__init__(n, error, stays=stays)
        self.after, self.done = after, False
        #: Whether what the next COMMITs were to write is there in spite of their error.
        self.failing_commits: list[bool] = []
        #: So many of the next connections cannot be made.
        self.failing_connections = 0
        self._connections: list[FaultyConnection] = []

    def connect(self, path: str) -> sqlite3.Connection:
        self.count("connect", path)
        if self.failing_connections:
            self.failing_connections -= 1
            raise sqlite3.OperationalError("unable to open database file")
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=0.1, factory=FaultyConnection, check_same_thread=False
        )
        connection.disk = self
        self._connections.append(connection)
        return connection

    def space(self, path: str) -> Any:
        self.count("space", path)
        return SpoolDisk.space(self, path)

    def count(self, name: str, *arguments: Any) -> None:
        """Note a call, and raise if it is one that does not happen."""
        try:
            self._pass(name, arguments)
        except OSError as problem:
            if name in ("execute", "connect"):
                raise sqlite3.OperationalError(str(problem)) from problem
            raise

    def die(self) -> None:
        """What the process had open is closed by the kernel, without another word to the disk."""
        for connection in self._connections:
            sqlite3.Connection.close(connection)
        self._connections.clear()


class SqliteShard(Shard):
    """A spool in a directory of its own, written by threads that are none, or by whatever `workers` makes."""

    def __init__(self, workers: Callable[[], IsWorkers] = AtOnce) -> None:
        super().__init__()
        self.parent = Path(tempfile.mkdtemp(dir=MEMORY))
        self.layout = Layout(self.parent / "spool")
        self.disk = FaultySpoolDisk()
        self.limits = LIMITS
        self._workers = workers
        self._holders: list[SqliteSpool] = []

    def open(self) -> SqliteSpool:
        spool = SqliteSpool(
            self.layout.path, self.clock, self._workers(), self._workers(), limits=self.limits, disk=self.disk
        )
        self._holders.append(spool)
        return spool

    def die(self) -> None:
        for holder in self._holders:
            holder._writers.stop()
            holder._syncers.stop()
            writer = holder._writer
            lock, writer._lock = writer._lock, None
            if lock is not None:
                self.disk.close(lock)
        self._holders.clear()
        self.disk.die()
        self.disk = FaultySpoolDisk()

    def dispose(self) -> None:
        self.die()
        shutil.rmtree(self.parent, ignore_errors=True)

    def fail_commit(self, *, kept: bool, probes: int = 0) -> None:
        self.disk.failing_commits.append(kept)
        self.disk.failing_connections = probes + 1 if probes else 0

    def damage(self, id: str) -> None:
        self.alter("UPDATE entries SET envelope = ? WHERE id = ?", '{"client":', id)

    def alter(self, sql: str, *arguments: Any) -> None:
        """Change the database behind the spool's back."""
        database = sqlite3.connect(self.layout.database)
        with database:
            changed = database.execute(sql, arguments).rowcount
        database.close()
        assert changed, sql

    def rows(self, sql: str, *arguments: Any) -> list[Any]:
        database = sqlite3.connect(self.layout.database)
        try:
            return database.execute(sql, arguments).fetchall()
        finally:
            database.close()

    @property
    def files(self) -> list[str]:
        """The names of all files of content."""
        return sorted(path.name for shelf in self.layout.shelves for path in shelf.iterdir())


def content_of(id: str) -> bytes:
    """What `worker` puts into this entry: one in three is larger than a row."""
    return f"{id}\r\n".encode() * (6000 if id[-2] in "0123456789" else 10)
