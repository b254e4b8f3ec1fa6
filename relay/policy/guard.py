"""`when`: whether a policy is asked at all. Compiled when the configuration is loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final, TypeAlias

from relay.config.policies import When
from relay.mail.envelope import OURSELVES
from relay.mail.routing import Inquiry
from relay.policy.names import Mailboxes

#: A condition's key in the configuration if it does not hold, `None` if it does.
Condition: TypeAlias = Callable[[Inquiry], str | None]

#: The keys of conditions about the client. They stand before all others.
_CLIENT: Final = frozenset({"authenticated", "listener", "client"})
#: The key of the one condition about what becomes known from policy to policy.
FACTS: Final = "facts"

#: How many clients' addresses are remembered; then all are forgotten and looked at again.
_REMEMBERED: Final = 10_000


class Guard:
    """
    The conditions of one policy. All must hold for it to be asked.

    They say nothing but yes and no: a client whose address is not known (a Unix socket) is in no network, and what
    cannot be read matches nothing.

    Mail that we made ourselves, a notice, is from this machine (`OURSELVES`) and counts as sent by somebody who is
    known: where only those may relay who have said who they are, nobody far away would ever hear of a failure.
    """

    __slots__ = ("_conditions", "beside_client", "facts", "of_client", "skipped_by")

    def __init__(self, when: When) -> None:
        self._be(tuple(_conditions(when)), frozenset(when.facts))

    def _be(self, conditions: tuple[tuple[str, Condition], ...], facts: frozenset[str]) -> None:
        self._conditions = conditions
        #: The names of facts without which it never holds.
        self.facts = facts
        #: The first condition that does not hold, by its key in the configuration; `None`: the policy is asked.
        self.skipped_by: Condition = _all_of([lacks for _, lacks in conditions])
        #: The same in two parts, `None` where there are no such conditions: what is so for all that a client asks, and
        #: what counts where that holds.
        self.of_client: Condition | None = _all_or_none(lacks for key, lacks in conditions if key in _CLIENT)
        self.beside_client: Condition | None = _all_or_none(lacks for key, lacks in conditions if key not in _CLIENT)

    @property
    def keys(self) -> tuple[str, ...]:
        """What the conditions are called in the configuration."""
        return tuple(key for key, _ in self._conditions)

    def within(self, known: frozenset[str]) -> Guard:
        """The same where only these conditions can be answered: all others do not hold there."""
        if all(key in known for key, _ in self._conditions):
            return self
        conditions = ((key, lacks if key in known else constantly(key)) for key, lacks in self._conditions)
        return self._of(conditions, self.facts)

    def before_facts(self) -> Guard:
        """The same without what it says of facts, which may still be found out: who is skipped by it stays so."""
        return self._of(((key, lacks) for key, lacks in self._conditions if key != FACTS), frozenset())

    @classmethod
    def _of(cls, conditions: Iterable[tuple[str, Condition]], facts: frozenset[str]) -> Guard:
        guard = cls.__new__(cls)
        guard._be(tuple(conditions), facts)
        return guard

    def __bool__(self) -> bool:
        """Whether there are any conditions."""
        return bool(self._conditions)


def _conditions(when: When) -> Iterable[tuple[str, Condition]]:
    # In this order: what costs least comes first.
    if when.authenticated is not None:
        yield "authenticated", _authenticated(when.authenticated)
    if when.listener:
        yield "listener", _came_by(when.listener)
    if when.client:
        yield "client", _client_in(when.client)
    if when.recipient:
        yield "recipient", _sent_to(when.recipient)
    if when.sender:
        yield "sender", _sent_by(when.sender)
    if when.facts:
        yield FACTS, _known(when.facts)


def _all_of(conditions: Sequence[Condition]) -> Condition:
    if not conditions:
        return lambda _inquiry: None
    first, *rest = conditions
    if not rest:
        return first
    others = _all_of(rest)
    return lambda inquiry: first(inquiry) or others(inquiry)


def _all_or_none(conditions: Iterable[Condition]) -> Condition | None:
    given = tuple(conditions)
    return _all_of(given) if given else None


def constantly(key: str) -> Condition:
    """One that never holds."""
    return lambda _inquiry: key


def _authenticated(wanted: bool) -> Condition:
    def lacks(inquiry: Inquiry) -> str | None:
        client = inquiry.client
        return None if (client.user is not None or client == OURSELVES) is wanted else "authenticated"

    return lacks


def _came_by(listeners: Iterable[str]) -> Condition:
    names = frozenset(listeners)
    return lambda inquiry: None if inquiry.client.listener in names else "listener"


def _client_in(given: Iterable[IPv4Network | IPv6Network]) -> Condition:
    networks = Networks(given)
    known = networks.known.get

    def lacks(inquiry: Inquiry) -> str | None:
        address = inquiry.client.address
        lies_there = known(address)  # and no call of ours
        if lies_there is None:
            lies_there = address in networks
        return None if lies_there else "client"

    return lacks


def _sent_to(given: Iterable[str]) -> Condition:
    mailboxes = Mailboxes(given)
    domains = mailboxes.domains
    if not mailboxes.addresses:
        return lambda inquiry: None if inquiry.recipient.domain in domains else "recipient"
    return lambda inquiry: None if inquiry.recipient in mailboxes else "recipient"


def _sent_by(given: Iterable[str]) -> Condition:
    mailboxes = Mailboxes(given)
    return lambda inquiry: None if inquiry.reverse_path in mailboxes else "sender"


def _known(given: Mapping[str, Iterable[str]]) -> Condition:
    wanted = tuple((name, frozenset(values)) for name, values in given.items())

    def lacks(inquiry: Inquiry) -> str | None:
        facts = inquiry.facts
        return None if all(facts.get(name) in values for name, values in wanted) else FACTS

    return lacks


class Networks:
    """Some networks, and whether an address lies in one of them."""

    __slots__ = ("_prefixes", "known")

    def __init__(self, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        #: By IP version and length of what follows the prefix: the prefixes, as numbers.
        self._prefixes: dict[tuple[int, int], set[int]] = {}
        for network in map(plain_network, networks):
            rest = network.max_prefixlen - network.prefixlen
            prefix = int(network.network_address) >> rest
            self._prefixes.setdefault((network.version, rest), set()).add(prefix)
        #: Addresses that were looked at, and what came of it: always the same dictionary.
        self.known: dict[str | None, bool] = {None: False}

    def __contains__(self, address: str | None) -> bool:
        known = self.known
        if address not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            known[address] = address is not None and self._look_at(address)
        return known[address]

    def _look_at(self, text: str) -> bool:
        try:
            address = _plain_address(ip_address(text))
        except ValueError:
            return False
        number = int(address)
        return any(
            version == address.version and number >> rest in prefixes
            for (version, rest), prefixes in self._prefixes.items()
        )


def _plain_address(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """
    An IPv4 client is one, also where a socket for both kinds shows it as `::ffff:192.0.2.1` (RFC 4291
    section 2.5.5.2).
    """
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def plain_network(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    first = _plain_address(network.network_address)
    if isinstance(network, IPv6Network) and isinstance(first, IPv4Address) and network.prefixlen >= 96:
        return IPv4Network((first, network.prefixlen - 96))
    return network
