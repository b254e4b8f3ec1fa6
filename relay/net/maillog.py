"""
The mail log: what happened to each message, a line for each event (docs/mail-log.md says which there are).

Events are kept as they came and made into lines together, in one write and with one time, that of the first of them: a
line by way of `twisted.logger` costs as much as a third of a whole message.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import ITakesTurns
from relay.mail.event import Event, Shape, shape_of
from relay.net.clock import cancel
from relay.net.disk import Disk
from relay.net.logline import Formatter, Together, json_lines, plain_json_lines, plain_text_lines, text_lines

#: All events there are.
EVENTS = frozenset(
    {
        "accepted",
        "refused",
        "authenticated",
        "discarded",
        "held",
        "released",
        "hastened",
        "rerouted",
        "deleted",
        "given_up",
        "paused",
        "resumed",
        "suppressed",
        "unsuppressed",
        "delivered",
        "relayed",
        "delayed",
        "failed",
        "noticed",
        "unnoticed",
        "notice_delayed",
        "claim_lost",
        "corrupt",
        "dropped",
    }
)

#: Events that wait for the end of a turn, and octets that wait for a disk with room or a terminal that is read.
MOST_EVENTS = 20_000
MOST_OCTETS = 1024 * 1024

#: Seconds after which a write that failed is tried again.
PAUSE = 1.0

#: A pipe that says it can be written takes this much without waiting (POSIX's PIPE_BUF; Linux: a page).
_PIECE = 4096

_STDOUT = 1
_CLOSED = -1


@implementer(ITakesTurns)
class MailLog:
    """
    Writes to a file, or to standard output (`"-"`).

    When it cannot be written (a full disk, a pipe that nobody reads), lines wait within a bound; what goes beyond is
    dropped, and a line `dropped lines=N` says so when writing works again. Mail never waits for its log.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        where: Path | Literal["-"],
        format: Literal["text", "json"] = "text",
        *,
        calendar: Callable[[], float] = time.time,
        disk: Disk | None = None,
    ) -> None:
        self._reactor = reactor
        self._where = where
        self._line: Formatter = json_lines() if format == "json" else text_lines()
        #: How all lines of a turn are made at once, where nothing has to be escaped.
        self._together: Together = plain_json_lines() if format == "json" else plain_text_lines()
        self._calendar = calendar
        self._disk = disk or Disk()
        self._log = Logger(namespace="relay.maillog")
        self._fd = _CLOSED
        self._may_wait = False
        self._events: list[Event] = []
        #: How many more events this turn may have. None, where none has begun.
        self._places = 0
        #: When this turn's first event was.
        self._when = 0.0
        self._unwritten = b""
        self._dropped = 0
        self._ailing = False
        self._turn: Any = None
        self._retry: Any = None
        #: Whoever has events for it that it was not told yet says so then.
        self._sources: tuple[Callable[[], object], ...] = ()

    def start(self) -> None:
        """Open it, and make the directory for it. Raises `OSError`. Events of before are kept."""
        if self._where != "-":
            self._where.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        self._fd = self._open()
        self.flush()

    def reopen(self) -> None:
        """Somebody has moved the file away: go on in a new one. If there can be none, go on in the old one."""
        self.flush()
        try:
            fd = self._open()
        except OSError as error:
            self._log.error("Cannot reopen the mail log {path}: {error}", path=str(self._where), error=error.strerror)
            return
        self._close()
        self._fd = fd
        self.flush()

    def close(self) -> None:
        """Write what can be written, and no more."""
        self.flush()
        cancel(self._turn)
        cancel(self._retry)
        self._close()
        self._fd = _CLOSED

    def event(self, what: str, /, **fields: object) -> None:
        if self._places or self._begin_turn():
            self._places -= 1
            self._events.append((self._when, shape_of(what, fields), tuple(fields.values())))
        else:
            self._dropped += 1

    def take(self, events: Sequence[Event]) -> None:
        waiting = self._events
        waiting += events
        excess = len(waiting) - MOST_EVENTS
        if excess > 0:
            del waiting[-excess:]
            self._dropped += excess
        self._end_turn()

    def gathered(self, tell: Callable[[], object]) -> None:
        self._sources += (tell,)

    def _begin_turn(self) -> int:
        """If none has begun. How many events it may have."""
        if self._turn is None:
            self._turn = self._reactor.callLater(0, self._end_turn)
            self._when = self._calendar()
            self._places = MOST_EVENTS - len(self._events)
        return self._places

    def flush(self) -> None:
        """Write all events of this turn."""
        for tell in self._sources:
            tell()
        self._end_turn()

    def _end_turn(self) -> None:
        if self._turn is not None:
            cancel(self._turn)
            self._turn = None
        self._places = 0
        if self._fd == _CLOSED:
            return
        events, self._events = self._events, []
        room = MOST_OCTETS - len(self._unwritten)
        lines = self._all_lines(events)
        if lines is None or len(lines) > room:
            lines = self._each_line(events, room)
        self._unwritten += lines
        self._write()

    def _all_lines(self, events: list[Event]) -> bytes | None:
        """`None`: each has to be made by itself."""
        try:
            return self._together(events)
        except Exception:
            return None  # whichever it is, it is found and said

    def _each_line(self, events: list[Event], room: int) -> bytes:
        """As many of them as there is room for: one of which something has to be escaped makes no other one costly."""
        lines = []
        for event in events:
            line = self._all_lines([event]) or self._formatted(*event)
            room -= len(line)
            if room < 0:
                self._dropped += 1
            else:
                lines.append(line)
        return b"".join(lines)

    def _formatted(self, when: float, shape: Shape[Any], row: tuple[Any, ...]) -> bytes:
        try:
            return self._line(when, shape, row).encode("utf-8", "backslashreplace")
        except Exception:
            self._log.failure("A line of the mail log could not be made")
            return b""

    def _write(self) -> None:
        if self._retry is not None:
            cancel(self._retry)
            self._retry = None
        try:
            while self._unwritten and (not self._may_wait or self._has_room()):
                piece = self._piece() if self._may_wait else self._unwritten
                written = self._disk.write(self._fd, piece)
                self._unwritten = self._unwritten[written:]
                if not self._unwritten and self._dropped:
                    self._confess()
        except BlockingIOError:
            pass
        except OSError as error:
            self._complain(error)
        if self._unwritten:
            self._retry = self._reactor.callLater(PAUSE, self._write)
        elif self._ailing:
            self._ailing = False
            self._log.info("The mail log is written again")

    def _piece(self) -> bytes:
        """Whole lines, if one of them is short enough: other processes may write to the same pipe."""
        piece = self._unwritten[:_PIECE]
        return piece[: piece.rfind(b"\n") + 1] or piece

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))

    def _confess(self) -> None:
        self._unwritten = self._formatted(self._calendar(), shape_of("dropped", ("lines",)), (self._dropped,))
        self._dropped = 0

    def _complain(self, error: OSError) -> None:
        """Once, and not for each line that waits."""
        if not self._ailing:
            self._ailing = True
            self._log.error("The mail log cannot be written: {error}", error=error.strerror or str(error))

    def _open(self) -> int:
        if self._where == "-":
            fd = _STDOUT
        else:
            fd = self._disk.open(str(self._where), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o640)
        self._may_wait = not stat.S_ISREG(self._disk.fstat(fd).st_mode)
        return fd

    def _close(self) -> None:
        if self._fd != _CLOSED and self._where != "-":
            self._disk.close(self._fd)
