"""How a request gets to its server: one connection, over TLS that is verified, which can be broken off."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from relay.net.tls_client import PeerTls

#: Seconds.
_CONNECT: Final = 30.0
#: Octets that are listened to, of a header section and what of the rest is wanted.
_MOST: Final = 256 * 1024


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class Way:
    """
    For one request. `tls` is the TLS of its connection; `None`: it goes in clear, which somebody has permitted.

    No more than `most` octets are listened to: `exceeded` says that there would have been.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, tls: PeerTls | None, *, timeout: float = _CONNECT, most: int = _MOST
    ) -> None:
        self.exceeded = False
        self._most = most
        self._endpoint = _endpoint(reactor, host, port, timeout)
        if tls is not None:
            self._endpoint = wrapClientTLS(tls, self._endpoint)
        self._protocol: Any = None
        self._take: Callable[[bytes], None]
        self._heard = 0

    def endpointForURI(self, uri: Any) -> Any:
        return self

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        connecting: Deferred[Any] = self._endpoint.connect(protocolFactory)
        return connecting.addCallback(self._connected)

    def _connected(self, protocol: Any) -> Any:
        self._protocol = protocol
        # twisted.web takes any number of lines in a header section.
        self._take, protocol.dataReceived = protocol.dataReceived, self._bounded
        return protocol

    def _bounded(self, octets: bytes) -> None:
        self._heard += len(octets)
        if self._heard > self._most:
            self.exceeded = True
            self.close()
        else:
            self._take(octets)

    def close(self) -> bool:
        """Whatever is still to be said there, nobody listens any more. False: there is no connection yet."""
        if self._protocol is None:
            return False
        self._protocol.transport.abortConnection()
        return True


def _endpoint(reactor: Any, host: str, port: int, timeout: float) -> Any:
    try:
        address = ip_address(host)
    except ValueError:
        return HostnameEndpoint(reactor, host, port, timeout=timeout)
    # An address needs no look-up, for which the reactor's threads would be asked.
    kind = TCP6ClientEndpoint if address.version == 6 else TCP4ClientEndpoint
    return kind(reactor, host, port, timeout=timeout)
