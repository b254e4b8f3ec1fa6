"""
Who may send what to whom: the chain itself, asked about a mail of each kind.

A kind is a listener, where the client is, whether it has said who it is, whose the sender is, and whose the recipient.
Nothing here knows what a policy does: it is asked. Of what a policy cannot know without the DNS or another server the
answer is unknown; then the rest is asked as if that one had nothing to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import product
from typing import Any, Final, TypeAlias

from attrs import evolve, frozen

from relay.config.addresses import Inet
from relay.config.listeners import ListenerSettings
from relay.config.openness import brings_others, is_public
from relay.config.policies import PolicySettings
from relay.config.settings import Settings
from relay.mail.address import Address, parse_address
from relay.mail.decision import Accepted, Decision, Refused
from relay.mail.envelope import Client
from relay.mail.facts import NO_FACTS
from relay.mail.phases import ConnectionInquiry, SenderInquiry
from relay.mail.routing import Deliver, Forward, Inquiry, Route
from relay.policy.chain import Chain
from relay.smtp.answers import OUR_FAULT

#: How many mails are asked about.
MOST: Final = 1500
#: How many networks, and how many domains, that the configuration names.
_NETWORKS: Final = 8
_DOMAINS: Final = 12
#: Hosts and domains that are nobody's (RFC 5737, RFC 2544, RFC 3849, RFC 9637, RFC 2606).
_STRANGERS: Final = {4: ("192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1"), 6: ("2001:db8::1", "3fff::1")}
_DOMAINS_OF_STRANGERS: Final = ("recipient.example", "stranger.example", "stranger.test", "stranger.invalid")
_SENDER: Final = Address("someone", "sender.example")
_USER: Final = "somebody"
_NO_SUCH_USER: Final = "no-such-user-x7q2"
#: Larger networks than these are no network of anybody's.
_EVERYBODY: Final = {4: 8, 6: 16}
#: Who was told to come again comes again, after so many seconds each.
_AGAIN: Final = (1200.0, 4 * 3600.0, 25 * 3600.0)

Network: TypeAlias = IPv4Network | IPv6Network


@frozen
class Place:
    """Where a client is."""

    text: str
    #: `None`: at a Unix socket.
    address: str | None
    #: Nobody has named it: it may be anybody.
    strange: bool = False


@frozen
class Someone:
    """Who sends, or is sent to."""

    text: str
    #: `None` is the null reverse-path.
    address: Address | None
    strange: bool = False


@frozen
class Kind:
    """A mail, by what is asked about it."""

    listener: ListenerSettings
    client: Place
    user: str | None
    sender: Someone
    recipient: Someone

    @property
    def by_anybody(self) -> bool:
        """From a stranger, who has not said who it is, to a stranger."""
        return self.client.strange and self.user is None and self.recipient.strange


@frozen
class Found:
    """What the policies say of such a mail."""

    kind: Kind
    #: In a few words.
    answer: str
    #: It is handed onward to where others are.
    relayed: bool
    #: By the word of this policy.
    policy: str
    #: Policies that would have had to ask somebody: if they have nothing against it.
    unless: tuple[str, ...] = ()


@frozen
class Matrix:
    """All that was found, and how many networks, domains and senders of the configuration there was no room for."""

    found: tuple[Found, ...]
    left_out: int = 0


class Probe:
    """Asks a chain."""

    def __init__(
        self,
        chain: Chain,
        *,
        run: Callable[[Awaitable[Any]], Any],
        asked: set[str],
        forget: Callable[[], None],
        pass_time: Callable[[float], None],
    ) -> None:
        """
        `run` gives what an answer comes to; it raises `TimeoutError` if that is nothing. Whoever asks the world outside
        puts its name into `asked`. `forget` empties what policies keep.
        """
        self._chain = chain
        self._run = run
        self._asked = asked
        self._forget = forget
        self._pass_time = pass_time
        #: Without some of the policies, by their names.
        self._without: dict[frozenset[str], Chain] = {frozenset(): chain}

    def ask(self, kind: Kind) -> Found:
        """What becomes of such a mail, if its client comes again where it is asked to."""
        absent: frozenset[str] = frozenset()
        while True:
            self._forget()
            self._asked.clear()
            decision = self._decided(kind, absent)
            # Each time there is one fewer to be asked.
            if not self._asked - absent:
                break
            absent |= self._asked
        first = decision
        for seconds in _AGAIN:
            if not isinstance(decision, Refused) or decision.reply.permanent or self._asked:
                break
            self._pass_time(seconds)
            decision = self._decided(kind, absent)
        answer = words(decision)
        if answer != words(first):
            answer = f"{words(first)}, and then {answer}"
        policy = decision.policy if isinstance(decision, Refused) else decision.placements[0].policy
        return Found(kind, answer, relays(decision), policy, tuple(sorted(absent)))

    def _decided(self, kind: Kind, absent: frozenset[str]) -> Decision:
        chain = self._without.get(absent)
        if chain is None:
            chain = self._without[absent] = self._chain.without(absent)
        try:
            decision: Decision = self._run(_decided(chain, kind))
        except TimeoutError:
            return Refused(OUR_FAULT, because="no answer")
        return decision


async def _decided(chain: Chain, kind: Kind) -> Decision:
    recipient, sender = kind.recipient.address, kind.sender.address
    assert recipient is not None, "a recipient is somebody"
    client = Client(
        kind.client.address,
        helo=_literal(kind.client.address),
        extended=True,
        listener=kind.listener.name,
        user=kind.user,
        lmtp=kind.listener.protocol == "lmtp",
    )
    facts = NO_FACTS
    if chain.asks_clients:
        admission = await chain.connect(ConnectionInquiry(evolve(client, helo="", extended=False, user=None)))
        if isinstance(admission, Refused):
            return admission
        facts = admission.facts
    if chain.asks_senders:
        admission = await chain.sender(SenderInquiry(client, sender, None, facts))
        if isinstance(admission, Refused):
            return admission
        facts = admission.facts
    said = chain.decide(Inquiry(recipient, recipient, sender, client, facts))
    return said if isinstance(said, Accepted | Refused) else await said


def relays(decision: Decision) -> bool:
    """Whether a copy goes onward. Who takes mail by LMTP delivers it (RFC 2033)."""
    return isinstance(decision, Accepted) and any(
        isinstance(each.route, Forward) and any(not hop.lmtp for hop in each.route.next_hops)
        for each in decision.placements
    )


def words(decision: Decision) -> str:
    """A decision, in a few words."""
    if isinstance(decision, Refused):
        reply = decision.reply
        return f"{reply.code} {reply.status}" if reply.status else str(reply.code)
    return " and ".join(dict.fromkeys(_word(each.route) for each in decision.placements))


def _word(route: Route) -> str:
    return f"deliver ({route.agent})" if isinstance(route, Deliver) else type(route).__name__.lower()


def _literal(address: str | None) -> str:
    if address is None:
        return "localhost"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


# Which kinds there are.


def matrix(settings: Settings, probe: Probe) -> Matrix:
    """What becomes of a mail of each kind that makes a difference in this configuration."""
    kinds, left_out = _kinds(settings)
    return Matrix(tuple(probe.ask(kind) for kind in kinds), left_out)


def _kinds(settings: Settings) -> tuple[list[Kind], int]:
    policies = [policy for policy in settings.policy if policy.mode != "off"]
    networks, senders, recipients = _networks(policies), _senders(policies), _recipients(policies)
    named = len(networks) + len(senders) + len(recipients)
    networks, recipients = networks[:_NETWORKS], _with_strangers_first(recipients)[: _DOMAINS + 1]
    listeners = _unlike(settings, policies)
    while True:
        kinds = [
            Kind(listener, client, user, sender, recipient)
            for listener in listeners
            for client, user in _clients(listener, networks)
            for sender, recipient in product(senders, recipients)
        ]
        if len(kinds) <= MOST:
            return kinds, named - len(networks) - len(senders) - len(recipients)
        # What is nobody's in particular, and decides whether this is an open relay, goes last.
        lists: list[list[Any]] = [recipients, networks, senders]
        longest = max(lists, key=len)
        if len(longest) <= 1:
            return kinds[:MOST], named - len(networks) - len(senders) - len(recipients)
        longest.pop()


def _unlike(settings: Settings, policies: Sequence[PolicySettings]) -> list[ListenerSettings]:
    """One listener of each sort: those that no policy names are alike if the same clients come there."""
    named = {name for policy in policies for name in policy.when.listener}
    sorts: dict[Any, ListenerSettings] = {}
    for each in settings.listener:
        sort = (each.name if each.name in named else "", each.protocol, _families(each), _has_users(each))
        sorts.setdefault(sort, each)
    return list(sorts.values())


def _families(listener: ListenerSettings) -> tuple[int, ...]:
    """Of which families strangers come there: none of them to where only this machine can connect."""
    if not is_public(listener):
        return ()
    if isinstance(listener.address, Inet) and not brings_others(listener):
        version = ip_address(listener.address.host).version
        return (4,) if version == 4 else (4, 6)
    return (4, 6)


def _has_users(listener: ListenerSettings) -> bool:
    return listener.local_users or (listener.tls != "none" and "AUTH" not in listener.without)


def _clients(listener: ListenerSettings, networks: Sequence[Network]) -> Iterator[tuple[Place, str | None]]:
    """Who comes to this listener, and as whom."""
    families = _families(listener)
    places = [Place("this machine", "127.0.0.1" if isinstance(listener.address, Inet) or families else None)]
    if families:
        places += [
            Place(str(each), str(each[1] if each.num_addresses > 1 else each[0]), _is_everybody(each))
            for each in networks
            if each.version in families and not each.is_loopback
        ]
        places += [Place(_STRANGER_TEXT[each], _stranger(each, networks), strange=True) for each in families]
    for place in places:
        # Who submits mail has to say who it is (RFC 6409 section 4.3).
        if listener.protocol != "submission":
            yield place, None
        if _has_users(listener):
            yield place, _USER


_STRANGER_TEXT: Final = {4: "a stranger", 6: "a stranger (IPv6)"}


def _stranger(version: int, networks: Sequence[Network]) -> str:
    own = [each for each in networks if not _is_everybody(each)]
    known = (at for at in _STRANGERS[version] if not any(ip_address(at) in each for each in own))
    return next(known, _STRANGERS[version][0])


def _is_everybody(network: Network) -> bool:
    return network.prefixlen < _EVERYBODY[network.version]


def _networks(policies: Sequence[PolicySettings]) -> list[Network]:
    """Those that policies name, the largest first: nobody knows all that are in it."""
    named = dict.fromkeys(network for policy in policies for network in policy.when.client)
    return sorted(named, key=lambda network: network.prefixlen)


def _senders(policies: Sequence[PolicySettings]) -> list[Someone]:
    own = _own_domains(policies)
    found = [Someone("<>", None), Someone("elsewhere", _SENDER)]
    found += [Someone(f"@{own[0]}", Address("someone", own[0]))] if own else []
    named = dict.fromkeys(name for policy in policies for name in policy.when.sender)
    return found + [Someone(name, _address(name)) for name in named if name != "<>" and name not in own[:1]]


def _recipients(policies: Sequence[PolicySettings]) -> list[Someone]:
    found: dict[str, Someone] = {}
    for policy in policies:
        for domain in _domains(policy):
            if policy.use == "mailbox":
                known = _known_user(policy)
                found[f"{known}@{domain}"] = Someone(f"{known}@{domain}", Address(known, domain))
                found[f"@{domain}"] = Someone(f"others @{domain}", Address(_NO_SUCH_USER, domain))
            else:
                found.setdefault(f"@{domain}", Someone(f"@{domain}", Address("someone", domain)))
        for name in policy.when.recipient:
            key = name if "@" in name else f"@{name}"
            found.setdefault(key, Someone(key, _address(name)))
    domains = {each.address.domain for each in found.values() if each.address is not None}
    strange = next(
        (name for name in _DOMAINS_OF_STRANGERS if not any(_is_below(name, known) for known in domains)),
        _DOMAINS_OF_STRANGERS[-1],
    )
    return [*found.values(), Someone("elsewhere", Address("someone", strange), strange=True)]


def _with_strangers_first(recipients: list[Someone]) -> list[Someone]:
    return sorted(recipients, key=lambda each: not each.strange)


def _is_below(name: str, domain: str) -> bool:
    return name == domain or name.endswith(f".{domain}") or domain.endswith(f".{name}")


def _own_domains(policies: Sequence[PolicySettings]) -> list[str]:
    """Where mailboxes are, or whatever policies are for."""
    mailboxes = [domain for policy in policies if policy.use == "mailbox" for domain in _domains(policy)]
    return mailboxes or [domain for policy in policies for domain in _domains(policy)]


def _domains(policy: PolicySettings) -> tuple[str, ...]:
    domains = getattr(policy.options, "domains", ())
    return tuple(each for each in domains if isinstance(each, str)) if isinstance(domains, tuple | list) else ()


def _known_user(policy: PolicySettings) -> str:
    users = getattr(policy.options, "users", ())
    return users[0] if isinstance(users, tuple) and users else "postmaster"


def _address(name: str) -> Address:
    return parse_address(name if "@" in name else f"someone@{name}")
