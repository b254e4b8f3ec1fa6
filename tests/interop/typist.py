"""A person at a terminal: types a line into a program, and reads what comes before typing the next."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.interop.peers import PATIENCE, program


class Typist:
    """
    A program on a terminal of its own. The terminal echoes nothing, so all that is read is what the program says.

    `environ` goes beside what a terminal program needs.
    """

    def __init__(self, *command: str | Path, cwd: Path | None = None, **environ: str) -> None:
        self._terminal, its = pty.openpty()
        _no_echo(its)
        try:
            self._process = subprocess.Popen(
                [program(str(command[0])), *map(str, command[1:])],
                stdin=its,
                stdout=its,
                stderr=its,
                cwd=cwd,
                env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "COLUMNS": "120", "LINES": "50", **environ},
                start_new_session=True,
            )
        finally:
            os.close(its)
        self.screen = ""
        self._read = 0

    def reads(self, pattern: str) -> re.Match[str]:
        """Wait until this is on the screen, behind what was read before. `AssertionError` if it does not come."""
        sought = re.compile(pattern, re.MULTILINE)
        deadline = time.monotonic() + PATIENCE
        while (found := sought.search(self.screen, self._read)) is None:
            if time.monotonic() > deadline or not self._look(0.1):
                raise AssertionError(f"never read {pattern!r} in:\n{self.screen[self._read :]}")
        self._read = found.end()
        return found

    def types(self, line: str) -> Self:
        """A line, and the key at its end."""
        return self.presses(line + "\n")

    def presses(self, keys: str) -> Self:
        os.write(self._terminal, keys.encode())
        return self

    def waits(self) -> int:
        """Until the program has ended, and all it said is on the screen: its status."""
        deadline = time.monotonic() + PATIENCE
        while self._look(0.1):
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not end:\n{self.screen}")
        return self._process.wait(PATIENCE)

    def _look(self, seconds: float) -> bool:
        """See what there is to see for a moment. False when there will never be more."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return True
        try:
            octets = os.read(self._terminal, 65536)
        except OSError:  # EIO: nobody holds the other end any more
            return False
        self.screen += octets.decode(errors="replace").replace("\r\n", "\n")
        return bool(octets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._terminal)


def _no_echo(terminal: int) -> None:
    attributes = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)
