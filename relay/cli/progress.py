"""How far a long command has come: on standard error, and only for a person who sits at a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self, TextIO

#: For fewer it is done before anybody could look.
FEW: Final = 1000
_WIDTH: Final = 30


class Progress:
    """A bar of so many steps."""

    def __init__(self, what: str, total: int, stream: TextIO | None = None) -> None:
        self._what = what
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._shows = total >= FEW and self._stream.isatty()

    def __enter__(self) -> Self:
        self.at(0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """What stood there is gone: behind it comes what the command says."""
        if self._shows:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def at(self, done: int) -> None:
        """So many of them are done. There may be more than were counted, since mail comes and goes."""
        if not self._shows:
            return
        part = min(1.0, done / self._total)
        bar = "#" * round(part * _WIDTH)
        self._stream.write(f"\r{self._what} [{bar:<{_WIDTH}}] {done} of {max(done, self._total)}\x1b[K")
        self._stream.flush()
