"""
Twisted's stream transports, but that what is written leaves at once.

Twisted keeps what is written until the kernel has said, in a later turn of the reactor, that it would take it: four
system calls and a turn for a reply of thirty octets that the kernel had room for all the time. Here it is offered to
the kernel first. All else, above all whatever goes wrong, is Twisted's own: what the kernel does not take is buffered
as ever, and so is a write that fails: it fails again in the next turn, where Twisted is ready to lose the connection.

`RELAY_TRANSPORTS=stock` in the environment goes back to Twisted's own (`relay.net.reactor`).
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterable
from typing import Any, Final

from twisted.internet import tcp, unix
from twisted.internet._newtls import _BypassTLS
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv6Address
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.internet.protocol import Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import directlyProvides
from zope.interface.declarations import Provides

#: Only so much leaves at once. Who writes larger pieces is a producer that is to wait its turn, even for a peer that
#: takes them as fast as they are made: others want to be served meanwhile.
AT_ONCE: Final = 32 * 1024

#: What is read at once, and what is where content comes that is large.
READ: Final = 64 * 1024
READ_CONTENT: Final = 256 * 1024

PARTED: Final = Failure(CONNECTION_DONE)
_Socket: Final = socket.SocketType

#: So many connections are accepted in one turn of the reactor at most: all others have to wait for them.
MOST_ACCEPTED: Final = 100

#: Where `struct tcp_info` (tcp(7)) of a listening socket has the number of those who wait: it is called `tcpi_unacked`.
_WAITING: Final = slice(24, 28)

#: The kernel has no room now.
_FULL: Final = frozenset({errno.EWOULDBLOCK, errno.ENOBUFS})


class _Prompt(FileDescriptor):
    """The writing of all transports here, and what TLS writes through."""

    socket: socket.socket
    _aborting: bool
    #: Nothing keeps what is written from the kernel, as long as there is a connection. `False`: perhaps something does,
    #: and it has to be looked for. Whoever brings such a thing about says so here.
    _free: bool = False

    def write(self, data: bytes) -> None:
        """
        Offer `data` to the kernel, and buffer what it does not take. Never calls back but to pause a producer.

        Nothing overtakes what is buffered already; and to a pull producer Twisted promises that it is asked for more
        in another turn, once what it wrote has left.
        """
        length = len(data)
        if not (self._free or self._is_free()) or not self.connected or length > AT_ONCE or type(data) is not bytes:
            self._free = False
            FileDescriptor.write(self, data)
            return
        try:
            sent = self.socket.send(data)
        except OSError:
            # No room, or the connection is broken or half closed: Twisted meets it again in a turn of its own.
            sent = 0
        if sent != length:
            self._free = False
            FileDescriptor.write(self, data[sent:])

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        self._free = False
        FileDescriptor.writeSequence(self, iovec)

    def _is_free(self) -> bool:
        self._free = free = not (
            self._tempDataLen
            or self.dataBuffer
            or self._aborting
            or (self.producer is not None and not self.streamingProducer)
        )
        return free


class _Tls(TLSMemoryBIOProtocol):
    """
    Twisted's TLS, without the gathering of small writes, which would keep them for another turn; and without noting on
    each connection the interfaces of what is below: nobody asks TLS for them, and it took 290 calls.
    """

    _tlsConnection: Any
    _appSendBuffer: list[bytes]

    def makeConnection(self, transport: Any) -> None:
        factory: Any = self.factory
        self._tlsConnection = factory._creatorCallable(self)
        self._appSendBuffer = []
        Protocol.makeConnection(self, transport)
        factory.registerProtocol(self)
        self._checkHandshakeStatus()  # type: ignore[no-untyped-call]


class _PromptStream(_Prompt):
    """What is a `twisted.internet.tcp.Connection` besides."""

    TLS: bool
    protocol: Any
    _tlsClientDefault: bool

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not streaming:
            self._free = False
        super().registerProducer(producer, streaming)

    def abortConnection(self) -> None:
        self._free = False
        super().abortConnection()  # type: ignore[misc]

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """`ITLSTransport.startTLS`; what TLS writes leaves at once, too."""
        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        # It is for one connection, and wraps no factory.
        nothing: Any = None
        clock: Any = self.reactor
        factory = TLSMemoryBIOFactory(ctx, self._tlsClientDefault is normal, nothing, clock)
        secured = _Tls(factory, self.protocol, False)  # type: ignore[no-untyped-call]
        self.protocol = secured
        self.getHandle = secured.getHandle
        self.getPeerCertificate = secured.getPeerCertificate
        directlyProvides(self, ISSLTransport)
        self.TLS = True
        secured.makeConnection(_BypassTLS(_Prompt, self))
        if producer is not None:
            self.registerProducer(producer, streaming)
        # From now on what is written to us goes to TLS, which writes by `_Prompt`.
        self.write = self._encrypt  # type: ignore[method-assign]

    def _encrypt(self, data: bytes) -> None:
        if self.connected:
            self.protocol.write(data)

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        if self.TLS:
            self._encrypt(b"".join(iovec))
        else:
            _Prompt.writeSequence(self, iovec)


class Undelayed:
    """
    A TCP connection without Nagle's algorithm from its beginning on: since writes are not gathered, a second one would
    wait for the peer's acknowledgement of the first (RFC 9293 section 3.7.4).
    """

    def setTcpNoDelay(self, enabled: bool) -> None:
        """It is so already."""
        if not enabled:
            tcp.Connection.setTcpNoDelay(self, enabled)  # type: ignore[arg-type]


class PromptTcp(Undelayed, _PromptStream):
    """What all connections by TCP have in common."""

    #: How much is read at once. Who expects a lot may ask for more.
    readSize: int = READ
    #: It is to be closed when the protocol has done with what it is told now: all that it has said has left. `None`: it
    #: is told nothing now.
    parting: bool | None = None
    protocol: Any
    _closeSocket: Callable[[bool], None]

    def doRead(self) -> Any:
        """Twisted's own, in one step instead of two."""
        try:
            data = self.socket.recv(self.readSize)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        self.parting = False
        self.protocol.dataReceived(data)
        if self.parting:
            self._part()
        else:
            self.parting = None
        return None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if streaming and self.connected and self.producer is None and not self.TLS:
            # All that would come of it.
            self.producer, self.streamingProducer = producer, True
        else:
            super().registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self.TLS or self.disconnecting:
            super().unregisterProducer()
        else:
            self.producer = None

    def loseConnection(self, *args: Any, **kwargs: Any) -> None:
        """
        Twisted's own closes in a turn that it asks the kernel for. Where the protocol is at work, and all that it has
        said has left, that is not needed: the connection is lost when it returns, and `parting` until then. Otherwise
        it may take as long as the peer takes to read.
        """
        if (
            self.parting is None
            or self.TLS
            or self.producer is not None
            or self.disconnecting
            or self._aborting
            or self._writeDisconnected
            or not (self._free or self._is_free())
        ):
            super().loseConnection(*args, **kwargs)  # type: ignore[no-untyped-call]
            return
        self.disconnecting = 1
        self.parting = True

    def writeLast(self, data: bytes) -> None:
        """
        `write`, `unregisterProducer` and `loseConnection`. Where the connection is lost as soon as the protocol has
        done (`parting`), what is said last and its end leave together: one segment less, and the peer wakes up once.
        """
        if (
            self.parting is False
            and self._free
            and self.connected
            and not self.TLS
            and not self.disconnecting
            and not self._writeDisconnected
            and len(data) <= AT_ONCE
        ):
            try:
                sent = self.socket.send(data, socket.MSG_MORE)
            except OSError:
                sent = 0  # `write` meets it again
            if sent == len(data):
                self.producer = None
                self.disconnecting = 1
                self.parting = True
                return
            data = data[sent:]
        self.write(data)
        self.unregisterProducer()
        self.loseConnection()

    def _part(self) -> None:
        self.parting = None
        if self._aborting or self.disconnected:
            return  # which is worse, and under way or over
        if self._tempDataLen or self.dataBuffer:
            # Something was said after all, and the kernel has no room for it: Twisted closes when it has left.
            self.stopReading()  # type: ignore[no-untyped-call]
        else:
            self._lose()

    def _lose(self) -> None:
        """
        `connectionLost` in one step: we have closed it, nothing is left to leave, nobody produces for it any more, and
        nobody has aborted it.
        """
        self.disconnected, self.connected = 1, 0
        protocol: Any = self.protocol
        reactor: Any = self.reactor
        reactor.forget(self)
        self._closeSocket(True)
        del self.protocol, self.socket, self.fileno
        protocol.connectionLost(PARTED)

    def writeSomeData(self, data: bytes) -> Any:
        """Twisted's own would offer the kernel 128 KiB at most, and would then copy what is left of a larger piece."""
        try:
            return self.socket.send(data)
        except OSError as problem:
            return 0 if problem.errno in _FULL else CONNECTION_LOST


class PromptServer(PromptTcp, tcp.Server):
    """A connection that was accepted; its names are made when somebody asks, and hardly anybody does."""

    def __init__(
        self,
        sock: Any,
        protocol: Any,
        client: tuple[Any, ...],
        server: tcp.Port,
        sessionno: int,
        reactor: Any,
    ) -> None:
        # As `tcp.Connection` and `FileDescriptor` begin.
        sock.setblocking(False)
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        self.reactor = reactor
        self._tempDataBuffer: list[bytes] = []
        self._tempDataLen = 0
        if len(client) != 2:
            self._addressType = IPv6Address
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self.hostname = client[0]
        self._free = True
        reactor.addReader(self)
        self.connected = 1

    def logPrefix(self) -> str:
        # Somebody may ask when it is over, and then there is no protocol any more.
        protocol = getattr(self, "protocol", None)
        return f"{'-' if protocol is None else self._getLogPrefix(protocol)},{self.sessionno},{self.hostname}"

    def __repr__(self) -> str:
        protocol = type(getattr(self, "protocol", None)).__name__
        return f"<{protocol} #{self.sessionno} on {self.server._realPortNumber}>"


class PromptPort(tcp.Port):
    """
    Connections inherit what the listening socket is told, so that it costs no call for each: that they are undelayed,
    and that what a client says first is acknowledged by our answer, as all that it says later, and not by a segment of
    its own besides (tcp(7), `TCP_QUICKACK`).
    """

    transport = PromptServer
    socket: Any
    factory: Any
    sessionno: int
    #: As `buildProtocol`, of a factory to whom an address and a port are enough; `None`: it is not of that kind.
    _welcome: Callable[[str, int], Any] | None = None

    def startListening(self) -> None:
        self._welcome = getattr(self.factory, "welcome", None)
        super().startListening()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)

    def waiting(self) -> int:
        """How many connections wait to be accepted; 0 where the kernel does not say."""
        try:
            info: bytes = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _WAITING.stop)
        except OSError:
            return 0
        return int.from_bytes(info[_WAITING], sys.byteorder)

    def due(self) -> int:
        """How many connections are accepted now, if there are so many."""
        return max(1, min(self.waiting(), MOST_ACCEPTED))

    def doRead(self) -> None:
        """
        Twisted's own, without what it needs only where something goes wrong. If it does, it goes wrong there once more:
        descriptors may be used up, and Twisted keeps one for that.
        """
        try:
            for _ in range(self.due()):
                try:
                    descriptor, peer = self.socket._accept()
                except BlockingIOError:
                    return
                except OSError:
                    super().doRead()  # type: ignore[no-untyped-call]
                    return
                # The socket of C alone: what Python's has besides costs a third of the step, and no transport uses it.
                self._begin(_Socket(self.addressFamily, self.socketType, 0, descriptor), peer)
        except BaseException:
            # Whoever comes next is accepted all the same.
            log.err()

    def _begin(self, accepted: Any, peer: tuple[Any, ...]) -> None:
        if len(peer) == 4 and peer[3]:
            # With the name of the interface: the address means something only there (RFC 4007).
            host, _ = socket.getnameinfo(peer, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
            peer = (host, *peer[1:])
        welcome = self._welcome
        protocol: Any
        if welcome is None:
            protocol = self.factory.buildProtocol(self._buildAddr(peer))  # type: ignore[no-untyped-call]
        else:
            protocol = welcome(peer[0], peer[1])
        if protocol is None:
            accepted.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        protocol.makeConnection(PromptServer(accepted, protocol, peer, self, number, self.reactor))


class _PromptUnix(_PromptStream):
    """On a Unix socket descriptors may go along with octets, and in their order."""

    _sendmsgQueue: list[int]

    def write(self, data: bytes) -> None:
        if self._sendmsgQueue:
            FileDescriptor.write(self, data)
        else:
            _Prompt.write(self, data)


class PromptUnixServer(_PromptUnix, unix.Server):
    """A connection to a Unix socket of ours."""


class PromptUnixPort(unix.Port):
    transport = PromptUnixServer


class PromptUnixClient(_PromptUnix, unix.Client):
    """A connection to a Unix socket of somebody else."""


class PromptUnixConnector(unix.Connector):
    def _makeTransport(self) -> Any:
        return PromptUnixClient(self.address, self, self.reactor, self.checkPID)  # type: ignore[no-untyped-call]


#: zope forgets what a class' transports provide besides when there is none that does, and would make it anew for nearly
#: every connection of a quiet listener.
_NOTES: Final = tuple(Provides(each, ISSLTransport) for each in (PromptServer, PromptUnixServer, PromptUnixClient))


class PromptTransports:
    """For a reactor: all its streams are of this kind, whoever asks for one."""

    _supportedAddressFamilies: Any

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> PromptPort:
        made = PromptPort(port, factory, backlog, interface, self)
        made.startListening()
        return made

    def listenUNIX(self, address: Any, factory: Any, backlog: int = 50, mode: int = 0o666, wantPID: int = 0) -> Any:
        made: Any = PromptUnixPort(address, factory, backlog, mode, self, wantPID)
        made.startListening()
        return made

    def connectUNIX(self, address: Any, factory: Any, timeout: float = 30, checkPID: int = 0) -> Any:
        made = PromptUnixConnector(address, factory, timeout, self, checkPID)  # type: ignore[no-untyped-call]
        made.connect()
        return made

    def adoptStreamPort(self, fileDescriptor: int, addressFamily: Any, factory: Any) -> Any:
        if addressFamily not in self._supportedAddressFamilies:
            raise UnsupportedAddressFamily(addressFamily)
        made: Any
        if addressFamily == socket.AF_UNIX:
            made = PromptUnixPort._fromListeningDescriptor(self, fileDescriptor, factory)  # type: ignore[no-untyped-call]
        else:
            made = PromptPort._fromListeningDescriptor(self, fileDescriptor, addressFamily, factory)  # type: ignore[no-untyped-call]
        made.startListening()
        return made
