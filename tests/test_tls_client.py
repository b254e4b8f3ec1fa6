"""TLS to peers: what each level asks of them, in which words a failure is told, and which sessions are taken up again."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL._util import lib
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface.verify import verifyObject

from relay.net.tls_client import _MOST_SESSIONS, ClientTls, Handshake
from relay.net.tls_files import Unusable
from relay.net.tls_selfmade import make_certificate
from tests.test_tls import (
    AUTHORITY,
    ECDSA,
    NOW,
    STRANGER,
    Meeting,
    TlsTestCase,
    issue,
    meet,
    server_context,
)

MX = "mx.example.org"


def server(identity: trustme.LeafCert, **options: bytes) -> SSL.Connection:
    return SSL.Connection(server_context(identity, **options))


class LevelTests(TlsTestCase):
    def test_what_a_level_wants_and_requires(self) -> None:
        self.assertEqual(
            [(tls.wanted, tls.required) for tls in map(self.tls, ("none", "may", "encrypt", "verify"))],
            [(False, False), (True, False), (True, True), (True, True)],
        )
        self.assertRaises(ValueError, self.tls("none").toward, MX)

    def test_may_and_encrypt_take_any_certificate(self) -> None:
        for level in ("may", "encrypt"):
            for identity in (
                issue(MX),
                issue(MX, by=STRANGER),
                issue("elsewhere.test"),
                issue(MX, expires=NOW - timedelta(days=1)),
            ):
                call, meeting = self.call(self.tls(level), MX, server(identity))
                self.assertFalse(meeting.failed)
                self.assertFalse(call.handshake().verified)

    def test_verify_takes_the_certificate_of_the_peer(self) -> None:
        call, meeting = self.call(self.tls("verify"), MX, server(issue(MX)))
        self.assertFalse(meeting.failed)
        facts = call.handshake()
        assert facts.peer_subject is not None
        self.assertEqual(
            facts,
            Handshake("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, verified=True, peer_subject=facts.peer_subject),
        )
        self.assertEqual(facts.peer_subject.hosts, (MX,))

    def test_no_level_speaks_old_versions(self) -> None:
        context = server_context(issue(MX))
        context.set_max_proto_version(SSL.TLS1_1_VERSION)
        for level in ("may", "encrypt", "verify"):
            call = self.tls(level).toward(MX)
            meeting = meet(call.clientConnectionForTLS(None), SSL.Connection(context))
            assert meeting.client_error is not None
            self.assertIn(call.why(meeting.client_error), ("unsupported protocol", "tlsv1 alert protocol version"))

    def test_a_peer_of_yesterday_gets_more_than_clear_text(self) -> None:
        for ciphers in (b"ECDHE-ECDSA-AES128-SHA", b"ECDHE-ECDSA-AES256-SHA384"):
            context = server_context(issue(MX), ciphers)
            context.set_max_proto_version(SSL.TLS1_2_VERSION)
            call, meeting = self.call(self.tls("may"), MX, SSL.Connection(context))
            self.assertFalse(meeting.failed)
            self.assertEqual(call.handshake().cipher, ciphers.decode())

    def test_a_peer_with_weak_signatures_gets_more_than_clear_text_where_that_is_permitted(self) -> None:
        authority = trustme.CA(key_type=trustme.KeyType.RSA)
        context = server_context(authority.issue_cert(MX, key_type=trustme.KeyType.RSA))
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        self.assertEqual(lib.SSL_CTX_set1_sigalgs_list(context._context, b"RSA+SHA1"), 1)
        for level, taken in (("may", True), ("encrypt", False), ("verify", False)):
            call = self.tls(level).toward(MX)
            meeting = meet(call.clientConnectionForTLS(None), SSL.Connection(context))
            self.assertIs(not meeting.failed, taken)

    def test_the_peer_is_told_which_name_is_wanted(self) -> None:
        for peer, told in ((MX, MX), ("mx.example.org.", MX), ("192.0.2.1", None), ("2001:db8::1", None)):
            _, meeting = self.call(self.tls("may"), peer, server(issue(MX)))
            name = meeting.server.get_servername()
            self.assertEqual(name.decode() if name else None, told)
            self.assertEqual(meeting.server.get_alpn_proto_negotiated(), b"")

    def test_it_is_what_twisted_wants(self) -> None:
        verifyObject(IOpenSSLClientConnectionCreator, self.tls("may").toward(MX))

    def test_authorities_that_cannot_be_read_are_named(self) -> None:
        for path in (Path("/nowhere/authority.pem"), self.file("empty.pem", b"")):
            with self.assertRaisesRegex(Unusable, str(path)):
                ClientTls("verify", self.clock, path)

    def test_without_authorities_of_our_own_the_systems_count(self) -> None:
        for system, taken in (("/dev/null", False), (str(self.authority), True)):
            with patch.dict(os.environ, SSL_CERT_FILE=system):
                call = ClientTls("verify", self.clock).toward(MX)
            meeting = meet(call.clientConnectionForTLS(None), server(issue(MX)))
            self.assertIs(meeting.client_error is None, taken)


class VerifyTests(TlsTestCase):
    def why(self, identity: trustme.LeafCert | SSL.Context, peer: str = MX) -> str | None:
        """Why this is not the peer, or `None` if it is."""
        call = self.tls("verify").toward(peer)
        context = identity if isinstance(identity, SSL.Context) else server_context(identity)
        meeting = meet(call.clientConnectionForTLS(None), SSL.Connection(context))
        if meeting.client_error is None:
            self.assertFalse(meeting.failed)
            self.assertTrue(call.handshake().verified)
            return None
        self.assertFalse(call.handshake().verified)
        # The peer hears of it, and never thinks that the connection was made.
        self.assertIsNotNone(meeting.server_error)
        return call.why(meeting.client_error)

    def test_names_that_are_the_peers(self) -> None:
        for name, peer in (
            (MX, MX),
            (MX, "mx.example.org."),
            ("MX.Example.Org", MX),
            ("*.example.org", MX),
            ("*.example.org", "mx_1.example.org"),
            ("192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
        ):
            with self.subTest(name, peer=peer):
                self.assertIsNone(self.why(issue(name), peer))
        self.assertIsNone(self.why(issue("a.test", "b.test", MX)))
        self.assertIsNone(self.why(self.signed("", names=("mx_1.example.org",)), "mx_1.example.org"))

    def test_names_that_are_not(self) -> None:
        for name, peer in (
            ("mx.example.net", MX),
            ("example.org", MX),
            ("mx.example.org.evil.test", MX),
            ("*.example.org", "a.mx.example.org"),
            ("*.example.org", "example.org"),
            ("192.0.2.1", "192.0.2.2"),
            (MX, "192.0.2.1"),
            (MX, "mx_1.example.org"),
        ):
            with self.subTest(name, peer=peer):
                self.assertRegex(self.why(issue(name), peer) or "", f"^its certificate is not for {peer} but for ")

    def test_a_common_name_is_no_name(self) -> None:
        self.assertRegex(self.why(issue("a.test", common_name=MX)) or "", "but for a.test$")
        self.assertRegex(self.why(self.signed(MX, names=())) or "", f"but for CN={MX}$")

    def test_the_subject_is_told_without_what_could_break_a_log(self) -> None:
        why = self.why(self.signed("x", names=("a\r\nb.test", "c.test", "d.test", "e.test"))) or ""
        self.assertEqual(why, f"its certificate is not for {MX} but for a??b.test, c.test, d.test")

    def test_what_is_wrong_with_a_certificate_is_said(self) -> None:
        self.assertEqual(self.why(issue(MX, expires=NOW - timedelta(hours=1))), "its certificate has expired")
        future = issue(MX, expires=NOW + timedelta(days=100))
        self.assertEqual(self.why(future), "its certificate is not valid yet")
        unknown = "its certificate comes from an authority that is not trusted, or without what leads to one"
        self.assertEqual(self.why(issue(MX, by=STRANGER)), unknown)
        between = AUTHORITY.create_child_ca(key_type=ECDSA)
        self.assertIsNone(self.why(issue(MX, by=between)))
        self.assertEqual(self.why(self.without_chain(issue(MX, by=between))), unknown)
        make_certificate(MX, self.folder / "own.pem", NOW.timestamp())
        self.assertEqual(self.why(self.own()), "its certificate is signed by nobody but itself")

    def test_a_certificate_with_a_weak_key_is_nobodys(self) -> None:
        weak = rsa.generate_private_key(65537, 1024)
        context = self.signed(MX, names=(MX,), key=weak)
        self.assertEqual(self.why(context), "its certificate has a key that is too short")
        _, meeting = self.call(self.tls("may"), MX, SSL.Connection(context))
        self.assertFalse(meeting.failed)

    def test_a_certificate_of_a_client_is_not_a_servers(self) -> None:
        usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
        self.assertEqual(self.why(self.signed(MX, names=(MX,), more=usage)), "its certificate is not meant for servers")

    def test_a_certificate_that_the_operator_has_named_itself_is_believed(self) -> None:
        make_certificate(MX, self.folder / "own.pem", NOW.timestamp())
        self.authority.write_bytes((self.folder / "own.pem").read_bytes())
        self.assertIsNone(self.why(self.own()))
        between = STRANGER.create_child_ca(key_type=ECDSA)
        self.authority.write_bytes(between.cert_pem.bytes())
        self.assertIsNone(self.why(issue(MX, by=between)))
        self.assertIsNotNone(self.why(issue(MX, by=STRANGER)))

    def test_nobody_is_verified_before_anything_was_seen(self) -> None:
        call = self.tls("verify").toward(MX)
        call.clientConnectionForTLS(None)
        self.assertFalse(call.handshake().verified)

    def test_a_connection_that_is_lost_is_nobodys_fault(self) -> None:
        call = self.tls("verify").toward(MX)
        call.clientConnectionForTLS(None)
        self.assertEqual(call.why(ConnectionResetError()), "the connection was lost")

    def own(self) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate_chain_file(str(self.folder / "own.pem"))
        context.use_privatekey_file(str(self.folder / "own.pem"))
        return context

    def without_chain(self, leaf: trustme.LeafCert) -> SSL.Context:
        path = self.file("alone.pem", leaf.private_key_pem.bytes() + leaf.cert_chain_pems[0].bytes())
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate_chain_file(str(path))
        context.use_privatekey_file(str(path))
        return context

    def signed(
        self,
        common_name: str,
        names: tuple[str, ...],
        key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
        more: x509.ExtensionType | None = None,
    ) -> SSL.Context:
        """One by an authority that signs anything, and is believed."""
        authority = ec.generate_private_key(ec.SECP256R1())
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "careless")])
        begins, ends = NOW - timedelta(days=1), NOW + timedelta(days=9)
        root = (
            x509.CertificateBuilder(issuer, issuer, authority.public_key(), 1, begins, ends)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(authority, hashes.SHA256())
        )
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        built = x509.CertificateBuilder(issuer, subject, key.public_key(), 2, begins, ends)
        if names:
            built = built.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
        if more is not None:
            built = built.add_extension(more, critical=False)
        self.authority.write_bytes(root.public_bytes(serialization.Encoding.PEM))
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")
        context.use_certificate(built.sign(authority, hashes.SHA256()))
        context.use_privatekey(key)
        return context


class SessionTests(TlsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer = server_context(issue(MX, "other.example.org"))
        self.peer.set_session_id(b"peer")
        self.older = server_context(issue(MX, "other.example.org"))
        self.older.set_session_id(b"older")
        self.older.set_max_proto_version(SSL.TLS1_2_VERSION)

    def again(self, tls: ClientTls, peer: str = MX, context: SSL.Context | None = None) -> Meeting:
        call, meeting = self.call(tls, peer, SSL.Connection(context or self.peer))
        self.assertFalse(meeting.failed)
        self.assertEqual(call.handshake().verified, tls.level == "verify")
        return meeting

    def test_a_peer_that_we_know_is_met_by_its_session(self) -> None:
        for context in (self.peer, self.older):
            for level in ("may", "encrypt", "verify"):
                tls = self.tls(level)
                self.assertEqual(
                    [self.again(tls, context=context).resumed for _ in range(4)], [False, True, True, True]
                )

    def test_a_session_is_offered_only_to_the_peer_it_began_with(self) -> None:
        tls = self.tls("verify")
        self.again(tls)
        self.assertFalse(self.again(tls, "other.example.org").resumed)
        self.assertTrue(self.again(tls, "other.example.org").resumed)
        self.assertFalse(self.again(self.tls("verify")).resumed)

    def test_a_peer_that_has_forgotten_the_session_is_looked_at_as_any_other(self) -> None:
        tls = self.tls("verify")
        self.again(tls)
        renewed = server_context(issue(MX, by=STRANGER))
        call = tls.toward(MX)
        meeting = meet(call.clientConnectionForTLS(None), SSL.Connection(renewed))
        self.assertIsNotNone(meeting.client_error)
        self.assertFalse(call.handshake().verified)

    def test_a_session_is_as_old_as_the_handshake_in_which_it_began(self) -> None:
        tls = self.tls("verify")
        renewed = server_context(issue(MX))
        met = []
        for context in (self.peer, renewed, renewed, renewed):
            met.append(self.again(tls, context=context).resumed)
            self.time.advance(1700)
        self.assertEqual(met, [False, False, True, True])

    def test_a_session_by_which_it_fails_is_not_tried_again(self) -> None:
        tls = self.tls("may")
        self.again(tls)
        tls.toward(MX).clientConnectionForTLS(None)  # and no more is heard of it
        self.assertFalse(self.again(tls).resumed)
        self.assertTrue(self.again(tls).resumed)

    def test_the_certificate_is_seen_again_after_an_hour_however_often_the_session_was_taken_up(self) -> None:
        for context in (self.peer, self.older):
            tls = self.tls("verify")
            met = []
            for _ in range(8):
                met.append(self.again(tls, context=context).resumed)
                self.time.advance(1000)
            self.assertEqual(met, [False, True, True, True, False, True, True, True])

    def test_several_connections_at_once_each_have_a_session(self) -> None:
        tls = self.tls("may")
        calls = [tls.toward(MX) for _ in range(6)]
        meetings = [meet(call.clientConnectionForTLS(None), SSL.Connection(self.peer)) for call in calls]
        for call, meeting in zip(calls, meetings, strict=True):
            meeting.say()
            call.remember()
            meeting.end()
        taken = [meet(tls.toward(MX).clientConnectionForTLS(None), SSL.Connection(self.peer)) for _ in range(6)]
        self.assertEqual([meeting.resumed for meeting in taken], [True] * 4 + [False] * 2)

    def test_a_session_with_one_port_is_not_offered_to_another(self) -> None:
        tls = self.tls("may")
        tls._sessions.keep(f"{MX}:25", self.a_session(tls), None)
        for port, offered in ((2525, False), (25, True)):
            call = tls.toward(MX, port)
            call.clientConnectionForTLS(None)
            self.assertEqual(call._offered is not None, offered)

    def test_memory_for_sessions_is_bounded(self) -> None:
        tls = self.tls("may")
        session = self.a_session(tls)
        for number in range(2 * _MOST_SESSIONS):
            for _ in range(3):
                tls._sessions.keep(f"{number}.test", session, None)
        kept = [len(sessions) for sessions in tls._sessions._kept.values()]
        self.assertLessEqual(sum(kept), _MOST_SESSIONS)
        self.assertEqual(sum(kept), tls._sessions._count)
        self.assertIsNone(tls._sessions.take("0.test"))
        newest = f"{2 * _MOST_SESSIONS - 1}.test"
        taken = [tls._sessions.take(newest) for _ in range(4)]
        self.assertEqual([one is None for one in taken], [False, False, False, True])
        self.assertEqual(tls._sessions._count, sum(kept) - 3)

    def a_session(self, tls: ClientTls) -> SSL.Session:
        self.again(tls)
        kept = tls._sessions.take(f"{MX}:25")
        assert kept is not None
        return kept.session

    def test_one_who_says_nothing_behind_its_handshake_is_met_anew(self) -> None:
        tls = self.tls("verify")
        call = tls.toward(MX)
        meeting = meet(call.clientConnectionForTLS(None), SSL.Connection(self.peer))
        call.remember()
        meeting.end()
        self.assertFalse(self.again(tls).resumed)
