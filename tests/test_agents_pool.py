from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.agents.pool import Keeping, Pool
from relay.agents.smtp import SmtpTransmitter
from relay.config.logins import LoginSettings
from relay.interfaces import Consignment, IPlace, Report
from relay.mail.address import Address
from relay.mail.outcome import Answered, Breakage, Broke, Carried, Fact, Peer, Phase
from relay.mail.routing import NextHop
from relay.net.client import Dialer
from relay.net.clock import ReactorClock
from relay.net.logins import Logins
from relay.net.tls_peers import TlsPeers
from relay.testing.internet import FakeInternet
from relay.testing.peers import OFFERS, Drop, FakeExchange, Fault, Moment, Reset, Say, Slow, Stall
from tests.test_agents_smtp import ANN, JON, PEER, TransmitTestCase, consignment, kept
from tests.test_transmission import TransmissionTestCase

OTHER = Peer("mx2.example.net", "192.0.2.10")


class PoolTestCase(TransmitTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.internet = FakeInternet(self.clock)
        self.exchange = FakeExchange()
        self.internet.add(PEER.address, self.exchange)
        self.keep()

    def keep(self, keeping: Keeping | None = None) -> None:
        clock = ReactorClock(self.clock, calendar=lambda: 0.0)  # type: ignore[arg-type]
        self.pool = Pool(clock, keeping or Keeping())
        self.transmitter = SmtpTransmitter(Dialer(self.internet, clock, "relay.example.org"), pool=self.pool)

    def facts(self, consignment: Consignment, peer: Peer = PEER) -> list[Fact]:
        reports = self.successResultOf(self.begin(consignment, peer))
        self.assertEqual(self.exchange.complaints, [])
        return [report.fact for report in reports]

    def carry(self, times: int = 1, peer: Peer = PEER) -> None:
        """So many messages, one after the other, and all of them are taken."""
        for _ in range(times):
            facts = self.facts(consignment(), peer)
            self.assertEqual([type(fact) for fact in facts], [Carried, Carried], facts)

    def said(self) -> bytes:
        return b"".join(octets for who, octets in self.exchange.transcript if who == "C")


class ReuseTests(PoolTestCase):
    def test_messages_one_after_the_other_share_a_connection(self) -> None:
        self.carry(5)
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (1, 5))
        self.assertEqual(self.said().count(b"EHLO"), 1)
        self.assertEqual(self.said().count(b"RSET"), 0)
        self.assertNotIn(b"QUIT", self.said())

    def test_messages_at_the_same_time_do_not(self) -> None:
        self.exchange.at("END", Stall(), times=1)
        waiting = self.begin(consignment())
        self.carry()
        self.assertEqual(self.exchange.connections, 2)
        self.assertNoResult(waiting)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_nobody_waits_behind_a_kept_connection_for_long(self) -> None:
        self.carry()
        self.clock.advance(4.9)
        self.assertEqual((self.exchange.open, len(self.pool)), (1, 1))
        self.clock.advance(0.2)
        self.clock.advance(0)
        self.assertEqual((self.exchange.open, len(self.pool)), (0, 0))
        self.assertTrue(self.said().endswith(b"QUIT\r\n"))
        self.clock.advance(5)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_each_time_it_is_kept_anew(self) -> None:
        for _ in range(5):
            self.carry()
            self.clock.advance(3)
        self.assertEqual(self.exchange.connections, 1)

    def test_a_transaction_that_was_left_is_ended_before_the_next(self) -> None:
        self.exchange.at("RCPT", Say("550 5.1.1 Unknown"), times=2)
        self.assertEqual([type(fact) for fact in self.facts(consignment())], [Answered, Answered])
        self.carry()
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (1, 1))

    def test_the_content_of_one_message_never_stands_in_the_next(self) -> None:
        self.facts(consignment(kept(b"one\r\n")))
        self.facts(consignment(kept(b"two\r\n"), [JON]))
        self.assertEqual([message.content[-5:] for message in self.exchange.messages], [b"one\r\n", b"two\r\n"])
        self.assertEqual([len(message.recipients) for message in self.exchange.messages], [2, 1])

    def test_another_host_has_another_connection(self) -> None:
        second = FakeExchange()
        self.internet.add(OTHER.address, second)
        self.carry()
        self.carry(peer=OTHER)
        self.carry(peer=evolve(PEER, name="mx9.example.net"))
        self.assertEqual((self.exchange.connections, second.connections), (2, 1))

    def test_content_that_cannot_be_read_ends_the_connection_and_harms_nobody_else(self) -> None:
        self.carry()
        damaged = consignment(kept(b"x"), [ANN])
        object.__setattr__(damaged.content, "octets", (b"a\n.\nb\r\n",))
        self.failureResultOf(self.begin(damaged), ValueError)
        self.clock.advance(0)
        self.assertEqual((self.exchange.open, len(self.pool)), (0, 0))
        self.carry()
        self.assertEqual((self.exchange.unpromised, len(self.exchange.messages)), ([], 2))


class BoundTests(PoolTestCase):
    def stall_and_go(self, count: int, peer: Peer = PEER) -> None:
        """So many messages at the same time."""
        all_of_them = [Deferred.fromCoroutine(self.transmitter.transmit(consignment(), peer)) for _ in range(count)]
        self.clock.advance(0)
        for one in all_of_them:
            self.successResultOf(one)

    def test_after_so_many_messages_a_connection_has_done_its_duty(self) -> None:
        self.keep(Keeping(transactions=3))
        self.carry(7)
        self.assertEqual((self.exchange.connections, self.exchange.open), (3, 1))

    def test_and_after_so_long(self) -> None:
        self.keep(Keeping(lifetime=10))
        for _ in range(6):
            self.carry()
            self.clock.advance(3)
        self.assertEqual(self.exchange.connections, 2)

    def test_mailmax_counts_over_all_messages_of_a_connection(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS MAILMAX=3")
        self.carry(7)
        self.assertEqual((self.exchange.connections, self.exchange.open), (3, 1))

    def test_mailmax_counts_the_transactions_of_one_message_too(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS MAILMAX=3 RCPTMAX=1")
        self.carry(3)
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (2, 6))

    def test_of_one_host_so_many_are_kept(self) -> None:
        self.keep(Keeping(of_host=2))
        self.stall_and_go(5)
        self.assertEqual((self.exchange.connections, self.exchange.open, len(self.pool)), (5, 2, 2))

    def test_of_all_hosts_together_so_many_and_the_oldest_makes_room(self) -> None:
        self.keep(Keeping(most=2))
        self.internet.add(OTHER.address, second := FakeExchange())
        self.stall_and_go(2)
        self.carry(peer=OTHER)
        self.clock.advance(0)
        self.assertEqual((self.exchange.open, second.open, len(self.pool)), (1, 1, 2))

    def test_the_only_one_of_a_host_makes_room_for_the_next_of_the_same(self) -> None:
        self.keep(Keeping(most=1))
        self.stall_and_go(3)
        self.carry()
        self.assertEqual((self.exchange.connections, self.exchange.open, len(self.pool)), (3, 1, 1))
        self.pool.close()
        self.clock.advance(0)
        self.assertEqual(self.exchange.open, 0)

    def test_of_a_host_that_has_no_kept_connection_nothing_is_kept(self) -> None:
        self.carry()
        self.exchange.at("END", Drop())
        self.begin(consignment())
        self.clock.advance(0)
        self.assertEqual((len(self.pool), len(self.pool.ways)), (0, 0))

    def test_where_none_is_kept_quit_is_said_at_once(self) -> None:
        self.keep(Keeping(most=0))
        self.carry(2)
        self.assertEqual((self.exchange.connections, self.exchange.open), (2, 0))

    def test_the_last_kept_is_the_first_taken_so_that_those_that_are_too_many_age(self) -> None:
        self.stall_and_go(4)
        for _ in range(6):
            self.clock.advance(1)
            self.carry()
        self.clock.advance(0)
        self.assertEqual((self.exchange.connections, self.exchange.open), (4, 1))

    def test_a_pool_that_is_closed_says_quit_on_all_and_keeps_none(self) -> None:
        self.stall_and_go(3)
        self.pool.close()
        self.clock.advance(0)
        self.assertEqual((self.exchange.open, self.said().count(b"QUIT")), (0, 3))
        self.carry()
        self.assertEqual(self.exchange.open, 0)

    def test_a_pool_that_is_closed_keeps_nothing_that_was_under_way(self) -> None:
        self.carry()
        self.exchange.clock = self.clock
        self.exchange.at("END", Slow(1))
        sent = self.begin(consignment())
        self.pool.close()
        self.clock.pump([0, 1, 0])
        self.assertIsInstance(self.successResultOf(sent)[0].fact, Carried)
        self.assertEqual((self.exchange.connections, self.exchange.open, len(self.pool)), (1, 0, 0))


class FollowingTests(PoolTestCase):
    """A message may follow on a connection whose host still has to say what becomes of the one ahead."""

    def setUp(self) -> None:
        super().setUp()
        self.exchange.clock = self.clock
        self.sent = 0
        # Whatever is under way comes to its end.
        self.addCleanup(self.clock.pump, [0.04] * 8)

    def has_sent(self) -> None:
        self.sent += 1

    def begin_one(self, text: bytes, recipients: Sequence[Address] = (JON,)) -> Deferred[Sequence[Report]]:
        message = consignment(kept(text), recipients)
        reports = Deferred.fromCoroutine(self.transmitter.transmit(message, PEER, self.has_sent))
        self.clock.advance(0)
        return reports

    def begin_two(self) -> tuple[Deferred[Sequence[Report]], Deferred[Sequence[Report]]]:
        """The second one begins when the first one is sent, and not answered yet."""
        first = self.begin_one(b"one\r\n")
        self.assertNoResult(first)
        return first, self.begin_one(b"two\r\n")

    def facts_of(self, *each: Deferred[Sequence[Report]]) -> list[Fact]:
        return [report.fact for reports in each for report in self.successResultOf(reports)]

    def answer_after(self, seconds: float, times: int | None = None) -> None:
        self.exchange.at("END", Slow(seconds), times=times)

    def assertTakenOnce(self) -> None:
        self.assertEqual([message.content[-5:] for message in self.exchange.messages[1:]], [b"one\r\n", b"two\r\n"])
        self.assertEqual((self.exchange.complaints, self.exchange.unpromised), ([], []))

    def test_behind_a_quick_host_the_next_message_does_not_need_a_connection_of_its_own(self) -> None:
        self.carry()
        self.answer_after(0.04)
        waiting = self.begin_two()
        self.clock.pump([0.04] * 4)
        self.assertEqual([type(fact) for fact in self.facts_of(*waiting)], [Carried] * 2)
        self.assertEqual((self.exchange.connections, self.sent), (1, 2))
        self.assertTakenOnce()
        self.assertEqual((self.pool.trailing, len(self.pool)), (0, 1))

    def test_behind_one_that_takes_its_time_it_has_one(self) -> None:
        self.answer_after(0.1, times=1)
        waiting = self.begin_one(b"zero\r\n")
        self.clock.pump([0.1, 0.0])
        self.successResultOf(waiting)
        self.answer_after(0.04)
        both = self.begin_two()
        self.clock.pump([0.04] * 4)
        self.assertEqual([type(fact) for fact in self.facts_of(*both)], [Carried] * 2)
        # What the first reply of the second connection has taken is not known when it is waited for.
        self.assertEqual((self.exchange.connections, self.sent), (2, 0))
        self.assertTakenOnce()

    def test_nor_behind_one_of_which_nothing_is_known(self) -> None:
        self.answer_after(0.04)
        self.begin_two()
        self.assertEqual((self.exchange.connections, self.sent), (2, 0))

    def test_nor_behind_one_that_has_been_quick_and_is_not_now(self) -> None:
        self.carry()
        self.answer_after(2.0, times=1)
        slow = self.begin_one(b"one\r\n")
        self.clock.advance(0.06)
        next_one = self.begin_one(b"two\r\n")
        self.assertEqual([type(fact) for fact in self.facts_of(next_one)], [Carried])
        self.assertNoResult(slow)
        self.assertEqual(self.exchange.connections, 2)
        self.clock.pump([2.0, 0.0])
        self.assertEqual([type(fact) for fact in self.facts_of(slow)], [Carried])
        self.assertEqual((self.pool.trailing, len(self.pool)), (0, 2))

    def test_nor_where_pipelining_is_not_offered(self) -> None:
        self.exchange.offers = ("8BITMIME",)
        self.carry()
        self.answer_after(0.04)
        self.begin_two()
        self.assertEqual((self.exchange.connections, self.sent), (2, 0))

    def test_nor_behind_chunks(self) -> None:
        self.exchange.offers = (*OFFERS, "CHUNKING")
        self.carry()
        self.assertIn(b"BDAT", self.said())
        self.answer_after(0.04)
        self.begin_two()
        self.assertEqual((self.exchange.connections, self.sent), (2, 0))

    def test_nor_behind_the_last_message_that_the_host_takes_on_a_connection(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS MAILMAX=2")
        self.carry()
        self.answer_after(0.04)
        self.begin_two()
        self.assertEqual((self.exchange.connections, self.sent), (2, 0))

    def test_nor_between_two_parts_of_one_message(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS RCPTMAX=1")
        self.carry()
        self.answer_after(0.04)
        waiting = self.begin_one(b"one\r\n", (JON, ANN))
        self.assertEqual(self.sent, 0)
        self.clock.pump([0.04, 0.0])
        self.assertEqual(self.sent, 1)
        self.clock.pump([0.04, 0.0])
        self.assertEqual([type(fact) for fact in self.facts_of(waiting)], [Carried] * 2)

    def test_nor_once_the_pool_is_closed(self) -> None:
        self.carry()
        self.answer_after(0.04)
        first = self.begin_one(b"one\r\n")
        self.pool.close()
        self.begin_one(b"two\r\n")
        self.clock.pump([0.04, 0.0])
        self.assertEqual([type(fact) for fact in self.facts_of(first)], [Carried])
        self.assertEqual(self.sent, 1)

    def test_only_one_follows_at_a_time(self) -> None:
        self.carry()
        self.answer_after(0.04)
        self.begin_two()
        self.begin_one(b"three\r\n")
        self.assertEqual(self.exchange.connections, 2)

    def test_with_several_connections_each_is_followed(self) -> None:
        self.answer_after(0.04)
        for _ in range(3):
            self.begin_one(b"x\r\n")
        self.clock.pump([0.04, 0.0])
        self.assertEqual((self.exchange.connections, len(self.pool)), (3, 3))
        for _ in range(6):
            self.begin_one(b"x\r\n")
        self.clock.pump([0.04] * 4)
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (3, 9))

    def test_lmtp_is_followed_if_one_reply_is_awaited(self) -> None:
        for recipients, connections in (((JON,), 1), ((JON, ANN), 2)):
            with self.subTest(recipients=recipients):
                self.setUp()
                self.exchange.lmtp = True
                hop = NextHop("mx.example.net", mx=False, lmtp=True)
                begun = []
                for at in range(3):
                    message = evolve(consignment(kept(b"x\r\n"), recipients), next_hop=hop)
                    begun.append(Deferred.fromCoroutine(self.transmitter.transmit(message, PEER, self.has_sent)))
                    self.clock.advance(0)
                    if not at:
                        self.exchange.at("END", Slow(0.04))
                self.clock.pump([0.04] * 8)
                self.assertEqual({type(fact) for fact in self.facts_of(*begun)}, {Carried})
                self.assertEqual(self.exchange.connections, connections)

    def begin_two_and_then(self, fault: Fault) -> tuple[Deferred[Sequence[Report]], Deferred[Sequence[Report]]]:
        """What happens at the end of the first one when the second one has begun."""
        self.carry()
        second: list[Deferred[Sequence[Report]]] = []

        def follow() -> None:
            message = consignment(kept(b"two\r\n"), [JON])
            second.append(Deferred.fromCoroutine(self.transmitter.transmit(message, PEER)))

        self.exchange.at("END", fault, times=1)
        message = consignment(kept(b"one\r\n"), [JON])
        first = Deferred.fromCoroutine(self.transmitter.transmit(message, PEER, follow))
        self.clock.pump([0.0] * 3)
        return first, second[0]

    def test_if_the_connection_ends_between_the_next_has_a_new_one_and_nobody_gets_it_twice(self) -> None:
        for fault in (Drop(), Reset(), Say("421 4.3.2 Closing")):
            with self.subTest(fault=fault):
                self.setUp()
                first, second = self.facts_of(*self.begin_two_and_then(fault))
                self.assertIsInstance(first, Answered if isinstance(fault, Say) else Broke)
                self.assertIsInstance(second, Carried)
                self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (2, 2))
                self.assertEqual([each.content[-5:] for each in self.exchange.unpromised], [b"one\r\n"])

    def test_if_the_message_ahead_is_refused_the_next_is_carried(self) -> None:
        waiting = self.begin_two_and_then(Say("554 5.6.0 No"))
        self.assertEqual([type(fact) for fact in self.facts_of(*waiting)], [Answered, Carried])
        self.assertEqual(self.exchange.connections, 1)

    def test_if_it_is_never_answered_the_next_waits_no_longer_than_for_that(self) -> None:
        self.carry()
        self.exchange.at("END", Stall(), times=1)
        waiting = self.begin_two()
        self.clock.pump([601.0, 0.0])
        self.assertEqual([type(fact) for fact in self.facts_of(*waiting)], [Broke, Carried])

    def test_whoever_was_cancelled_behind_another_harms_nobody(self) -> None:
        self.carry()
        self.answer_after(0.04, times=1)
        first, second = self.begin_two()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.clock.pump([0.04, 0.0])
        self.assertEqual([type(fact) for fact in self.facts_of(first)], [Carried])
        self.clock.advance(0)
        self.assertEqual((self.exchange.open, len(self.pool), self.pool.trailing), (0, 0, 0))
        self.carry()


#: What may befall a message: when, and what.
_FAULTS = st.tuples(
    st.sampled_from(["GREETING", "MAIL", "RCPT", "DATA", "END", "END"]),
    st.sampled_from([Drop(), Reset(), Say("421 4.3.2 Closing"), Say("451 4.3.0 No"), Say("554 5.6.0 No"), Slow(0.03)]),
    st.integers(1, 4),
)


class CrowdTests(SynchronousTestCase):
    """Whatever happens to whom, and whoever follows whom."""

    @settings(deadline=None)
    @given(
        st.lists(st.integers(0, 3), min_size=2, max_size=12), st.lists(_FAULTS, max_size=6), st.sets(st.integers(0, 11))
    )
    def test_no_message_is_lost_or_taken_twice_but_for_those_of_which_the_host_has_not_said_what_became(
        self, pauses: list[int], faults: list[tuple[Moment, Fault, int]], cutting: set[int]
    ) -> None:
        clock = Clock()
        internet, exchange = FakeInternet(clock), FakeExchange(clock=clock)
        internet.add(PEER.address, exchange)
        seconds = ReactorClock(clock, calendar=lambda: 0.0)  # type: ignore[arg-type]
        transmitter = SmtpTransmitter(Dialer(internet, seconds, "relay.example.org"), pool=Pool(seconds, Keeping()))
        for moment, fault, number in faults:
            exchange.at(moment, fault, number=number, times=1)
        exchange.at("END", Slow(0.01))
        begun: dict[int, Deferred[Sequence[Report]]] = {}
        cancelled: set[int] = set()
        left = iter(range(len(pauses)))

        def begin() -> None:
            at = next(left, None)
            if at is not None:
                message = consignment(kept(b"message %d\r\n" % at), [JON])
                begun[at] = Deferred.fromCoroutine(transmitter.transmit(message, PEER, begin))

        for at, pause in enumerate(pauses):
            begin()
            clock.pump([0.0] + [0.01] * pause)
            last = len(begun) - 1
            if at in cutting and not begun[last].called:
                begun[last].cancel()
                cancelled.add(last)
        clock.pump([0.01] * 20)
        self.assertEqual(exchange.complaints, [])
        troubles = 0
        self.assertEqual(len(begun), len(pauses))
        for at, reports in begun.items():
            text = b"message %d\r\n" % at
            promised = sum(message.content.endswith(text) for message in exchange.messages)
            unsure = sum(message.content.endswith(text) for message in exchange.unpromised)
            if at in cancelled:
                self.failureResultOf(reports, CancelledError)
                self.assertLessEqual(promised + unsure, 1)
                continue
            [report] = self.successResultOf(reports)
            fact = report.fact
            troubles += not isinstance(fact, Carried)
            if isinstance(fact, Carried):
                self.assertEqual((promised, unsure), (1, 0))
            elif isinstance(fact, Answered) and fact.phase is Phase.END:
                self.assertEqual((promised, unsure), (0, 1))
            elif isinstance(fact, Broke) and fact.phase is Phase.END:
                self.assertLessEqual(promised + unsure, 1)
            else:
                self.assertEqual((promised, unsure), (0, 0))
        # What befalls one of them is no trouble of those behind it, and neither is that somebody is cancelled.
        self.assertLessEqual(troubles, sum(not isinstance(fault, Slow) for _, fault, _ in faults))
        self.assertEqual(transmitter.pool.trailing, 0)
        transmitter.pool.close()
        # Nothing is remembered of connections that are over.
        self.assertEqual(len(transmitter.pool.ways), 0)


class OfferTests(PoolTestCase):
    """At the moment when the next message may begin on a connection it is offered; then whoever comes may have it."""

    def setUp(self) -> None:
        super().setUp()
        self.carry()
        (way,) = self.pool.ways
        self.lines = self.pool.lines(way)
        line = self.pool.take(self.lines)
        assert line is not None
        self.line = line
        # It was quick before.
        line.took = 0.0

    def test_the_next_one_takes_it_and_it_is_nobody_elses(self) -> None:
        taken: list[object] = []
        self.line.trail(None, lambda: taken.extend([self.pool.take(self.lines), self.pool.take(self.lines)]))
        self.assertEqual((taken, self.pool.trailing, self.line.users), ([self.line, None], 0, 2))
        self.assertIsNone(self.pool.take(self.lines))
        self.line.give_back()
        self.assertEqual((len(self.pool), self.line.users), (0, 1))
        self.line.give_back()
        self.assertEqual((len(self.pool), self.line.users), (1, 0))

    def test_who_comes_later_may_have_it_until_the_final_reply(self) -> None:
        self.line.trail(None, lambda: None)
        self.assertEqual(self.pool.trailing, 1)
        self.assertIs(self.pool.take(self.lines), self.line)
        self.assertEqual((self.pool.trailing, self.line.users), (0, 2))

    def test_behind_the_final_reply_it_is_one_that_nobody_uses(self) -> None:
        self.line.trail(None, lambda: None)
        self.line.give_back()
        self.assertEqual((self.pool.trailing, len(self.pool), self.line.users), (0, 1, 0))

    def test_whoever_stumbles_over_the_offer_does_not_keep_it(self) -> None:
        def stumble() -> None:
            raise RuntimeError("ours")

        self.assertRaises(RuntimeError, self.line.trail, None, stumble)
        self.assertIsNone(self.lines.offered)
        self.line.give_back()
        self.assertEqual((self.pool.trailing, len(self.pool)), (0, 1))

    def test_nobody_without_a_connection_of_his_own_gets_that_of_nobody_knows_whom(self) -> None:
        place = Place()

        def look() -> None:
            self.assertIsNone(self.pool.take(self.lines, place))
            place.own = True
            self.assertIs(self.pool.take(self.lines, place), self.line)

        self.line.trail(None, look)
        self.assertEqual((self.pool.trailing, self.line.users), (0, 2))

    def test_nobody_gets_one_of_a_host_that_is_slow(self) -> None:
        self.line.took = 1.0
        self.line.trail(None, lambda: self.fail("nobody is to follow"))
        self.assertIsNone(self.pool.take(self.lines))


@implementer(IPlace)
class Place:
    """Of somebody who follows nobody."""

    own = False

    def follow(self, ahead: IPlace) -> bool:
        return False

    async def wait(self) -> None:
        """It need not."""

    def leave(self) -> None:
        """Nobody wants its place."""


class StaleTests(PoolTestCase):
    """A host may close what it has served, at any time; that is no failure of a message, and never a duplicate."""

    def test_one_that_the_host_has_closed_meanwhile_is_not_taken(self) -> None:
        self.carry()
        self.internet.connections[0].other.loseConnection()
        self.clock.advance(0)
        self.assertEqual(self.exchange.open, 0)
        self.carry()
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (2, 2))

    def test_nor_is_it_offered_to_anybody(self) -> None:
        self.carry()
        (way,) = self.pool.ways
        self.internet.connections[0].other.loseConnection()
        self.clock.advance(0)
        self.assertIsNone(self.pool.take(self.pool.lines(way)))
        self.assertEqual(len(self.pool), 0)

    def test_one_on_which_the_host_has_said_goodbye_is_not_taken(self) -> None:
        self.carry()
        self.internet.connections[0].other.write(b"421 4.4.2 Idle for too long\r\n")
        self.clock.advance(0)
        self.carry()
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (2, 2))

    def test_what_befalls_it_before_mail_is_answered_is_no_failure(self) -> None:
        for fault in (Drop(), Reset(), Say("421 4.3.2 Closing")):
            with self.subTest(fault=fault):
                self.setUp()
                self.exchange.at("MAIL", fault, number=2)
                self.carry(2)
                self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (2, 2))

    def test_nor_is_a_silence_until_the_deadline(self) -> None:
        self.exchange.at("MAIL", Stall(), number=2)
        self.carry()
        waiting = self.begin(consignment())
        self.clock.advance(301)
        self.clock.advance(0)
        self.assertIsInstance(self.successResultOf(waiting)[0].fact, Carried)
        self.assertEqual(len(self.exchange.messages), 2)

    def test_all_kept_ones_may_be_dead_and_one_new_one_is_made(self) -> None:
        self.exchange.at("MAIL", Reset(), number=2)
        BoundTests.stall_and_go(self, 3)  # type: ignore[arg-type]
        self.carry()
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (4, 4))

    def test_what_befalls_a_new_one_is_a_failure(self) -> None:
        self.exchange.at("MAIL", Drop())
        self.assertEqual(self.facts(consignment()), [Broke(Breakage.LOST, Phase.MAIL, PEER)] * 2)
        self.assertEqual(self.exchange.connections, 1)

    def test_if_the_host_is_gone_the_new_one_says_so(self) -> None:
        self.carry()
        self.exchange.at("MAIL", Reset(), number=2)
        self.internet.remove(PEER.address)
        self.assertEqual([fact.phase for fact in self.facts(consignment()) if isinstance(fact, Broke)],
                         [Phase.CONNECT] * 2)  # fmt: skip

    def test_after_mail_was_answered_it_is_a_failure_as_everywhere(self) -> None:
        for moment in ("RCPT", "DATA", "END"):
            with self.subTest(moment=moment):
                self.setUp()
                self.carry()
                self.exchange.at(moment, Drop())  # type: ignore[arg-type]
                self.assertEqual([type(fact) for fact in self.facts(consignment())], [Broke, Broke])
                self.assertEqual(self.exchange.connections, 1)

    def test_any_other_refusal_of_the_sender_is_one(self) -> None:
        self.exchange.at("MAIL", Say("450 4.7.1 Later"), number=2)
        self.carry()
        self.assertEqual([type(fact) for fact in self.facts(consignment())], [Answered, Answered])
        self.assertEqual(self.exchange.connections, 1)


class WayTests(TransmissionTestCase):
    """What was asked of a connection was asked by the message that made it: another wish is another connection."""

    def make(self, *logins: LoginSettings) -> SmtpTransmitter:
        dialer = Dialer(self.internet, self.clock, "relay.example.org")
        tls = TlsPeers(self.clock, self.authority)
        return SmtpTransmitter(dialer, tls, Logins(logins), pool=Pool(self.clock, Keeping()))

    def connections(self, consignment: Consignment, hop: NextHop) -> int:
        reports = self.successResultOf(self.begin(consignment, hop))
        self.assertEqual([type(report.fact) for report in reports], [Carried] * len(reports))
        return self.exchange.connections

    def test_tls_that_was_verified_is_not_shared_with_what_is_not(self) -> None:
        self.offer_tls()
        sent = consignment()
        counts = [
            self.connections(sent, self.hop(tls=level))
            for level in ("none", "may", "encrypt", "verify", "none", "may", "encrypt", "verify")
        ]
        self.assertEqual(counts, [1, 2, 3, 4, 4, 4, 4, 4])

    def test_what_requires_tls_takes_none_that_was_not_verified(self) -> None:
        self.offer_tls()
        sent = consignment()
        strict = evolve(sent, entry=evolve(sent.entry, envelope=evolve(sent.entry.envelope, require_tls=True)))
        self.assertEqual([self.connections(one, self.hop()) for one in (sent, strict, sent, strict)], [1, 2, 2, 2])
        self.assertIn("REQUIRETLS", self.exchange.messages[-1].parameters)

    def test_nor_one_with_a_host_that_was_not_certain(self) -> None:
        self.offer_tls()
        sent = consignment()
        strict = evolve(sent, entry=evolve(sent.entry, envelope=evolve(sent.entry.envelope, require_tls=True)))
        hop = self.hop(tls="verify")
        perhaps = self.successResultOf(self.begin(sent, hop, PEER))
        self.assertEqual([type(report.fact) for report in perhaps], [Carried] * len(perhaps))
        self.assertEqual(self.connections(strict, hop), 2)
        self.assertIn("REQUIRETLS", self.exchange.messages[-1].parameters)

    def test_who_has_logged_in_is_nobody_else(self) -> None:
        self.offer_tls()
        self.exchange.users = {"ann": "pencil", "bob": "rubber"}
        self.transmitter = self.make(
            LoginSettings(name="one", user="ann", password="pencil"),
            LoginSettings(name="two", user="bob", password="rubber"),
        )
        hops = [self.hop(tls="verify", login=login) for login in ("one", "two", "one", "")]
        self.assertEqual([self.connections(consignment(), hop) for hop in hops], [1, 2, 2, 3])
        self.assertEqual([message.user for message in self.exchange.messages], ["ann", "bob", "ann", None])

    def test_what_is_not_to_be_used_is_not_used(self) -> None:
        hops = [self.hop(), self.hop(without=["CHUNKING"]), self.hop()]
        self.assertEqual([self.connections(consignment(), hop) for hop in hops], [1, 2, 2])
        self.assertEqual([message.by_bdat for message in self.exchange.messages], [True, False, True])

    def test_a_name_and_an_address_of_ours_have_connections_of_their_own(self) -> None:
        hops = [
            self.hop(hello=hello, source=source)
            for hello, source in (
                ("", []),
                ("bulk.example.org", []),
                ("bulk.example.org", ["192.0.2.77"]),
                ("bulk.example.org", ["192.0.2.77"]),
            )
        ]
        self.assertEqual([self.connections(consignment(), hop) for hop in hops], [1, 2, 3, 3])
        self.assertEqual([source for _, _, source in self.internet.attempts], ["192.0.2.1", "192.0.2.1", "192.0.2.77"])
        names = [message.hello for message in self.exchange.messages]
        self.assertEqual(names, ["relay.example.org", *["bulk.example.org"] * 3])

    def test_a_password_that_was_changed_logs_in_anew(self) -> None:
        self.offer_tls()
        self.exchange.users = {"ann": "pencil"}
        file = self.file("password", b"pencil\n", 0o600)
        self.transmitter = self.make(LoginSettings(name="one", user="ann", password_file=file))
        hop = self.hop(tls="verify", login="one")
        self.assertEqual(self.connections(consignment(), hop), 1)
        file.write_bytes(b"rubber\n")
        self.exchange.users = {"ann": "rubber"}
        self.assertEqual(self.connections(consignment(), hop), 2)
