"""
Which kinds of mail make a difference in a configuration: what is worth being asked about.

A kind is a listener, where the client is, whether it has said who it is, whose the sender is, and whose the recipient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from itertools import islice, product
from typing import Any, Final

from attrs import evolve, frozen

from relay.config.addresses import Inet
from relay.config.listeners import ListenerSettings
from relay.config.openness import brings_others, is_public
from relay.config.policies import PolicySettings
from relay.config.settings import Settings
from relay.mail.address import Address, parse_address
from relay.policy.strangers import Network, Strangers, domains_of, strangers

#: How many mails are asked about, besides those of strangers to strangers.
MOST: Final = 1500
#: And of those.
MOST_OF_STRANGERS: Final = 50_000
#: How many networks, and how many domains, that the configuration names.
_NETWORKS: Final = 8
_DOMAINS: Final = 12
_USER: Final = "somebody"
_NO_SUCH_USER: Final = "no-such-user-x7q2"


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
    #: The connection is encrypted.
    tls: bool = False

    @property
    def by_anybody(self) -> bool:
        """From a stranger, who has not said who it is, to a stranger."""
        return self.client.strange and self.user is None and self.recipient.strange


@frozen
class Names:
    """Whom mail may come from and go to here."""

    listeners: tuple[ListenerSettings, ...]
    #: For each listener, by its name, one to which all come as to this one.
    likeness: dict[str, ListenerSettings]
    networks: list[Network]
    senders: list[Someone]
    recipients: list[Someone]
    strangers: Strangers

    @classmethod
    def of(cls, settings: Settings) -> Names:
        policies = [policy for policy in settings.policy if policy.mode != "off"]
        found = strangers(policies)
        elsewhere = Someone("elsewhere", Address("someone", found.domains[0]))
        return cls(
            settings.listener,
            _likeness(settings, policies),
            _networks(policies),
            [_NULL, elsewhere, *_senders(policies)],
            [evolve(elsewhere, strange=True), *_recipients(policies)],
            found,
        )


def table(names: Names) -> tuple[list[Kind], int]:
    """What there is room for, and how many names there is none for."""
    networks, senders = names.networks[:_NETWORKS], list(names.senders)
    recipients = names.recipients[: _DOMAINS + 1]
    named = len(names.networks) + len(senders) + len(names.recipients)
    listeners = {each.name: each for each in names.likeness.values()}.values()
    while True:
        clients = [
            (listener, client, user)
            for listener in listeners
            for client, user in _clients(listener, networks, names.strangers)
        ]
        # Of strangers, and of who sends to them, it goes last.
        lists: list[list[Any]] = [recipients, networks, senders]
        longest = max(lists, key=len)
        if len(clients) * len(senders) * len(recipients) <= MOST or len(longest) <= 1:
            break
        longest.pop()
    kinds = [
        Kind(listener, client, user, sender, recipient, encrypted(listener, user))
        for (listener, client, user), sender, recipient in islice(product(clients, senders, recipients), MOST)
    ]
    return kinds, named - len(networks) - len(senders) - len(recipients)


def by_strangers(names: Names) -> tuple[list[Kind], int]:
    """
    Mails of strangers to strangers by which it may be found out that this is an open relay, and how many more there
    are. One that gets through is enough.
    """
    ways: list[Kind] = []
    senders = names.senders + [
        Someone(f"elsewhere ({domain})", Address("someone", domain)) for domain in names.strangers.domains[1:-1]
    ]
    recipients = names.recipients[:1] + [
        Someone(f"elsewhere ({domain})", Address("someone", domain), strange=True)
        for domain in names.strangers.domains[1:]
    ]
    for listener in names.listeners:
        # Who submits mail has to say who it is (RFC 6409 section 4.3).
        if listener.protocol == "submission":
            continue
        ways_in = (False, True) if listener.tls == "offer" else (encrypted(listener, None),)
        for client, tls in product(_strange(listener, names.strangers), ways_in):
            ways += [
                Kind(listener, client, None, sender, recipient, tls)
                for sender, recipient in product(senders, recipients)
            ]
    return ways[:MOST_OF_STRANGERS], len(ways[MOST_OF_STRANGERS:])


def encrypted(listener: ListenerSettings, user: str | None) -> bool:
    """Whether such a client has begun TLS, if it does no more than it has to."""
    return listener.tls in ("require", "implicit") or (user is not None and listener.tls != "none")


def _likeness(settings: Settings, policies: Sequence[PolicySettings]) -> dict[str, ListenerSettings]:
    """One listener of each sort: those that no policy names are alike if the same clients come there."""
    named = {name for policy in policies for name in policy.when.listener}
    sorts: dict[Any, ListenerSettings] = {}
    found = {}
    for each in settings.listener:
        sort = (each.name if each.name in named else "", each.protocol, _families(each), _has_users(each), each.tls)
        found[each.name] = sorts.setdefault(sort, each)
    return found


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


def _clients(
    listener: ListenerSettings, networks: Sequence[Network], strange: Strangers
) -> Iterator[tuple[Place, str | None]]:
    """Who comes to this listener, and as whom."""
    families = _families(listener)
    places = [Place("this machine", "127.0.0.1" if isinstance(listener.address, Inet) or families else None)]
    if families:
        places += [
            Place(str(each), str(each[1] if each.num_addresses > 1 else each[0]))
            for each in networks
            if each.version in families and not each.is_loopback
        ]
        places += [each for each in _strange(listener, strange) if each.text in _STRANGER_TEXT.values()]
    for place in places:
        # Who submits mail has to say who it is (RFC 6409 section 4.3).
        if listener.protocol != "submission":
            yield place, None
        if _has_users(listener):
            yield place, _USER


_NULL: Final = Someone("<>", None)
_STRANGER_TEXT: Final = {4: "a stranger", 6: "a stranger (IPv6)"}


def _strange(listener: ListenerSettings, found: Strangers) -> Iterator[Place]:
    """Strangers who come to this listener; of each family one that is like any other comes first."""
    for version in _families(listener):
        for number, address in enumerate(found.clients[version]):
            text = _STRANGER_TEXT[version] if number == 0 else f"a stranger ({address})"
            yield Place(text, address, strange=True)


def _networks(policies: Sequence[PolicySettings]) -> list[Network]:
    """Those that policies name, the largest first: nobody knows all that are in it."""
    named = dict.fromkeys(network for policy in policies for network in policy.when.client)
    return sorted(named, key=lambda network: network.prefixlen)


def _senders(policies: Sequence[PolicySettings]) -> list[Someone]:
    own = _own_domains(policies)
    found = [Someone(f"@{own[0]}", Address("someone", own[0]))] if own else []
    named = dict.fromkeys(name for policy in policies for name in policy.when.sender)
    return found + [Someone(name, _address(name)) for name in named if name != "<>" and name not in own[:1]]


def _recipients(policies: Sequence[PolicySettings]) -> list[Someone]:
    found: dict[str, Someone] = {}
    for policy in policies:
        for domain in domains_of(policy):
            if policy.use == "mailbox":
                known = _known_user(policy)
                found[f"{known}@{domain}"] = Someone(f"{known}@{domain}", Address(known, domain))
                found[f"@{domain}"] = Someone(f"others @{domain}", Address(_NO_SUCH_USER, domain))
            else:
                found.setdefault(f"@{domain}", Someone(f"@{domain}", Address("someone", domain)))
        for name in policy.when.recipient:
            key = name if "@" in name else f"@{name}"
            found.setdefault(key, Someone(key, _address(name)))
    return list(found.values())


def _own_domains(policies: Sequence[PolicySettings]) -> list[str]:
    """Where mailboxes are, or whatever policies are for."""
    mailboxes = [domain for policy in policies if policy.use == "mailbox" for domain in domains_of(policy)]
    return mailboxes or [domain for policy in policies for domain in domains_of(policy)]


def _known_user(policy: PolicySettings) -> str:
    users = getattr(policy.options, "users", ())
    return users[0] if isinstance(users, tuple) and users else "postmaster"


def _address(name: str) -> Address:
    return parse_address(name if "@" in name else f"someone@{name}")
