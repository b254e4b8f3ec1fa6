from __future__ import annotations

import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from relay.net.channel_binding import channel_bindings, end_point


def certificate(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, digest: Any) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mx.example.org")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, digest)
    )


KEY = ec.generate_private_key(ec.SECP256R1())
CERTIFICATE = certificate(KEY, hashes.SHA384())


def connected(version: int) -> tuple[SSL.Connection, SSL.Connection]:
    """A server's and a client's side, after the handshake."""
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate(CERTIFICATE)
    context.use_privatekey(KEY)
    context.set_max_proto_version(version)
    server, client = SSL.Connection(context), SSL.Connection(SSL.Context(SSL.TLS_METHOD))
    server.set_accept_state()
    client.set_connect_state()
    for here, there in ((client, server), (server, client)) * 3:
        with contextlib.suppress(SSL.WantReadError):
            here.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            there.bio_write(here.bio_read(65536))
    return server, client


def bindings(version: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
    server, client = connected(version)
    return (
        dict(channel_bindings(server, server.get_certificate(as_cryptography=True))),
        dict(channel_bindings(client, client.get_peer_certificate(as_cryptography=True))),
    )


class ChannelBindingTests(SynchronousTestCase):
    def test_both_sides_of_a_connection_have_the_same(self) -> None:
        server, client = bindings(SSL.TLS1_3_VERSION)
        self.assertEqual(server, client)
        self.assertEqual(set(server), {"tls-exporter", "tls-server-end-point"})
        self.assertEqual(len(server["tls-exporter"]), 32)

    def test_another_connection_to_the_same_server_has_another_exporter(self) -> None:
        one, other = bindings(SSL.TLS1_3_VERSION)[0], bindings(SSL.TLS1_3_VERSION)[0]
        self.assertNotEqual(one["tls-exporter"], other["tls-exporter"])
        self.assertEqual(one["tls-server-end-point"], other["tls-server-end-point"])

    def test_below_tls_1_3_there_is_no_exporter(self) -> None:
        server, client = bindings(SSL.TLS1_2_VERSION)
        self.assertEqual(server, client)
        self.assertEqual(set(server), {"tls-server-end-point"})

    def test_the_end_point_is_the_certificates_digest_by_the_function_of_its_signature(self) -> None:
        der = CERTIFICATE.public_bytes(Encoding.DER)
        self.assertEqual(end_point(CERTIFICATE), hashlib.sha384(der).digest())

    def test_a_signature_without_such_a_function_binds_nothing(self) -> None:
        self.assertIs(end_point(certificate(ed25519.Ed25519PrivateKey.generate(), None)), None)
        server, _ = connected(SSL.TLS1_3_VERSION)
        self.assertEqual(set(channel_bindings(server, None)), {"tls-exporter"})
