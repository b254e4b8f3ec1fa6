"""Which addresses hosts on the Internet have, and which nobody far away has."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

#: "This" network, private use, shared with a carrier, loopback, link-local, crowds, reserved (RFC 6890), and their like
#: in IPv6. Networks for documentation are not among them: nothing answers there.
_NOT_PUBLIC: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/128", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether this may be a host's address on the Internet, by itself: what it embeds is not looked at."""
    return not any(ip in network for network in _NOT_PUBLIC)
