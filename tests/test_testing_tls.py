"""TLS over the internet in memory: what its transports make of `startTLS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from OpenSSL._util import lib
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport, ITLSTransport
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.net.tls import described
from relay.net.tls_client import ClientTls, PeerTls
from relay.net.tls_server import ServerTls
from relay.testing.internet import BUFFER, FakeInternet, FakeTransport, whole
from tests.test_tls import STRANGER, TlsTestCase, issue, octets

MX = "mx.example.org"
ADDRESS = "192.0.2.9"


@implementer(IHandshakeListener)
class Speaker(Protocol):
    """Starts TLS when told so in a line, and keeps what it hears and how it ended."""

    transport: FakeTransport

    def __init__(self, tls: Any) -> None:
        self.tls = tls
        self.heard = b""
        #: What was heard before the handshake was complete.
        self.shaken: bytes | None = None
        self.lost: Failure | None = None
        self.greeting = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard == b"STARTTLS\r\n":
            self.transport.write(b"220 go ahead\r\n")
            self.transport.startTLS(self.tls)
        elif self.heard == b"220 go ahead\r\n":
            self.transport.startTLS(self.tls)

    def handshakeCompleted(self) -> None:
        self.shaken = self.heard
        self.transport.write(self.greeting)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason

    @property
    def ended(self) -> str | None:
        return None if self.lost is None else self.lost.type.__name__


class Calls(ClientFactory[Speaker]):
    def __init__(self, client: Speaker) -> None:
        self.client = client

    def buildProtocol(self, addr: object) -> Speaker:
        return self.client


class Fountain:
    """A producer that writes as long as it may."""

    def __init__(self, transport: FakeTransport, portions: int) -> None:
        self.transport = transport
        self.left = portions
        self.paused = 0

    def resumeProducing(self) -> None:
        self.flowing = True
        while self.flowing and self.left:
            self.left -= 1
            self.transport.write(b"x" * 10000)
        if not self.left:
            self.transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self.flowing = False
        self.paused += 1

    def stopProducing(self) -> None:
        self.flowing = False


class StartTlsTests(TlsTestCase):
    def call(self, listener: ServerTls, peer: PeerTls, *, cut: Callable[[int], int] = whole) -> tuple[Speaker, Speaker]:
        """A client and a server that have agreed on TLS, and have done what follows of it."""
        client, server = Speaker(peer), Speaker(listener)
        client.greeting, server.greeting = b"EHLO c\r\n", b"250 mx\r\n"
        internet = FakeInternet(self.time, cut=cut)
        internet.add(ADDRESS, Factory.forProtocol(lambda: server))
        internet.connectTCP(ADDRESS, 25, Calls(client))
        self.time.advance(0)
        client.transport.write(b"STARTTLS\r\n")
        self.time.advance(0)
        return client, server

    def both(self, **options: Any) -> tuple[Speaker, Speaker]:
        return self.call(self.listener(MX), self.tls("verify").toward(MX), **options)

    def test_both_sides_go_on_in_tls(self) -> None:
        peer = self.tls("verify").toward(MX)
        client, server = self.call(self.listener(MX), peer)
        self.assertEqual((client.shaken, server.shaken), (b"220 go ahead\r\n", b"STARTTLS\r\n"))
        self.assertEqual((client.heard, server.heard), (b"220 go ahead\r\n250 mx\r\n", b"STARTTLS\r\nEHLO c\r\n"))
        self.assertTrue(peer.handshake().verified)
        facts = described(server.transport.getHandle())
        self.assertEqual((facts.protocol, facts.cipher), (peer.handshake().protocol, peer.handshake().cipher))
        self.assertIsNotNone(client.transport.getPeerCertificate())
        for speaker in (client, server):
            self.assertTrue(speaker.transport.TLS)
            self.assertTrue(ISSLTransport.providedBy(speaker.transport))
            self.assertTrue(ITLSTransport.providedBy(speaker.transport))

    def test_before_it_there_is_no_tls(self) -> None:
        client = Speaker(None)
        internet = FakeInternet(self.time)
        internet.add(ADDRESS, Factory.forProtocol(lambda: Speaker(None)))
        internet.connectTCP(ADDRESS, 25, Calls(client))
        self.time.advance(0)
        self.assertFalse(client.transport.TLS)
        self.assertFalse(ISSLTransport.providedBy(client.transport))
        self.assertTrue(ITLSTransport.providedBy(client.transport))
        self.assertRaises(NotImplementedError, client.transport.getHandle)

    def test_where_the_network_cuts_means_nothing(self) -> None:
        client, server = self.both(cut=lambda waiting: 1)
        self.assertEqual((client.heard, server.heard), (b"220 go ahead\r\n250 mx\r\n", b"STARTTLS\r\nEHLO c\r\n"))

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.integers(1, 700), min_size=1))
    def test_nor_where_it_cuts_by_chance(self, cuts: list[int]) -> None:
        pieces = iter(cuts * 10000)
        client, server = self.both(cut=lambda waiting: min(waiting, next(pieces)))
        self.assertEqual((client.heard, server.heard), (b"220 go ahead\r\n250 mx\r\n", b"STARTTLS\r\nEHLO c\r\n"))

    def test_nobody_on_the_way_reads_it(self) -> None:
        peer = self.tls("verify").toward(MX)
        client, spy = Speaker(peer), Speaker(None)
        internet = FakeInternet(self.time)
        internet.add(ADDRESS, Factory.forProtocol(lambda: spy))
        internet.connectTCP(ADDRESS, 25, Calls(client))
        self.time.advance(0)
        client.transport.startTLS(peer)
        client.transport.write(b"AUTH PLAIN secret\r\n")
        self.time.advance(0)
        self.assertEqual(spy.heard[:2], b"\x16\x03")  # a handshake, RFC 8446 section 5.1
        self.assertNotIn(b"secret", spy.heard)
        self.assertIsNone(client.shaken)

    def test_the_one_who_called_may_be_the_server_of_tls(self) -> None:
        client, server = Speaker(self.listener(MX)), Speaker(self.tls("verify").toward(MX))
        client.greeting, server.greeting = b"EHLO c\r\n", b"250 mx\r\n"
        internet = FakeInternet(self.time)
        internet.add(ADDRESS, Factory.forProtocol(lambda: server))
        internet.connectTCP(ADDRESS, 25, Calls(client))
        self.time.advance(0)
        client.transport.startTLS(client.tls, normal=False)
        server.transport.startTLS(server.tls, normal=False)
        self.time.advance(0)
        self.assertEqual((client.heard, server.heard), (b"250 mx\r\n", b"EHLO c\r\n"))
        self.assertIsNotNone(server.transport.getPeerCertificate())
        self.assertIsNone(client.transport.getPeerCertificate())

    def test_a_session_is_taken_up_again(self) -> None:
        listener, tls = self.listener(MX), self.tls("verify")
        self.assertEqual([self.resumed(listener, tls) for _ in range(3)], [False, True, True])

    def resumed(self, listener: ServerTls, tls: ClientTls) -> bool:
        peer = tls.toward(MX)
        client, server = self.call(listener, peer)
        peer.remember()
        resumed = bool(lib.SSL_session_reused(server.transport.getHandle()._ssl))
        client.transport.loseConnection()
        self.time.advance(0)
        self.assertEqual((client.ended, server.ended), ("ConnectionDone", "ConnectionDone"))
        return resumed

    def test_what_was_written_before_closing_arrives(self) -> None:
        client, server = self.both()
        server.transport.write(b"221 bye\r\n")
        server.transport.loseConnection()
        self.time.advance(0)
        self.assertTrue(client.heard.endswith(b"221 bye\r\n"))
        self.assertEqual((client.ended, server.ended), ("ConnectionDone", "ConnectionDone"))

    def test_a_reset_is_one(self) -> None:
        client, server = self.both()
        server.transport.write(b"250 lost\r\n")
        server.transport.abortConnection()
        self.time.advance(0)
        self.assertNotIn(b"lost", client.heard)
        # Nobody of the two has closed TLS, and that is what Twisted's own transport calls it, too.
        self.assertEqual((client.ended, server.ended), ("ConnectionLost", "ConnectionLost"))

    def test_a_reset_in_the_handshake_leaves_nothing_behind(self) -> None:
        client, server = Speaker(self.tls("verify").toward(MX)), Speaker(None)
        internet = FakeInternet(self.time)
        internet.add(ADDRESS, Factory.forProtocol(lambda: server))
        internet.connectTCP(ADDRESS, 25, Calls(client))
        self.time.advance(0)
        client.transport.startTLS(client.tls)
        client.transport.abortConnection()
        self.time.advance(0)
        self.assertEqual((client.ended, server.ended), ("ConnectionLost", "ConnectionLost"))
        self.assertEqual(self.time.getDelayedCalls(), [])

    def test_a_certificate_that_is_not_believed_ends_it_on_both_sides(self) -> None:
        path = self.file("strange.pem", octets(issue(MX, by=STRANGER)))
        peer = self.tls("verify").toward(MX)
        client, server = self.call(self.certificates(path).for_listener(), peer)
        self.assertEqual((client.shaken, server.shaken), (None, None))
        self.assertEqual((client.ended, server.ended), ("Error", "Error"))
        assert client.lost is not None
        self.assertIn("not trusted", peer.why(client.lost.value))

    def test_a_producer_goes_on_behind_tls_and_is_paused_while_the_other_does_not_read(self) -> None:
        peer = self.tls("verify").toward(MX)
        client, server = Speaker(peer), Speaker(self.listener(MX))
        internet = FakeInternet(self.time)
        internet.add(ADDRESS, Factory.forProtocol(lambda: server))
        internet.connectTCP(ADDRESS, 25, Calls(client))
        self.time.advance(0)
        fountain = Fountain(server.transport, 100)
        server.transport.registerProducer(fountain, True)
        client.transport.write(b"STARTTLS\r\n")
        self.time.advance(0)
        client.transport.pauseProducing()
        fountain.resumeProducing()
        self.time.advance(0)
        self.assertGreater(fountain.paused, 0)
        self.assertGreater(fountain.left, 50)
        self.assertLess(server.transport.most_buffered, 3 * BUFFER)
        client.transport.resumeProducing()
        self.time.advance(0)
        self.assertEqual(fountain.left, 0)
        self.assertEqual(client.heard.count(b"x"), 1_000_000)

    def test_all_that_a_producer_has_written_arrives_before_it_closes(self) -> None:
        client, server = self.both()
        fountain = Fountain(server.transport, 30)
        server.transport.registerProducer(fountain, True)
        fountain.resumeProducing()
        self.time.advance(0)
        self.assertEqual(fountain.left, 0)
        server.transport.loseConnection()
        self.time.advance(0)
        self.assertEqual(client.heard.count(b"x"), 300_000 + 1)  # and that of `mx`
        self.assertEqual((client.ended, server.ended), ("ConnectionDone", "ConnectionDone"))
