"""What is known of a TLS connection, for trace fields, logs and policies. `relay.net.tls` finds it out."""

from __future__ import annotations

from attrs import frozen


@frozen
class Subject:
    """Whom a certificate is for. What it says was written by somebody else, and is bounded and printable here."""

    #: The distinguished name, as RFC 4514 writes it: `CN=ann,O=Example`. Empty in many of today's certificates.
    name: str
    #: The common name alone; `None` if there is none, or more than one.
    common_name: str | None
    #: The host names, and the mail addresses, that it is for.
    hosts: tuple[str, ...]
    addresses: tuple[str, ...]
    #: SHA-256 of the certificate, in hexadecimal digits.
    fingerprint: str

    def __str__(self) -> str:
        return self.name or ", ".join(self.hosts or self.addresses) or f"sha256:{self.fingerprint}"


@frozen
class TlsFacts:
    """How a connection is encrypted: for `Received` (RFC 3848, RFC 8314 section 4.3), the mail log and policies."""

    #: `TLSv1.3`.
    protocol: str
    #: In OpenSSL's spelling: `TLS_AES_256_GCM_SHA384`, `ECDHE-ECDSA-AES128-GCM-SHA256`.
    cipher: str
    bits: int
    #: Whom a client's certificate is for; only of one that was asked for and verified.
    client_subject: Subject | None = None
