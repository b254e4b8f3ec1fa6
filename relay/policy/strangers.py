"""
Who is nobody in particular: hosts and domains of the Internet that a configuration does not name.

What is decided about them is decided about anybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, TypeAlias

from attrs import frozen

from relay.config.addresses import is_local
from relay.config.policies import PolicySettings
from relay.config.settings import Settings
from relay.config.wording import Complaint
from relay.net.public import NOT_PUBLIC
from relay.policy.guard import plain_network

Network: TypeAlias = IPv4Network | IPv6Network
#: Addresses as numbers, from the first one to before the second.
_Span: TypeAlias = tuple[int, int]

#: Where hosts of the Internet are (RFC 4291 section 2.4 and the IANA's registry: other IPv6 networks are nobody's yet).
_ALL: Final = {4: ip_network("0.0.0.0/0"), 6: ip_network("2000::/3")}
#: But nobody is here either: documentation (RFC 5737, RFC 3849, RFC 9637), protocols (RFC 2928), 6to4 (RFC 7526).
_NOBODY: Final = tuple(
    map(
        ip_network,
        (
            *("192.0.2.0/24", "192.88.99.0/24", "198.51.100.0/24", "203.0.113.0/24"),
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
        ),
    )
)
#: More public addresses than these are no network of anybody's: a /8, a /16.
_MANY: Final = {4: 1 << 24, 6: 1 << 112}
#: Where strangers are taken from, in a class of addresses that the configuration takes as one.
_PLACES: Final = (0.5477, 0.1893)

#: The domain of a stranger is this, below one of these.
_LABELS: Final = ("stranger-x7q2", "stranger-k4w9", "stranger-m3v8")
_BELOW: Final = ("com", "org", "de")


@frozen
class Strangers:
    """Some, of each family. The first one is as good as any other; it is for policies to see a difference."""

    clients: dict[int, tuple[str, ...]]
    #: The last one is an address literal.
    domains: tuple[str, ...]


def strangers(policies: Sequence[PolicySettings], named: Iterable[str] = ()) -> Strangers:
    """
    Clients and domains that these policies do not name. No domain is one of those, or of `named`, or above or below
    them.
    """
    known = {*named, *(domain for policy in policies for domain in (*domains_of(policy), *_in_conditions(policy)))}
    networks = [policy.when.client for policy in policies if policy.when.client]
    clients = {version: _clients(networks, version) for version in (4, 6)}
    return Strangers(clients, (*_domains(known), f"[{clients[4][-1]}]"))


def domains_of(policy: PolicySettings) -> tuple[str, ...]:
    """Those that a policy is for, by its options."""
    domains = getattr(policy.options, "domains", ())
    return tuple(each for each in domains if isinstance(each, str)) if isinstance(domains, tuple | list) else ()


def _in_conditions(policy: PolicySettings) -> Iterator[str]:
    for name in (*policy.when.recipient, *policy.when.sender):
        if name != "<>":
            yield name.rpartition("@")[2]


def too_many(networks: Iterable[Network]) -> bool:
    """Whether these are, all together, anybody."""
    networks = tuple(networks)
    return any(_count(_public(networks, version)) > many for version, many in _MANY.items())


def open_doors(settings: Settings) -> Iterator[Complaint]:
    """Where anybody is believed who says that he is somebody else, with what should be there instead."""
    for index, listener in enumerate(settings.listener):
        for key, networks in (("proxy", listener.proxy), ("xclient", listener.xclient)):
            if not is_local(listener.address) and too_many(networks):
                yield Complaint(
                    ("listener", index, key),
                    "anybody can say here that he is somebody else, and is believed: name the hosts that may, or say "
                    'open_relay = "I mean it" at the top of the file',
                )


# Clients.


def _clients(groups: Sequence[Iterable[Network]], version: int) -> tuple[str, ...]:
    """
    The first are those that no group names; then those that only groups name that are anybody, some for each set of
    such groups.
    """
    spans = [_public(group, version) for group in groups]
    crowds = [each for each in spans if _count(each) > _MANY[version]]
    named = [span for each in spans if _count(each) <= _MANY[version] for span in each]
    left = _without(_public((_ALL[version],), version), _joined(named))
    if _count(left) <= _MANY[version]:
        # Those who are named are all that there are.
        left = _public((_ALL[version],), version)
    classes = _classes(left, crowds)
    found: dict[str, None] = {}
    for members in sorted(classes, key=len):
        if not members or _count(classes[members]) > _MANY[version]:
            found.update(dict.fromkeys(_at(classes[members], part, version) for part in _PLACES))
    return tuple(found)


def _classes(spans: Sequence[_Span], crowds: Sequence[Sequence[_Span]]) -> dict[frozenset[int], list[_Span]]:
    """These addresses, by which of the crowds they are in."""
    changes = [(start, number) for number, crowd in enumerate(crowds) for start, _ in crowd]
    changes += [(end, ~number) for number, crowd in enumerate(crowds) for _, end in crowd]
    # Those that leave a crowd come before those that enter it: the two never meet in one crowd.
    changes.sort()
    classes: dict[frozenset[int], list[_Span]] = {}
    inside: Counter[int] = Counter()
    at = 0
    for start, end in spans:
        while start < end:
            while at < len(changes) and changes[at][0] <= start:
                number = changes[at][1]
                inside[max(number, ~number)] += 1 if number >= 0 else -1
                at += 1
            stop = min(end, changes[at][0]) if at < len(changes) else end
            classes.setdefault(frozenset(+inside), []).append((start, stop))
            start = stop
    return classes


def _at(spans: Sequence[_Span], part: float, version: int) -> str:
    """The address before which such a part of all these addresses lies."""
    skip = int(_count(spans) * part)
    for start, end in spans:
        if skip < end - start:
            return str(ip_address(start + skip)) if version == 4 else str(IPv6Address(start + skip))
        skip -= end - start
    raise AssertionError("a part of nothing")


def _public(networks: Iterable[Network], version: int) -> list[_Span]:
    """The addresses of hosts in these networks."""
    spans = _joined(_span(each) for each in map(plain_network, networks) if each.version == version)
    (whole,) = _EVERYWHERE[version]
    clipped = [(max(start, whole[0]), min(end, whole[1])) for start, end in spans]
    return _without([span for span in clipped if span[0] < span[1]], _NOWHERE[version])


def _span(network: Network) -> _Span:
    return int(network.network_address), int(network.broadcast_address) + 1


def _joined(spans: Iterable[_Span]) -> list[_Span]:
    """The same addresses, each once and in order."""
    joined: list[_Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _without(spans: Iterable[_Span], others: Sequence[_Span]) -> list[_Span]:
    """These addresses but those; both in order, and each once."""
    left: list[_Span] = []
    at = 0
    for start, end in spans:
        while at < len(others) and others[at][1] <= start:
            at += 1
        here = at
        while here < len(others) and others[here][0] < end:
            if start < others[here][0]:
                left.append((start, others[here][0]))
            start = others[here][1]
            here += 1
        if start < end:
            left.append((start, end))
    return left


def _count(spans: Iterable[_Span]) -> int:
    return sum(end - start for start, end in spans)


_EVERYWHERE: Final = {version: (_span(network),) for version, network in _ALL.items()}
_NOWHERE: Final = {
    version: _joined(_span(each) for each in (*NOT_PUBLIC, *_NOBODY) if each.version == version) for version in (4, 6)
}


# Domains.


def _domains(named: Collection[str]) -> Iterator[str]:
    for top in _BELOW:
        names = [f"{label}.{top}" for label in _LABELS]
        yield next((name for name in names if not any(_is_akin(name, known) for known in named)), names[-1])


def _is_akin(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}") or domain.endswith(f".{name}")
