"""Clients by where they are: what their addresses are counted as, and which addresses nobody far away has."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from relay.net import public


@lru_cache(4096)
def network_of(address: str, ipv4: int, ipv6: int) -> str:
    """The network with a prefix of `ipv4` or `ipv6` bits that an address lies in; the address itself if it is all."""
    ip = plain(address)
    bits = ipv4 if ip.version == 4 else ipv6
    network = ip_network((int(ip), bits) if ip.version == 6 else (int(ip) & 0xFFFFFFFF, bits), strict=False)
    return str(ip) if bits == ip.max_prefixlen else str(network)


@lru_cache(4096)
def is_public(address: str) -> bool:
    """Whether this may be the address of a host on the Internet. Networks for documentation count as such."""
    return public.is_public(plain(address))


def plain(address: str) -> IPv4Address | IPv6Address:
    """As a number; of an IPv4 client where a socket for both kinds shows it (RFC 4291 section 2.5.5.2)."""
    ip = ip_address(address.partition("%")[0])
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return ip if mapped is None else mapped
