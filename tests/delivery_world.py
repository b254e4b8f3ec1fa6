"""A dispatcher with everything around it that tests script: hosts, agents, policies, a spool that can fail, one Clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from relay.delivery.attempt import Attempts
from relay.delivery.destination import Limits
from relay.delivery.dispatch import Dispatcher, Pace
from relay.delivery.exchangers import Exchangers
from relay.delivery.notices import Notices
from relay.interfaces import (
    Claim,
    ClaimLost,
    Consignment,
    Enrol,
    GiveBack,
    IAgent,
    IChain,
    IClock,
    IContent,
    IDraft,
    IMailLog,
    ISpool,
    ITransmitter,
    Postpone,
    Renew,
    Report,
    Settle,
    Step,
)
from relay.mail.address import Address
from relay.mail.decision import Accepted, Decision, Placement
from relay.mail.envelope import OURSELVES, Client, Envelope, Form
from relay.mail.outcome import Carried, Delivered, Fact, Failed, Peer, Relayed, Unresolved
from relay.mail.queue import Entry, Pending, Recipient
from relay.mail.routing import Deliver, Forward, Inquiry, NextHop, Route
from relay.net.clock import ReactorClock

JON = Address("jon", "example.org")
EPOCH = 1_700_000_000.0


@implementer(IContent)
@frozen
class Octets:
    octets: bytes
    form: Form = Form.PLAIN

    @property
    def size(self) -> int:
        return len(self.octets)

    def blocks(self) -> Iterator[bytes]:
        yield self.octets


@implementer(IDraft)
@define
class Draft:
    id: str
    form: Form
    octets: bytes = b""
    abandoned: bool = False

    def write(self, octets: bytes) -> None:
        self.octets += octets

    def abandon(self) -> None:
        self.abandoned = True


@define
class _Kept:
    entry: Entry
    content: IContent
    pending: dict[str, Pending]
    claims: dict[str, tuple[int, float]] = field(factory=dict)


@implementer(ISpool)
class TinySpool:
    """
    `ISpool` in a dictionary, with a record of how everybody was settled.

    `faults` are raised by the next commits, before anything happens (an `OutcomeUnknown` that `happened`: after).
    `waiting`, if it is a list, gets a `Deferred` for each commit, which waits for it before it happens.
    """

    accepting = True

    def __init__(self, clock: IClock) -> None:
        self.clock = clock
        self.kept: dict[str, _Kept] = {}
        self.settled: dict[str, Delivered | Relayed | Failed] = {}
        self.commits: list[list[Step]] = []
        self.claims = 0
        self.faults: deque[Exception | None] = deque()
        self.happened = False
        self.waiting: list[Deferred[None]] | None = None
        self.full = False
        self._count = 0

    def begin(self, form: Form) -> Draft:
        if self.full:
            raise OSError(28, "No space left on device")
        self._count += 1
        return Draft(f"Q{self._count}", form)

    def room(self, octets: int) -> bool:
        return True

    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        if self.waiting is not None:
            waiting: Deferred[None] = Deferred()
            self.waiting.append(waiting)
            await waiting
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and not self.happened:
            raise fault
        for step in steps:
            if not isinstance(step, Enrol):
                self._check(step)
        self.commits.append(list(steps))
        claims = [claim for step in steps for claim in self._do(step)]
        if fault is not None:
            raise fault
        return tuple(claims)

    def _check(self, step: Settle | Postpone | GiveBack | Renew) -> None:
        match step:
            case Settle(claim, outcomes):
                ids = [recipient.id for recipient, _ in outcomes]
            case Postpone(claim, delays):
                ids = [recipient.id for recipient, _, _ in delays]
            case GiveBack(claim, recipients):
                ids = [recipient.id for recipient in recipients]
            case Renew(claim):
                ids = [pending.recipient.id for pending in claim.pending]
        kept = self.kept.get(claim.entry.id)
        for id in ids:
            if kept is None or kept.claims.get(id, (0, 0.0))[0] != claim.token:
                raise ClaimLost(id)

    def _do(self, step: Step) -> Sequence[Claim]:
        match step:
            case Enrol(entry, draft, recipients, lease):
                assert isinstance(draft, Draft)
                now = self.clock.now()
                kept = _Kept(entry, Octets(draft.octets, draft.form), {r.id: Pending(r, due=now) for r in recipients})
                self.kept[entry.id] = kept
                if lease is None:
                    return ()
                by_destination: dict[str, list[str]] = {}
                for recipient in recipients:
                    by_destination.setdefault(recipient.destination, []).append(recipient.id)
                return [self._claim(kept, ids, lease) for ids in by_destination.values()]
            case Settle(claim, outcomes):
                kept = self.kept[claim.entry.id]
                for recipient, outcome in outcomes:
                    del kept.pending[recipient.id], kept.claims[recipient.id]
                    self.settled[recipient.id] = outcome
                if not kept.pending:
                    del self.kept[claim.entry.id]
            case Postpone(claim, delays):
                kept = self.kept[claim.entry.id]
                for recipient, due, delayed in delays:
                    before = kept.pending[recipient.id]
                    kept.pending[recipient.id] = Pending(recipient, before.attempts + 1, due, delayed)
                    del kept.claims[recipient.id]
            case GiveBack(claim, recipients):
                for recipient in recipients:
                    del self.kept[claim.entry.id].claims[recipient.id]
            case Renew(claim, lease):
                for pending in claim.pending:
                    self.kept[claim.entry.id].claims[pending.recipient.id] = (claim.token, self.clock.now() + lease)
        return ()

    def _claim(self, kept: _Kept, ids: Sequence[str], lease: float) -> Claim:
        self.claims += 1
        expires = self.clock.now() + lease
        for id in ids:
            kept.claims[id] = (self.claims, expires)
        return Claim(self.claims, expires, kept.entry, tuple(kept.pending[id] for id in ids), kept.content)

    def _wake(self, kept: _Kept, id: str) -> float:
        return kept.claims[id][1] if id in kept.claims else kept.pending[id].due

    async def claim(self, now: float, most: int, lease: float, excluding: Collection[str] = ()) -> Sequence[Claim]:
        due = sorted(
            (self._wake(kept, id), kept.entry.id, pending.recipient.destination, id)
            for kept in self.kept.values()
            for id, pending in kept.pending.items()
            if pending.recipient.destination not in excluding
        )
        groups: dict[tuple[str, str], list[str]] = {}
        for wake, entry, destination, id in due[:most]:
            if wake <= now:
                groups.setdefault((entry, destination), []).append(id)
        return [self._claim(self.kept[entry], ids, lease) for (entry, _), ids in groups.items()]

    async def next_due(self, excluding: Collection[str] = ()) -> float | None:
        return min(
            (
                self._wake(kept, id)
                for kept in self.kept.values()
                for id, pending in kept.pending.items()
                if pending.recipient.destination not in excluding
            ),
            default=None,
        )

    def unclaimed(self) -> list[str]:
        return [id for kept in self.kept.values() for id in kept.pending if id not in kept.claims]

    def unsettled(self) -> list[str]:
        return [id for kept in self.kept.values() for id in kept.pending]


#: What a scripted host does with a consignment: one fact for all, a list of facts, an exception, or a wait.
Script = Callable[[Consignment, Peer], Any]


@implementer(ITransmitter)
@define
class Hosts:
    """A transmitter whose hosts are scripts, by name; a host without one takes everything."""

    clock: IClock
    scripts: dict[str, Script] = field(factory=dict)
    #: What was sent to whom and when: seconds since the start, host, ids of the recipients.
    calls: list[tuple[float, str, tuple[str, ...]]] = field(factory=list)

    async def transmit(self, consignment: Consignment, peer: Peer) -> Sequence[Report]:
        ids = tuple(recipient.id for recipient in consignment.recipients)
        self.calls.append((round(self.clock.now() - EPOCH, 3), peer.name, ids))
        script = self.scripts.get(peer.name)
        said = Carried(True, peer.name) if script is None else script(consignment, peer)
        if isinstance(said, Deferred):
            said = await said
        if isinstance(said, Exception):
            raise said
        facts = said if isinstance(said, list) else [said] * len(ids)
        return [Report(r, fact) for r, fact in zip(consignment.recipients, facts, strict=True)]

    def answering(self, name: str, *facts: Fact | Exception) -> None:
        """This host says these, one each time, and the last one from then on."""
        left = deque(facts)
        self.scripts[name] = lambda *_: left.popleft() if len(left) > 1 else left[0]


@implementer(IAgent)
@define
class Mailboxes:
    """An agent with a script."""

    script: Callable[[Consignment], Any] = lambda consignment: [
        Report(r, Carried(False, r.address.local)) for r in consignment.recipients
    ]
    got: list[Consignment] = field(factory=list)

    def carry(self, consignment: Consignment) -> Any:
        self.got.append(consignment)
        return self.script(consignment)


@implementer(IChain)
@define
class Policies:
    """Accepts every address, forwarding it by MX, unless told otherwise."""

    decisions: dict[str, Decision | Exception | Deferred[Decision]] = field(factory=dict)
    asked: list[Inquiry] = field(factory=list)

    async def route(self, inquiry: Inquiry) -> Decision:
        self.asked.append(inquiry)
        address = inquiry.recipient
        decision = self.decisions.get(str(address))
        if isinstance(decision, Exception):
            raise decision
        if isinstance(decision, Deferred):
            return await decision
        return decision or Accepted((Placement(address, address, Forward(address.domain), "outbound"),))


@implementer(IMailLog)
@define
class Log:
    events: list[tuple[str, dict[str, object]]] = field(factory=list)

    def event(self, what: str, /, **fields: object) -> None:
        self.events.append((what, {name: value for name, value in fields.items() if value not in (None, "")}))

    def said(self, what: str) -> list[dict[str, object]]:
        return [fields for event, fields in self.events if event == what]


def forwarded(address: str, *hops: NextHop | str) -> tuple[Address, Route]:
    parsed = Address.parse(address)
    return parsed, Forward(hops or (parsed.domain,))


def local(address: str, agent: str = "maildir") -> tuple[Address, Route]:
    return Address.parse(address), Deliver(agent)


class DeliveryWorld:
    """
    The dispatcher and its surroundings. Every domain has one host of its own name with the prefix `mx.`, until
    `domains` says otherwise.
    """

    def __init__(
        self, *, limits: Limits | None = None, pace: Pace | None = None, chance: float = 0.5, running: bool = True
    ) -> None:
        self.reactor = Clock()
        self.clock = ReactorClock(self.reactor, lambda: EPOCH + self.reactor.seconds())
        self.spool = TinySpool(self.clock)
        self.hosts = Hosts(self.clock)
        self.domains: dict[str, Any] = {}
        self.policies = Policies()
        self.maildir = Mailboxes()
        self.log = Log()
        self.random: Callable[[], float] = lambda: chance
        self.dispatcher = Dispatcher(
            spool=self.spool,
            clock=self.clock,
            mail_log=self.log,
            attempts=Attempts({"maildir": self.maildir}, self.hosts, self.find),
            notices=Notices("mx1.example.com", self.policies, self.clock),
            random=lambda: self.random(),
            limits=limits,
            pace=pace,
        )
        if running:
            self.dispatcher.start()

    async def find(self, next_hop: NextHop) -> Exchangers | Unresolved:
        found = self.domains.get(next_hop.name)
        if isinstance(found, Deferred):
            found = await found
        if isinstance(found, Exception):
            raise found
        if isinstance(found, Unresolved):
            return found
        names = found or (f"mx.{next_hop.name}",)
        return Exchangers(tuple(Peer(name, f"192.0.2.{at}") for at, name in enumerate(names, 1)))

    def enrol(
        self,
        *recipients: tuple[Address, Route],
        reverse_path: Address | None = JON,
        text: bytes = b"Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\nhello\r\n",
        original: Address | None = None,
        lease: float | None = 300.0,
    ) -> tuple[str, tuple[Claim, ...]]:
        """Keep a message as reception would."""
        draft = self.spool.begin(Form.PLAIN)
        draft.write(text)
        entry = Entry(
            draft.id, self.clock.now(), Envelope(reverse_path, client=Client("192.0.2.99")), b"Received: here\r\n"
        )
        enrolled = tuple(
            Recipient(f"{draft.id}.{at}", address, original or address, route, _destination(route), "p")
            for at, (address, route) in enumerate(recipients)
        )
        claims: list[tuple[Claim, ...]] = []
        Deferred.fromCoroutine(self.spool.commit([Enrol(entry, draft, enrolled, lease)])).addCallback(claims.append)
        return draft.id, claims[0]

    def accept(self, *recipients: tuple[Address, Route], **how: Any) -> str:
        """Keep a message, and hand it to the dispatcher in the same turn."""
        id, claims = self.enrol(*recipients, **how)
        self.dispatcher.accept(claims)
        return id

    def pass_time(self, seconds: float, step: float = 60.0) -> None:
        """Let time pass in small steps, so that what follows from a timer happens at its time."""
        while seconds > 0:
            self.reactor.advance(min(step, seconds))
            seconds -= step

    def notices(self) -> list[Entry]:
        """Notices of ours that were kept, settled or not."""
        return [
            step.entry
            for commit in self.spool.commits
            for step in commit
            if isinstance(step, Enrol) and step.entry.envelope.client == OURSELVES
        ]

    def notice_texts(self) -> list[str]:
        return [
            step.draft.octets.decode()  # type: ignore[attr-defined]
            for commit in self.spool.commits
            for step in commit
            if isinstance(step, Enrol) and step.entry.envelope.client == OURSELVES
        ]


def _destination(route: Route) -> str:
    match route:
        case Forward(next_hops):
            return str(next_hops[0])
        case Deliver(agent):
            return agent
        case _:
            return "refused"
