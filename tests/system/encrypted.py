"""Certificates, listeners with TLS, and clients that believe in them: for tests that start the real relay."""

from __future__ import annotations

import smtplib
import ssl
from pathlib import Path

import trustme

from tests.system.harness import MAILBOXES, PATIENCE, Address, configuration

AUTHORITY = trustme.CA()

#: Whoever has said who he is may send mail to the world, which here is nobody.
FOR_PEOPLE = """
[[policy]]
name = "people"
use = "discard"
when = { authenticated = true }
"""


def put(path: Path, *names: str) -> None:
    """A certificate for these names, with its key, at once in the place of what is there."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_name(f".{path.name}")
    new.write_bytes(AUTHORITY.issue_cert(*names).private_key_and_cert_chain_pem.bytes())
    new.chmod(0o600)
    new.replace(path)


def with_tls(certificates: Path, *listeners: str, tables: str = "", policies: str = MAILBOXES + FOR_PEOPLE) -> str:
    """
    A configuration with the certificates in this folder, and besides the listener `local` these: each a name and
    further keys, as in `"mx, tls = 'offer'"`.
    """
    text = []
    for listener in listeners:
        name, *keys = listener.split(", ")
        text += ["[[listener]]", f'name = "{name}"', 'address = "127.0.0.1:0"', *keys]
    tls = f'[tls]\ncertificates = ["{certificates}"]\n'
    return configuration(tables=tls + tables, policies="\n".join([*text, policies]))


def believing(**identity: str) -> ssl.SSLContext:
    """What a client has that believes in our authority; it may show a certificate itself."""
    context = ssl.create_default_context(cadata=AUTHORITY.cert_pem.bytes().decode())
    if identity:
        context.load_cert_chain(**identity)
    return context


class Client(smtplib.SMTP):
    """The standard library's, at an address, asking for a host by name."""

    def __init__(self, address: Address, host: str = "mx.test") -> None:
        super().__init__(*address, local_hostname="client.test", timeout=PATIENCE)
        self._host = host

    def encrypt(self, context: ssl.SSLContext | None = None) -> None:
        self.starttls(context=context or believing())


class ImplicitClient(smtplib.SMTP_SSL):
    def __init__(self, address: Address, host: str = "mx.test", context: ssl.SSLContext | None = None) -> None:
        self._named = host
        super().__init__(*address, local_hostname="client.test", timeout=PATIENCE, context=context or believing())

    def _get_socket(self, host: str, port: int, timeout: float) -> ssl.SSLSocket:  # type: ignore[override]
        plain = smtplib.SMTP._get_socket(self, host, port, timeout)
        return self.context.wrap_socket(plain, server_hostname=self._named)


def subject(client: smtplib.SMTP) -> str:
    """The first name in the certificate that the client has seen."""
    assert isinstance(client.sock, ssl.SSLSocket)
    shown = client.sock.getpeercert()
    assert shown is not None
    return str(shown["subjectAltName"][0][1])
