"""TLS toward all peers: by level, and without those with whom it fails."""

from __future__ import annotations

from pathlib import Path

from relay.mail.outcome import Peer
from relay.net.tls_files import Unusable
from relay.net.tls_peers import TlsPeers
from tests.test_tls import TlsTestCase

PEER = Peer("mx.example.net", "192.0.2.9")


class PeersTests(TlsTestCase):
    def test_authorities_that_cannot_be_read_are_found_at_the_start(self) -> None:
        self.assertRaises(Unusable, TlsPeers, self.clock, Path(self.folder / "nothing"))

    def test_sessions_are_shared_by_connections_of_one_level(self) -> None:
        peers = TlsPeers(self.clock, self.authority)
        first, second = (peers.toward("verify", PEER) for _ in range(2))
        self.assertIs(first._sessions, second._sessions)
        self.assertIsNot(first._sessions, peers.toward("may", PEER)._sessions)

    def test_a_host_is_meant_by_its_name_and_an_address_by_itself(self) -> None:
        peers = TlsPeers(self.clock)
        for name, meant in (
            ("mx.example.net", "mx.example.net"),
            ("192.0.2.9", "192.0.2.9"),
            ("[192.0.2.9]", "192.0.2.9"),
            ("[IPv6:2001:db8::9]", "2001:db8::9"),
        ):
            self.assertEqual(peers.toward("may", Peer(name, "192.0.2.9"))._peer, meant)

    def test_with_whom_tls_fails_is_remembered_for_ten_minutes(self) -> None:
        peers = TlsPeers(self.clock)
        self.assertFalse(peers.fails_with(PEER))
        peers.note_failure(PEER)
        self.time.advance(599)
        self.assertTrue(peers.fails_with(PEER))
        self.assertFalse(peers.fails_with(Peer("mx.example.net", "192.0.2.10")))
        self.time.advance(1)
        self.assertFalse(peers.fails_with(PEER))
        self.assertEqual(peers._failing, {})

    def test_the_memory_is_bounded(self) -> None:
        peers = TlsPeers(self.clock)
        for number in range(1500):
            peers.note_failure(Peer("mx.example.net", f"192.0.{number // 256}.{number % 256}"))
        self.assertEqual(len(peers._failing), 1000)
        self.assertFalse(peers.fails_with(Peer("mx.example.net", "192.0.0.0")))
