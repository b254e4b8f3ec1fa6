"""Which addresses hosts on the Internet have, and which nobody far away has."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

#: "This" network, private use, shared with a carrier, loopback, link-local, of the IETF's protocols, of benchmarks,
#: crowds, reserved (RFC 6890), and their like in IPv6: with a translator's own prefix (RFC 8215), whose addresses stand
#: for any of the others, and the one whose packets are thrown away (RFC 6666). Networks for documentation are not among
#: them: nothing answers there.
NOT_PUBLIC: Final[tuple[IPv4Network | IPv6Network, ...]] = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
            *("172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/128", "::1/128", "64:ff9b:1::/48", "100::/64"),
            *("fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)


def is_public(ip: IPv4Address | IPv6Address) -> bool:
    """Whether this may be a host's address on the Internet, by itself: what it embeds is not looked at."""
    return not any(ip in network for network in NOT_PUBLIC)
