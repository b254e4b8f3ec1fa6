"""A disk that fails, or that goes away in the midst of things, at a call of the test's choice."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from relay.net.disk import Disk


class Gone(BaseException):
    """
    The process ended here.

    It is no `Exception`, so that what tidies up after errors does not see it; and where a `finally` does,
    the disk is gone for that too. So nothing is left but what was there at that moment.
    """


class FaultyDisk(Disk):
    """
    The machine's disk, but for its `n`-th call (counted from 1), which does not happen.

    * `FaultyDisk(n, errno.EIO)`: that call raises `OSError`, and those after it work.
      With `stays=True` they fail too.
    * `FaultyDisk(n)`: that call and all after it raise `Gone`, as though the process had been killed.
    * `FaultyDisk()`: nothing fails, and `calls` says what there is to fail.

    A write that does not happen has written half of its octets, as full disks and kills have it. `close` always
    works and is not counted, so that a test run keeps its descriptors. `sync` does not wait for a real disk, since
    no test could see that it did. `struck` says that it has come to
    the `n`-th call; `calls` is a transcript of names and arguments.
    """

    def __init__(self, n: int | None = None, error: int | None = None, *, stays: bool = False) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.struck = False
        self._n = n
        self._error = error
        self.stays = stays

    @property
    def names(self) -> list[str]:
        """The transcript without arguments."""
        return [name for name, _ in self.calls]

    def heal(self) -> None:
        """From now on nothing fails."""
        self._n, self.struck = None, False

    def _pass(self, name: str, args: tuple[Any, ...]) -> None:
        """Note a call, and raise if this is one that does not happen."""
        if self.struck and self._error is None:
            raise Gone
        self.calls.append((name, args))
        first = len(self.calls) == self._n
        if first and name == "write":
            fd, octets = args
            os.write(fd, octets[: len(octets) // 2])
        if first or (self.struck and self.stays):
            self.struck = True
            if self._error is None:
                raise Gone
            raise OSError(self._error, os.strerror(self._error))


def _counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: FaultyDisk, *args: Any, **kw: Any) -> Any:
        self._pass(name, args)
        return call(self, *args, **kw)

    return method


def _no_sync(_disk: Disk, fd: int) -> None:
    os.fstat(fd)  # raises for what is no descriptor


for _name, _call in list(vars(Disk).items()):
    if not _name.startswith("_") and _name != "close":
        setattr(FaultyDisk, _name, _counted(_name, _no_sync if _name == "sync" else _call))
