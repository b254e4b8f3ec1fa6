"""
Where to: from a next hop to the addresses to try, in order (RFC 5321 section 5.1, RFC 7505).

What the DNS says is not trusted to send us anywhere: an address passes the filter here, in the same resolution, or
nobody connects to it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address
from itertools import chain, groupby, zip_longest
from typing import Final

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed

from relay.delivery.reach import Reach
from relay.interfaces import IResolver
from relay.mail.answer import Absent, Answer, Exchange, Found, Unanswered
from relay.mail.outcome import NameTrouble, Peer, Unresolved
from relay.mail.routing import NextHop
from relay.net.waiting import start

#: Exchangers of a domain whose addresses are looked up, the best first. The list is the domain's, the work ours.
_MOST_HOSTS: Final = 20


@frozen
class Surroundings:
    """What the search is given."""

    resolver: IResolver
    #: Numbers from 0 to 1, for the order among equals.
    random: Callable[[], float]
    reach: Reach
    #: Addresses of a domain that are tried in one attempt.
    most: int = 5


@frozen
class Exchangers:
    """What to try, in this order; at least one."""

    peers: tuple[Peer, ...]


@frozen
class _Host:
    """A host that may take the mail, and what the DNS says of its addresses."""

    preference: int
    name: str
    #: As in `Peer`.
    assured: bool
    addresses: tuple[str, ...] = ()
    #: Nobody could say all of it, and why.
    unanswered: str = ""
    nonexistent: bool = False


async def find(next_hop: NextHop, surroundings: Surroundings) -> Exchangers | Unresolved:
    """
    The peers to try for `next_hop`.

    By MX: its exchangers, or the name itself if there is definitely no MX record. A name in the DNS may lead to public
    addresses only, or to what `allow_private` names. Without MX the name or the address was written by the operator,
    who may mean a filter on this machine or a smarthost in the cellar: `mx=False` is the word that private, loopback
    and local addresses are meant. No word lets the relay talk to itself, which is `LOOP` in either case. A Unix socket
    is where it is.

    The peers are `assured` if nobody was asked who they are, or if what the DNS said of MX was validated, be it that
    there is none. Their addresses need not be: that it is they who are there, their certificates prove.
    """
    if next_hop.unix:
        return Exchangers((Peer(next_hop.name, assured=True),))
    address = _given_address(next_hop)
    if address:
        return _choose(next_hop, [_Host(0, next_hop.name, True, (address,))], surroundings)
    if not next_hop.mx:
        return await _implicit(next_hop, surroundings, assured=True)
    answer = await surroundings.resolver.look_up(next_hop.name, "MX")
    match answer:
        case Found(records, authentic):
            exchanges = [record for record in records if isinstance(record, Exchange)]
            return await _by_exchanges(next_hop, exchanges, surroundings, assured=authentic)
        case Absent(nonexistent=True):
            return Unresolved(NameTrouble.NO_SUCH_DOMAIN, next_hop.name)
        case Absent(authentic=authentic):
            return await _implicit(next_hop, surroundings, assured=authentic)
        case Unanswered(why):
            return Unresolved(NameTrouble.UNANSWERED, next_hop.name, f"MX: {why}")


async def _implicit(next_hop: NextHop, surroundings: Surroundings, *, assured: bool) -> Exchangers | Unresolved:
    """The name itself is the host."""
    [host] = await _resolve([_Host(0, next_hop.name, assured)], surroundings)
    if host.nonexistent:
        return Unresolved(NameTrouble.NO_SUCH_DOMAIN, next_hop.name)
    return _choose(next_hop, [host], surroundings)


async def _by_exchanges(
    next_hop: NextHop, exchanges: Sequence[Exchange], surroundings: Surroundings, *, assured: bool
) -> Exchangers | Unresolved:
    # A null MX among others means nothing (RFC 7505 section 3 has it alone), and has no address anyway.
    named = [exchange for exchange in exchanges if exchange.exchanger]
    if not named:
        return Unresolved(NameTrouble.NULL_MX, next_hop.name)
    random = surroundings.random
    # Equals in random order (RFC 5321 section 5.1).
    in_order = sorted(named, key=lambda exchange: (exchange.preference, random()))
    best: dict[str, _Host] = {}
    for exchange in in_order:
        best.setdefault(exchange.exchanger, _Host(exchange.preference, exchange.exchanger, assured))
    hosts = await _resolve(list(best.values())[:_MOST_HOSTS], surroundings)
    return _choose(next_hop, hosts, surroundings)


async def _resolve(hosts: Sequence[_Host], surroundings: Surroundings) -> list[_Host]:
    """Look up the addresses of all, at the same time."""
    look_up = surroundings.resolver.look_up
    answers = await _together([look_up(host.name, kind) for host in hosts for kind in ("AAAA", "A")])
    return [_with_addresses(host, answers[2 * at : 2 * at + 2], surroundings.random) for at, host in enumerate(hosts)]


def _with_addresses(host: _Host, answers: Iterable[Answer], random: Callable[[], float]) -> _Host:
    addresses: list[str] = []
    why = ""
    nonexistent = False
    for answer in answers:
        match answer:
            case Found(records):
                found = [record for record in records if isinstance(record, str)]
                # The cache answers everybody in one order; the load is to be spread all the same.
                addresses += sorted(found, key=lambda _: random())
            case Absent():
                nonexistent = nonexistent or answer.nonexistent
            case Unanswered():
                why = f"{host.name}: {answer.why}"
    nonexistent = nonexistent and not addresses and not why
    return evolve(host, addresses=tuple(addresses), unanswered=why, nonexistent=nonexistent)


def _choose(next_hop: NextHop, hosts: Sequence[_Host], surroundings: Surroundings) -> Exchangers | Unresolved:
    """From hosts in order of preference to what may be tried, or why nothing may."""
    reach, port = surroundings.reach, next_hop.port
    # Hosts that are no better than we are would send the mail back to us (RFC 5321 section 5.1).
    ours = {address for host in hosts for address in host.addresses if reach.is_us(address, port)}
    limit = min((host.preference for host in hosts if not ours.isdisjoint(host.addresses)), default=None)
    better = [host for host in hosts if limit is None or host.preference < limit]
    candidates = dict.fromkeys(address for host in better for address in host.addresses)
    permitted = {address for address in candidates if reach.permits(address, private=not next_hop.mx)}
    if permitted:
        return Exchangers(_in_order(better, permitted, port, surroundings.most))
    for host in better:
        if host.unanswered:
            return Unresolved(NameTrouble.UNANSWERED, next_hop.name, host.unanswered)
    if ours:
        return Unresolved(NameTrouble.LOOP, next_hop.name, _some(ours))
    if candidates:
        return Unresolved(NameTrouble.FORBIDDEN, next_hop.name, _some(candidates))
    return Unresolved(NameTrouble.NO_ADDRESS, next_hop.name, _some(h.name for h in hosts if h.name != next_hop.name))


def _in_order(hosts: Sequence[_Host], permitted: set[str], port: int, most: int) -> tuple[Peer, ...]:
    """
    The peers by preference; among equals by turns of host and family, so that what is broken as a whole (a host, IPv6)
    does not use up the attempt.

    Where there are more than `most`, each host keeps its first addresses before any keeps its further ones: a host
    with many addresses, all down, must not hide the next one.
    """
    ranked: list[tuple[int, Peer]] = []
    left = set(permitted)
    for _, equals in groupby(hosts, key=lambda host: host.preference):
        families: tuple[list[tuple[int, Peer]], ...] = ([], [])
        for host in equals:
            for is_ipv6, family in zip((True, False), families, strict=True):
                usable = [a for a in dict.fromkeys(host.addresses) if a in left and (":" in a) is is_ipv6]
                family += enumerate(Peer(host.name, address, port, host.assured) for address in usable)
                left.difference_update(usable)
        for family in families:
            family.sort(key=_rank)
        ranked += (one for one in chain.from_iterable(zip_longest(*families)) if one is not None)
    kept = sorted(range(len(ranked)), key=lambda at: ranked[at][0])[:most]
    return tuple(ranked[at][1] for at in sorted(kept))


def _rank(ranked: tuple[int, Peer]) -> int:
    return ranked[0]


def _given_address(next_hop: NextHop) -> str:
    """The next hop's name as an address, or "": an address literal (RFC 5321 section 4.1.3), a bare one without MX."""
    name = next_hop.name
    if name.startswith("["):
        return str(ip_address(name[1:-1].removeprefix("IPv6:")))
    if next_hop.mx:
        return ""
    try:
        return str(ip_address(name))
    except ValueError:
        return ""


def _some(names: Iterable[str]) -> str:
    """A few of them, for people: the domain can bring as many as it likes."""
    first, *more = sorted(names) or [""]
    return f"{first} and {len(more)} more" if more else first


async def _together(awaitables: Iterable[Awaitable[Answer]]) -> list[Answer]:
    """Wait for all at the same time, and not at all if none of them waits."""
    answers: list[Answer | Deferred[Answer]] = [start(awaitable) for awaitable in awaitables]
    known = [answer for answer in answers if not isinstance(answer, Deferred)]
    if len(known) == len(answers):
        return known
    try:
        return await gatherResults([_deferred(answer) for answer in answers], consumeErrors=True)
    except FirstError as problem:  # ours, or we were cancelled: who asked wants to see which
        problem.subFailure.raiseException()


def _deferred(answer: Answer | Deferred[Answer]) -> Deferred[Answer]:
    return answer if isinstance(answer, Deferred) else succeed(answer)
