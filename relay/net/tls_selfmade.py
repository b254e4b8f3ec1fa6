"""
A certificate that we make ourselves, so that a listener can offer TLS before anybody has got it one.

It proves nothing to anyone, and need not: a mail server that sends to another by STARTTLS seldom looks, and what it
would say otherwise is clear text (RFC 7435). Mail programs of people will complain about it, and should.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from relay.net.tls_files import Unusable, read_authorities, read_certificates

_VALID: Final = timedelta(days=3650)
#: It is made anew when it has no more than this left.
_RENEWED: Final = timedelta(days=30)


def own_certificate(hostname: str, path: Path, now: float) -> Path:
    """
    See to it that there is a certificate of our own at `path`, and answer with `path`.

    It is made if there is none that can be used, if it is for another host name, or if it expires within a month. Of
    several processes that want one at the same time one makes it, and the others wait for that. `now` is the calendar's
    time in seconds since the epoch. Raises `OSError`.
    """
    if not _is_good(path, hostname, now):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone(path.parent):
            if not _is_good(path, hostname, now):
                make_certificate(hostname, path, now)
    return path


def _is_good(path: Path, hostname: str, now: float) -> bool:
    return _is_anothers(path) or _will_do(path, hostname, now)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """While nobody else is, unless this disk knows no such locks."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_anothers(path: Path) -> bool:
    """Somebody has put one of an authority's in its place. That is not ours to replace, whatever is wrong with it."""
    try:
        return any(certificate.issuer != certificate.subject for certificate in read_authorities(path))
    except Unusable:
        return False


def _will_do(path: Path, hostname: str, now: float) -> bool:
    try:
        found = read_certificates([path])
    except Unusable:
        return False
    return any(
        _names(certificate.leaf) == _subject_name(hostname) and certificate.expires - now > _RENEWED.total_seconds()
        for certificate in found
    )


def make_certificate(hostname: str, path: Path, now: float) -> None:
    """
    Write a new certificate for a host (a name in canonical form, or an IP address) and its key, into one file.

    The key is ECDSA on P-256: a handshake takes a fraction of what RSA takes, and every client of today has it. Only
    we can read the file. What was there before is replaced, at one moment and completely. Raises `OSError`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    # Clocks elsewhere go wrong, too.
    begins = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    # RFC 5280: a common name has at most 64 characters. Nobody reads it where there are alternative names.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + _VALID)
        .add_extension(_subject_name(hostname), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(path, certificate.public_bytes(serialization.Encoding.PEM) + secret)


def _subject_name(hostname: str) -> x509.SubjectAlternativeName:
    try:
        return x509.SubjectAlternativeName([x509.IPAddress(ip_address(hostname))])
    except ValueError:
        return x509.SubjectAlternativeName([x509.DNSName(hostname)])


def _names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return None


def _write(path: Path, octets: bytes) -> None:
    # It is not synced: what a power cut takes of it is made anew.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)  # left behind by one who was interrupted
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as opened:
        opened.write(octets)
    new.replace(path)
