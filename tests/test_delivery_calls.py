"""What the dispatcher costs for each healthy message: a bound on its calls, so that none of them comes back unseen."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from itertools import count
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.delivery.attempt import Attempts
from relay.delivery.dispatch import Dispatcher
from relay.delivery.exchangers import Surroundings
from relay.delivery.notices import Notices
from relay.delivery.reach import Reach
from relay.delivery.search import Search
from relay.interfaces import (
    Claim,
    Consignment,
    IPassing,
    ITakesRows,
    IWillingTransmitter,
    Report,
    Settle,
    Step,
)
from relay.mail.envelope import Client, Envelope
from relay.mail.event import Shape
from relay.mail.outcome import Carried, Fact, Peer
from relay.mail.queue import Entry, Pending, Recipient, destination
from relay.mail.routing import Forward, NextHop
from relay.net.clock import ReactorClock
from relay.testing.dns import FakeNames
from tests.calls import calls_of
from tests.delivery_world import JON, Policies

SMARTHOST = Forward(NextHop("192.0.2.1", mx=False))
BY_MX = Forward("example.org")
NAMES = FakeNames({"example.org": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"A": "192.0.2.2"}})


class WeightlessSpool:
    """A spool that costs nothing, and counts what was settled."""

    accepting = True

    def __init__(self) -> None:
        self.settled = 0

    async def commit(self, steps: Sequence[Step]) -> tuple[Claim, ...]:
        for step in steps:
            self.settled += isinstance(step, Settle)
        return ()

    async def claim(self, now: float, most: int, lease: float, excluding: Collection[str] = ()) -> Sequence[Claim]:
        return ()

    async def next_due(self, excluding: Collection[str] = ()) -> float | None:
        return None


@implementer(IPassing)
@define(eq=False)
class Away:
    """On its way to such a host."""

    place: Any
    over: bool = False
    facts: Sequence[Fact] = ()
    problem: BaseException | None = None

    def cancel(self) -> None:
        """Nobody does."""


class Waiting:
    """In whose place a coroutine waits."""

    def __init__(self) -> None:
        self.answer: Deferred[None] = Deferred()

    def sent(self) -> None:
        """Nobody follows."""

    def arrived(self) -> None:
        self.answer.callback(None)


@implementer(IWillingTransmitter)
@define
class FarAway:
    """Hosts that have connections for all, and whose answers come in a later turn of the reactor, in order."""

    asked: deque[Away] = field(factory=deque)

    def set_off(self, consignment: Consignment, peer: Peer, place: Any) -> Away:
        passing = Away(place)
        self.asked.append(passing)
        place.sent()
        return passing

    async def transmit(self, consignment: Consignment, peer: Peer, *more: Any) -> Sequence[Report]:
        """The first ones, while it is looked up where to."""
        waiting = Waiting()
        passing = self.set_off(consignment, peer, waiting)
        await waiting.answer
        return (Report(consignment.recipients[0], passing.facts[0]),)

    def answer(self) -> None:
        passing = self.asked.popleft()
        passing.over, passing.facts = True, (Carried(True, "there", "250 2.0.0 Ok"),)
        passing.place.arrived()


@implementer(ITakesRows)
class NobodyReads:
    def event(self, what: str, /, **fields: object) -> None:
        """Nothing is written."""

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        """Nothing is written."""


class CallsTests(SynchronousTestCase):
    def setUp(self) -> None:
        clock = ReactorClock(Clock())
        self.spool = WeightlessSpool()
        self.hosts = FarAway()
        surroundings = Surroundings(NAMES, lambda: 0.5, Reach())
        self.dispatcher = Dispatcher(
            spool=self.spool,  # type: ignore[arg-type]
            clock=clock,
            mail_log=NobodyReads(),
            attempts=Attempts({}, self.hosts, Search(surroundings, clock.seconds)),
            notices=Notices("mx.test", Policies(), clock),
            random=lambda: 0.5,
        )
        self.dispatcher.start()
        self.ids = count()
        self.expires = clock.now() + 300

    def claim(self, route: Forward) -> tuple[Claim]:
        id = f"Q{next(self.ids)}"
        entry = Entry(id, 0.0, Envelope(JON, client=Client("192.0.2.99")), b"Received: here\r\n")
        recipient = Recipient(f"{id}.0", JON, JON, route, destination(route))
        return (Claim(1, self.expires, entry, (Pending(recipient),), None),)  # type: ignore[arg-type]

    def calls_per_message(self, route: Forward, *, waiting: int) -> float:
        """Of a message that comes while so many others for the same destination wait, or are under way."""
        for _ in range(waiting + 30):
            self.dispatcher.accept(self.claim(route))
        for _ in range(30):
            self.hosts.answer()
        claims = [self.claim(route) for _ in range(100)]
        before = self.spool.settled
        names: Counter[str] = Counter()

        def work() -> None:
            for claim in claims:
                self.dispatcher.accept(claim)
                self.hosts.answer()

        calls = calls_of(work, by_name=names) / 100
        self.assertEqual(self.spool.settled - before, 100)
        self.detail = f"{calls:g} calls a message: {names.most_common(20)}"
        return calls

    def test_a_message_for_an_address_goes_through_the_dispatcher_in_few_calls(self) -> None:
        self.assertLessEqual(self.calls_per_message(SMARTHOST, waiting=0), 80, self.detail)

    def test_so_does_one_that_has_to_wait_for_its_turn(self) -> None:
        self.assertLessEqual(self.calls_per_message(SMARTHOST, waiting=50), 87, self.detail)

    def test_one_for_which_there_is_no_place_goes_back_in_few_calls_and_nobody_looks_for_it(self) -> None:
        for _ in range(500):
            self.dispatcher.accept(self.claim(SMARTHOST))
        held = self.dispatcher.held
        claims = [self.claim(SMARTHOST) for _ in range(100)]

        def work() -> None:
            for claim in claims:
                self.dispatcher.accept(claim)

        self.assertLessEqual(calls_of(work) / 100, 55)
        self.assertEqual(self.dispatcher.held, held)

    def test_so_does_one_by_mx_where_the_dns_has_just_been_asked(self) -> None:
        self.assertLessEqual(self.calls_per_message(BY_MX, waiting=50), 87, self.detail)
