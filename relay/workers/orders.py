"""
What a worker is told to begin with, and how its process is started.

It gets the text of the configuration and not its file: a worker that is started again in a year has the one that is in
force, whatever the file says by then.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import asdict, evolve, field, frozen
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger, LogLevel

from relay.config.file import text_of, user
from relay.config.load import load
from relay.config.settings import Settings
from relay.net.line import Line
from relay.policy.registry import names, option_model
from relay.reloading import digest_of
from relay.sharing import Share, settings_of_share

#: Descriptors of a worker: what stands in its log, its orders, and its line. Sockets come behind them.
LOG, ORDERS, LINE, FIRST_SOCKET = 2, 3, 4, 5
#: Octets of a line of its log: a longer one is cut in pieces.
_MOST_OF_A_LINE: Final = 256 * 1024
#: Lines that are said once, of a worker that cannot begin.
_MOST_KNOWN: Final = 200


@frozen
class Reading:
    """A configuration as it was read, with what it does not say itself."""

    #: By its name for the operator, and the directory that it is in.
    file: str
    base: str
    text: str
    #: What it is known by.
    digest: str
    #: What `$hostname` and `$user` stand for.
    hostname: str
    user: str

    @classmethod
    def of(cls, file: str) -> Reading:
        """What the file of this name says now. Raises `ConfigurationError`."""
        digest = digest_of(file)
        base = str(Path(file).resolve().parent)
        return cls(file, base, text_of(file), digest, socket.gethostname(), user())

    def settings(self) -> Settings:
        """Raises `ConfigurationError`."""
        return load(
            self.text,
            file=self.file,
            base=Path(self.base),
            hostname=self.hostname,
            user=self.user,
            option_model=option_model,
            known=names,
        )


@frozen
class Orders:
    """All that a worker is told."""

    reading: Reading
    share: Share
    #: Its row in what the workers count together.
    row: int
    #: Descriptors, of sockets by the names of their listeners.
    sockets: Mapping[str, int]
    tallies: int | None = None

    def settings(self) -> Settings:
        """Its own. Raises `ConfigurationError`."""
        return settings_of_share(self.reading.settings(), self.share)

    def written(self) -> int:
        """A descriptor to read them from, which nobody but who has it can open."""
        descriptor = os.memfd_create("relay-orders", os.MFD_CLOEXEC)
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(json.dumps(asdict(self)).encode())
        return descriptor

    @classmethod
    def read(cls, descriptor: int) -> Orders:
        """What was `written`; the descriptor is closed."""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            said = json.load(file)
        return cls(Reading(**said["reading"]), Share(**said["share"]), said["row"], said["sockets"], said["tallies"])


@frozen
class Ended:
    """How a worker's process has ended: by an exit status, or by a signal."""

    status: int | None = None
    signal: int | None = None


class IsRunning(Protocol):
    """A worker's process."""

    @property
    def pid(self) -> int: ...

    @property
    def line(self) -> Line: ...

    def signal(self, number: int) -> None:
        """Send it this signal, if it still runs."""


class Process(ProcessProtocol):
    """A worker's process, whose log becomes part of the parent's."""

    transport: Any

    def __init__(
        self,
        index: int,
        line: Line,
        ended: Callable[[Ended], object],
        is_news: Callable[[str], bool] = lambda text: True,
    ) -> None:
        """`is_news`: whether to say what it says."""
        self.line = line
        self._is_news = is_news
        self._index = index
        self._ended = ended
        self._rest = b""

    @property
    def pid(self) -> int:
        return int(self.transport.pid or 0)

    def signal(self, number: int) -> None:
        # A process that has ended is not there for Twisted any more; its number may be somebody else's.
        if self.transport.pid:
            os.kill(self.transport.pid, number)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _MOST_OF_A_LINE:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self._tell(line)

    def processExited(self, reason: Any) -> None:
        self._ended(Ended(reason.value.exitCode, reason.value.signal))

    def processEnded(self, reason: Any) -> None:
        if self._rest:
            self._tell(self._rest)

    def _tell(self, line: bytes) -> None:
        """In the parent's log, in the place that it would have had there."""
        try:
            said = json.loads(line)
            level, namespace, text = LogLevel.lookupByName(said["level"]), said["namespace"], said["text"]
        except (ValueError, KeyError, TypeError, RecursionError, LookupError):
            # Not of its log: what a policy prints, or the interpreter when all is lost.
            level, namespace, text = LogLevel.warn, "relay.worker", line.decode("utf-8", "backslashreplace")
        if self._is_news(text):
            Logger(namespace=namespace).emit(level, "worker {worker}: {text}", worker=self._index, text=text)


@frozen(eq=False)
class Launch:
    """Starts processes of workers. To call it is to start one; raises `OSError`."""

    reactor: Any
    #: Descriptors that stay open, of sockets by the names of their listeners.
    sockets: Mapping[str, int]
    tallies: int | None = None
    #: What a retired worker has said that has not served yet: it may be tried for years, and say the same each time.
    _known: dict[int, set[str]] = field(factory=dict, init=False)

    def served(self, index: int) -> None:
        """This worker serves: from now on all is said that it says."""
        self._known.pop(index, None)

    def _is_news(self, index: int, text: str) -> bool:
        known = self._known.get(index)
        if known is None:
            return True
        if text in known:
            return False
        if len(known) < _MOST_KNOWN:
            known.add(text)
        return True

    def __call__(self, orders: Orders, line: Line, ended: Callable[[Ended], object]) -> IsRunning:
        """`ended` is called once, when the process is gone."""
        sockets = {} if orders.share.retired else self.sockets
        last = FIRST_SOCKET + len(sockets)
        here = {FIRST_SOCKET + at: descriptor for at, descriptor in enumerate(sockets.values())}
        there = {name: FIRST_SOCKET + at for at, name in enumerate(sockets)}
        if self.tallies is not None:
            here[last] = self.tallies
        orders = evolve(orders, sockets=there, tallies=None if self.tallies is None else last)
        index = orders.share.index
        if orders.share.retired:
            self._known.setdefault(index, set())
        process = Process(index, line, ended, partial(self._is_news, index))
        ours, its = socket.socketpair()
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        written = orders.written()
        try:
            self.reactor.spawnProcess(
                process,
                sys.executable,
                [sys.executable, "-P", "-m", "relay.worker"],
                env=_environment(),
                childFDs={0: nothing, 1: 1, LOG: "r", ORDERS: written, LINE: its.fileno(), **here},
            )
            ours.setblocking(False)
            self.reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, OneLine(line))
        finally:
            for descriptor in (nothing, written):
                os.close(descriptor)
            ours.close()
            its.close()
        return process


class OneLine(Factory):
    """For a socket that is connected already."""

    noisy = False

    def __init__(self, line: Line) -> None:
        self._line = line

    def buildProtocol(self, addr: object) -> Line:
        return self._line


def _environment() -> dict[str, str]:
    """The worker finds the modules that we have found, and what systemd hands over is ours alone."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
    return {**own, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
