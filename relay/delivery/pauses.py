"""
What an operator has paused, kept beyond a restart: whoever has stopped mail for a good reason is not overruled by the
machine's next boot.

It is a small file of JSON, written anew with each word of an operator and in the order that survives a power cut
(RELIABILITY, Durability): a new file is written and synced, gets the name, and its directory is synced.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from threading import Lock
from typing import Final, Protocol

from attrs import frozen
from twisted.logger import Logger

from relay.net.disk import Disk, opened, sync_directory, write_all

#: What is read at once.
_PIECE: Final = 65536


@frozen
class Paused:
    """Whom an operator has paused, by name, and who goes on though all that begin like it are paused."""

    names: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()


class Pausable(Protocol):
    """What restoring asks of the dispatcher."""

    def pause(self, name: str) -> None: ...
    def resume(self, name: str) -> None: ...


class Pauses:
    """
    The file. For one thread; what waits for the disk does so in `run`, which returns what its argument returned.

    Before `restore` nothing may be kept: it would replace what nobody has read yet.
    """

    def __init__(
        self,
        path: Path,
        run: Callable[[Callable[[], bytes | None]], Awaitable[bytes | None]],
        disk: Disk | None = None,
    ) -> None:
        self.path = path
        self._run = run
        self._disk = disk or Disk()
        self._log = Logger(namespace="relay.delivery")
        #: What is to be in the file. Whoever writes takes what it is by then, so the last word is what stays.
        self._wanted = Paused()
        self._writing = Lock()
        self.restored = False

    async def restore(self, delivery: Pausable) -> None:
        """
        Pause again what was paused. What cannot be read is set aside, and said aloud: it is no reason to carry nothing
        at all.
        """
        try:
            octets = await self._run(self._read)
            paused = Paused() if octets is None else _understood(octets)
        except (OSError, ValueError) as problem:
            await self._set_aside(problem)
            paused = Paused()
        self._wanted = paused
        # A name without `;` comes first, as it pauses others with it.
        for name in sorted(paused.names):
            delivery.pause(name)
            self._log.warn("{name} stays paused, as an operator has said: 'relayctl dest resume' ends it", name=name)
        for name in paused.exempt:
            delivery.resume(name)
        self.restored = True

    async def keep(self, paused: Paused) -> None:
        """When it returns, this is what is restored. Raises `OSError`: then it may be, or what was kept before."""
        self._wanted = paused
        await self._run(self._write)

    # In a thread.

    def _read(self) -> bytes | None:
        pieces = []
        try:
            with opened(self._disk, str(self.path), os.O_RDONLY | os.O_NOFOLLOW) as fd:
                while piece := self._disk.read(fd, _PIECE):
                    pieces.append(piece)
        except FileNotFoundError:
            return None
        return b"".join(pieces)

    def _write(self) -> None:
        new = self.path.with_name(f"{self.path.name}.new")
        with self._writing:
            said = {"paused": self._wanted.names, "exempt": self._wanted.exempt}
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            with opened(self._disk, str(new), flags) as fd:
                write_all(self._disk, fd, json.dumps(said, indent=1).encode() + b"\n")
                self._disk.sync(fd)
            self._disk.rename(str(new), str(self.path))
            sync_directory(self._disk, str(self.path.parent))

    def _rename(self) -> None:
        self._disk.rename(str(self.path), f"{self.path}.damaged")

    async def _set_aside(self, why: Exception) -> None:
        try:
            await self._run(self._rename)
        except OSError as problem:
            where = f"It cannot be set aside: {problem.strerror}"
        else:
            where = f"It is {self.path}.damaged now"
        self._log.error(
            "What an operator has paused cannot be read from {file} ({why}), so nothing is paused. {where}",
            file=str(self.path),
            why=str(why),
            where=where,
        )


def _understood(octets: bytes) -> Paused:
    """Raises `ValueError` if this is not what `Pauses` writes."""
    try:
        said = json.loads(octets)
    except RecursionError:
        raise ValueError("it is no list of names") from None
    if not isinstance(said, dict):
        raise ValueError("it is no list of names")
    return Paused(_names(said.get("paused")), _names(said.get("exempt")))


def _names(said: object) -> tuple[str, ...]:
    if not isinstance(said, list) or not all(isinstance(each, str) and each and each.isprintable() for each in said):
        raise ValueError("it is no list of names")
    return tuple(said)
