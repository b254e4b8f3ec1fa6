"""Putting one query to one DNS server: by datagram, or by TCP where a datagram is too short."""

from __future__ import annotations

import struct
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.protocol import ClientFactory, Protocol

from relay.config.addresses import Inet
from relay.interfaces import IClock
from relay.net.clock import cancel
from relay.net.datagrams import OpenDatagrams
from relay.net.dnswire import Query, Refused, Response


@frozen
class Silent:
    """The server did not answer in time."""

    why: str = "no answer"


class DnsTransport:
    """
    Asks, and reports what came back: a value for everything that a server or the network can do.

    A question by datagram has a port of its own, which is closed when `by_datagram` returns; one by TCP a connection,
    which `close` waits for.
    """

    def __init__(self, reactor: Any, clock: IClock, open_datagrams: OpenDatagrams) -> None:
        """`reactor` provides `IReactorTCP`."""
        self._reactor = reactor
        self._clock = clock
        self._open_datagrams = open_datagrams
        self._leaving: set[Deferred[None]] = set()

    async def by_datagram(self, server: Inet, query: Query, timeout: float) -> Response | Silent:
        """Send the query once, and wait for its response. Whatever else arrives is passed over in silence."""
        asked: Asked = Asked()

        def received(octets: bytes) -> None:
            response = query.read(octets)
            if response is not None:
                asked.settle(response)

        try:
            datagrams = self._open_datagrams(server, received, lambda why: asked.settle(Refused(why)))
        except OSError as problem:  # no route, no descriptor left
            return Refused(problem.strerror or "no socket")
        try:
            datagrams.send(query.octets)
            return await asked.wait(self._clock, timeout)
        except OSError as problem:
            return Refused(problem.strerror or "not sent")
        finally:
            datagrams.close()

    async def by_tcp(self, server: Inet, query: Query, timeout: float) -> Response | Silent:
        """Connect, ask, and hang up."""
        stream = _StreamFactory(query)
        self._leaving.add(stream.gone)
        stream.gone.addCallback(lambda _: self._leaving.discard(stream.gone))
        connector = self._reactor.connectTCP(server.host, server.port, stream, timeout)
        try:
            return await stream.asked.wait(self._clock, timeout)
        finally:
            connector.disconnect()

    async def close(self) -> None:
        """Returns when no connection is left."""
        await DeferredList(list(self._leaving))


class Asked:
    """A query under way: settled once, by the first who knows how it ended."""

    def __init__(self) -> None:
        self._settled: Deferred[Response | Silent] = Deferred()

    def settle(self, response: Response | Silent) -> None:
        """Say how it ended; too late is no mistake."""
        if not self._settled.called:
            self._settled.callback(response)

    async def wait(self, clock: IClock, timeout: float) -> Response | Silent:
        timer = clock.callLater(timeout, self.settle, Silent())
        try:
            return await self._settled
        finally:
            cancel(timer)


class _StreamFactory(ClientFactory):
    """One connection, one query (RFC 7766 section 6.2.1 would allow for more; long answers are rare)."""

    noisy = False

    def __init__(self, query: Query) -> None:
        self.query = query
        self.asked = Asked()
        #: Fires when the connection is no more.
        self.gone: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> _Stream:
        return _Stream(self)

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        self._ended(reason)

    def clientConnectionLost(self, connector: Any, reason: Any) -> None:
        self._ended(reason)

    def _ended(self, reason: Any) -> None:
        self.asked.settle(Refused(f"by TCP: {reason.getErrorMessage()}"))
        self.gone.callback(None)


class _Stream(Protocol):
    """Messages over TCP begin with two octets of length (RFC 1035 section 4.2.2)."""

    _LENGTH = struct.Struct("!H")

    def __init__(self, factory: _StreamFactory) -> None:
        self._factory = factory
        self._received = bytearray()

    def connectionMade(self) -> None:
        octets = self._factory.query.octets
        assert self.transport is not None
        self.transport.write(self._LENGTH.pack(len(octets)) + octets)

    def dataReceived(self, data: bytes) -> None:
        # The peer may say more than it announced; what is behind the first message is never looked at.
        if len(self._received) < self._LENGTH.size + 0xFFFF:
            self._received += data
        if len(self._received) < self._LENGTH.size:
            return
        (length,) = self._LENGTH.unpack_from(self._received)
        if len(self._received) < self._LENGTH.size + length:
            return
        message = bytes(self._received[self._LENGTH.size :][:length])
        self._factory.asked.settle(self._factory.query.read(message) or Refused("not a response to our query"))
