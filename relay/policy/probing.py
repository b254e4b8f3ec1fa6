"""
Who may send what to whom: the chain itself, asked about a mail of each kind (`relay.policy.kinds`).

Nothing here knows what a policy does: it is asked. Of what a policy cannot know without the DNS or another server the
answer is unknown; then the rest is asked as if that one had nothing to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import islice, product
from typing import Any, Final, TypeAlias

from attrs import evolve, frozen

from relay.config.policies import PolicySettings
from relay.config.settings import Settings
from relay.mail.address import Address, literal
from relay.mail.decision import Accepted, Decision, Refused
from relay.mail.envelope import Client
from relay.mail.facts import NO_FACTS, Facts
from relay.mail.phases import ConnectionInquiry, SenderInquiry
from relay.mail.routing import Deliver, Forward, Inquiry, Route
from relay.mail.tls import TlsFacts
from relay.policy.chain import Chain
from relay.policy.kinds import Kind, Names, by_strangers, encrypted, table
from relay.smtp.answers import OUR_FAULT

#: How many choices of values are tried with which a condition about facts holds.
_WAYS: Final = 16
#: Who was told to come again comes again, after so many seconds each.
_AGAIN: Final = (1200.0, 4 * 3600.0, 25 * 3600.0)

#: How a connection is encrypted that is.
_TLS: Final = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)


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
    #: By the word of this policy it is relayed, if those find out what permits it; or "".
    permitting: str = ""

    def is_like(self, other: Found) -> bool:
        """Whether the same is said of both."""
        return _said(self) == _said(other)


def _said(found: Found) -> tuple[str, bool, str, tuple[str, ...], str]:
    return found.answer, found.relayed, found.policy, found.unless, found.permitting


@frozen
class Matrix:
    """All that was found that makes a difference."""

    found: tuple[Found, ...]
    #: How many networks, domains and senders of the configuration there was no room for.
    left_out: int = 0
    #: How many mails of strangers to strangers nobody was asked about: whether they can send them is not known.
    unasked: int = 0


class Probe:
    """Asks a chain."""

    def __init__(
        self,
        chain: Chain,
        *,
        policies: Iterable[PolicySettings],
        run: Callable[[Awaitable[Any]], Any],
        asked: set[str],
        forget: Callable[[], None],
        pass_time: Callable[[float], None],
    ) -> None:
        """
        `run` gives what an answer comes to; it raises `TimeoutError` if that is nothing. Whoever asks the world outside
        puts its name into `asked`. `forget` empties what policies keep. `policies` are those of the chain.
        """
        self._chain = chain
        self._run = run
        self._asked = asked
        self._forget = forget
        self._pass_time = pass_time
        #: Without some of the policies, by their names.
        self._without: dict[frozenset[str], Chain] = {frozenset(): chain}
        #: What conditions ask to be found out.
        self._wanted = tuple(dict.fromkeys(facts for policy in policies for facts in _each_way(policy.when.facts)))
        self._findable: dict[frozenset[str], tuple[Facts, ...]] = {}

    def ask(self, kind: Kind) -> Found:
        """What becomes of such a mail, if its client comes again where it is asked to."""
        absent: frozenset[str] = frozenset()
        permitting = ""
        while True:
            first, last = self._answered(kind, absent)
            # Each time there is one fewer to be asked.
            if not self._asked - absent:
                break
            # Nobody has answered it: what it says then counts, too.
            permitting = permitting or _relaying(last)
            absent |= self._asked
        answer = words(last)
        if answer != words(first):
            answer = f"{words(first)}, and then {answer}"
        if absent and kind.by_anybody and not relays(last):
            permitting = permitting or self._permitting(kind, absent)
        return Found(kind, answer, relays(last), _whose(last), tuple(sorted(absent)), permitting)

    def _answered(self, kind: Kind, absent: frozenset[str], known: Facts = NO_FACTS) -> tuple[Decision, Decision]:
        """What is said at first, and when it has come again."""
        self._forget()
        self._asked.clear()
        first = decision = self._decided(kind, absent, known)
        for seconds in _AGAIN:
            if not isinstance(decision, Refused) or decision.reply.permanent or self._asked:
                break
            self._pass_time(seconds)
            decision = self._decided(kind, absent, known)
        return first, decision

    def _permitting(self, kind: Kind, absent: frozenset[str]) -> str:
        """Who would relay it, if those who are absent had found out what a policy waits for; or ""."""
        for known in self._waited_for(absent):
            _, decision = self._answered(kind, absent, known)
            if relays(decision):
                return _whose(decision)
        return ""

    def _waited_for(self, absent: frozenset[str]) -> tuple[Facts, ...]:
        """What conditions ask for, as far as these policies may find it out."""
        found = self._findable.get(absent)
        if found is None:
            stations = [station.policy for station in self._chain.stations if station.name in absent]
            names = {name for policy in stations for name in getattr(policy, "provides", ())}
            ways = (Facts({name: wanted[name] for name in wanted if name in names}) for wanted in self._wanted)
            found = self._findable[absent] = tuple(dict.fromkeys(way for way in ways if way))
        return found

    def _decided(self, kind: Kind, absent: frozenset[str], known: Facts) -> Decision:
        chain = self._without.get(absent)
        if chain is None:
            chain = self._without[absent] = self._chain.without(absent)
        try:
            decision: Decision = self._run(_decided(chain, kind, known))
        except TimeoutError:
            return Refused(OUR_FAULT, because="no answer")
        return decision


def _each_way(wanted: Mapping[str, Sequence[str]]) -> Iterator[Facts]:
    """Each choice of values with which such a condition holds."""
    for values in islice(product(*wanted.values()), _WAYS):
        yield Facts(zip(wanted, values, strict=True))


async def _decided(chain: Chain, kind: Kind, facts: Facts) -> Decision:
    recipient, sender = kind.recipient.address, kind.sender.address
    assert recipient is not None, "a recipient is somebody"
    client = Client(
        kind.client.address,
        helo=literal(kind.client.address) if kind.client.address else "localhost",
        extended=True,
        listener=kind.listener.name,
        user=kind.user,
        tls=_TLS if kind.tls else None,
        lmtp=kind.listener.protocol == "lmtp",
    )
    if chain.asks_clients:
        tls = client.tls if kind.listener.tls == "implicit" else None
        came = evolve(client, helo="", extended=False, user=None, tls=tls)
        admission = await chain.connect(ConnectionInquiry(came, facts))
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


def _whose(decision: Decision) -> str:
    return decision.policy if isinstance(decision, Refused) else decision.placements[0].policy


def _relaying(decision: Decision) -> str:
    """The policy by which a copy goes onward, or ""."""
    return _whose(decision) if relays(decision) else ""


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


# All of them.


def matrix(settings: Settings, probe: Probe) -> Matrix:
    """
    What becomes of a mail of each kind that makes a difference in this configuration.

    Of strangers' mail to strangers no listener and no sender is left out, and it is tried in several ways; what comes
    out as it does for a plainer one is not told.
    """
    names = Names.of(settings)
    kinds, left_out = table(names)
    said = {_key(kind): probe.ask(kind) for kind in kinds}
    told = list(said.values())
    mails, unasked = by_strangers(names)
    for kind in mails:
        key = _key(kind)
        if key in said:
            continue
        found = said[key] = probe.ask(kind)
        plainer = [said[each] for each in _plainer(kind, names) if each != key and each in said]
        if not any(map(found.is_like, plainer)):
            told.append(found if kind.tls is encrypted(kind.listener, None) else evolve(found, kind=_by_tls(kind)))
    return Matrix(tuple(told), left_out, unasked)


_Key: TypeAlias = tuple[str, str | None, str | None, Address | None, Address | None, bool]


def _key(kind: Kind) -> _Key:
    """What is asked about."""
    return kind.listener.name, kind.client.address, kind.user, kind.sender.address, kind.recipient.address, kind.tls


def _plainer(kind: Kind, names: Names) -> Iterator[_Key]:
    """Mails of strangers to strangers that differ from this one in one thing, in which they are like any other."""
    listener, client, user, sender, recipient, tls = _key(kind)
    assert client is not None, "strangers have an address"
    yield names.likeness[listener].name, client, user, sender, recipient, tls
    yield listener, names.strangers.clients[ip_address(client).version][0], user, sender, recipient, tls
    yield listener, client, user, names.senders[1].address, recipient, tls
    yield listener, client, user, sender, names.recipients[0].address, tls
    yield listener, client, user, sender, recipient, encrypted(kind.listener, None)


def _by_tls(kind: Kind) -> Kind:
    return evolve(kind, client=evolve(kind.client, text=f"{kind.client.text} by TLS"))
