"""A message that sets off to a host without a connection, in one step: what comes of it is what would come of it anyway."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer
from zope.interface.verify import verifyObject

from relay.agents.pool import Keeping, Pool
from relay.agents.smtp import SmtpTransmitter
from relay.interfaces import Consignment, IPassing, ITraveller
from relay.mail.envelope import Form
from relay.mail.outcome import Broke, Carried, Phase
from relay.mail.routing import NextHop
from relay.testing.internet import whole
from relay.testing.peers import OFFERS, Babble, Drop, Reset, Say, Slow, Stall
from relay.testing.wicked import Fault, Moment
from tests.test_agents_smtp import JON, consignment, kept
from tests.test_transmission import EVERYTHING, PEER, TransmissionTestCase

CONTENT = kept(b"Subject: hello\r\n\r\n" + b"hello\r\n" * 20, Form.WIRE)


@implementer(ITraveller)
class Alone:
    """Notes what it is told."""

    def __init__(self, *, own: bool = True) -> None:
        self.own = own
        self.told: list[str] = []
        self.there: Deferred[None] = Deferred()

    def follow(self, ahead: Any) -> bool:
        return False

    async def wait(self) -> None:
        """It need not."""

    def leave(self) -> None:
        """Nobody wants its place."""

    def sent(self) -> None:
        self.told.append("sent")

    def arrived(self) -> None:
        self.told.append("arrived")
        self.there.callback(None)


class World(TransmissionTestCase):
    """One of the ways on which the same message may go, to the same host."""

    def runTest(self) -> None:
        """It is played."""

    def play(self, straight: bool, cut: int, offers: Sequence[str], tls: bool, faults: Sequence[Any]) -> None:
        self.straight = straight
        self.internet.cut = whole if not cut else lambda waiting: min(waiting, cut)
        self.exchange.offers = tuple(offers)
        if tls:
            self.offer_tls()
        for moment, fault, times in faults:
            self.exchange.at(moment, fault, times=times)

    def go(self, message: Consignment, hop: NextHop) -> Deferred[Any]:
        """The reports, however they come."""
        sent, place = evolve(message, next_hop=hop), Alone()
        if not self.straight:
            return Deferred.fromCoroutine(self.transmitter.transmit(sent, PEER, place.sent, place))
        self.passing: Any = self.transmitter.set_off(sent, PEER, place)

        async def go_on() -> Any:
            if self.passing is not None:
                if not self.passing.over:
                    await place.there
                assert self.passing.over
            return await self.transmitter.transmit(sent, PEER, place.sent, place, self.passing)

        return Deferred.fromCoroutine(go_on())

    def came_to(self, reports: Deferred[Any]) -> object:
        came: list[Any] = []
        reports.addBoth(came.append)
        for _ in range(12):
            self.time.pump([0.0] * 40 + [200.0])
        self.assertEqual(len(came), 1)
        facts = getattr(came[0], "type", None) or [report.fact for report in came[0]]
        told = (self.exchange.open, self.exchange.connections, len(self.internet.attempts), self.time.getDelayedCalls())
        heard = [(message.recipients, message.tls, message.content) for message in self.exchange.messages]
        # What is said amid a handshake that fails is made by chance.
        said = re.sub(rb"\x16\x03.*?(?=EHLO|\Z)", b"(handshake)", self.said(), flags=re.DOTALL)
        return facts, told, heard, said, bool(self.exchange.complaints), self.logged


LEVELS = st.sampled_from(["none", "may", "encrypt", "verify"])
MOMENTS: st.SearchStrategy[Moment] = st.sampled_from(
    ["GREETING", "EHLO", "HELO", "STARTTLS", "HANDSHAKE", "MAIL", "RCPT", "DATA", "CONTENT", "END", "QUIT"]
)
FAULTS: st.SearchStrategy[Fault] = st.sampled_from(
    [
        Say("421 4.3.2 Closing"),
        Say("450 4.7.1 Later"),
        Say("550 5.7.1 Never"),
        Say("250 2.0.0 Ok"),
        Say("250-mx\n250 DSN"),
        Babble(b"220-mx\r\n220 mx\r\n250 mx\r\n"),
        Babble(b"what?\r\n"),
        Babble(b"250 mx\r\n250 mx\r\n"),
        Babble(b"220 x" + b"x" * 70_000),
        Drop(),
        Reset(),
        Stall(),
        Slow(10.0),
    ]
)


class AnewTests(TransmissionTestCase):
    def world(self, straight: bool, *how: Any) -> World:
        world = World()
        world.setUp()
        self.addCleanup(world.doCleanups)
        world.play(straight, *how)
        return world

    @settings(deadline=None, max_examples=60)
    @given(
        LEVELS,
        st.booleans(),
        st.sampled_from([(), OFFERS, EVERYTHING, ("PIPELINING",), ("MAILMAX=1", "LIMITS MAILMAX=1 RCPTMAX=1")]),
        st.sampled_from([0, 0, 1, 7]),
        st.lists(st.tuples(MOMENTS, FAULTS, st.sampled_from([1, None])), max_size=2),
        st.sampled_from([JON, evolve(JON, local="jörg")]),
        st.booleans(),
    )
    def test_whatever_the_host_does(
        self, level: Any, tls: bool, offers: Any, cut: int, faults: Any, to: Any, binary: bool
    ) -> None:
        message = consignment(kept(b"Subject: x\r\n\r\nx\r\n", Form.PLAIN) if binary else CONTENT, [to])
        came = []
        for straight in (False, True):
            world = self.world(straight, cut, offers, tls, faults)
            came.append(world.came_to(world.go(message, self.hop(tls=level))))
        self.assertEqual(came[0], came[1])

    @settings(deadline=None, max_examples=40)
    @given(LEVELS, st.booleans(), st.integers(0, 40), st.sampled_from([0, 7]))
    def test_wherever_it_is_cancelled(self, level: Any, tls: bool, turns: int, cut: int) -> None:
        came = []
        for straight in (False, True):
            world = self.world(straight, cut, EVERYTHING, tls, [("END", Stall(), None)])
            reports = world.go(consignment(CONTENT, [JON]), self.hop(tls=level))
            world.time.pump([0.0] * turns)
            if straight and world.passing is not None:
                world.passing.cancel()
                world.passing.cancel()
            else:
                reports.cancel()
            came.append(world.came_to(reports))
        self.assertEqual(came[0], came[1])

    def test_a_host_that_is_not_there(self) -> None:
        for silent in (False, True):
            came = []
            for straight in (False, True):
                world = self.world(straight, 0, EVERYTHING, False, [])
                world.internet.remove(PEER.address)
                if silent:
                    world.internet.silence(PEER.address)
                came.append(world.came_to(world.go(consignment(CONTENT, [JON]), self.hop())))
            self.assertEqual(came[0], came[1])
            facts: Any = came[0]
            assert isinstance(facts[0][0], Broke)
            self.assertIs(facts[0][0].phase, Phase.CONNECT)

    def test_it_is_told_once_that_it_is_there(self) -> None:
        place = Alone()
        passing = self.transmitter.set_off(evolve(consignment(CONTENT, [JON]), next_hop=self.hop()), PEER, place)
        assert passing is not None
        verifyObject(IPassing, passing)
        self.assertEqual((passing.over, place.told), (False, []))
        self.time.pump([0.0] * 10)
        # One that is kept for nobody is followed by nobody.
        self.assertEqual((passing.over, place.told), (True, ["arrived"]))
        self.assertEqual([type(fact) for fact in passing.facts], [Carried])
        passing.cancel()
        self.assertEqual((passing.problem, place.told), (None, ["arrived"]))

    def test_cancelled_before_there_is_a_connection(self) -> None:
        place = Alone()
        passing = self.transmitter.set_off(evolve(consignment(CONTENT, [JON]), next_hop=self.hop()), PEER, place)
        assert passing is not None
        passing.cancel()
        self.assertIsInstance(passing.problem, CancelledError)
        self.time.pump([0.0] * 10)
        self.assertEqual((passing.over, passing.facts, place.told, self.exchange.open), (True, (), ["arrived"], 0))

    def test_whose_connection_is_to_be_somebody_elses_waits_for_it(self) -> None:
        place = Alone(own=False)
        sent = evolve(consignment(CONTENT, [JON]), next_hop=self.hop())
        self.assertIs(self.transmitter.set_off(sent, PEER, place), None)
        self.assertEqual(self.internet.attempts, [])

    def test_content_that_cannot_be_read_is_ours(self) -> None:
        came = []
        for straight in (False, True):
            world = self.world(straight, 0, EVERYTHING, False, [])
            damaged = consignment(kept(b"no end", Form.WIRE), [JON])
            object.__setattr__(damaged.content, "octets", [b"no end"])
            came.append(world.came_to(world.go(damaged, self.hop())))
        self.assertEqual(came[0], came[1])

    def test_what_was_made_is_kept_for_the_next_one(self) -> None:
        self.transmitter = SmtpTransmitter(self.transmitter.dialer, pool=Pool(self.clock, Keeping()))
        sent = evolve(consignment(CONTENT, [JON]), next_hop=self.hop())
        for _ in range(3):
            place = Alone()
            self.transmitter.set_off(sent, PEER, place)
            self.time.pump([0.0] * 10)
            self.assertEqual(place.told[-1], "arrived")
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (1, 3))

    def test_an_address_that_is_none_is_met_where_there_is_time_for_it(self) -> None:
        sent = evolve(consignment(CONTENT, [JON]), next_hop=self.hop())
        self.assertIs(self.transmitter.set_off(sent, evolve(PEER, address="mx.example.net"), Alone()), None)
