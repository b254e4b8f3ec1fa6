"""
An internet in memory: what `connectTCP` and `listenTCP` of a reactor are to the rest of the relay, over one `Clock`.

Octets travel by `clock.callLater`, so `clock.advance(0)` runs a whole dialogue, and nothing moves before it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import error
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IConsumer,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorTCP,
    IReactorTime,
    ISSLTransport,
    ITLSTransport,
    ITransport,
)
from twisted.internet.protocol import ClientFactory, Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

#: How many octets a transport takes before it asks its producer to pause: Twisted's own number.
BUFFER = 64 * 1024


def whole(waiting: int) -> int:
    """Cuts nothing but what is larger than what a socket would be asked for."""
    return min(waiting, BUFFER)


@implementer(IReactorTCP)
class FakeInternet:
    """
    Hosts by address. A host that is not here cannot be reached; one that is here refuses other ports.

    `latency` is how many seconds octets travel, one way. `cut` is asked how many of the octets that wait arrive
    together: `lambda waiting: 1` is the worst network there is.
    """

    def __init__(self, clock: IReactorTime, *, latency: float = 0.0, cut: Callable[[int], int] = whole) -> None:
        self.clock = clock
        self.latency = latency
        self.cut = cut
        self._hosts: dict[str, dict[int, IProtocolFactory]] = {}
        self._silent: set[str] = set()
        #: Each attempt to connect: to which address and port, and from which address.
        self.attempts: list[tuple[str, int, str]] = []
        #: The client's ends of all connections that were made, in order.
        self.connections: list[FakeTransport] = []

    def add(self, address: str, factory: IProtocolFactory | None = None, port: int = 25) -> None:
        """A host at this address. Without a factory it is there, and nothing listens on it."""
        ports = self._hosts.setdefault(address, {})
        if factory is not None:
            ports[port] = factory

    def silence(self, address: str) -> None:
        """Packets to this address vanish: connecting takes until the deadline."""
        self._silent.add(address)

    def remove(self, address: str, port: int = 25) -> None:
        """Nothing listens there any more. Connections that were made go on."""
        self._hosts.get(address, {}).pop(port, None)

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: ClientFactory[Any],
        timeout: float = 30.0,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        version = ipaddress.ip_address(host).version  # names are for those who have a resolver
        source = bindAddress[0] if bindAddress else "192.0.2.1" if version == 4 else "2001:db8::1"
        self.attempts.append((host, port, source))
        connector = FakeConnector(self, factory, _address(source, 40000 + len(self.attempts)), _address(host, port))
        connector.start(timeout)
        return connector

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "127.0.0.1") -> IListeningPort:
        self.add(interface, factory, port)
        factory.doStart()
        return FakePort(self, factory, _address(interface, port))

    def pair(
        self,
        ours: IProtocol,
        theirs: IProtocol | None,
        source: IPv4Address | IPv6Address,
        destination: IPv4Address | IPv6Address,
        gone: Callable[[Failure], None] = lambda reason: None,
    ) -> tuple[FakeTransport, FakeTransport]:
        """Both ends of a connection, the client's first. Neither protocol has been told of it yet."""
        near = FakeTransport(self, ours, source, destination, gone=gone, client=True)
        far = FakeTransport(self, theirs, destination, source)
        near.other, far.other = far, near
        return near, far

    def listener(self, address: IPv4Address | IPv6Address) -> IProtocolFactory | Exception | None:
        """Who answers at this address; `None` if nobody ever says anything."""
        if address.host in self._silent:
            return None
        ports = self._hosts.get(address.host)
        if ports is None:
            return error.NoRouteError()
        return ports.get(address.port) or error.ConnectionRefusedError()


def _address(host: str, port: int) -> IPv4Address | IPv6Address:
    kind = IPv6Address if ipaddress.ip_address(host).version == 6 else IPv4Address
    return kind("TCP", host, port)


@implementer(IListeningPort)
class FakePort:
    """A port that somebody listens on."""

    def __init__(self, internet: FakeInternet, factory: Any, address: IPv4Address | IPv6Address) -> None:
        self._internet = internet
        self._factory = factory
        self._address = address

    def startListening(self) -> None:
        """It does already."""

    def stopListening(self) -> None:
        self._internet.remove(self._address.host, self._address.port)
        self._factory.doStop()

    def getHost(self) -> IAddress:
        return self._address


@implementer(IConnector)
class FakeConnector:
    """One attempt to connect, and the connection that came of it."""

    def __init__(
        self,
        internet: FakeInternet,
        factory: ClientFactory[Any],
        source: IPv4Address | IPv6Address,
        destination: IPv4Address | IPv6Address,
    ) -> None:
        self._internet = internet
        self._factory = factory
        self._source = source
        self._destination = destination
        self._connecting = True
        self._transport: FakeTransport | None = None
        self._timeout: Any = None

    def start(self, timeout: float) -> None:
        self._factory.doStart()
        self._factory.startedConnecting(self)
        clock = self._internet.clock
        self._timeout = clock.callLater(timeout, self._fail, error.TimeoutError())
        clock.callLater(self._internet.latency, self._arrive)

    def connect(self) -> None:
        raise NotImplementedError

    def getDestination(self) -> IAddress:
        return self._destination

    def stopConnecting(self) -> None:
        if not self._connecting:
            raise error.NotConnectingError("not connecting")
        self._fail(error.UserError())

    def disconnect(self) -> None:
        if self._connecting:
            self.stopConnecting()
        elif self._transport is not None:
            self._transport.loseConnection()

    def _fail(self, problem: Exception) -> None:
        if self._connecting:
            self._settle()
            self._factory.clientConnectionFailed(self, Failure(problem))
            self._factory.doStop()

    def _settle(self) -> None:
        self._connecting = False
        if self._timeout.active():
            self._timeout.cancel()

    def _arrive(self) -> None:
        if not self._connecting:
            return
        listener = self._internet.listener(self._destination)
        if listener is None:
            return
        if isinstance(listener, Exception):
            self._fail(listener)
            return
        self._settle()
        ours = cast(IProtocol, self._factory.buildProtocol(self._destination))
        theirs = listener.buildProtocol(self._source)
        near, far = self._internet.pair(ours, theirs, self._source, self._destination, self._gone)
        self._transport = near
        self._internet.connections.append(near)
        ours.makeConnection(near)
        if theirs is None:
            far.abortConnection()
        else:
            theirs.makeConnection(far)

    def _gone(self, reason: Failure) -> None:
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()


@implementer(ITLSTransport, IConsumer, IPushProducer)
class FakeTransport:
    """
    One end of a connection: closes, resets, pauses and is paused as Twisted's own does, and starts TLS as that does.

    An end that does not read (`pauseProducing`) takes nothing: what the other end writes stays there.
    """

    other: FakeTransport

    def __init__(
        self,
        internet: FakeInternet,
        protocol: IProtocol | None,
        host: IPv4Address | IPv6Address,
        peer: IPv4Address | IPv6Address,
        *,
        gone: Callable[[Failure], None] = lambda reason: None,
        client: bool = False,
    ) -> None:
        self._internet = internet
        self.protocol = protocol
        self._host = host
        self._peer = peer
        self._gone = gone
        self._client = client
        #: What stands between us and the protocol since TLS was started. It is `protocol`, too, then.
        self._tls: TLSMemoryBIOProtocol | None = None
        self._outgoing = bytearray()
        self._on_its_way = False
        self._reading = True
        self._producer: Any = None
        self._streaming = False
        self._producer_paused = False
        self.connected = True
        self.disconnecting = False
        self._aborting = False
        #: The most octets that ever waited here to be sent.
        self.most_buffered = 0

    # ITransport. What TLS has to see goes to it first, and comes back to us by way of `_Wire`.

    def write(self, data: bytes) -> None:
        if self._tls is None:
            self.send(data)
        elif self.connected:
            self._tls.write(data)

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        if self._tls is None:
            self.close()
        elif self.connected and not self.disconnecting:
            self._tls.loseConnection()

    def abortConnection(self) -> None:
        """Forget what was not sent, and tell the other end by a reset."""
        if self.connected and not self._aborting:
            self._aborting = True
            self._outgoing.clear()
            self._internet.clock.callLater(0, self._reset)

    def getPeer(self) -> IPv4Address | IPv6Address:
        return self._peer

    def getHost(self) -> IPv4Address | IPv6Address:
        return self._host

    # ITCPTransport, and what a socket has beyond it.

    def loseWriteConnection(self) -> None:
        raise NotImplementedError("nothing of ours closes one direction only")

    def getTcpNoDelay(self) -> bool:
        """There is no delay."""
        return True

    def setTcpNoDelay(self, enabled: bool) -> None:
        """There is no delay."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Nothing here falls asleep."""

    # ITLSTransport, and ISSLTransport from then on.

    @property
    def TLS(self) -> bool:
        """Whether TLS was started, be the handshake done or not."""
        return self._tls is not None

    def startTLS(self, contextFactory: Any, normal: bool = True) -> None:
        """
        Real TLS from here on, by what Twisted's own transport does it with; only the clock is ours.

        As there, the protocol is not connected anew, and a producer goes on behind TLS. `normal` is false where
        the one who connected is to be the server of TLS.
        """
        producer, streaming = self._producer, self._streaming
        if producer is not None:
            self.unregisterProducer()
        factory = TLSMemoryBIOFactory(contextFactory, self._client is normal, Factory(), self._internet.clock)
        # The last argument: the protocol below is connected already, and to us.
        self.protocol = self._tls = factory.protocol(factory, cast(IProtocol, self.protocol), False)
        directlyProvides(self, ISSLTransport)
        self._tls.makeConnection(_Wire(self))
        if producer is not None:
            self.registerProducer(producer, streaming)

    def getHandle(self) -> Any:
        """OpenSSL's connection. Without TLS there would be a socket, and there is none here."""
        if self._tls is None:
            raise NotImplementedError("there is no socket, and TLS was not started")
        return self._tls.getHandle()

    def getPeerCertificate(self) -> Any:
        if self._tls is None:
            raise NotImplementedError("TLS was not started")
        return self._tls.getPeerCertificate()

    # IConsumer, and we as the producer of what is read.

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._tls is None:
            self.feed(producer, streaming)
        else:
            self._tls.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        if self._tls is None:
            self.starve()
        else:
            self._tls.unregisterProducer()

    def pauseProducing(self) -> None:
        self._reading = False

    def resumeProducing(self) -> None:
        self._reading = True
        self.other._send()

    def stopProducing(self) -> None:
        self.loseConnection()

    # The same below TLS.

    def send(self, octets: bytes) -> None:
        """Send these octets as they are."""
        if not self.connected or self._aborting or not octets:
            return
        self._outgoing += octets
        self.most_buffered = max(self.most_buffered, len(self._outgoing))
        if self._producer is not None and self._streaming and len(self._outgoing) > BUFFER:
            self._producer_paused = True
            self._producer.pauseProducing()
        self._send()

    def close(self) -> None:
        """Close when all has been sent."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._send()

    def feed(self, producer: Any, streaming: bool) -> None:
        """This producer writes to us."""
        if self._producer is not None:
            raise RuntimeError("there is a producer already")
        self._producer, self._streaming, self._producer_paused = producer, streaming, False
        if not streaming:
            producer.resumeProducing()

    def starve(self) -> None:
        """No producer writes to us any more."""
        self._producer = None
        if self.disconnecting:
            self._send()

    # The network.

    def _send(self) -> None:
        if not self._on_its_way:
            self._on_its_way = True
            self._internet.clock.callLater(self._internet.latency, self._deliver)

    def _deliver(self) -> None:
        self._on_its_way = False
        other = self.other
        if not self.connected or self._aborting:
            return
        if other.disconnecting or other._aborting or not other.connected:
            self._outgoing.clear()
        elif self._outgoing and not other._reading:
            return
        elif self._outgoing:
            count = max(1, self._internet.cut(len(self._outgoing)))
            arriving = bytes(self._outgoing[:count])
            del self._outgoing[:count]
            if other.protocol is not None:
                other.protocol.dataReceived(arriving)
        if self._outgoing:
            self._send()
        elif self._producer is not None and (self._producer_paused or not self._streaming):
            self._producer_paused = False
            self._producer.resumeProducing()
        elif self.disconnecting:  # a streaming producer that may go on is not waited for: so does Twisted
            self._lost(error.ConnectionDone())
            other._lost(error.ConnectionDone())

    def _reset(self) -> None:
        self._lost(error.ConnectionAborted())
        self.other._lost(error.ConnectionLost())

    def _lost(self, problem: Exception) -> None:
        if not self.connected:
            return
        self.connected = False
        self._outgoing.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        if self.protocol is not None:
            self.protocol.connectionLost(Failure(problem))
        self._gone(Failure(problem))


@implementer(ITransport, IConsumer)
class _Wire:
    """A transport as TLS sees it: what is written here is on the wire."""

    def __init__(self, transport: FakeTransport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.send(data)

    def writeSequence(self, data: Any) -> None:
        self._transport.send(b"".join(data))

    def loseConnection(self) -> None:
        self._transport.close()

    def abortConnection(self) -> None:
        self._transport.abortConnection()

    def getPeer(self) -> IAddress:
        return self._transport.getPeer()

    def getHost(self) -> IAddress:
        return self._transport.getHost()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._transport.feed(producer, streaming)

    def unregisterProducer(self) -> None:
        self._transport.starve()
