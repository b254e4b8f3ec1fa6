"""The certificate that we make ourselves where nobody has given us one."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from service_identity.cryptography import verify_certificate_ip_address

import relay.net.tls_selfmade
from relay.net.tls_client import ClientTls
from relay.net.tls_files import Certificate, Unusable, read_certificates
from relay.net.tls_selfmade import make_certificate, own_certificate
from tests.test_tls import NOW, TlsTestCase, issue, meet, octets

DAY = 24 * 3600.0
MADE = NOW.timestamp()


class OwnCertificateTests(TlsTestCase):
    def own(self, hostname: str = "mx.example.org", days: float = 0) -> Certificate:
        """What a relay has that starts so many days later."""
        path = own_certificate(hostname, self.path, MADE + days * DAY)
        (found,) = read_certificates([path])
        return found

    @property
    def path(self) -> Path:
        return self.folder / "var" / "tls" / "own.pem"

    def test_it_is_made_where_none_is_and_kept_from_then_on(self) -> None:
        made = self.own()
        self.assertEqual(made.names, ("mx.example.org",))
        self.assertEqual(self.own(days=3000).leaf, made.leaf)

    def test_nobody_else_can_read_it(self) -> None:
        before = os.umask(0)
        self.addCleanup(os.umask, before)
        self.own()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        self.assertEqual(stat.S_IMODE(self.path.parent.stat().st_mode), 0o700)
        self.assertEqual(os.listdir(self.path.parent), ["own.pem"])

    def test_it_holds_for_ten_years_and_is_made_anew_in_the_last_month(self) -> None:
        made = self.own()
        self.assertLessEqual(made.leaf.not_valid_before_utc.timestamp(), MADE - DAY + 1)
        self.assertLess(abs(made.expires - (MADE + 3649 * DAY)), DAY)
        self.assertEqual(self.own(days=3618).leaf, made.leaf)
        renewed = self.own(days=3620)
        self.assertNotEqual(renewed.leaf, made.leaf)
        self.assertGreater(renewed.expires, made.expires)

    def test_it_is_made_anew_for_another_host_name(self) -> None:
        self.own()
        self.assertEqual(self.own("mx.example.net").names, ("mx.example.net",))
        for address in ("192.0.2.1", "2001:db8::1"):
            self.assertEqual(self.own(address).leaf, self.own(address).leaf)
            verify_certificate_ip_address(self.own(address).leaf, address)

    def test_one_that_cannot_be_used_is_made_anew(self) -> None:
        made = self.own()
        self.path.write_bytes(self.path.read_bytes()[:400])
        again = self.own()
        self.assertNotEqual(again.leaf, made.leaf)
        self.path.chmod(0o644)
        self.assertNotEqual(self.own().leaf, again.leaf)

    def test_one_of_an_authority_is_not_ours_to_replace(self) -> None:
        self.own()
        self.path.write_bytes(octets(issue("mail.example.net")))
        self.assertEqual(self.own().names, ("mail.example.net",))
        self.path.chmod(0o644)
        self.assertRaises(Unusable, self.own)

    def test_one_who_was_interrupted_is_followed_by_one_who_is_not(self) -> None:
        self.path.parent.mkdir(parents=True)
        (self.path.parent / ".own.pem.new").write_bytes(b"half")
        self.own()
        self.assertEqual(os.listdir(self.path.parent), ["own.pem"])

    def test_of_several_processes_that_want_one_at_the_same_time_one_makes_it(self) -> None:
        asked, made, real = threading.Event(), [], fcntl.flock

        def noticed(descriptor: int, operation: int) -> None:
            asked.set()
            real(descriptor, operation)

        self.path.parent.mkdir(parents=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        real(folder, fcntl.LOCK_EX)
        self.patch(fcntl, "flock", noticed)
        self.patch(relay.net.tls_selfmade, "make_certificate", lambda *said: made.append(said))
        other = threading.Thread(target=self.own, daemon=True)
        other.start()
        self.assertTrue(asked.wait(10))
        make_certificate("mx.example.org", self.path, MADE)
        os.close(folder)
        other.join(10)
        self.assertFalse(other.is_alive() or made)

    def test_where_a_disk_knows_no_locks_it_is_made_without(self) -> None:
        def cannot(descriptor: int, operation: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        self.patch(fcntl, "flock", cannot)
        self.assertEqual(self.own().names, ("mx.example.org",))

    def test_a_long_host_name_and_a_short_one_are_names_too(self) -> None:
        for hostname in ("localhost", "mx_1.example.org", "a." * 30 + "example.org"):
            make_certificate(hostname, self.path, MADE)
            (found,) = read_certificates([self.path])
            self.assertEqual(found.names, (hostname,))

    def test_clients_shake_hands_with_it_at_little_cost(self) -> None:
        key = self.own().leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        self.assertEqual(key.curve.name, "secp256r1")
        listener = self.certificates(self.path).for_listener()
        meeting = meet(SSL.Connection(SSL.Context(SSL.TLS_METHOD)), listener.serverConnectionForTLS(None))
        self.assertFalse(meeting.failed)
        # And one who has been told of it knows us by it.
        call = ClientTls("verify", self.clock, self.path).toward("mx.example.org")
        self.assertFalse(meet(call.clientConnectionForTLS(None), listener.serverConnectionForTLS(None)).failed)
        self.assertTrue(call.handshake().verified)
