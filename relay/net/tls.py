"""
What is found out about a TLS connection, and words for what went wrong.

`relay.net.tls_server` and `relay.net.tls_client` make the connections.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags

from relay.mail.reply import printable
from relay.mail.tls import Subject, TlsFacts

#: Versions of TLS that one may ask for. Older ones are not spoken at all (RFC 8996).
Version: TypeAlias = Literal["1.2", "1.3"]

VERSIONS: Final[dict[Version, int]] = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}

#: A name that is longer, and what comes behind so many, is nobody's we know; and a certificate may hold any amount.
_LONGEST: Final = 255
_MOST_NAMES: Final = 20


class TlsConnection(SSL.Connection):
    """pyOpenSSL's connection, and what is found out about the other side while it shakes hands."""

    #: The other side showed a certificate, and it was looked at.
    examined: bool = False
    #: Why that is not believed; `None` if it is.
    distrust: str | None = None
    #: What OpenSSL may call back for as long as it holds the connection must not be collected before.
    kept: object = None


def subject_of(certificate: x509.Certificate) -> Subject:
    """Read a certificate. What cannot be read of it is as if it were not there."""
    name, common_name = "", None
    try:
        name = printable(certificate.subject.rfc4514_string())[:_LONGEST]
        common_names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        if len(common_names) == 1:
            (common_name,) = _bounded([str(common_names[0].value)]) or (None,)
    except ValueError:
        pass
    hosts, addresses = alternative_names(certificate)
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Subject(name, common_name, _bounded(hosts), _bounded(addresses), fingerprint)


def described(connection: SSL.Connection) -> TlsFacts:
    """What there is to say of a connection whose handshake is complete."""
    subject = None
    if isinstance(connection, TlsConnection) and connection.examined and connection.distrust is None:
        subject = peer_subject(connection)
    return TlsFacts(
        protocol=connection.get_protocol_version_name(),
        cipher=connection.get_cipher_name() or "",
        bits=connection.get_cipher_bits() or 0,
        client_subject=subject,
    )


def peer_subject(connection: SSL.Connection) -> Subject | None:
    """Whom the other side's certificate is for, believed or not."""
    try:
        certificate = connection.get_peer_certificate(as_cryptography=True)
    except ValueError:  # OpenSSL has read it, and cryptography is stricter
        return None
    return None if certificate is None else subject_of(certificate)


def trouble(error: BaseException) -> str:
    """Why a handshake failed or a connection broke, in words for a log and without the name of a library."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list) and error.args[0]:
        reason = str(error.args[0][-1][-1])
        return printable(reason) or "the handshake failed"
    return "the connection was lost"


def believe(context: SSL.Context, authorities: Iterable[x509.Certificate]) -> None:
    """Let certificates count if one of these has signed them, be it a root, one below a root, or themselves."""
    store = context.get_cert_store()
    assert store is not None, "a context has one from the beginning"
    for authority in authorities:
        store.add_cert(X509.from_cryptography(authority))
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)


def alternative_names(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    """The host names and the mail addresses that a certificate is for, as they stand there."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return [], []
    return names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.RFC822Name)


def _bounded(names: list[str]) -> tuple[str, ...]:
    """What is too long is shown as `?`, so that there are still as many."""
    return tuple(printable(name) if len(name) <= _LONGEST else "?" for name in names[:_MOST_NAMES])
