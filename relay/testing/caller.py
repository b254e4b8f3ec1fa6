"""A client by hand, on a connection that TLS can be started on."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.net.tls_client import PeerTls
from relay.testing.internet import FakeInternet

_HERE = IPv4Address("TCP", "192.0.2.1", 25)


@implementer(IHandshakeListener)
class Caller(Protocol):
    """
    A client's side of a session with the relay.

    Octets travel at once: the wire between the two has a clock of its own, which runs when something is said or looked
    for. What the relay waits for takes the world's time as ever.
    """

    def __init__(self, factory: Factory, client: str = "127.0.0.1", tls: PeerTls | None = None) -> None:
        """Connect from this address, in TLS if there is some."""
        kind = IPv6Address if ":" in client else IPv4Address
        source = kind("TCP", client, 40000)
        self._clock = Clock()
        server = factory.buildProtocol(source)
        assert server is not None, "nobody answers"
        self._transport, far = FakeInternet(self._clock).pair(self, server, source, _HERE)
        self._octets = b""
        #: Every line that was heard.
        self.heard: list[str] = []
        #: The handshake is complete.
        self.encrypted = False
        #: How the connection was lost, if it was.
        self.lost: Failure | None = None
        self.makeConnection(self._transport)  # type: ignore[no-untyped-call]
        if tls is not None:
            self._transport.startTLS(tls)
        server.makeConnection(far)
        self.greeting = self.replies()

    # What the wire says.

    def dataReceived(self, data: bytes) -> None:
        self._octets += data

    def handshakeCompleted(self) -> None:
        self.encrypted = True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    # What a test says.

    @property
    def closed(self) -> bool:
        """The connection is closed."""
        self._clock.advance(0)
        return self.lost is not None

    def say(self, line: str) -> list[str]:
        """Send one line, with CRLF; returns the lines of what can be heard by now."""
        self.send(line.encode() + b"\r\n")
        return self.replies()

    def send(self, octets: bytes) -> None:
        """Send these octets."""
        self._transport.write(octets)
        self._clock.advance(0)

    def replies(self) -> list[str]:
        """The lines that were heard since the last look."""
        self._clock.advance(0)
        lines = self._octets.decode("ascii").splitlines()
        self._octets = b""
        self.heard += lines
        return lines

    def start_tls(self, tls: PeerTls) -> None:
        """Say STARTTLS, and go on in TLS. `AssertionError` if the relay will not."""
        said = self.say("STARTTLS")
        assert [line[:3] for line in said] == ["220"], said
        self._transport.startTLS(tls)
        self._clock.advance(0)

    def hang_up(self) -> None:
        """Cut the connection, without a word."""
        self._transport.abortConnection()
        self._clock.advance(0)
