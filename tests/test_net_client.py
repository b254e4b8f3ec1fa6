from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorTCP
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from relay.interfaces import IClock
from relay.mail.address import Address
from relay.mail.outcome import Answered, Breakage, Broke, Carried, Fact, Peer, Phase
from relay.mail.reply import Reply
from relay.net.client import Connection, Dialer, Opened
from relay.net.clock import ReactorClock
from relay.smtp.client import QUIT_SECONDS, Deadlines
from relay.smtp.transaction import Transaction
from relay.testing.internet import BUFFER, FakeInternet
from relay.testing.peers import Babble, Drop, FakeExchange, Fault, Reset, Say, Slow, Stall

PEER = Peer("mx.example.net", "192.0.2.9")
TRANSACTION = Transaction(
    Address.parse("sender@example.org"),
    (Address.parse("jon@example.net"), Address.parse("ann@example.net")),
)
MESSAGE = b"Subject: hello\r\n\r\nhello\r\n"
DEADLINES = Deadlines(connect=30, greeting=300, mail=200, rcpt=100, data=120, block=180, end=600)


def clock_of(clock: Clock) -> IClock:
    return ReactorClock(clock, calendar=lambda: 0.0)  # type: ignore[arg-type]


class Content:
    """Pieces of content that counts how many were drawn, and may fail."""

    def __init__(self, *pieces: bytes | Exception) -> None:
        self.pieces = list(pieces)
        self.drawn = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            self.drawn += 1
            if isinstance(piece, Exception):
                raise piece
            yield piece


class NetTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.internet = FakeInternet(self.clock)
        self.exchange = FakeExchange(clock=self.clock)
        self.internet.add(PEER.address, self.exchange)
        self.dialer = Dialer(self.internet, clock_of(self.clock), "relay.example.org", DEADLINES)

    def dial(self, peer: Peer = PEER) -> Opened:
        opened = self.dialer.connect(peer)
        self.clock.advance(0)
        return self.successResultOf(opened)

    def connection(self) -> Connection:
        connection = self.dial()
        assert isinstance(connection, Connection), connection
        return connection

    def begin(self, *pieces: bytes | Exception) -> Deferred[tuple[Fact, ...]]:
        """Connect and begin to send a message, and go as far as that goes without time passing."""
        content = Content(*(pieces or (MESSAGE + b".\r\n",)))
        facts = self.connection().carry(TRANSACTION, iter(content))
        self.clock.advance(0)
        return facts

    def assertGone(self) -> None:
        """The connection is closed, and nothing of it remains."""
        self.assertEqual(self.exchange.open, 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FollowingTests(NetTestCase):
    """The next transaction begins when the content of the one ahead leaves."""

    SECOND = Transaction(Address.parse("sender@example.org"), (Address.parse("zoe@example.net"),))

    def follow(self, *pieces: bytes) -> tuple[Deferred[tuple[Fact, ...]], Deferred[tuple[Fact, ...]]]:
        connection = self.connection()
        second: list[Deferred[tuple[Fact, ...]]] = []

        def begin() -> None:
            self.assertTrue(connection.session.can_begin)
            second.append(connection.carry(self.SECOND, iter([b"two\r\n.\r\n"])))

        first = connection.carry(TRANSACTION, iter(pieces or (MESSAGE + b".\r\n",)), begin)
        self.clock.advance(0)
        self.assertEqual(len(second), 1)
        return first, second[0]

    def said(self) -> list[bytes]:
        return [octets for who, octets in self.exchange.transcript if who == "C"]

    def test_the_last_of_a_content_and_what_follows_it_leave_in_one_write(self) -> None:
        first, second = self.follow()
        self.assertEqual([type(fact) for fact in self.successResultOf(first)], [Carried] * 2)
        self.assertEqual([type(fact) for fact in self.successResultOf(second)], [Carried])
        mail = b"MAIL FROM:<sender@example.org>\r\nRCPT TO:<zoe@example.net>\r\nDATA\r\n"
        self.assertEqual(self.said()[2:], [MESSAGE + b".\r\n" + mail, b"two\r\n.\r\n"])
        self.assertEqual([message.content for message in self.exchange.messages], [MESSAGE, b"two\r\n"])
        self.assertEqual(self.exchange.complaints, [])

    def test_a_large_piece_is_not_copied_for_that_but_nothing_comes_before_it(self) -> None:
        large = b"x" * 78 + b"\r\n"
        first, second = self.follow(large * 2000, large * 2000 + b".\r\n")
        for facts in (first, second):
            self.assertIsInstance(self.successResultOf(facts)[0], Carried)
        self.assertEqual([message.content for message in self.exchange.messages], [large * 4000, b"two\r\n"])

    def test_a_message_that_is_refused_at_its_end_does_not_harm_the_next(self) -> None:
        self.exchange.at("END", Say("554 5.6.0 No"), number=1)
        first, second = self.follow()
        self.assertEqual([type(fact) for fact in self.successResultOf(first)], [Answered] * 2)
        self.assertEqual([type(fact) for fact in self.successResultOf(second)], [Carried])
        self.assertEqual(self.exchange.complaints, [])

    def test_a_connection_that_ends_between_leaves_the_next_at_mail(self) -> None:
        for fault in (Drop(), Reset(), Say("421 4.3.2 Closing")):
            with self.subTest(fault=fault):
                self.setUp()
                self.exchange.at("END", fault)
                first, second = self.follow()
                phases = [fact.phase for each in (first, second) for fact in self.successResultOf(each)]  # type: ignore[union-attr]
                self.assertEqual(phases, [Phase.END, Phase.END, Phase.MAIL])
                self.assertGone()

    def test_cancelling_the_next_waits_for_the_reply_to_the_one_ahead(self) -> None:
        self.exchange.at("END", Slow(5.0), number=1)
        first, second = self.follow()
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertNoResult(first)
        self.clock.advance(5)
        self.clock.advance(0)
        self.assertEqual([type(fact) for fact in self.successResultOf(first)], [Carried] * 2)
        self.clock.advance(0)
        self.assertEqual((len(self.exchange.messages), self.exchange.unpromised), (1, []))
        self.assertGone()

    def test_cancelling_the_one_ahead_closes_the_connection(self) -> None:
        self.exchange.at("END", Stall(), number=1)
        first, second = self.follow()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertEqual(self.successResultOf(second), (Broke(Breakage.LOST, Phase.MAIL, PEER, "cancelled"),))
        self.clock.advance(0)
        self.assertGone()

    def test_if_what_should_follow_fails_to_begin_the_message_leaves_all_the_same(self) -> None:
        def fail() -> None:
            raise KeyError("nothing")

        facts = self.connection().carry(TRANSACTION, iter((MESSAGE + b".\r\n",)), fail)
        self.clock.advance(0)
        self.assertIsInstance(self.successResultOf(facts)[0], Carried)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_who_closes_the_connection_instead_sends_nothing_more(self) -> None:
        connection = self.connection()
        facts = connection.carry(TRANSACTION, iter((MESSAGE + b".\r\n",)), lambda: connection.abort("enough"))
        self.clock.advance(0)
        self.assertEqual(self.successResultOf(facts), (Broke(Breakage.LOST, Phase.END, PEER, "enough"),) * 2)
        self.assertEqual((self.exchange.messages, self.exchange.unpromised), ([], []))


class ConnectTests(NetTestCase):
    def test_a_connection_goes_to_the_address_and_to_no_name(self) -> None:
        self.connection()
        self.assertEqual(self.internet.attempts, [("192.0.2.9", 25, "192.0.2.1")])
        self.assertRaises(ValueError, self.dialer.connect, Peer("mx.example.net", "mx.example.net"))
        self.assertRaises(ValueError, self.dialer.connect, Peer("mx.example.net"))

    def test_a_connection_leaves_from_the_address_that_was_chosen_for_its_family(self) -> None:
        self.dialer = Dialer(
            self.internet, clock_of(self.clock), "relay.example.org", bind_v4="198.51.100.4", bind_v6="2001:db8::4"
        )
        self.internet.add("2001:db8::9", self.exchange, port=2525)
        self.connection()
        self.assertIsInstance(self.dial(Peer("mx.example.net", "2001:db8::9", 2525)), Connection)
        self.assertEqual(
            self.internet.attempts, [("192.0.2.9", 25, "198.51.100.4"), ("2001:db8::9", 2525, "2001:db8::4")]
        )

    def test_a_connection_may_leave_from_an_address_and_under_a_name_of_its_own(self) -> None:
        usual = Dialer(
            self.internet, clock_of(self.clock), "relay.example.org", bind_v4="198.51.100.4", bind_v6="2001:db8::4"
        )
        self.assertIs(usual.introduced("", ()), usual)
        self.dialer = usual.introduced("bulk.example.org", ["2001:db8::7"])
        self.internet.add("2001:db8::9", self.exchange, port=2525)
        self.connection()
        self.assertIsInstance(self.dial(Peer("mx.example.net", "2001:db8::9", 2525)), Connection)
        self.assertEqual(
            self.internet.attempts, [("192.0.2.9", 25, "198.51.100.4"), ("2001:db8::9", 2525, "2001:db8::7")]
        )
        self.assertEqual(self.dialer.hello, "bulk.example.org")
        self.assertEqual(usual.introduced("", ["192.0.2.7"]).bind_v4, "192.0.2.7")

    def test_a_host_that_refuses_and_one_that_is_not_there_are_told_apart(self) -> None:
        for address, breakage in (("192.0.2.9", Breakage.REFUSED), ("192.0.2.10", Breakage.UNREACHABLE)):
            peer = Peer("mx.example.net", address, 26)
            fact = self.dial(peer)
            assert isinstance(fact, Broke)
            self.assertEqual((fact.breakage, fact.phase, fact.peer), (breakage, Phase.CONNECT, peer))
            self.assertTrue(fact.text)
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_connecting_has_a_deadline(self) -> None:
        self.internet.silence(PEER.address)
        opened = self.dialer.connect(PEER)
        self.clock.advance(29)
        self.assertNoResult(opened)
        self.clock.advance(1)
        fact = self.successResultOf(opened)
        assert isinstance(fact, Broke)
        self.assertEqual((fact.breakage, fact.phase), (Breakage.TIMEOUT, Phase.CONNECT))
        self.assertGone()

    def test_a_host_that_turns_us_away_is_told_quit(self) -> None:
        self.exchange.at("GREETING", Say("554 5.7.1 Not from you"))
        fact = self.dial()
        self.assertEqual(fact, Answered(Reply.of(554, "5.7.1", "Not from you"), Phase.GREETING, PEER))
        self.assertEqual(self.exchange.transcript[1], ("C", b"QUIT\r\n"))
        self.assertGone()

    def test_cancelling_closes_the_connection_wherever_it_has_come(self) -> None:
        self.internet.latency = 1
        for seconds in range(6):
            opened = self.dialer.connect(PEER)
            self.clock.pump([1] * seconds)
            if opened.called:
                break
            opened.cancel()
            self.failureResultOf(opened, CancelledError)
            self.clock.pump([1] * 10)
            self.assertGone()
        else:
            self.fail("it never came to a connection")
        self.assertEqual(seconds, 4)


class CarryTests(NetTestCase):
    def test_a_message_is_carried(self) -> None:
        facts = self.successResultOf(self.begin())
        self.assertEqual(facts, (Carried(True, "mx.example.net[192.0.2.9]:25", "250 2.0.0 Ok: queued as 1"),) * 2)
        (message,) = self.exchange.messages
        self.assertEqual(message.content, MESSAGE)
        self.assertEqual(message.recipients, ("jon@example.net", "ann@example.net"))
        self.assertEqual(self.exchange.complaints, [])

    def test_what_is_said_at_once_leaves_in_one_write(self) -> None:
        self.successResultOf(self.begin())
        said = [octets for who, octets in self.exchange.transcript if who == "C"]
        self.assertEqual([octets.count(b"\r\n") for octets in said], [1, 4, 4])

    def test_an_idle_connection_has_no_deadline_and_carries_the_next_message(self) -> None:
        connection = self.connection()
        for _ in range(3):
            self.assertTrue(connection.session.can_begin)
            facts = connection.carry(TRANSACTION, iter([MESSAGE + b".\r\n"]))
            self.assertFalse(connection.session.can_begin)
            self.clock.advance(0)
            self.successResultOf(facts)
            self.clock.advance(10000)
        self.assertEqual(len(self.exchange.messages), 3)
        self.assertEqual(self.exchange.connections, 1)
        connection.quit()
        self.clock.advance(0)
        self.assertGone()

    def test_behind_a_long_wait_a_short_one_is_as_short_as_ever(self) -> None:
        self.exchange.at("END", Slow(150), number=1).at("MAIL", Stall(), number=2)
        connection = self.connection()
        facts = connection.carry(TRANSACTION, iter([MESSAGE + b".\r\n"]))
        self.clock.pump([0] + [1] * 150)
        self.assertIsInstance(self.successResultOf(facts)[0], Carried)
        stalled = connection.carry(TRANSACTION, iter([MESSAGE + b".\r\n"]))
        self.clock.pump([0] + [1] * 199)
        self.assertNoResult(stalled)
        self.clock.pump([1, 0])
        self.assertEqual(self.successResultOf(stalled)[0], Broke(Breakage.TIMEOUT, Phase.MAIL, PEER))

    def test_a_connection_that_was_lost_while_idle_says_so_to_the_next_message(self) -> None:
        connection = self.connection()
        self.internet.connections[0].other.loseConnection()
        self.clock.advance(0)
        self.assertFalse(connection.session.can_begin)
        facts = self.successResultOf(connection.carry(TRANSACTION, iter([])))
        self.assertEqual(facts, (Broke(Breakage.LOST, Phase.MAIL, PEER),) * 2)

    def test_quit_is_said_once_and_waits_only_for_a_moment(self) -> None:
        self.exchange.at("QUIT", Stall())
        connection = self.connection()
        connection.quit()
        connection.quit()
        self.clock.advance(QUIT_SECONDS - 1)
        self.assertEqual(self.exchange.open, 1)
        self.clock.advance(1)
        self.assertGone()
        self.assertEqual([octets for _, octets in self.exchange.transcript].count(b"QUIT\r\n"), 1)

    def test_a_peer_that_answers_quit_and_does_not_read_it_keeps_nothing_open(self) -> None:
        transport = Closing()
        connection = self.over(transport, b"220 mx\r\n", b"250 mx\r\n")
        connection.quit()
        connection.dataReceived(b"221 Bye\r\n")
        self.assertTrue(transport.disconnecting)
        self.clock.advance(QUIT_SECONDS)
        self.assertTrue(transport.aborted)

    def test_when_the_content_has_left_nobody_produces_any_more(self) -> None:
        transport = Closing()
        connection = self.over(transport, b"220 mx\r\n", b"250-mx\r\n250 PIPELINING\r\n")
        connection.carry(TRANSACTION, iter([b"one\r\n", b"two\r\n", b".\r\n"]))
        transport.clear()
        connection.dataReceived(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go on\r\n")
        self.assertEqual(transport.value(), b"one\r\ntwo\r\n.\r\n")
        self.assertIsNone(transport.producer)

    def test_quit_amid_a_transaction_just_closes(self) -> None:
        self.exchange.at("DATA", Stall())
        connection = self.connection()
        facts = connection.carry(TRANSACTION, iter([MESSAGE + b".\r\n"]))
        self.clock.advance(0)
        connection.quit()
        self.assertEqual(self.successResultOf(facts), (Broke(Breakage.LOST, Phase.DATA, PEER),) * 2)
        self.clock.advance(0)
        self.assertGone()

    def test_cancelling_closes_the_connection_and_the_message_does_not_exist(self) -> None:
        for moment in ("MAIL", "DATA", "CONTENT", "END"):
            self.exchange.at(moment, Stall(), times=1)
            facts = self.begin(b"x" * BUFFER * 2, MESSAGE + b".\r\n")
            facts.cancel()
            self.failureResultOf(facts, CancelledError)
            self.clock.advance(0)
            self.assertGone()
        self.assertEqual(self.exchange.messages, [])

    def over(self, transport: StringTransport, *replies: bytes) -> Connection:
        """A connection over a transport of its own, that has heard these."""
        connection = Connection(PEER, self.dialer)
        connection.makeConnection(transport)
        for reply in replies:
            connection.dataReceived(reply)
        return connection


class Closing(StringTransport):
    """A transport that never gets rid of what was written to it."""

    aborted = False

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def abortConnection(self) -> None:
        self.aborted = True


class PressureTests(NetTestCase):
    def test_memory_does_not_grow_with_the_message(self) -> None:
        self.exchange.at("CONTENT", Stall())
        block = b"x" * 8190 + b"\r\n"
        content = Content(*[block * 8] * 1000)
        facts = self.connection().carry(TRANSACTION, iter(content))
        self.clock.advance(0)
        self.assertNoResult(facts)
        # One piece that the peer has taken, what the transport takes before it says stop, and one piece ahead.
        self.assertLessEqual(content.drawn, 5)
        self.assertLessEqual(self.internet.connections[0].most_buffered, 2 * BUFFER)

    def test_a_large_message_arrives_whole_through_a_narrow_pipe(self) -> None:
        self.internet.cut = lambda waiting: min(waiting, 5000)
        pieces = [bytes([65 + number % 26]) * 99998 + b"\r\n" for number in range(40)]
        facts = self.successResultOf(self.begin(*pieces, b".\r\n"))
        self.assertIsInstance(facts[0], Carried)
        self.assertEqual(self.exchange.messages[0].content, b"".join(pieces))
        self.assertLessEqual(self.internet.connections[0].most_buffered, 100000 + BUFFER)

    def test_a_peer_may_take_each_piece_as_slowly_as_its_own_deadline_says(self) -> None:
        def pieces(latency: float) -> Iterator[bytes]:
            # From here on the network takes as long for 50000 octets: half a piece.
            self.internet.latency = latency
            for _ in range(5):
                yield b"x" * 99998 + b"\r\n"
            yield b".\r\n"

        for latency, takes in ((80.0, 800), (100.0, 180)):
            self.internet.latency = 0
            self.internet.cut = lambda waiting: min(waiting, 50000)
            facts = self.connection().carry(TRANSACTION, pieces(latency))
            self.clock.advance(0)
            self.clock.pump([10] * (takes // 10 - 1))
            self.assertNoResult(facts)
            self.clock.pump([10] * 20)
            (fact, _) = self.successResultOf(facts)
            if latency == 80:
                self.assertIsInstance(fact, Carried)
            else:
                self.assertEqual(fact, Broke(Breakage.TIMEOUT, Phase.CONTENT, PEER))

    def test_content_that_cannot_be_read_is_raised_and_never_gets_a_terminator(self) -> None:
        problem = OSError("the disk is on fire")
        piece = b"x" * BUFFER
        for pieces in ((problem,), (MESSAGE, problem), (piece, problem), (piece, piece, piece, problem)):
            facts = self.begin(*pieces)
            self.assertIs(self.failureResultOf(facts).value, problem)
            self.clock.advance(0)
            self.assertGone()
        self.assertEqual(self.exchange.messages + self.exchange.unpromised, [])

    def test_a_reply_that_comes_before_all_of_the_content_has_left_is_the_end_of_it(self) -> None:
        self.exchange.at("CONTENT", Say("552 5.3.4 Too much"))
        facts = self.successResultOf(self.begin(*[b"x" * BUFFER] * 9, b"\r\n.\r\n"))
        self.assertEqual(facts, (Answered(Reply.of(552, "5.3.4", "Too much"), Phase.CONTENT, PEER),) * 2)
        self.clock.advance(0)
        self.assertGone()


#: Where something may happen, what it is called, and its deadline.
MOMENTS: tuple[tuple[Any, Phase, float], ...] = (
    ("GREETING", Phase.GREETING, 300),
    ("EHLO", Phase.HELLO, 300),
    ("MAIL", Phase.MAIL, 200),
    ("RCPT", Phase.RCPT, 100),
    ("DATA", Phase.DATA, 120),
    ("CONTENT", Phase.CONTENT, 180),
    ("END", Phase.END, 600),
)


class MisbehaviourTests(NetTestCase):
    """A peer that misbehaves at every phase, with PIPELINING and without."""

    def meet(self, moment: Any, fault: Fault, pipelining: bool, seconds: float) -> tuple[Fact, ...]:
        """What became of a message of several pieces, in so many seconds."""
        offers = ("PIPELINING", "8BITMIME") if pipelining else ("8BITMIME",)
        self.exchange = FakeExchange(offers=offers, clock=self.clock).at(moment, fault)
        self.internet.add(PEER.address, self.exchange)
        opened = self.dialer.connect(PEER)
        self.clock.advance(0)
        if not opened.called:
            self.clock.pump([1] * int(seconds))
        connection = self.successResultOf(opened)
        if isinstance(connection, Connection):
            facts = connection.carry(TRANSACTION, iter([b"x" * 3 * BUFFER, b"y" * 3 * BUFFER, b"\r\n.\r\n"]))
            self.clock.advance(0)
            if not facts.called:
                self.clock.pump([1] * int(seconds))
            result = self.successResultOf(facts)
            connection.quit()
        else:
            result = (connection, connection)
        self.clock.advance(0)
        self.assertGone()
        self.assertEqual(self.exchange.complaints, [])
        return result

    def assertBroke(self, facts: tuple[Fact, ...], breakage: Breakage, phase: Phase) -> None:
        self.assertEqual(len(facts), 2)
        for fact in facts:
            assert isinstance(fact, Broke), fact
            self.assertEqual((fact.breakage, fact.phase, fact.peer), (breakage, phase, PEER))

    def test_a_peer_that_stalls_is_left_when_its_deadline_has_passed(self) -> None:
        for moment, phase, seconds in MOMENTS:
            for pipelining in (True, False):
                self.assertBroke(self.meet(moment, Stall(), pipelining, seconds), Breakage.TIMEOUT, phase)
                # A second before, there is no result, and so the test would fail.
                self.assertRaises(self.failureException, self.meet, moment, Stall(), pipelining, seconds - 1)
                self.clock.advance(1)

    def test_a_peer_that_closes_or_resets_has_lost_the_connection(self) -> None:
        for moment, phase, _ in MOMENTS:
            for pipelining in (True, False):
                self.assertBroke(self.meet(moment, Drop(), pipelining, 0), Breakage.LOST, phase)
                # A reset overtakes the replies that were on their way.
                heard = Phase.MAIL if pipelining and moment in ("RCPT", "DATA") else phase
                self.assertBroke(self.meet(moment, Reset(), pipelining, 0), Breakage.LOST, heard)

    def test_a_peer_that_babbles_speaks_nonsense(self) -> None:
        for moment, phase, _ in MOMENTS:
            for pipelining in (True, False):
                for octets in (b"\x15\x03\x01\x00\x02\x02\x50\r\n", b"250-a\r\n550 b\r\n", b"354\n", b"3" * 70000):
                    facts = self.meet(moment, Babble(octets), pipelining, 0)
                    self.assertBroke(facts, Breakage.NONSENSE, phase)

    def test_a_peer_that_shuts_down_says_421(self) -> None:
        for moment, phase, _ in MOMENTS:
            for pipelining in (True, False):
                facts = self.meet(moment, Say("421 4.3.2 Shutting down"), pipelining, 0)
                self.assertEqual(facts, (Answered(Reply.of(421, "4.3.2", "Shutting down"), phase, PEER),) * 2)

    def test_a_peer_that_is_slow_is_waited_for(self) -> None:
        for moment, _, seconds in MOMENTS:
            if moment != "CONTENT":
                for pipelining in (True, False):
                    facts = self.meet(moment, Slow(min(seconds - 1, 60)), pipelining, 130)
                    self.assertIsInstance(facts[0], Carried)
                    self.assertIsInstance(facts[1], Carried)

    def test_a_peer_that_speaks_octet_by_octet_does_not_win_time(self) -> None:
        class Dribbler(Protocol):
            def connectionMade(inner) -> None:
                self.clock.callLater(10, inner.go_on)

            def go_on(inner) -> None:
                inner.transport.write(b"2")  # type: ignore[union-attr]
                self.clock.callLater(10, inner.go_on)

        factory = ServerFactory()
        factory.protocol = Dribbler  # type: ignore[assignment]
        self.internet.add(PEER.address, factory)
        opened = self.dialer.connect(PEER)
        self.clock.advance(0)
        self.clock.pump([10] * 29)
        self.assertNoResult(opened)
        self.clock.pump([10])
        self.assertEqual(self.successResultOf(opened), Broke(Breakage.TIMEOUT, Phase.GREETING, PEER))

    def test_the_connection_lost_behind_the_content_and_before_its_reply_is_told_apart(self) -> None:
        self.exchange.at("END", Drop())
        facts = self.successResultOf(self.begin())
        self.assertEqual(facts, (Broke(Breakage.LOST, Phase.END, PEER),) * 2)
        self.assertEqual(len(self.exchange.unpromised), 1)

    def test_a_reset_says_more_than_that_the_peer_is_gone(self) -> None:
        self.exchange.at("END", Reset())
        (fact, _) = self.successResultOf(self.begin())
        assert isinstance(fact, Broke)
        self.assertTrue(fact.text)

    def test_what_comes_behind_the_end_of_the_conversation_is_not_heard(self) -> None:
        opened: list[Any] = []
        connection = Connection(PEER, self.dialer, told=opened.append)
        connection.makeConnection(Closing())
        connection.dataReceived(b"nonsense\r\n")
        self.assertIsInstance(opened.pop(), Broke)
        connection.dataReceived(b"220 mx\r\n")
        connection.resumeProducing()
        connection.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FakeInternetTests(NetTestCase):
    def test_it_is_what_a_reactor_is_for_tcp(self) -> None:
        verifyObject(IReactorTCP, self.internet)
