"""
What a TLS connection can be bound by, so that a proof made on it is worth nothing on another (RFC 5056).

pyOpenSSL has what this takes: `Connection.export_keying_material` works with TLS 1.3, on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL

_LABEL: Final = b"EXPORTER-Channel-Binding"
_OCTETS: Final = 32


def channel_bindings(connection: SSL.Connection, server: x509.Certificate | None) -> Mapping[str, bytes]:
    """
    The bindings of a connection whose handshake is done, by their names.

    `server` is the server's certificate: our own on the server's side, the peer's on the client's.
    """
    bindings = {}
    # RFC 9266 section 4.2: below TLS 1.3 the exporter is only unique with an extended master secret, and nobody can ask
    # pyOpenSSL whether there is one. `tls-unique` is not defined for TLS 1.3, and broken before (RFC 7627).
    if connection.get_protocol_version() >= SSL.TLS1_3_VERSION:
        bindings["tls-exporter"] = connection.export_keying_material(_LABEL, _OCTETS, b"")
    digest = None if server is None else end_point(server)
    if digest is not None:
        bindings["tls-server-end-point"] = digest
    return bindings


def end_point(certificate: x509.Certificate) -> bytes | None:
    """
    `tls-server-end-point` (RFC 5929 section 4.1): the certificate's digest, by the function that its signature uses.

    `None` where the signature uses none, or more than one (Ed25519): the RFC leaves that open.
    """
    try:
        function = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    if function is None:
        return None
    weak = isinstance(function, hashes.MD5 | hashes.SHA1)
    return certificate.fingerprint(hashes.SHA256() if weak else function)
