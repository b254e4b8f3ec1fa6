"""Listening: from an address in the configuration to a port of the reactor."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from twisted.internet.endpoints import _SystemdParser
from twisted.internet.interfaces import IProtocolFactory
from twisted.python import context
from twisted.python.log import ILogContext
from twisted.python.systemd import ListenFDs

from relay.config.addresses import Inet, ListenAddress, Systemd, Unix
from relay.net.clock import cancel
from relay.net.transports import MOST_ACCEPTED, PromptPort, PromptUnixPort

#: What systemd has handed over. Who reads it takes it out of the environment. Twisted does so when its endpoints are
#: imported, which a plugin of its own may do before anything of ours is. So what it has found is all there is.
_HANDED_OVER: Final[ListenFDs] = _SystemdParser._sddaemon

#: How many of so many connections that wait a process is to accept now.
Share: TypeAlias = Callable[[int], int]


class NoSuchSocket(Exception):
    """systemd has not handed over such a socket to listen on; the message says so to the operator."""


def listen(reactor: Any, address: ListenAddress, factory: IProtocolFactory, *, backlog: int, mode: int = 0o666) -> Any:
    """
    Bind `address` and answer with the port, which does not accept connections before `startReading`.

    Raises `twisted.internet.error.CannotListenError`, `OSError` or `NoSuchSocket`. `mode` is that of a socket in the
    file system. A socket that a dead process has left there is replaced, that of a living one is not.

    A socket of systemd's is systemd's: its mode is as it was, and to stop listening here changes nothing for the next
    process that it is handed to.
    """
    match address:
        case Inet(host, number):
            port = _quietly(lambda: reactor.listenTCP(number, factory, backlog=backlog, interface=host))
        case Unix(path):
            _clear(path)
            port = _quietly(lambda: reactor.listenUNIX(os.fspath(path), factory, backlog=backlog, mode=mode))
        case Systemd(name):
            port = _adopt(reactor, _handed_over(name), factory, backlog, PromptPort, _NamelessUnixPort)
    port.stopReading()
    return port


def share(port: Any) -> int:
    """
    The descriptor of a port that `listen` has made, for other processes to `inherit`. They go on when it stops
    listening here.
    """
    port._shouldShutdown = False
    descriptor: int = port.fileno()
    return descriptor


def inherit(
    reactor: Any, descriptor: int, factory: IProtocolFactory, *, backlog: int, share: Share = lambda waiting: 1
) -> Any:
    """
    The port of a socket that listens already and that other processes accept from as well. It does not accept before
    `startReading`. The descriptor may be closed afterwards.

    Of those who wait it takes `share` at a time, and one at least: nobody knows whether the others take any.

    To stop listening here changes nothing for the others: neither is the socket shut down nor its name removed.
    """
    port = _adopt(reactor, descriptor, factory, backlog, _SharedPort, _SharedUnixPort)
    port.share = share
    port.stopReading()
    return port


def _adopt(
    reactor: Any,
    descriptor: int,
    factory: IProtocolFactory,
    backlog: int,
    kind: type[PromptPort],
    unix_kind: type[PromptUnixPort],
) -> Any:
    """A port of its own descriptor for a socket that listens already."""
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        family = inherited.family
        # Who has opened it may have thought of a process that does nothing else but wait for it, as systemd does.
        inherited.setblocking(False)
    port: Any
    if family == socket.AF_UNIX:
        port = unix_kind._fromListeningDescriptor(reactor, descriptor, factory)  # type: ignore[no-untyped-call]
    else:
        port = kind._fromListeningDescriptor(reactor, descriptor, family, factory)  # type: ignore[no-untyped-call]
    port.backlog = backlog
    _quietly(port.startListening)
    return port


def _quietly(listening: Callable[[], Any]) -> Any:
    """
    Begin to listen, without the line in which Twisted names the class of the factory: whoever listens tells people
    where, when it does accept. Who reads the log by events has it still, as one without a text.
    """
    return context.call({ILogContext: {**(context.get(ILogContext) or {}), "log_format": ""}}, listening)


class _NamelessUnixPort(PromptUnixPort):
    """Its name in the file system is somebody else's, and others go on when it stops listening."""

    _shouldShutdown = False

    def startListening(self) -> None:
        # It has no name for Twisted, which would change the mode of that, and remove it in the end.
        self._bindPath = b"\0"
        super().startListening()  # type: ignore[no-untyped-call]


#: Seconds after which a process looks for itself whether somebody waits at a socket that others have, too.
LOOK: Final = 1.0


class _Shared:
    """
    Of several connections that have come at once the others' processes take some, too. One connection wakes one
    process, if the reactor can say so to the kernel. If that process dies or is stopped before it has accepted, nobody
    else is told; so each looks for itself, too.

    Where it takes only one at a time, though many wait, hardly any are here at once: then each turn has little to do,
    each commit few messages, and a message costs half as much again.
    """

    reactor: Any
    share: Share
    _next_look: Any = None

    def startReading(self) -> None:
        alone = getattr(self.reactor, "addReaderAlone", None)
        if alone is None:
            # Twisted's own reactors do not know it: then all wake up, and all but one find nothing.
            self.reactor.addReader(self)
            return
        alone(self)
        if self._next_look is None:
            self._next_look = self.reactor.callLater(LOOK, self._look)

    def stopReading(self) -> None:
        self.reactor.removeReader(self)
        cancel(self._next_look)
        self._next_look = None

    def _look(self) -> None:
        self._next_look = self.reactor.callLater(LOOK, self._look)
        cast(Any, self).doRead()

    @property
    def numberAccepts(self) -> int:
        """For Twisted, where nobody can say how many wait: our share of one, and of what others have more than we."""
        return max(1, min(self.share(1), MOST_ACCEPTED))

    @numberAccepts.setter
    def numberAccepts(self, _number: int) -> None:
        """Twisted would accept more at a time, the more there are."""


class _SharedPort(_Shared, PromptPort):
    def due(self) -> int:
        return max(1, min(self.share(self.waiting()), MOST_ACCEPTED))


class _SharedUnixPort(_Shared, _NamelessUnixPort):
    pass


def _clear(path: Path) -> None:
    """
    Remove a socket that nobody answers at. Twisted's lock file would name a process, and after a restart of the
    machine, or in a container, another process has its number.
    """
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return  # binding will fail, and say so
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            probe.connect(os.fspath(path))
    except ConnectionRefusedError:
        path.unlink(missing_ok=True)
    except OSError:
        return
    else:
        raise OSError(errno.EADDRINUSE, "another process answers there: is the relay running already?")


def is_public(port: Any) -> bool:
    """Whether others than this machine can connect to a port that has been bound."""
    host = getattr(port.getHost(), "host", None)
    return host is not None and not (host.startswith("127.") or host == "::1")


def _handed_over(name: str) -> int:
    """The descriptor, which no program that is started here gets."""
    named = _HANDED_OVER.inheritedNamedDescriptors()
    if name not in named:
        known = ", ".join(sorted(named)) or "none at all"
        raise NoSuchSocket(f"systemd has handed over no socket called '{name}' (there is {known})")
    descriptor = named[name]
    os.set_inheritable(descriptor, False)
    with socket.socket(fileno=os.dup(descriptor)) as handed:
        if handed.type != socket.SOCK_STREAM or not handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise NoSuchSocket(
                f"nobody can connect to the socket '{name}' that systemd has handed over: it should be ListenStream=, "
                "without Accept=yes"
            )
    return descriptor
