"""TLS of listeners: which certificate a client sees, what changes on disk, what is refused, and who is taken up again."""

from __future__ import annotations

import gc
import os
from datetime import timedelta
from pathlib import Path

import trustme
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface.verify import verifyObject

from relay.net.tls import described, trouble
from relay.net.tls_files import Unusable
from relay.net.tls_server import Certificates, ServerTls, Terms
from tests.test_tls import (
    AUTHORITY,
    ECDSA,
    NOW,
    STRANGER,
    TlsTestCase,
    carry,
    client_context,
    issue,
    meet,
    octets,
    shake_hands,
    visit,
)

TLS_1_2 = {"highest": SSL.TLS1_2_VERSION}
TLS_1_3 = {"lowest": SSL.TLS1_3_VERSION}


class NameTests(TlsTestCase):
    def shown(self, listener: ServerTls, name: str | None) -> str:
        return visit(listener, name)[0].shown

    def test_a_client_sees_the_certificate_of_the_name_that_it_asks_for(self) -> None:
        listener = self.listener("mx.example.org", "mx.example.net", "*.example.com")
        for options in (TLS_1_2, TLS_1_3):
            for asked, shown in (
                ("mx.example.org", "mx.example.org"),
                ("mx.example.net", "mx.example.net"),
                ("MX.Example.NET", "mx.example.net"),
                ("a.example.com", "*.example.com"),
            ):
                with self.subTest(asked, **options):
                    self.assertEqual(visit(listener, asked, **options)[0].shown, shown)

    def test_whoever_asks_for_nothing_that_we_have_sees_the_first(self) -> None:
        listener = self.listener("mx.example.org", "mx.example.net", "*.example.com")
        for asked in (None, "elsewhere.test", "example.com", "a.b.example.com", "com", ".example.com.", "\x7f"):
            with self.subTest(asked):
                self.assertEqual(self.shown(listener, asked), "mx.example.org")

    def test_a_certificate_for_the_very_name_is_nearer_than_a_wildcard(self) -> None:
        listener = self.listener("other.test", "*.example.org", "mx.example.org")
        self.assertEqual(self.shown(listener, "mx.example.org"), "mx.example.org")
        self.assertEqual(self.shown(listener, "a.example.org"), "*.example.org")

    def test_of_two_certificates_for_a_name_the_first_is_shown(self) -> None:
        first = self.file("a.pem", octets(issue("a.test", "mx.example.org")))
        second = self.file("b.pem", octets(issue("b.test", "mx.example.org")))
        listener = self.certificates(self.file("0.pem", octets(issue("c.test"))), first, second).for_listener()
        self.assertEqual(self.shown(listener, "mx.example.org"), "a.test")

    def test_every_name_of_a_certificate_counts(self) -> None:
        many = issue(*(f"{number}.example.org" for number in range(100)))
        listener = self.certificates(
            self.file("a.pem", octets(issue("a.test"))), self.file("b.pem", octets(many))
        ).for_listener()
        self.assertEqual(self.shown(listener, "99.example.org"), "0.example.org")

    def test_what_leads_to_the_authority_is_shown_too(self) -> None:
        between = AUTHORITY.create_child_ca(key_type=ECDSA)
        listener = self.certificates(self.file("a.pem", octets(issue("a.test", by=between)))).for_listener()
        client = SSL.Context(SSL.TLS_METHOD)
        client.load_verify_locations(os.fspath(self.authority))
        client.set_verify(SSL.VERIFY_PEER)
        self.assertFalse(meet(SSL.Connection(client), listener.serverConnectionForTLS(None)).failed)

    def test_it_is_what_twisted_wants(self) -> None:
        verifyObject(IOpenSSLServerConnectionCreator, self.listener("mx.example.org"))


class RefusalTests(TlsTestCase):
    def test_old_versions_are_refused(self) -> None:
        meeting, _ = visit(self.listener("mx.example.org"), highest=SSL.TLS1_1_VERSION)
        self.assertIsNotNone(meeting.server_error)

    def test_a_listener_can_insist_on_the_newest(self) -> None:
        listener = self.listener("mx.example.org", "a.test", terms=Terms(minimum="1.3"))
        for name in ("mx.example.org", "a.test"):
            self.assertTrue(visit(listener, name, **TLS_1_2)[0].failed)
            self.assertFalse(visit(listener, name, **TLS_1_3)[0].failed)

    def test_the_ciphers_of_a_listener_are_those_of_its_terms(self) -> None:
        for terms, cipher in ((Terms(), None), (Terms(ciphers="ECDHE-ECDSA-AES128-SHA"), "ECDHE-ECDSA-AES128-SHA")):
            listener = self.listener("mx.example.org", terms=terms)
            client = SSL.Context(SSL.TLS_METHOD)
            client.set_cipher_list(b"ECDHE-ECDSA-AES128-SHA")
            client.set_max_proto_version(SSL.TLS1_2_VERSION)
            meeting = meet(SSL.Connection(client), listener.serverConnectionForTLS(None))
            self.assertEqual(None if meeting.failed else meeting.server.get_cipher_name(), cipher)

    def test_ciphers_that_nobody_knows_are_no_terms(self) -> None:
        for ciphers in ("ROT13", "ÄES"):
            with self.assertRaisesRegex(ValueError, "OpenSSL knows none of the ciphers"):
                Terms(ciphers=ciphers)

    def test_a_client_does_not_make_us_work_again_and_again(self) -> None:
        client = SSL.Connection(client_context(**TLS_1_2))
        server = meet(client, self.listener("mx.example.org").serverConnectionForTLS(None)).server
        client.renegotiate()
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        carry(client, server)
        self.assertRaises(SSL.WantReadError, server.recv, 100)
        carry(server, client)
        refused = self.assertRaises(SSL.Error, client.do_handshake)
        self.assertEqual((trouble(refused), server.total_renegotiations()), ("no renegotiation", 0))


class ChangeTests(TlsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.old = octets(issue("old.test"))
        self.path = self.file("mx.pem", self.old)
        self.watched = self.certificates(self.path)
        self.served = self.watched.for_listener()
        self.logged.clear()

    def shown(self, listener: ServerTls | None = None) -> str:
        return visit(listener or self.served)[0].shown

    def test_a_new_certificate_is_shown_once_it_is_reread(self) -> None:
        self.file("mx.pem", octets(issue("new.test")))
        self.assertEqual(self.shown(), "old.test")
        self.watched.reread()
        self.assertEqual(self.shown(), "new.test")
        self.assertEqual(self.logged, ["info: The certificates have changed and are in use now: new.test"])

    def test_one_that_is_moved_into_place_with_the_old_time_and_size_is_new_too(self) -> None:
        self.path.write_bytes(self.old.ljust(4000, b"\n"))
        self.watched.reread()
        found = self.path.stat()
        other = self.file("other.pem", octets(issue("new.test")).ljust(4000, b"\n"))
        os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
        other.rename(self.path)
        self.watched.reread()
        self.assertEqual(self.shown(), "new.test")

    def test_all_listeners_change(self) -> None:
        another = self.watched.for_listener(Terms(minimum="1.3"))
        self.file("mx.pem", octets(issue("new.test")))
        self.watched.reread()
        self.assertEqual([self.shown(), self.shown(another)], ["new.test", "new.test"])

    def test_what_has_not_changed_is_not_read(self) -> None:
        used = self.served._contexts
        self.watched.reread()
        self.assertIs(self.served._contexts, used)
        self.assertEqual(self.logged, [])

    def test_a_broken_one_keeps_the_old_serving_and_says_so_once(self) -> None:
        good = octets(issue("new.test"))
        other = octets(issue("other.test"))
        for broken in (b"", good[:600], good.replace(b"CERTIFICATE", b"CERTIFICAT"), good[:300] + other[300:]):
            with self.subTest(broken[:20]):
                self.file("mx.pem", self.old)
                self.watched.reread()
                self.logged.clear()
                self.file("mx.pem", broken)
                self.watched.reread()
                self.watched.reread()
                self.assertEqual(self.shown(), "old.test")
                self.assertEqual(len(self.logged), 1)
                self.assertIn("error: The certificates have changed and are broken, the old ones go on: ", *self.logged)
                self.assertIn(str(self.path), self.logged[0])
        self.file("mx.pem", good)
        self.watched.reread()
        self.assertEqual(self.shown(), "new.test")

    def test_one_in_a_folder_that_is_broken_beyond_recognition_is_not_passed_over(self) -> None:
        first = self.file("folder/a.pem", octets(issue("a.test")))
        self.file("folder/b.pem", octets(issue("b.test")))
        watched = self.certificates(first.parent)
        listener = watched.for_listener()
        for broken in (b"", b"some words", AUTHORITY.cert_pem.bytes()):
            first.write_bytes(broken)
            watched.reread()
            self.assertEqual(self.shown(listener), "a.test")
            self.assertIn(f"{first}: there was a certificate with its key here", self.logged[-1])
        first.unlink()  # this is meant
        watched.reread()
        self.assertEqual(self.shown(listener), "b.test")

    def test_one_that_breaks_again_is_told_again(self) -> None:
        broken, link = self.file("broken.pem", b"broken"), self.folder / "link.pem"
        link.symlink_to(self.path)
        watched = self.certificates(link)
        for _ in range(2):
            for target in (broken, self.path):
                link.unlink()
                link.symlink_to(target)
                watched.reread()
                watched.reread()
        self.assertEqual([line.partition(":")[0] for line in self.logged], ["error", "info", "error", "info"])

    def test_one_that_is_gone_keeps_the_old_serving(self) -> None:
        self.path.unlink()
        self.watched.reread()
        self.assertEqual(self.shown(), "old.test")
        self.assertIn("No such file", self.logged[0])

    def test_one_broken_among_many_keeps_all_the_old_ones_serving(self) -> None:
        second = self.file("second.pem", octets(issue("second.test")))
        watched = self.certificates(self.path, second)
        listener = watched.for_listener()
        self.file("mx.pem", octets(issue("new.test")))
        self.file("second.pem", b"broken")
        watched.reread()
        self.assertEqual(
            [visit(listener, name)[0].shown for name in ("old.test", "second.test", "new.test")],
            ["old.test", "second.test", "old.test"],
        )

    def test_one_that_openssl_does_not_take_keeps_the_old_serving(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        weak = rsa.generate_private_key(65537, 1024)
        leaf = issue_for(weak, "weak.test")
        key = weak.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.file("mx.pem", leaf + key)
        self.watched.reread()
        self.assertEqual(self.shown(), "old.test")
        self.assertIn("key too small", self.logged[0])

    def test_a_chain_that_changes_before_its_key_is_waited_for(self) -> None:
        old, new = issue("old.test"), issue("new.test")
        live = self.folder / "live" / "example"
        live.mkdir(parents=True)

        def put(name: str, content: bytes) -> None:
            self.file(f"live/example/{name}", content)

        put("fullchain.pem", old.cert_chain_pems[0].bytes())
        put("privkey.pem", old.private_key_pem.bytes())
        watched = self.certificates(self.folder / "live")
        listener = watched.for_listener()
        put("fullchain.pem", new.cert_chain_pems[0].bytes())
        watched.reread()
        self.assertEqual(self.shown(listener), "old.test")
        put("privkey.pem", new.private_key_pem.bytes())
        watched.reread()
        self.assertEqual(self.shown(listener), "new.test")

    def test_a_certificate_that_is_added_to_a_folder_is_shown(self) -> None:
        folder = self.folder / "certs"
        self.file("certs/a.pem", octets(issue("a.test")))
        watched = self.certificates(folder)
        listener = watched.for_listener()
        self.assertEqual(visit(listener, "b.test")[0].shown, "a.test")
        self.file("certs/b.pem", octets(issue("b.test")))
        watched.reread()
        self.assertEqual(visit(listener, "b.test")[0].shown, "b.test")
        self.file("certs/README", b"nothing to see here")
        self.logged.clear()
        watched.reread()
        self.assertEqual(self.logged, [])

    def test_a_link_that_points_elsewhere_is_a_change(self) -> None:
        new = self.file("archive/new.pem", octets(issue("new.test")))
        link = self.folder / "live.pem"
        link.symlink_to(self.path)
        watched = self.certificates(link)
        listener = watched.for_listener()
        link.unlink()
        link.symlink_to(new)
        watched.reread()
        self.assertEqual(self.shown(listener), "new.test")

    def test_a_key_that_others_could_read_and_no_longer_can_is_taken(self) -> None:
        self.file("mx.pem", octets(issue("new.test")), 0o644)
        self.watched.reread()
        self.assertIn("others can get at this key", self.logged[0])
        self.assertEqual(self.shown(), "old.test")
        self.path.chmod(0o600)
        self.watched.reread()
        self.assertEqual(self.shown(), "new.test")

    def test_a_client_in_the_middle_of_its_handshake_does_not_notice(self) -> None:
        second = self.file("second.pem", octets(issue("second.test")))
        watched = self.certificates(self.path, second)
        listener = watched.for_listener()
        client, server = SSL.Connection(SSL.Context(SSL.TLS_METHOD)), listener.serverConnectionForTLS(None)
        client.set_tlsext_host_name(b"second.test")
        client.set_connect_state()
        server.set_accept_state()
        for _ in range(3):  # the hello comes, and nothing is left of those who were there when the client connected
            with self.assertRaises(SSL.WantReadError):
                client.do_handshake()
            carry(client, server)
            self.file("mx.pem", octets(issue("new.test")))
            watched.reread()
            gc.collect()
        self.assertFalse(shake_hands(client, server).failed)
        self.assertEqual(client.get_peer_certificate(as_cryptography=True), self.leaf_of(watched, "second.test"))

    def leaf_of(self, watched: Certificates, name: str) -> object:
        return next(certificate.leaf for certificate in watched.current if name in certificate.names)


def issue_for(key: object, name: str) -> bytes:
    """A certificate, by nobody but itself, for a key of any kind."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    subject = x509.Name([])
    built = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW, NOW + timedelta(days=9))
    built = built.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class ReminderTests(TlsTestCase):
    def test_a_certificate_that_runs_out_is_named_in_the_log(self) -> None:
        self.certificates(
            self.file("a.pem", octets(issue("a.test", expires=NOW - timedelta(hours=1)))),
            self.file("b.pem", octets(issue("b.test", expires=NOW + timedelta(days=3, hours=1)))),
            self.file("c.pem", octets(issue("c.test", expires=NOW + timedelta(days=30)))),
            self.file("d.pem", octets(issue("d.test", expires=NOW + timedelta(days=1, hours=1)))),
            self.file("e.pem", octets(issue("e.test", expires=NOW + timedelta(hours=1)))),
        )
        self.assertEqual(
            self.logged,
            [
                f"warn: {self.folder}/a.pem: this certificate has expired",
                f"warn: {self.folder}/b.pem: this certificate expires in 3 days",
                f"warn: {self.folder}/d.pem: this certificate expires in a day",
                f"warn: {self.folder}/e.pem: this certificate expires in less than a day",
            ],
        )

    def test_a_relay_that_has_run_for_months_is_reminded(self) -> None:
        watched = self.certificates(self.file("a.pem", octets(issue("a.test", expires=NOW + timedelta(days=30)))))
        self.time.advance(20 * 24 * 3600)
        watched.reread()
        self.assertEqual(self.logged, [f"warn: {self.folder}/a.pem: this certificate expires in 9 days"])
        watched.reread()
        self.assertEqual(len(self.logged), 1)


class SessionTests(TlsTestCase):
    def resumed(self, listener: ServerTls, session: SSL.Session | None, name: str | None = None) -> bool:
        assert session is not None
        meeting, _ = visit(listener, name, session)
        self.assertFalse(meeting.failed)
        return meeting.resumed

    def test_a_session_is_taken_up_at_the_same_listener_and_not_at_another_one(self) -> None:
        watched = self.certificates(self.file("mx.pem", octets(issue("mx.example.org"))))
        submission, mx = watched.for_listener(), watched.for_listener()
        for options in (TLS_1_2, TLS_1_3):
            with self.subTest(**options):
                first, session = visit(mx, **options)
                self.assertFalse(first.resumed)
                self.assertTrue(self.resumed(mx, session))
                self.assertFalse(self.resumed(submission, session))

    def test_a_session_under_another_certificate_than_the_first_is_taken_up_too(self) -> None:
        listener = self.listener("mx.example.org", "mx.example.net")
        for options in (TLS_1_2, TLS_1_3):
            _, session = visit(listener, "mx.example.net", **options)
            self.assertTrue(self.resumed(listener, session, "mx.example.net"))

    def test_nothing_is_kept_here_for_a_client_that_has_gone(self) -> None:
        listener = self.listener("mx.example.org")
        visit(listener, **TLS_1_2)
        contexts = listener._contexts
        assert contexts is not None
        self.assertEqual(contexts.first.get_session_cache_mode(), SSL.SESS_CACHE_OFF)

    def test_the_keys_that_seal_sessions_are_replaced_twice_a_day(self) -> None:
        path = self.file("mx.pem", octets(issue("mx.example.org")))
        watched = self.certificates(path)
        listener = watched.for_listener()
        _, session = visit(listener)
        self.time.advance(12 * 3600 - 1)
        watched.reread()
        self.assertTrue(self.resumed(listener, session))
        path.write_bytes(b"broken")  # which is no reason to keep old keys
        self.time.advance(1)
        watched.reread()
        self.assertFalse(self.resumed(listener, session))


class ClientCertificateTests(TlsTestCase):
    def asking(self) -> ServerTls:
        return self.listener("mx.example.org", "a.test", terms=Terms(request_client_certificate=self.authority))

    def identity(self, by: trustme.CA, **more: object) -> trustme.LeafCert:
        return issue("ann@example.org", by=by, common_name="ann", **more)

    def test_a_client_with_a_certificate_of_the_authority_is_known(self) -> None:
        between = AUTHORITY.create_child_ca(key_type=ECDSA)
        for by in (AUTHORITY, between):
            for name in (None, "a.test"):
                for options in (TLS_1_2, TLS_1_3):
                    with self.subTest(name, **options):
                        meeting, _ = visit(self.asking(), name, identity=self.identity(by), **options)
                        subject = described(meeting.server).client_subject
                        assert subject is not None
                        self.assertEqual((subject.common_name, subject.addresses), ("ann", ("ann@example.org",)))

    def test_a_client_without_a_certificate_or_with_a_strange_one_is_served_and_not_known(self) -> None:
        listener = self.asking()
        yesterday = NOW - timedelta(days=1)
        for identity in (None, self.identity(STRANGER), self.identity(AUTHORITY, expires=yesterday)):
            for options in (TLS_1_2, TLS_1_3):
                meeting, _ = visit(listener, identity=identity, **options)
                self.assertFalse(meeting.failed)
                self.assertIsNone(described(meeting.server).client_subject)
            self.assertIs(meeting.server.get_peer_certificate() is None, identity is None)

    def test_a_certificate_that_was_not_asked_for_is_not_known(self) -> None:
        meeting, _ = visit(self.listener("mx.example.org"), identity=self.identity(AUTHORITY))
        self.assertIsNone(described(meeting.server).client_subject)

    def test_each_connection_proves_anew_who_the_client_is(self) -> None:
        listener = self.asking()
        for options in (TLS_1_2, TLS_1_3):
            _, session = visit(listener, identity=self.identity(AUTHORITY), **options)
            assert session is not None
            meeting, _ = visit(listener, None, session)
            self.assertFalse(meeting.resumed)
            self.assertIsNotNone(described(meeting.server).client_subject)

    def test_a_new_authority_counts_once_it_is_reread(self) -> None:
        watched = self.certificates(self.file("mx.pem", octets(issue("mx.example.org"))))
        listener = watched.for_listener(Terms(request_client_certificate=self.authority))

        def known() -> bool:
            meeting, _ = visit(listener, identity=self.identity(STRANGER))
            return described(meeting.server).client_subject is not None

        self.assertFalse(known())
        watched.reread()
        self.assertEqual(self.logged, [])
        self.authority.write_bytes(STRANGER.cert_pem.bytes())
        watched.reread()
        self.assertTrue(known())

    def test_authorities_that_cannot_be_read_are_named(self) -> None:
        watched = self.certificates(self.file("mx.pem", octets(issue("mx.example.org"))))
        for path in (Path("/nowhere/authority.pem"), self.file("empty.pem", b"")):
            with self.assertRaisesRegex(Unusable, str(path)):
                watched.for_listener(Terms(request_client_certificate=path))
        watched.reread()
        self.assertEqual(self.logged, [])
