"""The store on a disk of this machine: all of it in memory, and what has changed written behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IClock, IStore
from relay.net.clock import cancel
from relay.net.workers import IsWorkers, Workers
from relay.store.file import Row, StoreFile
from relay.store.memory import BOUNDS, LONGEST, Bounds, MemoryStore

T = TypeVar("T")

#: Seconds that changes wait for others, so that all of them are written in one go.
DELAY: Final = 0.2
#: Seconds after which it is tried again when nothing could be written.
PAUSE: Final = 10.0
#: Seconds that a disk gets for what is to be written when the relay stops.
PATIENCE: Final = 5.0


@implementer(IStore)
class SqliteStore(MemoryStore):
    """
    Nobody waits for the file. Where it cannot be read or written the store is in memory alone, and the operator is told
    once; what has changed meanwhile is written when it can be again.

    Nothing is touched on the disk before `load`.
    """

    def __init__(
        self,
        path: Path,
        clock: IClock,
        worker: IsWorkers,
        *,
        bounds: Bounds = BOUNDS,
        log: Logger | None = None,
    ) -> None:
        super().__init__(clock, bounds, log)
        self._clock = clock
        self._worker = worker
        self._file = StoreFile(path)
        self._most_changed = 2 * bounds.entries
        #: Keys whose entry is not in the file as it is here.
        self._changed: dict[str, None] = {}
        #: More has changed than is worth knowing: all of it is written.
        self._anew = False
        #: Whether there is a file to write to; `None`: nobody has looked yet.
        self._open: bool | None = None
        self._next: Any = None
        self._writing = False
        self._ailing = False
        self._closed = False

    @classmethod
    def in_thread(
        cls, path: Path, clock: IClock, call_from_thread: Callable[..., object], *, bounds: Bounds = BOUNDS
    ) -> SqliteStore:
        """The store as a relay has it: `call_from_thread` is the reactor's `callFromThread`."""
        return cls(path, clock, Workers(call_from_thread, "store"), bounds=bounds)

    async def load(self) -> None:
        """
        Take what the file has, before any policy is asked; what was put here already is newer. Never raises for a file:
        one that is damaged is moved aside, one that is not ours is left alone, and the store begins empty.
        """
        now = self._now()
        try:
            rows, damage = await self._perform(lambda: self._file.load(now))
        except Exception as problem:
            self._log.error(
                "The store of the policies {path} cannot be used, and is in memory alone: {problem}",
                path=self._file.path,
                problem=problem,
            )
            self._open = False
            self._changed = {}
            return
        if damage:
            self._log.error("The store {path} begins anew: {damage}", path=self._file.path, damage=damage)
        if self._file.unreadable:
            self._log.error(
                "The store {path} is damaged: {count} of its rows cannot be read, and are left out",
                path=self._file.path,
                count=self._file.unreadable,
            )
        latest = now + LONGEST
        for key, value, until in rows:
            if until > now and key not in self._changed:
                super()._keep(key, value, min(until, latest))
        self._make_room(now)
        self._open = True
        self._arrange(DELAY)

    async def close(self) -> None:
        """Write what has changed, as far as that is possible now, and let go of the file."""
        if self._closed:
            return
        self._closed = True
        cancel(self._next)
        kept, gone, anew = self._take()
        now = self._now()

        def finish() -> None:
            try:
                if kept or gone or anew:
                    self._file.change(kept, gone, now, anew=anew)
            finally:
                self._file.close()

        if self._open:
            try:
                await self._perform(finish).addTimeout(PATIENCE, cast(Any, self._clock))
            except TimeoutError:
                # A disk that hangs is not waited for: the thread ends with the process.
                self._log.warn("The disk hangs: the last changes of the policies' store are not kept")
                return
            except Exception as problem:
                self._log.warn("The last changes of the policies' store are not kept: {problem}", problem=problem)
        self._worker.stop()

    # Noting what changes.

    def _keep(self, key: str, value: str, until: float) -> None:
        super()._keep(key, value, until)
        self._note(key)

    def _drop(self, key: str) -> None:
        super()._drop(key)
        self._note(key)

    def _note(self, key: str) -> None:
        if self._open is not False:
            self._changed[key] = None
            if self._next is None:
                self._arrange(DELAY)

    # Writing.

    def _arrange(self, delay: float) -> None:
        """Write what has changed after so many seconds, if that is not arranged."""
        if (
            self._open
            and self._next is None
            and not self._writing
            and not self._closed
            and (self._changed or self._anew)
        ):
            self._next = self._clock.callLater(delay, self._write)

    def _take(self) -> tuple[list[Row], list[str], bool]:
        """What is to be written: rows, keys that are gone, and whether those rows are all that there is."""
        entries = self._entries
        anew, self._anew = self._anew, False
        changed, self._changed = self._changed, {}
        kept: list[Row] = []
        gone: list[str] = []
        for key in entries if anew else changed:
            entry = entries.get(key)
            if entry is None:
                gone.append(key)
            else:
                kept.append((key, *entry))
        return kept, gone, anew

    def _write(self) -> None:
        self._next = None
        self._writing = True
        changed = self._changed
        kept, gone, anew = self._take()
        now = self._now()
        written = self._perform(lambda: self._file.change(kept, gone, now, anew=anew))
        written.addCallbacks(lambda _: self._written(), lambda failure: self._not_written(failure.value, changed, anew))

    def _written(self) -> None:
        self._writing = False
        if self._ailing:
            self._ailing = False
            self._log.warn("The store of the policies is written again")
        self._arrange(DELAY)

    def _not_written(self, problem: Exception, changed: dict[str, None], anew: bool) -> None:
        self._writing = False
        if not self._ailing:
            self._ailing = True
            self._log.error(
                "The store of the policies {path} cannot be written: {problem}. Until it can, it is in memory alone",
                path=self._file.path,
                problem=problem,
            )
        self._changed = {**changed, **self._changed}
        if anew or len(self._changed) > self._most_changed:
            self._anew, self._changed = True, {}
        self._arrange(PAUSE)

    def _perform(self, do: Callable[[], T]) -> Deferred[T]:
        """What the thread answers."""
        asked: Deferred[T] = Deferred()

        def answer(result: T | Exception) -> None:
            if asked.called:
                return
            if isinstance(result, Exception):
                asked.errback(result)
            else:
                asked.callback(result)

        self._worker.perform(do, answer)
        return asked
