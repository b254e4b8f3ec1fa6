"""Files that people edit while the relay runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeAlias, TypeVar

from relay.interfaces import IClock

T = TypeVar("T")

#: Seconds between two looks at whether a file has changed.
LOOK_EVERY: Final = 1.0

_Sign: TypeAlias = tuple[int, int, int, int]


class FileTable(Generic[T]):
    """
    What a file says, read again when it has changed.

    A file that is gone or makes no sense is an exception for everyone who asks, until it is mended: a policy
    that has lost its table must not go on as if the table were empty, and not by what it said last week.
    """

    def __init__(self, path: Path, parse: Callable[[str], T], clock: IClock) -> None:
        """
        Reads the file. `parse` makes a value of its text and raises `ValueError` where it makes no sense.

        Raises `OSError` or `ValueError`.
        """
        self.path = path
        self._parse = parse
        self._clock = clock
        self._value: T | None = None
        self._problem: Exception | None = None
        self._sign: _Sign | None = None
        self._looked = clock.seconds()
        self._read()
        if self._problem is not None:
            raise self._problem

    def current(self) -> T:
        """What it says now, or said a second ago. Raises `OSError` or `ValueError`."""
        now = self._clock.seconds()
        if now - self._looked >= LOOK_EVERY:
            self._looked = now
            self._look()
        if self._problem is not None:
            # A new one each time: the same object would gather the tracebacks of all who have raised it.
            raise ValueError(f"{self.path}: {_words(self._problem)}") from self._problem
        return self._value  # type: ignore[return-value]  # it is `None` only beside a problem

    def _look(self) -> None:
        try:
            sign = _sign(os.stat(self.path))
        except OSError as error:
            self._problem, self._sign = error, None
        else:
            if sign != self._sign:
                self._read()

    def _read(self) -> None:
        try:
            with self.path.open("rb") as file:
                # Before the content: whoever writes to it while we read changes what we find at the next look.
                self._sign = _sign(os.fstat(file.fileno()))
                self._value = self._parse(file.read().decode("utf-8-sig"))
        except (OSError, ValueError) as error:
            self._value, self._problem = None, error
        else:
            self._problem = None


def _sign(status: os.stat_result) -> _Sign:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _words(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
