"""
TLS where clients connect to us: certificates by the name that a client asks for, reread when their files change.

`Certificates` are read once for all listeners that show them; each listener's `ServerTls` makes its own OpenSSL
contexts of them. So a session's ticket, which is sealed by a key of its context, is worth nothing at another listener.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import evolve, frozen
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import IClock
from relay.net.tls import VERSIONS, TlsConnection, Version, believe, trouble
from relay.net.tls_files import Certificate, Look, Unusable, look, read_authorities, read_certificates

#: Mozilla's "intermediate" list for TLS 1.2, without its three DHE suites, which no client of today needs. The suites
#: of TLS 1.3 and the groups for key exchange are OpenSSL's own choice: it knows the post-quantum ones before we do.
INTERMEDIATE: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)

#: How long a client may come back with a session, and how long the keys live that seal sessions: whoever steals one
#: can read what was said under it by way of TLS 1.2.
_SESSION_SECONDS: Final = 3600
_TICKET_KEY_SECONDS: Final = 12 * 3600.0

#: From when on the log reminds that a certificate runs out, each time that contexts are made.
_SOON_SECONDS: Final = 14 * 24 * 3600.0

#: Renegotiation is a way to make us work; compression gives secrets away.
_OPTIONS: Final = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION


@frozen
class Terms:
    """On what terms a listener speaks TLS."""

    minimum: Version = "1.2"
    #: For TLS 1.2, as OpenSSL writes it. `ValueError` if it knows none of them.
    ciphers: str = INTERMEDIATE
    #: Clients are asked for a certificate; a file with the authorities whose certificates are believed. One who shows
    #: none, or another one, is served all the same, and has no `TlsFacts.client_subject`.
    request_client_certificate: Path | None = None

    def __attrs_post_init__(self) -> None:
        try:
            SSL.Context(SSL.TLS_METHOD).set_cipher_list(self.ciphers.encode("ascii"))
        except (SSL.Error, UnicodeEncodeError):
            raise ValueError(f"OpenSSL knows none of the ciphers '{self.ciphers}'") from None


@frozen(eq=False)
class _Material:
    """What is on disk."""

    certificates: tuple[Certificate, ...]
    #: By the file that they stand in.
    authorities: dict[Path, tuple[x509.Certificate, ...]]

    @classmethod
    def read(cls, paths: Sequence[Path], authorities: Iterable[Path]) -> _Material:
        """Raises `Unusable`."""
        certificates = read_certificates(paths)
        if not certificates:
            raise Unusable(["there is no certificate"])
        return cls(certificates, {file: read_authorities(file) for file in authorities})


@frozen(eq=False)
class _Contexts:
    """A context for each certificate."""

    first: SSL.Context
    #: By host name, `*.` and all; the first certificate that is for a name has it.
    named: dict[str, SSL.Context]

    def for_name(self, asked: bytes | None) -> SSL.Context:
        """That of the name that was asked for, else that of a wildcard (RFC 9525 section 6.3), else the first."""
        name = (asked or b"").decode("ascii", "replace").lower().removesuffix(".")
        label, _, domain = name.partition(".")
        found = self.named.get(name)
        if found is None and label:
            found = self.named.get(f"*.{domain}")
        return self.first if found is None else found


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """
    The TLS of one listener, for `startTLS` and `TLSMemoryBIOFactory`. `Certificates` has it show what they are.

    Sessions are resumed by tickets: nothing is kept here for a client that has gone. Where clients are asked for
    certificates there are none, so that each proves on every connection who he is.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        # RFC 5246 section 7.4.1.2 leaves it to us which sessions fit: OpenSSL compares this.
        self._session_id = os.urandom(32)
        self._contexts: _Contexts | None = None

    def serverConnectionForTLS(self, tlsProtocol: object) -> TlsConnection:
        contexts = self._contexts
        assert contexts is not None, "a listener's contexts are made before it listens"
        connection = TlsConnection(contexts.first)
        # OpenSSL calls `_choose_certificate` by way of an object that lives only as long as the first context: after
        # a switch to another one nothing else would hold that, and a retried hello comes through it again.
        connection.kept = contexts
        return connection

    def prepare(self, material: _Material) -> _Contexts:
        """New contexts, not yet in use. Raises `Unusable`."""
        certificates = material.certificates
        contexts, problems = [], []
        for certificate in certificates:
            try:
                contexts.append(self._context(certificate, material, several=len(certificates) > 1))
            except SSL.Error as error:
                problems.append(f"{certificate.file}: OpenSSL does not take it: {trouble(error)}")
            except (TypeError, ValueError) as error:  # a kind of key that is not for TLS
                problems.append(f"{certificate.file}: {error}")
        if problems:
            raise Unusable(problems)
        named: dict[str, SSL.Context] = {}
        for certificate, context in zip(certificates, contexts, strict=True):
            for name in certificate.names:
                named.setdefault(name, context)
        return _Contexts(contexts[0], named)

    def use(self, contexts: _Contexts) -> None:
        """From the next connection on."""
        self._contexts = contexts

    def _context(self, certificate: Certificate, material: _Material, *, several: bool) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(VERSIONS[self.terms.minimum])
        context.set_options(_OPTIONS)
        # A connection that is idle gives its buffers back: some 34 KiB.
        context.set_mode(SSL.MODE_RELEASE_BUFFERS)
        context.set_cipher_list(self.terms.ciphers.encode("ascii"))
        context.use_certificate(certificate.leaf)
        for one in certificate.chain:
            context.add_extra_chain_cert(one)
        context.use_privatekey(certificate.key)
        context.check_privatekey()
        context.set_session_id(self._session_id)
        context.set_timeout(_SESSION_SECONDS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if several:
            context.set_tlsext_servername_callback(_choose_certificate)
        if self.terms.request_client_certificate is not None:
            _ask_for_certificate(context, material.authorities[self.terms.request_client_certificate])
        return context


def _choose_certificate(connection: SSL.Connection) -> None:
    """The client has said which name it wants, or that it wants none."""
    contexts = connection.kept if isinstance(connection, TlsConnection) else None
    assert isinstance(contexts, _Contexts)
    context = contexts.for_name(connection.get_servername())
    if context is not connection.get_context():
        connection.set_context(context)


def _ask_for_certificate(context: SSL.Context, authorities: Sequence[x509.Certificate]) -> None:
    # A ticket brings the certificate back, but neither whether it was believed nor what led to an authority.
    context.set_options(SSL.OP_NO_TICKET)
    believe(context, authorities)
    for authority in authorities:
        context.add_client_ca(authority)
    context.set_verify(SSL.VERIFY_PEER, _take_note)


def _take_note(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
    """
    What OpenSSL thinks of the client's certificate is noted, and the handshake goes on.

    Other mail servers show whatever certificate they have, and mail programs the one that a person has picked:
    neither should lose the connection by it.
    """
    assert isinstance(connection, TlsConnection)
    connection.examined = True
    if not ok and connection.distrust is None:
        connection.distrust = f"OpenSSL's error {error} at depth {depth}"
    return True


def _expect_all(before: _Material, now: _Material) -> None:
    """
    A file that is still there and has no certificate any more is broken: half written, perhaps. In a folder it would be
    passed over as one that never had any. Raises `Unusable`.
    """
    found = {certificate.file for certificate in now.certificates}
    emptied = [each.file for each in before.certificates if each.file not in found and os.path.lexists(each.file)]
    if emptied:
        raise Unusable(f"{file}: there was a certificate with its key here, and now there is none" for file in emptied)


class Certificates:
    """
    The certificates of one or more listeners, and the watch over their files.

    What is new is made completely before it is used: if anything about it is broken, all that was there before goes
    on serving, and the log says why. Connections that exist are not touched.
    """

    def __init__(self, paths: Sequence[Path], clock: IClock, log: Logger | None = None) -> None:
        """Read them. Raises `Unusable`, a `ValueError`, with words for the operator."""
        self._paths = tuple(paths)
        self._clock = clock
        self._log = log or Logger(namespace="relay.net.tls")
        self._listeners: list[ServerTls] = []
        #: What the files were like, before they were read.
        self._seen: Look = look(self._paths)
        self._material = _Material.read(self._paths, ())
        #: Why what is on disk is not in use.
        self._complaint: str | None = None
        self._made = clock.seconds()
        self._remind()

    @property
    def current(self) -> tuple[Certificate, ...]:
        """The certificates in use; the first is shown to clients who ask for no name, or for one that nobody has."""
        return self._material.certificates

    def for_listener(self, terms: Terms = Terms()) -> ServerTls:
        """The TLS of a further listener. Raises `Unusable`."""
        listener = ServerTls(terms)
        self.serve(listener)
        return listener

    def serve(self, listener: ServerTls) -> None:
        """Let a listener that was made before show these certificates from now on. Raises `Unusable`."""
        seen, material = self._seen, self._material
        file = listener.terms.request_client_certificate
        if file is not None and file not in material.authorities:
            seen += look([file])
            material = evolve(material, authorities={**material.authorities, file: read_authorities(file)})
        listener.use(listener.prepare(material))
        self._listeners.append(listener)
        self._seen, self._material = seen, material

    def reread(self, *, aloud: bool = False) -> None:
        """
        Use what is on disk, if it has changed. For a timer: unless something has changed, some `stat` calls.

        What was broken is tried again each time, since not everything that mends it can be seen by `stat`. The log
        says it once, unless somebody wants to know (`aloud`).
        """
        authorities = self._material.authorities
        seen = look((*self._paths, *authorities))
        if seen != self._seen or self._complaint is not None:
            try:
                material = _Material.read(self._paths, authorities)
                _expect_all(self._material, material)
                self._use(material)
            except Unusable as unusable:
                self._complain(str(unusable), aloud)
            else:
                self._seen, self._complaint = seen, None
                self._log.info("The certificates have changed and are in use now: {names}", names=self._names())
        if self._clock.seconds() - self._made >= _TICKET_KEY_SECONDS:
            # New contexts have new keys for tickets.
            self._use(self._material)

    def _use(self, material: _Material) -> None:
        prepared = [(listener, listener.prepare(material)) for listener in self._listeners]
        for listener, contexts in prepared:
            listener.use(contexts)
        self._material = material
        self._made = self._clock.seconds()
        self._remind()

    def _complain(self, complaint: str, aloud: bool) -> None:
        if aloud or complaint != self._complaint:
            self._complaint = complaint
            self._log.error("The certificates have changed and are broken, the old ones go on: {why}", why=complaint)

    def _remind(self) -> None:
        now = self._clock.calendar()
        for certificate in self.current:
            days = int((certificate.expires - now) // (24 * 3600))
            if certificate.expires <= now:
                self._log.warn("{file}: this certificate has expired", file=certificate.file)
            elif certificate.expires - now < _SOON_SECONDS:
                left = {0: "less than a day", 1: "a day"}.get(days, f"{days} days")
                self._log.warn("{file}: this certificate expires in {left}", file=certificate.file, left=left)

    def _names(self) -> str:
        return ", ".join(certificate.names[0] if certificate.names else "?" for certificate in self.current)
