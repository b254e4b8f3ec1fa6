"""
TLS where we connect to others: how much is asked of a peer, and what came of it.

A `ClientTls` is what the configuration says of a kind of peers. For each connection it hands out a `PeerTls`, which is
what `startTLS` wants, knows afterwards how it went, and keeps the session for the next connection to the same peer.
"""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address
from pathlib import Path
from typing import Final, TypeAlias

from attrs import frozen
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import verify_certificate_hostname, verify_certificate_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from zope.interface import implementer

from relay.interfaces import IClock
from relay.mail.routing import TlsLevel
from relay.mail.tls import Subject
from relay.net.tls import TlsConnection, believe, peer_subject, subject_of, trouble
from relay.net.tls_files import read_authorities

Level: TypeAlias = TlsLevel

#: Where clear text is permitted, anything is better than that (RFC 7435); what a listener on the way can break is no
#: encryption; and `verify` has OpenSSL's own default. `SECLEVEL` is its measure of how weak keys and digests may be.
_CIPHERS: Final[dict[Level, str]] = {
    "may": "DEFAULT:@SECLEVEL=0",
    "encrypt": "DEFAULT:@SECLEVEL=1",
    "verify": "DEFAULT",
}

_OPTIONS: Final = SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION

#: Sessions: for how long after they began, how many for one peer, and how many in all (some 10 KiB each).
_SESSION_SECONDS: Final = 3600.0
_SESSIONS_OF_A_PEER: Final = 4
_MOST_SESSIONS: Final = 500

#: X509_V_ERR_...: what OpenSSL finds wrong with a certificate, where there is more to say than that.
_FAULTS: Final = {
    7: "a signature in its certificate's chain is wrong",
    9: "its certificate is not valid yet",
    10: "its certificate has expired",
    18: "its certificate is signed by nobody but itself",
    19: "its certificate comes from an authority that is not trusted",
    20: "its certificate comes from an authority that is not trusted, or without what leads to one",
    21: "its certificate comes from an authority that is not trusted, or without what leads to one",
    24: "its certificate comes from one that is no authority",
    26: "its certificate is not meant for servers",
    66: "its certificate has a key that is too short",
    67: "its certificate comes from an authority whose key is too short",
    68: "its certificate is signed by a digest that is too weak",
}


@frozen
class Handshake:
    """What came of a handshake with a peer."""

    protocol: str
    cipher: str
    bits: int
    #: We know who the peer is: its certificate comes from a trusted authority and is for its name. Never at `may` and
    #: `encrypt`, where nobody looks.
    verified: bool
    #: Whom its certificate is for, by its own account unless `verified`.
    peer_subject: Subject | None


class ClientTls:
    """TLS to a kind of peers. It keeps their sessions, each for the same peer only."""

    def __init__(self, level: Level, clock: IClock, authorities: Path | None = None) -> None:
        """
        For `verify` a certificate must come from one of the `authorities` in this file, or from one of the system's.

        Raises `relay.net.tls_files.Unusable`, a `ValueError`, with words for the operator.
        """
        self.level: Level = level
        self._sessions = _Sessions(clock)
        self._context = None if level == "none" else _context(level, authorities)

    @property
    def wanted(self) -> bool:
        """STARTTLS is said where it is offered."""
        return self.level != "none"

    @property
    def required(self) -> bool:
        """Without TLS, nothing is said to the peer but QUIT."""
        return self.level in ("encrypt", "verify")

    def toward(self, peer: str, port: int = 25) -> PeerTls:
        """
        For one connection to this peer: its host name in canonical form, or its IP address. What answers at another
        port of it may be another server, with another certificate and the same key for tickets.
        """
        if self._context is None:
            raise ValueError("no TLS is wanted")
        return PeerTls(self._context, self._sessions, peer.removesuffix("."), port, verify=self.level == "verify")


@implementer(IOpenSSLClientConnectionCreator)
class PeerTls:
    """
    TLS on one connection to a peer, for `startTLS`.

    When the handshake is complete, `handshake` says how it went. Some time later, when anything was received by it,
    `remember` keeps the session: TLS 1.3 sends the ticket behind the handshake. If the connection was lost in the
    handshake, `why` says what the peer is to be blamed for.
    """

    def __init__(self, context: SSL.Context, sessions: _Sessions, peer: str, port: int, *, verify: bool) -> None:
        self._context = context
        self._sessions = sessions
        self._peer = peer
        #: Under which its sessions are kept.
        self._kept_as = f"{peer}:{port}"
        self._verify = verify
        self._connection: TlsConnection | None = None
        #: The session that was offered to the peer.
        self._offered: _Session | None = None

    def clientConnectionForTLS(self, tlsProtocol: object) -> TlsConnection:
        connection = _PeerConnection(self._context)
        connection.peer = self._peer
        if not _is_ip(self._peer):
            # RFC 6066 section 3: names and no addresses.
            connection.set_tlsext_host_name(self._peer.encode("ascii"))
        # A session is taken out: one by which the handshake fails is not tried twice, and no ticket is seen twice on
        # the wire (RFC 8446 appendix C.4).
        self._offered = self._sessions.take(self._kept_as)
        if self._offered is not None:
            connection.set_session(self._offered.session)
        self._connection = connection
        return connection

    def handshake(self) -> Handshake:
        """What came of it. Only of one that is complete."""
        connection = self._made()
        # The certificate was looked at now, or, if the session was taken up, when that began with the same peer.
        looked = connection.examined or self._offered is not None
        return Handshake(
            protocol=connection.get_protocol_version_name(),
            cipher=connection.get_cipher_name() or "",
            bits=connection.get_cipher_bits() or 0,
            verified=self._verify and looked and connection.distrust is None,
            peer_subject=peer_subject(connection),
        )

    def remember(self) -> None:
        """Keep the session for the next connection. Once for a connection, before it is closed."""
        connection = self._made()
        session = connection.get_session()
        if session is None:
            return
        # One that was taken up, however often, is as old as its first connection, where the certificate was seen.
        taken_up = self._offered is not None and not connection.examined
        self._sessions.keep(self._kept_as, session, self._offered.since if taken_up and self._offered else None)

    def why(self, error: BaseException) -> str:
        """Why a handshake has failed, by what is known of the peer and by the error that ended the connection."""
        distrust = self._connection.distrust if self._connection else None
        return distrust or trouble(error)

    def _made(self) -> TlsConnection:
        assert self._connection is not None, "there is no connection yet"
        return self._connection


class _PeerConnection(TlsConnection):
    """A connection that knows whom it should lead to."""

    peer = ""


@frozen(eq=False)
class _Session:
    session: SSL.Session
    since: float


class _Sessions:
    """Sessions by peer, bounded: the peer that was heard of least lately goes first."""

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._kept: dict[str, deque[_Session]] = {}
        self._count = 0

    def take(self, peer: str) -> _Session | None:
        """The newest one, which is no longer kept."""
        kept = self._kept.get(peer)
        while kept:
            newest = kept.pop()
            self._count -= 1
            if not kept:
                del self._kept[peer]
            if self._clock.seconds() - newest.since < _SESSION_SECONDS:
                return newest
        return None

    def keep(self, peer: str, session: SSL.Session, since: float | None) -> None:
        """`since` is when it began, if that is not now."""
        kept = self._kept.pop(peer, deque())
        kept.append(_Session(session, self._clock.seconds() if since is None else since))
        self._kept[peer] = kept  # the last one in the order of the dictionary
        self._count += 1
        if len(kept) > _SESSIONS_OF_A_PEER:
            kept.popleft()
            self._count -= 1
        while self._count > _MOST_SESSIONS:
            self._count -= len(self._kept.pop(next(iter(self._kept))))


def _context(level: Level, authorities: Path | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS[level].encode("ascii"))
    context.set_options(_OPTIONS)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    # We keep them ourselves, by peer.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if level != "verify":
        context.set_verify(SSL.VERIFY_NONE)
        return context
    if authorities is None:
        context.set_default_verify_paths()
    else:
        believe(context, read_authorities(authorities))
    context.set_verify(SSL.VERIFY_PEER, _examine)
    return context


def _examine(connection: SSL.Connection, certificate: X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's view of each certificate in the peer's chain; its own comes last, at depth 0. Nothing may be raised."""
    assert isinstance(connection, _PeerConnection)
    connection.examined = True
    if not ok:
        connection.distrust = _FAULTS.get(error, f"its certificate is not valid (OpenSSL's error {error})")
    elif depth == 0:
        connection.distrust = _misnamed(certificate, connection.peer)
    return connection.distrust is None


def _misnamed(certificate: X509, peer: str) -> str | None:
    """What is wrong with the name of a certificate, or `None` if it is the peer's (RFC 9525; never by common name)."""
    verify = verify_certificate_ip_address if _is_ip(peer) else verify_certificate_hostname
    try:
        shown = certificate.to_cryptography()
        subject = subject_of(shown)
    except ValueError:
        return "its certificate cannot be read"
    try:
        verify(shown, peer)
    except (VerificationError, CertificateError, ValueError):
        names = ", ".join(subject.hosts[:3]) or str(subject)
        return f"its certificate is not for {peer} but for {names}"
    return None


def _is_ip(peer: str) -> bool:
    try:
        ip_address(peer)
    except ValueError:
        return False
    return True
