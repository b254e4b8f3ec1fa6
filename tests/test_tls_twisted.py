"""Our TLS under Twisted's own transport: what `TLSMemoryBIOFactory` and `startTLS` make of it."""

from __future__ import annotations

from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.test import iosim
from zope.interface import implementer

from relay.net.tls import described
from relay.net.tls_client import ClientTls, PeerTls
from relay.net.tls_server import ServerTls
from tests.test_tls import STRANGER, TlsTestCase, issue, octets

MX = "mx.example.org"


@implementer(IHandshakeListener)
class Speaker(Protocol):
    """Says something when it may, and keeps what it hears."""

    def __init__(self, words: bytes) -> None:
        self.words = words
        self.heard = b""
        self.shaken = False
        self.lost: Failure | None = None

    def handshakeCompleted(self) -> None:
        self.shaken = True
        self.transport.write(self.words)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.lost = reason


class TransportTests(TlsTestCase):
    def connect(self, listener: ServerTls, peer: PeerTls) -> tuple[Speaker, Speaker]:
        """A client and a server, after they have said all that they had to say."""
        client, server = Speaker(b"EHLO c\r\n"), Speaker(b"220 mx\r\n")

        def wrapped(creator: object, speaker: Speaker, is_client: bool) -> Protocol:
            factory = TLSMemoryBIOFactory(creator, is_client, Factory.forProtocol(lambda: speaker), self.time)
            return factory.buildProtocol(None)

        client_end, server_end = wrapped(peer, client, True), wrapped(listener, server, False)
        pump = iosim.connect(
            server_end,
            iosim.FakeTransport(server_end, isServer=True),
            client_end,
            iosim.FakeTransport(client_end, isServer=False),
        )
        self.flush(pump)
        self.pump = pump
        return client, server

    def flush(self, pump: iosim.IOPump) -> None:
        pump.flush()
        while self.time.getDelayedCalls():  # Twisted joins small writes of one turn
            self.time.advance(0)
            pump.flush()

    def test_both_sides_know_how_they_are_connected(self) -> None:
        peer = self.tls("verify").toward(MX)
        client, server = self.connect(self.listener("other.test", MX), peer)
        self.assertEqual((client.heard, server.heard), (b"220 mx\r\n", b"EHLO c\r\n"))
        self.assertTrue(peer.handshake().verified)
        facts = described(server.transport.getHandle())
        self.assertEqual((facts.protocol, facts.cipher), (peer.handshake().protocol, peer.handshake().cipher))

    def test_a_session_is_remembered_from_one_connection_to_the_next(self) -> None:
        listener, tls = self.listener(MX), self.tls("verify")
        self.assertFalse(self.talk(tls, listener))
        for _ in range(3):
            self.assertTrue(self.talk(tls, listener))

    def talk(self, tls: ClientTls, listener: ServerTls) -> bool:
        """Whether an old session was taken up."""
        peer = tls.toward(MX)
        client, server = self.connect(listener, peer)
        peer.remember()
        examined = peer._connection.examined
        self.assertTrue(peer.handshake().verified)
        client.transport.loseConnection()
        self.flush(self.pump)
        self.assertIsNotNone(server.lost)
        return not examined

    def test_a_peer_that_is_not_who_it_should_be_hears_nothing_and_the_reason_is_known(self) -> None:
        path = self.file("strange.pem", octets(issue(MX, by=STRANGER)))
        peer = self.tls("verify").toward(MX)
        client, server = self.connect(self.certificates(path).for_listener(), peer)
        self.assertEqual((client.shaken, server.shaken, server.heard), (False, False, b""))
        assert client.lost is not None
        self.assertEqual(
            peer.why(client.lost.value),
            "its certificate comes from an authority that is not trusted, or without what leads to one",
        )

    def test_one_who_does_not_speak_tls_is_told_in_words(self) -> None:
        peer = self.tls("may").toward(MX)
        client = Speaker(b"")
        factory = TLSMemoryBIOFactory(peer, True, Factory.forProtocol(lambda: client), self.time)
        end = factory.buildProtocol(None)
        end.makeConnection(iosim.FakeTransport(end, isServer=False))
        end.dataReceived(b"500 5.5.2 what?\r\n")
        end.connectionLost(Failure(ConnectionResetError()))
        assert client.lost is not None
        self.assertIn(peer.why(client.lost.value), ("wrong version number", "packet length too long"))
