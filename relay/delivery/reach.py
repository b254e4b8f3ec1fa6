"""Which addresses this relay connects to, and at which it would meet itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from attrs import field, frozen

from relay.net.public import is_public

IPAddress: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

#: IPv6 addresses with an IPv4 address in their last octets (RFC 6052 section 2.1, RFC 4291 section 2.5.5.1).
_EMBEDDING: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("::/96"))
#: What a listener is bound to that takes mail at every address of the machine.
_EVERY_ADDRESS: Final = ("0.0.0.0", "::")  # noqa: S104, nothing is bound here


def _listeners(listeners: Iterable[tuple[str, int]]) -> frozenset[tuple[str, int]]:
    return frozenset(listeners)


def _none_is_local(address: str) -> bool:
    return False


@frozen
class Reach:
    """What is known of this machine and its neighbourhood."""

    #: The addresses (in canonical form) and ports at which this relay takes mail, also those by which others know it
    #: behind a translator of addresses. `"0.0.0.0"` or `"::"` is every address of the machine.
    listeners: frozenset[tuple[str, int]] = field(default=(), converter=_listeners)
    #: Whether an address is one of this machine's (`relay.net.local.LocalAddresses`).
    is_local: Callable[[str], bool] = _none_is_local
    #: Networks to which we connect although they are private, loopback or this machine.
    allow_private: tuple[Network, ...] = ()

    def is_us(self, address: str, port: int) -> bool:
        """Whether this relay would be at the other end. By address, since anybody may give us any name."""
        everywhere = any((every, port) in self.listeners for every in _EVERY_ADDRESS)
        return any(
            (way, port) in self.listeners or (everywhere and self.is_local(way)) for way in _of_kind(address).ways
        )

    def permits(self, address: str, *, private: bool) -> bool:
        """
        Whether we connect to this address. `private`: also to one that is private, loopback or this machine's;
        what is no single host (multicast, the unspecified address) is never meant.
        """
        kind = _of_kind(address)
        if not kind.single:
            return False
        if private or (self.allow_private and self._is_allowed(kind.ways)):
            return True
        return kind.public and not any(map(self.is_local, kind.ways))

    def _is_allowed(self, ways: tuple[str, ...]) -> bool:
        return any(ip_address(way) in network for way in ways for network in self.allow_private)


@frozen
class _Kind:
    """What an address is, anywhere in the world."""

    #: Itself, and the IPv4 address that it embeds, if it does: packets may come out there.
    ways: tuple[str, ...]
    #: A host, and not a crowd of them or none.
    single: bool
    public: bool


@lru_cache(maxsize=4096)
def _of_kind(address: str) -> _Kind:
    """Asked several times for each copy, and an address never changes."""
    ways = _ways(ip_address(address))
    return _Kind(
        ways=tuple(map(str, ways)),
        single=not any(way.is_multicast or way.is_unspecified for way in ways),
        public=all(map(is_public, ways)),
    )


def _ways(ip: IPAddress) -> tuple[IPAddress, ...]:
    if isinstance(ip, IPv4Address):
        return (ip,)
    inner = ip.ipv4_mapped or ip.sixtofour
    if inner is None and not (ip.is_loopback or ip.is_unspecified) and any(ip in network for network in _EMBEDDING):
        inner = IPv4Address(int(ip) & 0xFFFFFFFF)
    return (ip,) if inner is None else (ip, inner)
