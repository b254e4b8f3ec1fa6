"""Files that people edit while the relay runs."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, Final, Generic, TextIO, TypeAlias, TypeVar
from weakref import WeakSet

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from relay.config.tables import TableSettings
from relay.config.wording import did_you_mean
from relay.interfaces import IClock, ITable
from relay.policy.names import fold
from relay.policy.pairs import Check, WrongLine, columns, separated, table_of

T = TypeVar("T")

#: Seconds between two looks at whether a file has changed.
LOOK_EVERY: Final = 1.0
#: Octets: a file above this size is read again in a thread, while what it said before still counts.
LARGE: Final = 256 * 1024
#: Entries that are let go of at once.
_PORTION: Final = 1000

_Sign: TypeAlias = tuple[int, int, int, int]
#: Runs work elsewhere: the reactor does not wait for it.
Apart: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


class Unusable(ValueError):
    """A file, or a table, is of no use as it is: it is for the operator to mend, and no fault of who asks."""

    def __init__(self, place: str, text: str, asked: str | Path) -> None:
        """`place`: the file, with its line if one is wrong. `asked`: what was asked for, as the options name it."""
        super().__init__(f"{place}: {text}" if place else text)
        self.place = place
        self.asked = asked


class FileTable(Generic[T]):
    """
    What a file says, read again when it has changed.

    A file that is gone or makes no sense is an exception for everyone who asks, until it is mended: a policy
    that has lost its table must not go on as if the table were empty, and not by what it said last week.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[TextIO], T],
        clock: IClock,
        apart: Apart | None = None,
        asked: str | Path = "",
    ) -> None:
        """
        Reads the file. `parse` makes a value of the open file and raises `ValueError` where it makes no sense; with
        `apart`, it does so in a thread when a large file has changed. `asked`: how options name it, if not by `path`.

        Raises `Unusable`.
        """
        self.path = path
        self._parse = parse
        self._clock = clock
        self._apart = apart
        self._asked = asked or path
        self._value: T | None = None
        self._problem: Exception | None = None
        self._sign: _Sign | None = None
        #: A thread reads it, and these wait for its end.
        self._under_way = False
        self._waiting: list[Deferred[None]] = []
        #: Who has this value: also others of the same file.
        self._sharers: WeakSet[FileTable[T]] = WeakSet((self,))
        self.read()

    def successor(self, parse: Callable[[TextIO], T]) -> FileTable[T]:
        """Another one of the same file, that begins with what this one knows, and reads it by `parse` from then on."""
        other: FileTable[T] = FileTable.__new__(FileTable)
        other.path, other._clock, other._apart = self.path, self._clock, self._apart
        other._value, other._problem, other._sign = self._value, self._problem, self._sign
        other._looked = self._looked
        other._asked = self._asked
        other._parse = parse
        other._under_way = False
        other._waiting = []
        other._sharers = self._sharers
        other._sharers.add(other)
        return other

    @property
    def shared(self) -> bool:
        """Whether somebody else has what this one has read, too."""
        return len(self._sharers) > 1

    def read(self) -> None:
        """Read it now, here. Raises `Unusable`."""
        self._looked = self._clock.seconds()
        self._take(self._loaded())
        if self._problem is not None:
            raise self._told(self._problem)

    @property
    def is_current(self) -> bool:
        """Whether the file is as it was when it was read, and made sense."""
        try:
            return self._problem is None and not self._under_way and _sign(os.stat(self.path)) == self._sign
        except OSError:
            return False

    def current(self) -> T:
        """What it says now, or said a second ago. Raises `Unusable`."""
        now = self._clock.seconds()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look()
        if self._problem is not None:
            raise self._told(self._problem)
        return self._value  # type: ignore[return-value]  # it is `None` only beside a problem

    async def refresh(self) -> None:
        """
        Look now, and return when what has changed was read: in a thread, if the file is large. Never raises: if it is
        of no use now, whoever asks hears it.
        """
        self._looked = self._clock.seconds()
        self._look()
        while self._under_way:
            ended: Deferred[None] = Deferred()
            self._waiting.append(ended)
            await ended

    def _look(self) -> None:
        if self._under_way:
            return
        try:
            status = os.stat(self.path)
        except OSError as error:
            self._problem, self._sign = error, None
            return
        if _sign(status) == self._sign:
            return
        if self._apart is None or status.st_size <= LARGE:
            self._take(self._loaded())
        else:
            self._under_way = True
            Deferred.fromCoroutine(self._read_apart(self._apart))

    async def _read_apart(self, apart: Apart) -> None:
        before, shared = self._value, self.shared
        try:
            self._take(await apart(self._loaded))
            # To let go of a million strings takes long enough to be noticed.
            if not shared:
                await apart(lambda: _empty(before))
        except CancelledError:
            pass  # the relay stops
        finally:
            self._under_way = False
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each.callback(None)

    def _loaded(self) -> tuple[_Sign | None, T | Exception]:
        """What the file says, or why nobody can tell; in any thread."""
        sign = None
        try:
            with self.path.open("rb") as file:
                # Before the content: whoever writes to it while we read changes what we find at the next look.
                sign = _sign(os.fstat(file.fileno()))
                return sign, self._parse(TextIOWrapper(file, "utf-8-sig"))
        except (OSError, ValueError) as error:
            return sign, error

    def _take(self, loaded: tuple[_Sign | None, T | Exception]) -> None:
        self._sign, result = loaded
        self._sharers.discard(self)
        self._sharers = WeakSet((self,))
        if isinstance(result, Exception):
            self._value, self._problem = None, result
        else:
            self._value, self._problem = result, None

    def _told(self, problem: Exception) -> Unusable:
        """A new one each time: the same object would gather the tracebacks of all who have raised it."""
        if isinstance(problem, WrongLine):
            told = Unusable(f"{self.path}:{problem.line}", problem.text, self._asked)
        elif isinstance(problem, UnicodeDecodeError):
            told = Unusable(str(self.path), "this is not UTF-8", self._asked)
        else:
            told = Unusable(str(self.path), _words(problem), self._asked)
        told.__cause__ = problem
        return told


@implementer(ITable)
class PairsTable:
    """A file of keys and values."""

    def __init__(
        self,
        settings: TableSettings,
        clock: IClock,
        apart: Apart | None = None,
        before: PairsTable | None = None,
        asked: str | Path = "",
    ) -> None:
        """
        Reads the file, unless there was one of the same settings `before` and the file has not changed since.

        Raises `Unusable`.
        """
        self._settings = settings
        self._checks: tuple[Check, ...] = ()
        #: What all of its lines have passed already.
        self._passed: tuple[Check, ...] = ()
        self._file: FileTable[dict[str, str]]
        if before is not None and before._settings == settings and before._file.is_current:
            self._file = before._file.successor(self._parse)
            self._passed = before._checks
        else:
            self._file = FileTable(settings.file, self._parse, clock, apart, asked)

    @property
    def secret(self) -> bool:
        """No value is to be told in an account of what was looked at."""
        return self._settings.secret

    def get(self, key: str) -> str | None:
        try:
            values = self._file.current()
        except Unusable as problem:
            if not self.secret:
                raise
            # What is said of it quotes the line: `relayctl check` tells who may read the file.
            raise Unusable(problem.place, "it cannot be used", problem.asked) from None
        return values.get(fold(key) if self._settings.fold else key)

    async def refresh(self) -> None:
        """As `FileTable.refresh`."""
        await self._file.refresh()

    def checked(self, check: Check) -> PairsTable:
        if check in self._checks:
            return self
        values = self._file.current()
        self._checks += (check,)
        if check in self._passed and self._file.shared:
            return self
        try:
            for key, value in values.items():
                check(key, value)
        except ValueError:
            self._file.read()  # once more: to find the line
            raise
        return self

    def _parse(self, file: TextIO) -> dict[str, str]:
        settings = self._settings
        pairs = columns(file) if settings.format == "columns" else separated(file, header=settings.header)
        return table_of(pairs, fold=settings.fold, checks=self._checks)


@implementer(ITable)
class GivenTable:
    """What somebody has written down in the place of a file. Letter case means nothing in keys."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {fold(key): value for key, value in values.items()}

    def get(self, key: str) -> str | None:
        return self._values.get(fold(key))

    def checked(self, check: Check) -> GivenTable:
        for key, value in self._values.items():
            check(key, value)
        return self


class Tables:
    """`relay.interfaces.World.table`: each is read when it is first asked for, and whoever asks again gets the same."""

    def __init__(
        self,
        tables: Sequence[TableSettings],
        clock: IClock,
        apart: Apart | None = None,
        before: Tables | None = None,
    ) -> None:
        """`before`: those of the configuration before this one. What has not changed is not read again."""
        self._before: dict[str | Path, PairsTable] = {} if before is None else before._made
        self._settings = {table.name: table for table in tables}
        self._clock = clock
        self._apart = apart
        self._made: dict[str | Path, PairsTable] = {}

    def __call__(self, name: str | Path) -> ITable:
        table = self._made.get(name)
        if table is None:
            before = self._before.get(name)
            table = self._made[name] = PairsTable(self._settings_of(name), self._clock, self._apart, before, name)
        return table

    async def refresh(self) -> None:
        """Read what has changed: large files in threads, so that the `Tables` after these find nothing to read."""
        for table in list(self._made.values()):
            await table.refresh()

    def complete(self) -> None:
        """All have been asked for: those of the configuration before this one are let go of."""
        self._before = {}

    def _settings_of(self, name: str | Path) -> TableSettings:
        if isinstance(name, Path):
            return TableSettings(name="file", file=name, format="csv" if name.suffix == ".csv" else "columns")
        settings = self._settings.get(name)
        if settings is None:
            raise Unusable("", f"there is no [[table]] called '{name}'{did_you_mean(name, self._settings)}", name)
        return settings


def _sign(status: os.stat_result) -> _Sign:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _empty(value: object) -> None:
    """A dictionary that nobody has any more, in portions, so that other threads have their turn."""
    if isinstance(value, dict):
        while value:
            for _ in range(min(_PORTION, len(value))):
                value.popitem()
