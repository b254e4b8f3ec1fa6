"""
What must hold of a site's relay, whatever its policies are: for tests of a configuration.

    def test_we_are_no_open_relay():
        check_no_open_relay(Path("relay.toml"), own=["example.org"])

Each function makes up clients by Hypothesis and lets them talk to the relay of the configuration, in memory: its own
sessions, policies, tables and limits, and a clock, a DNS and other servers that are not real. It raises
`AssertionError` where it does not hold, and `ConfigurationError`.

The DNS knows `sender.invalid`, from where clients come, and `elsewhere.invalid`, where nobody is ours; and what `names`
adds. Agents of this machine take everything and do nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import product
from pathlib import Path
from typing import Any, Final, TypeVar

from attrs import evolve, field, frozen
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from twisted.internet.task import Clock

from relay.config.openness import is_public
from relay.interfaces import Claim, Enrol, IClock, Step
from relay.mail.address import Address, canonical_domain
from relay.mail.queue import EXPANSION, Recipient
from relay.mail.routing import Forward
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.policy.strangers import open_doors
from relay.policy.strangers import strangers as strangers_to
from relay.registry import AGENTS
from relay.spool.memory import MemorySpool, Shelf
from relay.testing.dialogue import talk
from relay.testing.dns import FakeNames
from relay.testing.front import Configured, Front, Outside, Policy, configured, open_front
from relay.testing.http import FakeHttp, Servers
from relay.testing.mailboxes import FakeMailboxes
from relay.testing.maillog import Event
from relay.testing.policy import NOON
from relay.testing.strategies import Dialogue, addresses, dialogues
from relay.testing.world import MailWorld, done

_T = TypeVar("_T")

#: Where nobody is ours, in whatever form a client says it.
ELSEWHERE: Final = "elsewhere.invalid"
_SENDER: Final = "sender.invalid"
_STRANGERS: Final = ("192.0.2.1", "203.0.113.9", "2001:db8::1")

#: A name for whoever comes from there, and back (RFC 1912 section 2.1).
_CLIENT: Final = f"client.{_SENDER}"


def _hosts(addresses: Iterable[str]) -> dict[str, Any]:
    """What the DNS says of clients at these addresses."""
    ips = [ip_address(each) for each in addresses]
    names: dict[str, Any] = {each.reverse_pointer: {"PTR": [_CLIENT]} for each in ips}
    kinds = {
        "A": [str(each) for each in ips if each.version == 4],
        "AAAA": [str(each) for each in ips if each.version == 6],
    }
    return {**names, _CLIENT: {kind: found for kind, found in kinds.items() if found}}


#: What everybody finds in the DNS.
_NAMES: Final[Mapping[str, Any]] = {
    ELSEWHERE: {"MX": [(10, f"mx.{ELSEWHERE}")]},
    f"mx.{ELSEWHERE}": {"A": ["198.51.100.25"]},
    _SENDER: {"MX": [(10, f"client.{_SENDER}")], "A": ["192.0.2.1"], "TXT": ["v=spf1 +all"]},
    **_hosts(_STRANGERS),
}

#: Who is refused for now comes again after so long, as a server would: a greylist is no lock.
_COMES_AGAIN: Final = 3600.0
_DAY: Final = 86400.0
#: By then a message is delivered, given up, or kept for somebody to decide.
_LONG_AFTER: Final = 9 * _DAY
_REFERENCE: Final = re.compile(r"\[ref (\w+)\]")


@frozen
class Site:
    """The configuration that is tried, and what it finds in its world."""

    given: Configured
    names: Mapping[str, Any] = field(factory=dict)
    http: Servers | None = None

    def front(self) -> tuple[Front, Clock]:
        clock = Clock()
        time = ReactorClock(clock, lambda: NOON + clock.seconds())
        outside = Outside(FakeNames({**_NAMES, **self.names}), FakeHttp(self.http), {})
        return open_front(_met_directly(self.given), time, outside), clock

    @property
    def public(self) -> list[int]:
        """The listeners that strangers can reach, by their places."""
        return [at for at, each in enumerate(self.given.settings.listener) if is_public(each)]

    @property
    def unencrypted(self) -> list[int]:
        """Those where a client may begin without TLS."""
        listeners = enumerate(self.given.settings.listener)
        found = [at for at, each in listeners if each.tls in ("none", "offer")]
        if not found:
            raise ValueError("no listener of this configuration speaks without TLS: there is nothing to try")
        return found


def _met_directly(given: Configured) -> Configured:
    """
    Sessions in memory are not encrypted: for a policy that asks for TLS there is `relayctl check`. Nor is there a
    proxy: the client is who it would say that it is.
    """
    settings = given.settings
    listeners = tuple(each.model_copy(update={"tls": "none", "proxy": ()}) for each in settings.listener)
    return evolve(given, settings=settings.model_copy(update={"listener": listeners}))


def _site(
    configuration: str | Path,
    policies: Iterable[Policy],
    base: Path | None,
    names: Mapping[str, Any] | None,
    http: Servers | None,
) -> Site:
    return Site(configured(configuration, policies, base=base), dict(names or {}), http)


def _for_each(strategy: SearchStrategy[_T], examples: int, check: Callable[[_T], None]) -> None:
    """
    The check, of so many examples, up to the first that fails. It is told as it is: to look for a smaller one takes
    minutes, and what matters of it stands in the message.
    """

    @hypothesis_settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(example: _T) -> None:
        check(example)

    each()


# Never an open relay.


#: Domains of nobody of ours, and local parts that mean somebody there, for who reads them wrongly.
_THERE: Final = (ELSEWHERE, f"sub.{ELSEWHERE}", "[198.51.100.25]")
_TRICKS: Final = (f"user%{ELSEWHERE}", f"user@{ELSEWHERE}", f"{ELSEWHERE}!user", f"@{ELSEWHERE}:user")


@frozen
class _Elsewhere:
    """Who is nobody of ours: made-up names, and ordinary ones, for policies that know that nobody has the former."""

    clients: tuple[str, ...]
    #: Where mail might be sent.
    domains: tuple[str, ...]
    #: From where it comes, besides.
    senders: tuple[str, ...]

    @classmethod
    def of(cls, given: Configured, own: Sequence[str]) -> _Elsewhere:
        found = strangers_to([each for each in given.settings.policy if each.mode != "off"], own)
        domain, sender = found.domains[:2]
        clients = (*_STRANGERS, *found.clients[4], *found.clients[6])
        return cls(clients, (*_THERE, domain), (_SENDER, ELSEWHERE, sender))

    @property
    def names(self) -> dict[str, Any]:
        """What the DNS says of them."""
        exchanger = {"MX": [(10, f"mx.{ELSEWHERE}")]}
        sender = {"MX": [(10, _CLIENT)], "TXT": ["v=spf1 +all"]}
        return {**_hosts(self.clients), self.domains[-1]: exchanger, self.senders[-1]: sender}

    def has(self, domain: str) -> bool:
        return domain in self.domains or domain.endswith(f".{ELSEWHERE}")


def _foreign(there: _Elsewhere, own: Sequence[str]) -> SearchStrategy[Address]:
    theirs = addresses(st.sampled_from(there.domains))
    return theirs | st.builds(Address, st.sampled_from(_TRICKS), st.sampled_from(own)) if own else theirs


def _plain_attempts(there: _Elsewhere, own: Sequence[str]) -> Iterator[Dialogue]:
    """One client of each kind, with one sender of each kind and one recipient of each kind: what everybody tries."""
    recipients = [Address("user", domain) for domain in there.domains]
    recipients += [Address(local, domain) for domain in own for local in _TRICKS]
    senders = [None, *(Address("user", domain) for domain in (*there.senders, *own))]
    for client, sender, recipient in product(there.clients, senders, recipients):
        yield Dialogue(client, _CLIENT, sender, (recipient,), b"Subject: hello\r\n\r\nHi!\r\n")


def _goes_elsewhere(copy: Recipient, there: _Elsewhere) -> bool:
    if not isinstance(copy.route, Forward):
        return False
    return any(map(there.has, (copy.address.domain, *(hop.name for hop in copy.route.next_hops))))


def check_no_open_relay(
    configuration: str | Path,
    *,
    policies: Iterable[Policy] = (),
    own: Iterable[str] = (),
    strangers: Iterable[str] | None = None,
    base: Path | None = None,
    names: Mapping[str, Any] | None = None,
    http: Servers | None = None,
    examples: int = 100,
) -> None:
    """
    No stranger can send mail to strangers by way of this relay.

    Tried at each listener that is not for this machine alone, or where a proxy or a host that may say XCLIENT brings
    others, from the addresses `strangers`, who have not said who they are (without them, from some for documentation,
    and of the Internet such that no policy names); from all kinds of senders, also from those `own` domains that the
    relay takes mail for. Who is told to come again later does so. A copy for somebody elsewhere that would be forwarded
    is the failure, and so is a listener where anybody is believed who says, by PROXY or XCLIENT, that he is somebody
    else. First each kind of client, sender and recipient is tried once, and then so many `examples`.
    """
    site, ours = _site(configuration, policies, base, names, http), [canonical_domain(each) for each in own]
    there = _Elsewhere.of(site.given, ours)
    site = evolve(site, names={**there.names, **site.names})
    if strangers is not None:
        there = evolve(there, clients=tuple(strangers))
    if not site.public:
        raise ValueError("no listener of this configuration can be reached by strangers: there is nothing to try")
    for door in open_doors(site.given.settings):
        raise AssertionError(f"an open relay: {site.given.settings.problem(site.given.file, door.path, door.text)}")
    senders = st.none() | addresses(st.sampled_from((*there.senders, *ours)))
    strategy = st.tuples(
        st.sampled_from(site.public),
        dialogues(_foreign(there, ours), senders=senders, clients=st.sampled_from(there.clients), most=2),
    )

    def check(example: tuple[int, Dialogue]) -> None:
        at, dialogue = example
        dialogue = evolve(dialogue, helo=_CLIENT)
        front, clock = site.front()
        if talk(dialogue, front.relay.listeners[at].factory, clock).later:
            clock.advance(_COMES_AGAIN)
            talk(dialogue, front.relay.listeners[at].factory, clock)
        for message in front.spool.accepted:
            for copy in message.copies:
                assert not _goes_elsewhere(copy, there), (
                    f"an open relay: the policy {copy.policy!r} sends mail from {dialogue.client}, a stranger, at "
                    f"{site.given.settings.listener[at].name} to {copy.address}, by way of {copy.destination}"
                )

    for attempt in product(site.public, _plain_attempts(there, ours)):
        check(attempt)
    _for_each(strategy, examples, check)


# Each refusal is explained.


def check_refusals_explained(
    configuration: str | Path,
    *,
    policies: Iterable[Policy] = (),
    own: Iterable[str] = (),
    clients: Iterable[str] = (*_STRANGERS, "127.0.0.1"),
    base: Path | None = None,
    names: Mapping[str, Any] | None = None,
    http: Servers | None = None,
    examples: int = 100,
) -> None:
    """
    Whoever is refused can be told why: each 4yz and 5yz is in the mail log; each that comes from a policy says because
    of what, and has a reference by which `relayctl why` finds the whole decision.
    """
    site, ours = _site(configuration, policies, base, names, http), [canonical_domain(each) for each in own]
    places = st.sampled_from((ELSEWHERE, *ours))
    senders = st.none() | addresses(st.sampled_from((_SENDER, *ours)))
    strategy = st.tuples(
        st.sampled_from(site.unencrypted),
        dialogues(addresses(places), senders=senders, clients=st.sampled_from(tuple(clients)), most=3),
    )

    def check(example: tuple[int, Dialogue]) -> None:
        at, dialogue = example
        front, clock = site.front()
        for said, reply in talk(dialogue, front.relay.listeners[at].factory, clock).refusals:
            _explained(front, said, reply)

    _for_each(strategy, examples, check)


def _explained(front: Front, said: str, reply: str) -> None:
    about = f"the refusal {reply!r}" + (f" of {said!r}" if said else "")
    told = [fields for fields in front.log.named("refused") if fields["reply"] == reply]
    assert told, f"{about} is not in the mail log"
    for fields in told:
        if "policy" not in fields:
            continue
        assert fields.get("because"), f"{about} by the policy {fields['policy']!r} does not say because of what"
        found = _REFERENCE.search(reply)
        assert found, f"{about} by the policy {fields['policy']!r} has no reference to ask about"
        accounts = done(start(front.history.why(found[1]))).accounts
        assert accounts, f"nobody knows how {about} came about"


# No acknowledged mail is lost.

_FINAL: Final = frozenset({"delivered", "relayed", "failed", "discarded", "deleted"})


def _kill(world: MailWorld) -> None:
    """
    At the worst moment: mail that is under way arrives, and nobody writes down that it has.

    Nothing of what the relay does from here on counts; it does it only so that nothing is left that would go on when
    Python collects it.
    """
    said = len(world.log.events)
    _end(world)
    del world.log.events[said:]
    world.crash()


def _end(world: MailWorld) -> None:
    assert isinstance(world.spool, _Witnessed)
    world.spool.cut_off = True
    world.settle()
    world.relay.dispatcher.stop()
    world.settle()


#: What happens behind a dialogue.
_THEN: Final[Mapping[str, Callable[[MailWorld], None]]] = {
    "the next client comes": lambda world: None,
    "all that happens at this moment happens": MailWorld.settle,
    "an hour goes by": lambda world: world.pass_time(3600.0),
    "days go by": lambda world: world.pass_time(3 * _DAY),
    "the relay is killed": _kill,
}


class _Witnessed(MemorySpool):
    """A queue of which `enrolled` knows what was put into it, by queue id."""

    def __init__(self, clock: IClock, shelf: Shelf, enrolled: dict[str, tuple[Recipient, ...]]) -> None:
        super().__init__(clock, shelf)
        self._enrolled = enrolled
        #: What its relay does from now on is not written down.
        self.cut_off = False

    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        if self.cut_off:
            return ()
        claims = await super().commit(steps)
        self._enrolled.update((each.entry.id, each.recipients) for each in steps if isinstance(each, Enrol))
        return claims


def check_nothing_lost(
    configuration: str | Path,
    *,
    policies: Iterable[Policy] = (),
    own: Iterable[str] = (),
    clients: Iterable[str] = (*_STRANGERS, "127.0.0.1"),
    base: Path | None = None,
    names: Mapping[str, Any] | None = None,
    examples: int = 50,
) -> None:
    """
    What was answered with 250 is never lost: each copy is delivered, relayed, failed, discarded by a policy, or still
    in the queue (law L3), also if the relay is killed at any time and days go by; and a message has at least one copy,
    unless a policy has discarded it.
    """
    ours = [canonical_domain(each) for each in own]
    site = _site(configuration, policies, base, names, None)
    places = st.sampled_from((ELSEWHERE, "gone.invalid", *ours))
    senders = st.none() | addresses(st.sampled_from((_SENDER, *ours)))
    one = st.tuples(
        st.sampled_from(site.unencrypted),
        dialogues(addresses(places), senders=senders, clients=st.sampled_from(tuple(clients)), most=3),
        st.sampled_from(tuple(_THEN)),
    )

    def check(example: list[tuple[int, Dialogue, str]]) -> None:
        enrolled: dict[str, tuple[Recipient, ...]] = {}
        world = _world(site, enrolled)
        promised = []
        for at, dialogue, then in example:
            promised.append(talk(dialogue, world.relay.listeners[at].factory, world.clock).promised)
            _THEN[then](world)
            _accounted(world, promised, enrolled)
        world.pass_time(_LONG_AFTER)
        _accounted(world, promised, enrolled)
        _end(world)

    _for_each(st.lists(one, min_size=1, max_size=3), examples, check)


def _world(site: Site, enrolled: dict[str, tuple[Recipient, ...]]) -> MailWorld:
    """The whole relay, delivery included; `elsewhere.invalid` takes mail, and nobody else does."""
    taking = FakeMailboxes()
    world = MailWorld(
        site.given.text,
        {**_NAMES, **site.names},
        base=site.given.base,
        agents={name: taking for name in AGENTS.names()},
        spool=lambda clock, shelf: _Witnessed(clock, shelf, enrolled),
    )
    world.exchange(ELSEWHERE, "198.51.100.25", name=f"mx.{ELSEWHERE}")
    return world


def _accounted(world: MailWorld, promised: Iterable[str], enrolled: Mapping[str, tuple[Recipient, ...]]) -> None:
    settled = {(event.fields.get("id"), str(event.fields.get("recipient"))) for event in _final(world)}
    discarded = {event.fields.get("id") for event in world.log.events if event.what == "discarded"}
    for id in filter(None, promised):
        assert id in enrolled or id in discarded, f"{id} was promised, and never kept"
        waiting = world.spool.shelf.recipients.get(id, {})
        for copy in enrolled.get(id, ()):
            known = copy.id in waiting or (id, str(copy.address)) in settled or copy.route == EXPANSION
            assert known, f"{id} was promised, and its copy for {copy.address} is gone without a word"


def _final(world: MailWorld) -> Iterable[Event]:
    return (event for event in world.log.events if event.what in _FINAL)
