"""
The suppression list of several processes: each has all of it, and says on a line what it changes.

They share one file. Each appends what it has changed itself, and says it then: so nothing is missing to who reads the
file, whoever has died. Only the first worker writes it anew. (What another one appends in the very moment in which the
file is replaced is in memory alone.)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from relay.delivery.suppression import MOST, Suppressions, read_line
from relay.interfaces import IClock
from relay.net.line import Line

#: What is said about the list.
TOPIC: Final = "suppressed"


class SharedSuppressions(Suppressions):
    """The list of the worker with this index. What is said is what stands in the file."""

    def __init__(
        self,
        path: Path,
        clock: IClock,
        lifetime: float = 30 * 86400.0,
        most: int = MOST,
        log: Logger | None = None,
        *,
        line: Line,
        index: int,
    ) -> None:
        super().__init__(path, clock, lifetime, most, log)
        self._line = line
        self._is_first = index == 0
        line.hear(TOPIC, self._heard)

    def _heard(self, body: Any) -> None:
        address, one = read_line(body)
        self._listed.pop(address, None)
        if one is not None:
            self._listed[address] = one
            self._forget_old()
        # Who has said it has appended it.
        self._lines += 1

    def _append(self, line: dict[str, Any]) -> None:
        if self._is_first:
            super()._append(line)
        else:
            self._write(self._path, (line,), os.O_APPEND)
        self._line.say(TOPIC, line)

    def _mend(self, octets: bytes) -> None:
        if self._is_first:
            super()._mend(octets)
