"""What is known of a TLS connection; and what the other tests of TLS need: authorities, files, handshakes in memory."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme
from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL._util import lib
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.tls import TlsFacts
from relay.net.clock import ReactorClock
from relay.net.tls import described, subject_of, trouble
from relay.net.tls_client import ClientTls, Level, PeerTls
from relay.net.tls_server import Certificates, ServerTls, Terms

ECDSA = trustme.KeyType.ECDSA
#: The authority that everybody trusts here, and one that nobody does.
AUTHORITY = trustme.CA(key_type=ECDSA)
STRANGER = trustme.CA(key_type=ECDSA)

NOW = datetime.now(UTC)


def issue(*names: str, by: trustme.CA = AUTHORITY, expires: datetime | None = None, **more: Any) -> trustme.LeafCert:
    begins = None if expires is None else expires - timedelta(days=90)
    return by.issue_cert(*names, key_type=ECDSA, not_before=begins, not_after=expires, **more)


def octets(leaf: trustme.LeafCert) -> bytes:
    """Certificate, chain and key, in one file."""
    return leaf.private_key_and_cert_chain_pem.bytes()


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    return path


def advance(*pairs: tuple[SSL.Connection, list[SSL.Error]]) -> None:
    for connection, errors in pairs:
        try:
            if not errors:
                connection.do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            errors.append(error)


def carry(source: SSL.Connection, sink: SSL.Connection) -> bool:
    """Carry to one end what the other has said, if it has said anything."""
    try:
        said = source.bio_read(65536)
    except SSL.WantReadError:
        return False
    sink.bio_write(said)
    return True


@frozen
class Meeting:
    """A client and a server after their handshake, however it went."""

    client: SSL.Connection
    server: SSL.Connection
    client_error: SSL.Error | None
    server_error: SSL.Error | None

    @property
    def failed(self) -> bool:
        return self.client_error is not None or self.server_error is not None

    @property
    def resumed(self) -> bool:
        return bool(lib.SSL_session_reused(self.server._ssl))

    @property
    def shown(self) -> str:
        """The first name in the certificate that the client has seen."""
        certificate = self.client.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return subject_of(certificate).hosts[0]

    def say(self, words: bytes = b"220 mx") -> bytes:
        """The server says something, and behind it comes what TLS 1.3 has to say after a handshake."""
        self.server.send(words)
        carry(self.server, self.client)
        return self.client.recv(100)

    def end(self) -> None:
        """Both close as one should; else OpenSSL thinks that the session was no good."""
        self.server.shutdown()
        carry(self.server, self.client)
        self.client.shutdown()


def meet(client: SSL.Connection, server: SSL.Connection) -> Meeting:
    client.set_connect_state()
    server.set_accept_state()
    return shake_hands(client, server)


def shake_hands(client: SSL.Connection, server: SSL.Connection) -> Meeting:
    troubles: tuple[list[SSL.Error], list[SSL.Error]] = [], []
    advance((server, troubles[1]), (client, troubles[0]))
    while carry(client, server) | carry(server, client):
        advance((server, troubles[1]), (client, troubles[0]))
    return Meeting(client, server, *(errors[0] if errors else None for errors in troubles))


def visit(
    listener: ServerTls, name: str | None = None, session: SSL.Session | None = None, **options: Any
) -> tuple[Meeting, SSL.Session | None]:
    """A client that nothing is known of connects, asks for a name, says goodbye, and has a session then."""
    context = session._context if session is not None else client_context(**options)
    client = SSL.Connection(context)
    if name is not None:
        client.set_tlsext_host_name(name.encode())
    if session is not None:
        client.set_session(session)
    meeting = meet(client, listener.serverConnectionForTLS(None))
    if meeting.failed:
        return meeting, None
    meeting.say()
    meeting.end()
    return meeting, client.get_session()


def client_context(
    lowest: int = SSL.TLS1_VERSION, highest: int = SSL.TLS1_3_VERSION, identity: trustme.LeafCert | None = None
) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(b"ALL:@SECLEVEL=0")
    context.set_min_proto_version(lowest)
    context.set_max_proto_version(highest)
    if identity is not None:
        give(context, identity)
    return context


def server_context(identity: trustme.LeafCert, ciphers: bytes = b"DEFAULT:@SECLEVEL=0") -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_cipher_list(ciphers)
    give(context, identity)
    return context


def give(context: SSL.Context, identity: trustme.LeafCert) -> None:
    with identity.private_key_and_cert_chain_pem.tempfile() as path:
        context.use_certificate_chain_file(path)
        context.use_privatekey_file(path)


class TlsTestCase(SynchronousTestCase):
    """Files in a folder of its own, a clock, and what was logged."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.time = Clock()
        self.clock = ReactorClock(self.time, lambda: NOW.timestamp() + self.time.seconds())
        self.logged: list[str] = []
        self.authority = write(self.folder / "authority.crt", AUTHORITY.cert_pem.bytes(), 0o644)

    def file(self, name: str, content: bytes, mode: int = 0o600) -> Path:
        return write(self.folder / name, content, mode)

    def certificates(self, *paths: Path) -> Certificates:
        def note(event: Any) -> None:
            self.logged.append(event["log_level"].name + ": " + event["log_format"].format(**event))

        return Certificates(paths, self.clock, Logger(observer=note))

    def listener(self, *names: str, terms: Terms | None = None) -> ServerTls:
        """One that has a certificate for each of these names."""
        paths = [self.file(f"{number}.pem", octets(issue(name))) for number, name in enumerate(names)]
        return self.certificates(*paths).for_listener(terms or Terms())

    def tls(self, level: Level) -> ClientTls:
        return ClientTls(level, self.clock, self.authority if level == "verify" else None)

    def call(self, tls: ClientTls, peer: str, server: SSL.Connection) -> tuple[PeerTls, Meeting]:
        """Our client connects to a peer, and does with the session what it should."""
        call = tls.toward(peer)
        meeting = meet(call.clientConnectionForTLS(None), server)
        if not meeting.failed:
            meeting.say()
            call.remember()
            meeting.end()
        return call, meeting


def certificate(*attributes: tuple[Any, str], names: list[x509.GeneralName] | None = None) -> x509.Certificate:
    """One that says anything at all."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=1))
    if names:
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return built.sign(key, hashes.SHA256())


class SubjectTests(SynchronousTestCase):
    def test_a_certificate_says_whom_it_is_for(self) -> None:
        shown = certificate(
            (NameOID.COMMON_NAME, "ann"),
            (NameOID.ORGANIZATION_NAME, "Example, Inc."),
            names=[x509.DNSName("a.example"), x509.DNSName("b.example"), x509.RFC822Name("ann@example.org")],
        )
        subject = subject_of(shown)
        self.assertEqual(
            (subject.name, subject.common_name, subject.hosts, subject.addresses),
            ("O=Example\\, Inc.,CN=ann", "ann", ("a.example", "b.example"), ("ann@example.org",)),
        )
        self.assertEqual(subject.fingerprint, shown.fingerprint(hashes.SHA256()).hex())
        self.assertEqual(str(subject), "O=Example\\, Inc.,CN=ann")

    def test_one_without_a_name_is_known_by_its_hosts_and_one_without_those_by_its_fingerprint(self) -> None:
        self.assertEqual(str(subject_of(certificate(names=[x509.DNSName("a.example")]))), "a.example")
        nobody = subject_of(certificate())
        self.assertEqual((nobody.name, nobody.common_name, nobody.hosts, nobody.addresses), ("", None, (), ()))
        self.assertEqual(str(nobody), f"sha256:{nobody.fingerprint}")

    def test_two_common_names_are_none(self) -> None:
        two = subject_of(certificate((NameOID.COMMON_NAME, "ann"), (NameOID.COMMON_NAME, "bob")))
        self.assertIsNone(two.common_name)

    def test_what_a_certificate_says_can_stand_in_a_log(self) -> None:
        shown = certificate(
            (NameOID.ORGANIZATION_NAME, "a\nb\x1b" + "c" * 40),
            *[(NameOID.ORGANIZATIONAL_UNIT_NAME, "u" * 60)] * 10,
            names=[x509.DNSName("a\r\nb"), x509.DNSName("x" * 300), *[x509.DNSName(f"{n}.example") for n in range(99)]],
        )
        subject = subject_of(shown)
        self.assertTrue((subject.name + "".join(subject.hosts)).isprintable())
        self.assertLessEqual(len(subject.name), 255)
        self.assertEqual(subject.hosts[:3], ("a??b", "?", "0.example"))
        self.assertLessEqual(len(subject.hosts), 20)


class FactsTests(TlsTestCase):
    def test_a_connection_is_described_for_the_trace_field(self) -> None:
        meeting, _ = visit(self.listener("mx.example.org"))
        self.assertEqual(described(meeting.server), TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256, None))
        meeting, _ = visit(self.listener("mx.example.org"), highest=SSL.TLS1_2_VERSION)
        facts = described(meeting.server)
        self.assertEqual((facts.protocol, facts.client_subject), ("TLSv1.2", None))
        self.assertRegex(facts.cipher, r"ECDHE-ECDSA-.*(GCM|POLY1305)")
        self.assertGreaterEqual(facts.bits, 128)

    def test_a_certificate_that_nobody_has_looked_at_is_nobodys(self) -> None:
        peer = SSL.Connection(server_context(issue("mx.example.org")))
        connection = self.tls("may").toward("mx.example.org").clientConnectionForTLS(None)
        self.assertFalse(meet(connection, peer).failed)
        self.assertIsNotNone(connection.get_peer_certificate())
        self.assertIsNone(described(connection).client_subject)

    def test_a_failed_handshake_has_a_reason_in_words(self) -> None:
        meeting, _ = visit(self.listener("mx.example.org"), highest=SSL.TLS1_1_VERSION)
        assert meeting.server_error is not None
        self.assertEqual(trouble(meeting.server_error), "unsupported protocol")
        self.assertEqual(trouble(SSL.Error([])), "the connection was lost")
        self.assertEqual(trouble(SSL.SysCallError(-1, "Unexpected EOF")), "the connection was lost")
        self.assertEqual(trouble(ConnectionResetError()), "the connection was lost")
