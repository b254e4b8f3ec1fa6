"""A limit is a promise: on how many connections a destination is kept busy, as its hosts see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.agents.pool import Keeping, Pool
from relay.agents.smtp import SmtpTransmitter
from relay.delivery.attempt import Attempts
from relay.delivery.destination import Destinations, Limits, Particular
from relay.delivery.dispatch import Dispatcher
from relay.delivery.exchangers import Exchangers
from relay.delivery.notices import Notices
from relay.delivery.work import Work
from relay.interfaces import Claim, Enrol, IPlace
from relay.mail.address import Address
from relay.mail.envelope import Client, Envelope, Form
from relay.mail.outcome import Peer
from relay.mail.queue import Entry, Recipient, destination
from relay.mail.routing import Forward, NextHop
from relay.net.client import Dialer
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.testing.internet import FakeInternet
from relay.testing.peers import Drop, FakeExchange, Fault, Reset, Say, Slow
from relay.testing.strict import Conversation
from tests.delivery_world import JON, Log, Policies, RecordingSpool

NAME = "b.example"
ANN = Address("ann", NAME)
PLAINLY = Forward(NextHop(NAME, tls="none"))


class Seen(Conversation):
    """A connection, as the host sees it."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.host = host
        self.over = False

    @property
    def busy(self) -> bool:
        """In a transaction, or before the first one."""
        return not self.over and (self._mail is not None or not self._mails)

    def connectionMade(self) -> None:
        self.host.seen.append(self)
        super().connectionMade()
        self.host.town.look()

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.host.town.look()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        self.over = True
        super().connectionLost(reason)

    def _fail(self, fault: Any) -> None:
        self.over = True
        super()._fail(fault)

    def _close(self) -> None:
        self.over = True
        super()._close()


class Host(FakeExchange):
    def __init__(self, town: Town) -> None:
        super().__init__(clock=town.time)
        self.town = town
        self.seen: list[Seen] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        super().buildProtocol(addr)
        return Seen(self)


class Town:
    """A domain with equal hosts, and a relay that sends mail there, all of it in one process and time."""

    def __init__(
        self, hosts: int, most: int, orders: Sequence[int] = (0,), searching: Sequence[float] = (0.0,)
    ) -> None:
        """`orders`: with which host each message begins; `searching`: for how long they are looked for."""
        self.time = Clock()
        self.clock = ReactorClock(self.time, lambda: 1.7e9 + self.time.seconds())  # type: ignore[arg-type]
        internet = FakeInternet(self.time)
        self.peers = [Peer(f"mx{at}.{NAME}", f"192.0.2.{at + 1}") for at in range(hosts)]
        self.hosts = [Host(self) for _ in self.peers]
        for peer, host in zip(self.peers, self.hosts, strict=True):
            internet.add(peer.address, host)
        self.orders, self.searching, self.searches = orders, searching, 0
        #: On how many connections something was under way at once, at most.
        self.busiest = 0
        self.spool = RecordingSpool(self.clock)
        dialer = Dialer(internet, self.clock, "relay.example.org")  # type: ignore[arg-type]
        self.dispatcher = Dispatcher(
            spool=self.spool,
            clock=self.clock,
            mail_log=Log(),
            attempts=Attempts({}, SmtpTransmitter(dialer, pool=Pool(self.clock, Keeping())), self.find),
            notices=Notices("relay.example.org", Policies(), self.clock),
            random=lambda: 0.5,
            limits=Limits(particular={NAME: Particular(most=most)}),
        )
        self.dispatcher.start()

    def look(self) -> None:
        busy = sum(each.busy for host in self.hosts for each in host.seen)
        self.busiest = max(self.busiest, busy)

    def find(self, hop: NextHop) -> Any:
        at = self.searches
        self.searches += 1
        first = self.orders[at % len(self.orders)] % len(self.peers)
        found = Exchangers((*self.peers[first:], *self.peers[:first]))
        seconds = self.searching[at % len(self.searching)]
        return deferLater(self.time, seconds, lambda: found) if seconds else found  # type: ignore[arg-type]

    def accept(self) -> None:
        draft = self.spool.begin(Form.WIRE)
        draft.write(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
        entry = Entry(draft.id, self.clock.now(), Envelope(JON, client=Client("192.0.2.99")), b"Received: here\r\n")
        recipient = Recipient(f"{draft.id}.0", ANN, ANN, PLAINLY, destination(PLAINLY), "p")
        claims: Any = start(self.spool.commit([Enrol(entry, draft, (recipient,), 300.0)]))
        self.dispatcher.accept(claims)

    def pass_time(self, seconds: float) -> None:
        until = self.time.seconds() + seconds
        while self.time.seconds() < until:
            self.time.advance(0.01)


FAULTS = st.tuples(
    st.sampled_from(["GREETING", "EHLO", "MAIL", "END", "END", "END"]),
    st.sampled_from([Drop(), Reset(), Say("421 4.3.2 Closing"), Say("451 4.3.0 No"), Slow(0.2), Slow(0.02)]),
    st.integers(1, 3),
)


class PromiseTests(SynchronousTestCase):
    @settings(max_examples=150, deadline=None)
    @given(
        hosts=st.integers(1, 3),
        most=st.integers(1, 4),
        orders=st.lists(st.integers(0, 2), min_size=1, max_size=7),
        searching=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.03]), min_size=1, max_size=5),
        gaps=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.1]), min_size=1, max_size=25),
        usual=st.sampled_from([0.0, 0.01, 0.03]),
        faults=st.lists(st.tuples(st.integers(0, 2), FAULTS), max_size=6),
    )
    def test_no_more_connections_are_busy_at_once_than_the_operator_permits_whatever_happens(
        self,
        hosts: int,
        most: int,
        orders: list[int],
        searching: list[float],
        gaps: list[float],
        usual: float,
        faults: list[tuple[int, tuple[Any, Fault, int]]],
    ) -> None:
        town = Town(hosts, most, orders, searching)
        for at, (moment, fault, times) in faults:
            town.hosts[at % hosts].at(moment, fault, times=times)
        if usual:
            for host in town.hosts:
                host.at("END", Slow(usual))
        for gap in gaps:
            town.accept()
            if gap:
                town.pass_time(gap)
        town.pass_time(5.0)
        self.assertLessEqual(town.busiest, most)
        # And nobody waits for ever: what is not done is in the spool, for later.
        destinations = town.dispatcher._destinations
        self.assertEqual((town.dispatcher.held, town.dispatcher.active, destinations._destinations), (0, 0, {}))
        waits = {pending.recipient.id for pending in town.spool.pending()}
        self.assertEqual(len(waits) + len(town.spool.settled), len(gaps))

    def test_between_two_equal_hosts_messages_for_which_one_may_be_busy_take_turns(self) -> None:
        town = Town(2, 1, (0, 1))
        for host in town.hosts:
            host.at("END", Slow(0.02))
        for _ in range(40):
            town.accept()
        town.pass_time(3.0)
        self.assertEqual([len(host.messages) for host in town.hosts], [20, 20])
        self.assertEqual(town.busiest, 1)

    def test_behind_one_host_each_follows_on_the_connection_of_the_one_ahead(self) -> None:
        town = Town(1, 2)
        town.hosts[0].at("END", Slow(0.02))
        for _ in range(40):
            town.accept()
        town.pass_time(0.5)
        self.assertEqual((len(town.hosts[0].messages), town.hosts[0].connections, town.busiest), (40, 2, 2))


CLAIM = Claim(
    1,
    300.0,
    Entry("Q1", 0.0, Envelope(JON), b""),
    (),
    None,  # type: ignore[arg-type]
)


class Sharing(RuleBasedStateMachine):
    """Works begin, trail, follow, wait, go elsewhere and end in any order: none has more than one connection of two."""

    def __init__(self) -> None:
        super().__init__()
        self.destinations = Destinations(Limits(destination=3, first=3, held=40))
        self.under_way: list[Work] = []

    def one(self, data: st.DataObject) -> Work:
        return data.draw(st.sampled_from(self.under_way))

    def end(self, work: Work) -> None:
        self.under_way.remove(work)
        self.destinations.finished(work)
        self.destinations.release(work)
        self.go_on()

    def go_on(self) -> None:
        for work in self.destinations.going_on():
            if work.may_go is not None and not work.may_go.called:
                work.may_go.callback(None)

    @rule(name=st.sampled_from("ab"))
    def begin(self, name: str) -> None:
        self.destinations.admit(CLAIM, name)
        if work := self.destinations.next():
            self.under_way.append(work)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def trail(self, data: st.DataObject) -> None:
        work = self.one(data)
        if work.own and self.destinations.trails(work) and (following := self.destinations.next()):
            self.under_way.append(following)

    @precondition(lambda self: len(self.under_way) > 1)
    @rule(data=st.data())
    def follow(self, data: st.DataObject) -> None:
        work, ahead = self.one(data), self.one(data)
        if work is not ahead and not work.trailing and work.ahead is None and work.follower is None:
            work.follow(ahead)

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), elsewhere=st.booleans())
    def wait(self, data: st.DataObject, elsewhere: bool) -> None:
        work = self.one(data)
        if work.may_go is None or work.may_go.called:
            if elsewhere:
                work.leave()
            if not work.own and work.ahead is None:
                work.wait()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), cancelled=st.booleans())
    def finish(self, data: st.DataObject, cancelled: bool) -> None:
        work = self.one(data)
        if work.may_go is None or work.may_go.called:
            self.end(work)
        elif cancelled:
            work.may_go.addErrback(lambda failure: failure.trap(CancelledError)).cancel()
            self.end(work)

    @invariant()
    def each_connection_is_somebodys(self) -> None:
        for name in "ab":
            works = [work for work in self.under_way if work.destination.name == name]
            if works:
                assert works[0].destination.connections == sum(work.own for work in works) <= 3
        for work in self.under_way:
            assert work.ahead is None or (work.ahead in self.under_way and work.ahead.follower is work)

    def teardown(self) -> None:
        """Whoever waits comes to have one."""
        while self.under_way:
            ready = [work for work in self.under_way if work.may_go is None or work.may_go.called]
            assert ready, "all of them wait"
            self.end(ready[0])


SharingTests = Sharing.TestCase


class PlaceTests(SynchronousTestCase):
    """How works share the connections of their destination."""

    def setUp(self) -> None:
        self.destinations = Destinations(Limits(destination=1, first=1))
        for _ in range(5):
            self.destinations.admit(CLAIM, "a")

    def next(self) -> Work:
        work = self.destinations.next()
        assert work is not None
        return work

    def one_behind_another(self) -> tuple[Work, Work]:
        first = self.next()
        self.assertTrue(self.destinations.trails(first))
        return first, self.next()

    def connections(self, work: Work) -> int:
        return work.destination.connections

    def test_a_work_is_a_place(self) -> None:
        self.assertTrue(verifyObject(IPlace, self.next()))

    def test_who_begins_where_another_trails_has_no_connection_of_its_own(self) -> None:
        first, second = self.one_behind_another()
        self.assertEqual((first.own, second.own, self.connections(first)), (True, False, 1))

    def test_who_has_followed_has_it_when_the_one_ahead_has_ended(self) -> None:
        first, second = self.one_behind_another()
        self.assertTrue(second.follow(first))
        self.destinations.finished(first)
        self.assertEqual((first.own, second.own, self.connections(first)), (False, True, 1))
        self.destinations.finished(second)
        self.assertEqual(self.connections(first), 0)

    def test_only_one_follows(self) -> None:
        first, second = self.one_behind_another()
        self.assertTrue(second.follow(first))
        third = self.destinations.unplaced(CLAIM, "a")
        self.assertFalse(third.follow(first))

    def test_nobody_of_another_destination_follows_without_a_connection_of_its_own(self) -> None:
        first, _ = self.one_behind_another()
        stranger = self.destinations.unplaced(CLAIM, "b")
        self.assertFalse(stranger.follow(first))
        stranger.own = True
        self.assertTrue(stranger.follow(first))
        self.assertIsNone(first.follower)

    def test_who_follows_though_it_has_a_connection_of_its_own_gives_that_back(self) -> None:
        self.destinations = Destinations(Limits(destination=2, first=2))
        for _ in range(3):
            self.destinations.admit(CLAIM, "a")
        first, second = self.next(), self.next()
        self.assertEqual(self.connections(first), 2)
        self.assertTrue(second.follow(first))
        self.assertEqual((second.own, self.connections(first)), (False, 1))

    def test_who_cannot_follow_waits_until_a_connection_is_free(self) -> None:
        first, second = self.one_behind_another()
        waiting = second.wait()
        self.assertNoResult(waiting)
        self.destinations.finished(first)
        self.assertEqual(self.destinations.going_on(), [second])
        self.assertEqual((second.own, self.connections(first)), (True, 1))

    def test_and_not_at_all_if_one_is_free_by_then(self) -> None:
        first, second = self.one_behind_another()
        self.destinations.finished(first)
        self.successResultOf(second.wait())
        self.assertEqual((second.own, self.connections(first)), (True, 1))

    def test_nobody_else_begins_behind_another_while_somebody_waits(self) -> None:
        self.destinations = Destinations(Limits(destination=2, first=2))
        for _ in range(5):
            self.destinations.admit(CLAIM, "a")
        first, second = self.next(), self.next()
        self.destinations.trails(first)
        self.next().wait()
        self.assertFalse(self.destinations.trails(second))

    def test_who_is_cancelled_does_not_wait_any_more(self) -> None:
        first, second = self.one_behind_another()
        waiting = second.wait()
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        self.destinations.finished(second)
        self.destinations.finished(first)
        self.assertEqual((self.destinations.going_on(), self.connections(first)), ([], 0))

    def test_if_the_follower_ends_first_the_one_ahead_keeps_the_connection(self) -> None:
        first, second = self.one_behind_another()
        second.follow(first)
        self.destinations.finished(second)
        self.assertEqual((first.own, self.connections(first)), (True, 1))
        self.destinations.finished(first)
        self.assertEqual(self.connections(first), 0)

    def test_who_goes_on_elsewhere_leaves_the_connection_to_its_follower_and_is_active_again(self) -> None:
        first, second = self.one_behind_another()
        second.follow(first)
        first.leave()
        self.assertEqual((first.own, second.own, first.trailing), (False, True, False))
        self.assertEqual((self.destinations.active, self.destinations.trailing), (2, 0))
        waiting: Deferred[None] = first.wait()
        self.assertNoResult(waiting)
        self.destinations.finished(second)
        self.assertEqual(self.destinations.going_on(), [first])
        self.destinations.finished(first)
        self.assertEqual((self.destinations.active, self.connections(first)), (0, 0))
