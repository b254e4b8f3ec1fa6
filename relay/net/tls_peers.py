"""TLS toward whomever we connect to: one kind of it for each level, and a memory of those with whom it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from relay.interfaces import IClock
from relay.mail.outcome import Peer
from relay.mail.routing import TlsLevel
from relay.net.tls_client import ClientTls, PeerTls

#: For so long a peer with whom TLS has failed is not asked for it again, where clear text is permitted.
_SECONDS: Final = 600.0
_MOST: Final = 1000


class TlsPeers:
    """TLS to all peers. What a level needs is made when it is first asked for."""

    def __init__(self, clock: IClock, authorities: Path | None = None) -> None:
        """
        For `verify` a certificate must come from one of the `authorities` in this file, or from one of the system's.

        Raises `relay.net.tls_files.Unusable`, a `ValueError`, with words for the operator.
        """
        self._clock = clock
        self._authorities = authorities
        self._made: dict[TlsLevel, ClientTls] = {}
        #: Until when nothing is expected of whom; the oldest first.
        self._failing: dict[tuple[str, str, int], float] = {}
        if authorities is not None:
            self._at("verify")

    def toward(self, level: TlsLevel, peer: Peer) -> PeerTls:
        """For one connection to this peer, by the name under which it was looked up. Not for `none`."""
        return self._at(level).toward(_name(peer), peer.port)

    def note_failure(self, peer: Peer) -> None:
        """Its handshake has failed."""
        self._failing.pop(_key(peer), None)
        self._failing[_key(peer)] = self._clock.seconds() + _SECONDS
        if len(self._failing) > _MOST:
            del self._failing[next(iter(self._failing))]

    def fails_with(self, peer: Peer) -> bool:
        """Whether its handshake has failed a short time ago."""
        until = self._failing.get(_key(peer))
        if until is None or self._clock.seconds() < until:
            return until is not None
        del self._failing[_key(peer)]
        return False

    def _at(self, level: TlsLevel) -> ClientTls:
        made = self._made.get(level)
        if made is None:
            made = self._made[level] = ClientTls(level, self._clock, self._authorities)
        return made


def _key(peer: Peer) -> tuple[str, str, int]:
    return peer.name, peer.address, peer.port


def _name(peer: Peer) -> str:
    """The host's name, or its IP address where it was meant by that: `[IPv6:2001:db8::1]` is `2001:db8::1`."""
    name = peer.name
    return name[1:-1].removeprefix("IPv6:") if name.startswith("[") else name
