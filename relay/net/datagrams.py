"""
Datagrams to one address and back, from a port of their own.

Twisted's own UDP port writes two lines to the log for each port that it opens, closes a turn later, and raises in
the reactor when a router says that a host cannot be reached. Here a port lives for one question.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from relay.config.addresses import Inet

#: A datagram may be as long as this; what is behind it is lost. Servers exist that send more than they were asked to.
_LONGEST = 4096
#: How many are read before the reactor gets its turn.
_AT_ONCE = 16


class Datagrams(Protocol):
    """A port that sends to, and hears, one address only."""

    def send(self, octets: bytes) -> None:
        """Send a datagram. Raises `OSError`."""

    def close(self) -> None:
        """Nothing is heard any more, at once. May be called again."""


#: Opens a port: `(address, received, broken) -> Datagrams`. `received` is called with each datagram, `broken` with
#: a reason if the address is known to be out of reach. Raises `OSError`.
OpenDatagrams = Callable[[Inet, Callable[[bytes], None], Callable[[str], None]], Datagrams]


def opener(reactor: Any) -> OpenDatagrams:
    """How ports are opened on a reactor that provides `IReactorFDSet`."""

    def open_datagrams(
        address: Inet, received: Callable[[bytes], None], broken: Callable[[str], None]
    ) -> ConnectedDatagrams:
        return ConnectedDatagrams(reactor, address, received, broken)

    return open_datagrams


@implementer(IReadDescriptor)
class ConnectedDatagrams:
    """
    A connected UDP socket: the kernel drops what another address or port sends.

    Nobody binds it, so the kernel takes a random free port from its range for it (RFC 5452 section 9.2).
    """

    def __init__(
        self, reactor: Any, address: Inet, received: Callable[[bytes], None], broken: Callable[[str], None]
    ) -> None:
        self._reactor = reactor
        self._address = address
        self._received = received
        self._broken = broken
        self._socket = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_DGRAM)
        self._open = True
        try:
            self._socket.setblocking(False)
            self._socket.connect((address.host, address.port))
        except OSError:
            self._socket.close()
            raise
        reactor.addReader(self)

    def send(self, octets: bytes) -> None:
        self._socket.send(octets)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._reactor.removeReader(self)
            self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "datagrams"

    def doRead(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._open:
                return
            try:
                octets = self._socket.recv(_LONGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as problem:  # an ICMP message: no such port, no such host, not allowed
                self._broken(self._words(problem.errno, "unreachable"))
                return
            self._received(octets)

    def connectionLost(self, reason: Any) -> None:
        """The reactor is done with us: it stops, or the descriptor went bad."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self._open else 0
        self.close()
        self._broken(self._words(number, "the port was lost"))

    def _words(self, number: int | None, otherwise: str) -> str:
        if number == errno.ECONNREFUSED:
            return f"nobody listens at {self._address}"
        return os.strerror(number) if number else otherwise
