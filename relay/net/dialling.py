"""
Connections that we make by TCP: Twisted's, but that what is written leaves at once; and a short way to hosts that speak
first, as all mail servers do.

Twisted asks the kernel whether it is connected in a turn of its own, connects once more to see that, and tells the
kernel five times what it waits for. Who has nothing to say before the host has spoken need not know it so early: its
first words say that it is there, and an error in their place says that it is not.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from errno import ECONNRESET, EINPROGRESS
from typing import Any, Final

from twisted.internet import error, tcp
from twisted.internet.address import IPv6Address
from twisted.internet.interfaces import IAddress, IConnector, ISSLTransport
from twisted.internet.main import CONNECTION_LOST
from twisted.python.failure import Failure
from zope.interface import implementer
from zope.interface.declarations import Provides

from relay.net.clock import cancel
from relay.net.transports import PARTED, PromptTcp

_Socket: Final = socket.SocketType
#: It does not block, from its beginning on.
_STREAM: Final = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
#: What the kernel answers when it tries to connect. (To a host of this machine it may have done so.)
_UNDER_WAY: Final = (EINPROGRESS, 0)


class PromptClient(PromptTcp, tcp.Client):
    """A connection to another host."""

    def createInternetSocket(self) -> socket.socket:
        made: socket.socket = super().createInternetSocket()  # type: ignore[no-untyped-call]
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _lose(self) -> None:
        # Its connector is to know it, too.
        self.connectionLost(PARTED)  # type: ignore[no-untyped-call]


class PromptConnector(tcp.Connector):
    def _makeTransport(self) -> tcp.Client:
        return PromptClient(self.host, self.port, self.bindAddress, self, self.reactor)  # type: ignore[no-untyped-call]


@implementer(IConnector)
class HearingClient(PromptTcp, tcp.Client):
    """
    A connection to a host that speaks first, and what `connectTCP` answers with: one attempt, which is not repeated.

    It is there when the host has spoken, or at the latest when the time for connecting is over: then the factory's
    `answered` is asked for the protocol. If there is none it hears `clientConnectionFailed`. No more is said to it.
    """

    protocol: Any
    reactor: Any
    doRead: Any
    _addressType: Any
    stopConnecting: Callable[[], None]

    def __init__(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float,
        bind: tuple[str, int] | None,
        reactor: Any,
    ) -> None:
        self._factory = factory
        self.addr = self.realAddress = host, port
        if ":" in host:
            self.addressFamily, self._addressType = socket.AF_INET6, IPv6Address
        # As `tcp.Connection` and `FileDescriptor` begin.
        self.socket: Any = None
        self.reactor = reactor
        self._tempDataBuffer: list[bytes] = []
        self._tempDataLen = 0
        self._deadline = reactor.callLater(timeout, self._time_is_over)
        self.doRead = self._hear_first
        try:
            self.socket = made = _Socket(self.addressFamily, _STREAM)
            self.fileno = made.fileno
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if bind is not None:
                made.bind(bind)
            # This raises for an address that names an interface which is not there (RFC 4007).
            outcome = made.connect_ex(self.addr)
        except OSError as problem:
            self._cannot(error.ConnectBindError(problem.errno, problem.strerror))
            return
        if outcome in _UNDER_WAY:
            reactor.addReader(self)
        else:
            self._cannot(_trouble(outcome))

    def _cannot(self, problem: Exception) -> None:
        """Whoever connects is told so in another turn."""
        self.reactor.callLater(0, self.failIfNotConnected, problem)

    def _hear_first(self) -> Any:
        """`doRead`, as long as it is not known whether there is a connection."""
        problem = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if problem and problem != ECONNRESET:
            self.failIfNotConnected(_trouble(problem))
            return None
        self._begin()
        # One that was not made is refused. This one was reset.
        return CONNECTION_LOST if problem else self.doRead()

    def _time_is_over(self) -> None:
        try:
            self.socket.getpeername()
        except OSError:
            self.failIfNotConnected(error.TimeoutError())
        else:
            # It is there, and says nothing.
            self._begin()

    def _begin(self) -> None:
        self.connected = 1
        self.protocol = protocol = self._decided().answered()
        protocol.makeConnection(self)

    def _decided(self) -> Any:
        """It is known whether there is a connection: nothing keeps the other any more."""
        cancel(self._deadline)
        factory = self._factory
        del self._deadline, self._factory, self.doRead
        return factory

    def failIfNotConnected(self, err: BaseException) -> None:
        """As Twisted calls it."""
        if self.connected or self.disconnected:
            return
        self.disconnected = 1
        if self.socket is not None:
            self.reactor.removeReader(self)
            self.socket.close()
            del self.socket, self.fileno
        self._decided().clientConnectionFailed(self, Failure(err))

    def connectionLost(self, reason: Failure) -> None:
        if self.connected:
            tcp.Connection.connectionLost(self, reason)
        else:
            self.failIfNotConnected(error.ConnectError(string=reason))

    def logPrefix(self) -> str:
        protocol = getattr(self, "protocol", None)
        return f"{'-' if protocol is None else self._getLogPrefix(protocol)},client"

    # `IConnector`.

    def connect(self) -> None:
        raise RuntimeError("this is one attempt")

    def disconnect(self) -> None:
        if self.connected:
            self.loseConnection()
        else:
            self.stopConnecting()

    def getDestination(self) -> IAddress:
        there: IAddress = self.getPeer()  # type: ignore[no-untyped-call]
        return there


def _trouble(number: int) -> Exception:
    trouble: Exception = error.getConnectError((number, os.strerror(number)))
    return trouble


#: As `relay.net.transports` has it of its own.
_NOTES: Final = tuple(Provides(each, ISSLTransport) for each in (PromptClient, HearingClient))


class PromptDialling:
    """For a reactor: all its connections to other hosts are of this kind, whoever asks for one."""

    def connectTCP(self, host: str, port: Any, factory: Any, timeout: float = 30.0, bindAddress: Any = None) -> Any:
        """
        As of `IReactorTCP`. A factory that has a method `answered` says that its hosts speak first, and are named by
        their addresses: for that see `HearingClient`.
        """
        if hasattr(factory, "answered"):
            return HearingClient(host, port, factory, timeout, bindAddress, self)
        made = PromptConnector(host, port, factory, timeout, bindAddress, self)
        made.connect()
        return made
