"""A dispatcher with everything around it that tests script: hosts, agents, policies, a spool that can fail, one Clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from relay.delivery.attempt import Attempts
from relay.delivery.destination import Limits
from relay.delivery.dispatch import Dispatcher, Pace
from relay.delivery.exchangers import Exchangers
from relay.delivery.notices import Notices
from relay.delivery.retry import Schedule, Schedules
from relay.interfaces import (
    Claim,
    Consignment,
    Enrol,
    IAgent,
    IChain,
    IClock,
    IDraft,
    IPlace,
    IRoutes,
    ITakesRows,
    ITransmitter,
    Report,
    Settle,
    Step,
)
from relay.mail.address import Address
from relay.mail.decision import Accepted, Decision, Placement
from relay.mail.dsn import NO_WISHES, Notify, Wishes
from relay.mail.envelope import OURSELVES, Client, Envelope, Form
from relay.mail.event import Shape
from relay.mail.outcome import Carried, Delivered, Fact, Failed, Peer, Relayed, Unresolved
from relay.mail.queue import EXPANSION, Entry, Pending, Recipient, destination
from relay.mail.routing import Deliver, Forward, Inquiry, NextHop, Route
from relay.net.clock import ReactorClock
from relay.spool.memory import MemoryDraft, MemorySpool, Shelf

JON = Address("jon", "example.org")
EPOCH = 1_700_000_000.0


class RecordingSpool(MemorySpool):
    """The spool in memory, with a record of what it was told, and how everybody was settled."""

    def __init__(self, clock: IClock, shelf: Shelf | None = None) -> None:
        super().__init__(clock, shelf)
        self.commits: list[list[Step]] = []
        self.settled: dict[str, Delivered | Relayed | Failed] = {}
        #: What was written into each draft, kept or not.
        self.texts: dict[str, bytes] = {}
        #: How often it was asked what is due.
        self.looks = 0
        self.full = False

    def begin(self, form: Form) -> IDraft:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().begin(form)

    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        for step in steps:
            if isinstance(step, Enrol) and isinstance(step.draft, MemoryDraft):
                self.texts[step.draft.id] = b"".join(step.draft._chunks or ())
        before = {id: dict(rows) for id, rows in self.shelf.recipients.items()}
        try:
            claims = await super().commit(steps)
        finally:
            # Others may have come between, but nobody else settles these.
            if self.shelf.recipients != before:
                self._note(steps)
        return claims

    def _note(self, steps: Sequence[Step]) -> None:
        settled = [
            (recipient.id, outcome)
            for step in steps
            if isinstance(step, Settle)
            for recipient, outcome in step.outcomes
        ]
        waiting = set(self.unsettled())
        if any(id in waiting for id, _ in settled):
            return
        self.commits.append(list(steps))
        for id, outcome in settled:
            assert id not in self.settled, f"{id} is settled twice"
            self.settled[id] = outcome

    async def claim(self, now: float, most: int, lease: float, excluding: Collection[str] = ()) -> Sequence[Claim]:
        self.looks += 1
        return await super().claim(now, most, lease, excluding)

    def fail(self, *problems: Exception, kept: bool = False) -> None:
        for problem in problems:
            self.fail_next(problem, kept=kept)

    def steal(self, id: str) -> None:
        """Another holder gets the recipients of this entry, as if their lease had ended, and works on them for long."""
        rows = self.shelf.recipients[id]
        for recipient, row in rows.items():
            rows[recipient] = evolve(row, token=row.token + 1_000_000, wake=row.wake + 36_000.0)

    def unsettled(self) -> list[str]:
        return [id for rows in self.shelf.recipients.values() for id in rows]

    def unclaimed(self) -> list[str]:
        return [id for rows in self.shelf.recipients.values() for id, row in rows.items() if not row.token]

    def pending(self) -> list[Pending]:
        return [row.pending for rows in self.shelf.recipients.values() for row in rows.values()]

    def notices(self) -> list[Enrol]:
        """Notices of ours that were kept, settled or not."""
        return [
            step
            for commit in self.commits
            for step in commit
            if isinstance(step, Enrol) and step.entry.envelope.client == OURSELVES
        ]


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
    #: The notices of ours that they were offered, by queue id.
    notices: dict[str, bytes] = field(factory=dict)
    #: What is to be called when a message is sent and not answered yet, by its first recipient's id.
    sent: dict[str, Callable[[], None]] = field(factory=dict)

    async def transmit(
        self,
        consignment: Consignment,
        peer: Peer,
        sent: Callable[[], None] | None = None,
        place: IPlace | None = None,
    ) -> Sequence[Report]:
        if sent is not None:
            self.sent[consignment.recipients[0].id] = sent
        ids = tuple(recipient.id for recipient in consignment.recipients)
        self.calls.append((round(self.clock.now() - EPOCH, 3), peer.name, ids))
        if consignment.entry.envelope.client == OURSELVES:
            self.notices[consignment.entry.id] = b"".join(consignment.content.blocks())
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

    async def route(self, inquiry: Inquiry, observe: Any = None) -> Decision:
        self.asked.append(inquiry)
        address = inquiry.recipient
        decision = self.decisions.get(str(address))
        if isinstance(decision, Exception):
            raise decision
        if isinstance(decision, Deferred):
            return await decision
        return decision or Accepted((Placement(address, address, Forward(address.domain), "outbound"),))

    async def inquire(self, inquiry: Inquiry) -> Decision:
        return await self.route(inquiry)


@implementer(ITakesRows)
@define
class Log:
    events: list[tuple[str, dict[str, object]]] = field(factory=list)

    def event(self, what: str, /, **fields: object) -> None:
        self.events.append((what, {name: value for name, value in fields.items() if value not in (None, "")}))

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        self.event(shape.what, **shape.fields(row))

    def said(self, what: str) -> list[dict[str, object]]:
        return [fields for event, fields in self.events if event == what]


def forwarded(address: str, *hops: NextHop | str) -> tuple[Address, Route]:
    parsed = Address.parse(address)
    return parsed, Forward(hops or (parsed.domain,))


def wishing(*what: Notify, orcpt: str = "") -> Wishes:
    return Wishes(frozenset(what), orcpt)


def expansion(address: str) -> tuple[Address, Route]:
    """What reception adds for an alias that leads to several."""
    return Address.parse(address), EXPANSION


def local(address: str, agent: str = "maildir") -> tuple[Address, Route]:
    return Address.parse(address), Deliver(agent)


class DeliveryWorld:
    """
    The dispatcher and its surroundings. Every domain has one host of its own name with the prefix `mx.`, until
    `domains` says otherwise.
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        pace: Pace | None = None,
        chance: float = 0.5,
        running: bool = True,
        shelf: Shelf | None = None,
        at: float = 0.0,
        schedule: Schedule | None = None,
        schedules: Schedules | None = None,
        routes: IRoutes | None = None,
    ) -> None:
        """`shelf` is what an earlier world left, `at` how many seconds after the epoch of the tests this one begins."""
        self.reactor = Clock()
        self.reactor.advance(at)
        self.clock = ReactorClock(self.reactor, lambda: EPOCH + self.reactor.seconds())
        self.spool = RecordingSpool(self.clock, shelf)
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
            schedules=schedules or Schedules(schedule or Schedule()),
            limits=limits,
            pace=pace,
            routes=routes,
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
        lease: float | Literal["asked"] | None = 300.0,
        wishes: Wishes | Sequence[Wishes] = NO_WISHES,
        headless: bool = False,
        **said: Any,
    ) -> tuple[str, tuple[Claim, ...]]:
        """Keep a message as reception would. `said`: what else MAIL has said; `lease` may be what the dispatcher says."""
        draft = self.spool.begin(Form.PLAIN)
        draft.write(text)
        envelope = Envelope(reverse_path, client=Client("192.0.2.99"), **said)
        head = b"Received: here\r\n\r\n" if headless else b"Received: here\r\n"
        entry = Entry(draft.id, self.clock.now(), envelope, head)
        each = [wishes] * len(recipients) if isinstance(wishes, Wishes) else wishes
        enrolled = tuple(
            Recipient(f"{draft.id}.{at}", address, original or address, route, destination(route), "p", wished)
            for at, ((address, route), wished) in enumerate(zip(recipients, each, strict=True))
        )
        if lease == "asked":
            lease = self.dispatcher.lease(envelope, enrolled)
        claims: list[tuple[Claim, ...]] = []
        Deferred.fromCoroutine(self.spool.commit([Enrol(entry, draft, enrolled, lease)])).addCallback(claims.append)
        return draft.id, claims[0]

    def accept(self, *recipients: tuple[Address, Route], **how: Any) -> str:
        """Keep a message, and hand it to the dispatcher in the same turn."""
        id, claims = self.enrol(*recipients, **how)
        self.dispatcher.accept(claims, () if claims else self.kept(id))
        return id

    def lease(self, address: str = "ann@example.net", reverse_path: Address | None = JON) -> float | None:
        """What the dispatcher says of a message that is about to be kept."""
        to, route = forwarded(address)
        recipient = Recipient("R1", to, to, route, destination(route))
        return self.dispatcher.lease(Envelope(reverse_path), [recipient])

    def kept(self, id: str) -> list[Recipient]:
        """The recipients of an entry that wait in the spool, claimed or not."""
        return [row.pending.recipient for row in self.spool.shelf.recipients.get(id, {}).values()]

    def pass_time(self, seconds: float, step: float = 60.0) -> None:
        """Let time pass in small steps, so that what follows from a timer happens at its time."""
        while seconds > 0:
            self.reactor.advance(min(step, seconds))
            seconds -= step

    def notices(self) -> list[Entry]:
        return [enrol.entry for enrol in self.spool.notices()]

    def notice_texts(self) -> list[str]:
        """What the hosts got of our notices."""
        return [octets.decode() for octets in self.hosts.notices.values()]
