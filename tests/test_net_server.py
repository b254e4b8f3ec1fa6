"""The adapter of a connection: writes, waits and deadlines, over a transport in memory."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.limits import Limits
from relay.interfaces import IVisit, OutcomeUnknown
from relay.mail.reply import Reply
from relay.net.admission import Admission
from relay.net.clock import ReactorClock
from relay.net.doorway import Arrival, Doorway
from relay.net.listener import SmtpServerFactory
from relay.net.server import MARGIN, SmtpServer
from relay.net.waiting import Coming
from relay.smtp import answers
from relay.smtp.events import Connected, Content, ContentEnded, Data, Misspoken, Noop, Question, Quit, Rcpt
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.server import ServerSession

PROFILE = Profile("mx.test")


class Wire(StringTransport):
    """A transport that remembers each write, and how it was closed."""

    def __init__(self) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "192.0.2.9", 4711))
        self.writes: list[bytes] = []
        self.aborted = False
        #: Called at the next write.
        self.full: Callable[[], None] = lambda: None

    def write(self, data: bytes) -> None:
        super().write(data)
        self.writes.append(data)
        full, self.full = self.full, lambda: None
        full()

    def abortConnection(self) -> None:
        super().abortConnection()
        self.aborted = True

    def said(self) -> list[int]:
        """The codes of what was said since the last look."""
        lines = self.value().splitlines()
        self.clear()
        return [int(line[:3]) for line in lines if line[3:4] != b"-"]


@implementer(IVisit)
class Scripted:
    """Answers politely, but for what a test has put into `answers`."""

    known = None

    def __init__(self, refusal: Reply | None, script: Mapping[type[Question], Any] | None = None) -> None:
        self.refusal = refusal
        self.script = dict(script or {})
        self.taken = b""
        self.is_lost = 0

    def answer(self, question: Question) -> Any:
        scripted = self.script.get(type(question))
        if isinstance(scripted, Exception):
            raise scripted
        if scripted is not None:
            return scripted
        match question:
            case Connected():
                return self.refusal or Reply.of(220, None, "mx.test")
            case Misspoken(reply):
                return reply
            case Data():
                return answers.SEND_CONTENT
            case ContentEnded(_, fault):
                return fault or answers.NOTHING_DONE
            case Quit():
                return Reply.of(221, "2.0.0", "bye")
            case _:
                return answers.NOTHING_DONE

    def take(self, content: Content) -> None:
        self.taken += content.octets

    def lost(self) -> None:
        self.is_lost += 1


class ServerCase(SynchronousTestCase):
    """A factory, a clock, and connections as a test needs them."""

    limits = Limits()
    session_limits = SessionLimits()

    def setUp(self) -> None:
        self.time = Clock()
        clock = ReactorClock(self.time, lambda: 1.7e9)
        self.visits: list[Scripted] = []
        #: What each of them begins with.
        self.script: dict[type[Question], Any] = {}

        def admit(arrival: Arrival) -> tuple[ServerSession, Scripted]:
            self.visits.append(Scripted(arrival.refusal, self.script))
            return ServerSession(PROFILE, self.session_limits), self.visits[-1]

        admission = Admission(self.limits, [], clock)
        self.factory = SmtpServerFactory(Doorway(admit, admission, self.limits, clock))

    def connect(self, address: str = "192.0.2.9") -> tuple[SmtpServer, Scripted, Wire]:
        server = self.factory.buildProtocol(IPv4Address("TCP", address, 4711))
        wire = Wire()
        server.makeConnection(wire)
        return server, self.visits[-1], wire

    def greeted(self) -> tuple[SmtpServer, Scripted, Wire]:
        server, visit, wire = self.connect()
        server.dataReceived(b"EHLO c\r\n")
        self.assertEqual(wire.said(), [220, 250])
        wire.writes.clear()
        return server, visit, wire


ENVELOPE = b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"


class DialogueTests(ServerCase):
    def test_all_that_came_in_one_segment_is_answered_in_one_write(self) -> None:
        server, visit, wire = self.greeted()
        server.dataReceived(ENVELOPE + b"hello\r\n.\r\n" + ENVELOPE)
        self.assertEqual(len(wire.writes), 1)
        self.assertEqual(wire.said(), [250, 250, 354, 250, 250, 250, 354])
        self.assertEqual(visit.taken, b"hello\r\n.\r\n")

    def test_what_is_known_is_said_before_the_first_wait(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[Noop] = thinking = Deferred[Reply]()
        server.dataReceived(b"RSET\r\nNOOP\r\nRSET\r\nHELP\r\n")
        self.assertEqual(wire.said(), [250])
        thinking.callback(Reply.of(451, "4.3.0", "hm"))
        self.assertEqual(len(wire.writes), 2)
        self.assertEqual(wire.said(), [451, 250, 250])

    def test_a_client_that_quits_is_let_go(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(b"QUIT\r\nNOOP\r\n")
        self.assertEqual(wire.said(), [221])
        self.assertTrue(wire.disconnecting)
        server.dataReceived(b"NOOP\r\n")
        self.assertEqual(wire.said(), [])

    def test_of_a_connection_that_is_over_nothing_is_left_to_the_collector_of_garbage(self) -> None:
        collects = gc.isenabled()
        gc.disable()
        try:
            server, _, wire = self.greeted()
            server.dataReceived(b"QUIT\r\n")
            server.connectionLost()
            there = weakref.ref(server)
            del server, wire
            self.assertIsNone(there())
        finally:
            if collects:
                gc.enable()

    def test_an_answer_for_a_client_that_has_gone_is_nobodys(self) -> None:
        server, visit, wire = self.greeted()
        cancelled: list[object] = []
        visit.script[Noop] = thinking = Deferred[Reply](cancelled.append)
        server.dataReceived(b"NOOP\r\n")
        server.connectionLost(Failure(ConnectionError()))
        self.assertEqual(cancelled, [thinking])
        self.assertEqual((wire.said(), visit.is_lost), ([], 1))
        self.assertEqual(self.time.getDelayedCalls(), [])

    def test_a_promise_that_is_known_already_is_answered_in_its_turn(self) -> None:
        for came in (answers.NOTHING_DONE, Failure(LookupError("ours"))):
            server, visit, wire = self.greeted()
            visit.script[ContentEnded] = promise = Coming[Reply]()
            promise.early = came if isinstance(came, Failure) else (came,)
            server.dataReceived(ENVELOPE + b".\r\nFOO\r\n")
            self.assertEqual(len(wire.writes), 1)
            self.assertEqual(wire.said(), [250, 250, 354, 451 if isinstance(came, Failure) else 250, 500])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_a_promise_to_a_client_that_has_gone_is_nobodys(self) -> None:
        for came in (answers.NOTHING_DONE, None):
            server, visit, wire = self.greeted()
            visit.script[ContentEnded] = promise = Coming[Reply]()
            server.dataReceived(ENVELOPE + b".\r\n")
            server.connectionLost(Failure(ConnectionError()))
            if came is None:
                promise.fail(Failure(LookupError("ours")))
            else:
                promise.give(came)
            self.assertEqual(wire.said(), [250, 250, 354])
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_a_commit_goes_on_when_the_client_has_gone(self) -> None:
        server, visit, wire = self.greeted()
        cancelled: list[object] = []
        visit.script[ContentEnded] = commit = Deferred[Reply](cancelled.append)
        server.dataReceived(ENVELOPE + b".\r\n")
        server.connectionLost(Failure(ConnectionError()))
        self.assertEqual(cancelled, [])
        commit.callback(answers.NOTHING_DONE)
        self.assertEqual(wire.said(), [250, 250, 354])


#: What clients say, and seconds that pass.
TALK = st.lists(
    st.sampled_from(
        [
            [b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b"hello\r\n.\r\n"],
            [b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n"],
            [b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n"],
            *(
                [octets]
                for octets in (b"DATA\r\n", b"x\r\n", b"x\r\n.\r\n", b".\r\n", b"RCPT TO:<c@d>\r\n", b"RSET\r\n")
            ),
            *([octets] for octets in (b"NO", b"NOOP\r\n", b"DATA\r\nx", b"\r\n.\r\nQUIT\r\n", b"QUIT\r\n", b"FOO\r\n")),
            *([octets] for octets in (b"BDAT 3\r\nabc", b"BDAT 9 LAST\r\nabc", b"MAIL FROM:<>\r\n", b"EHLO c\r\n")),
            *([seconds] for seconds in (1, 30, 59, 61, 200, 301)),
        ]
    ),
    max_size=12,
).map(lambda parts: [step for part in parts for step in part])
#: What happens besides: the answers wait or fail, the client does not read or is read no more, the service is under
#: stress or stops.
TROUBLE = st.dictionaries(
    st.integers(0, 30),
    st.sampled_from(
        ["wait", "answer", "refuse", "fail", "choke", "choke later", "read", "stop", "deaf", "stress", "ease"]
    ),
)


class AgreementTests(ServerCase):
    """The straight way and the general one are the same to whoever looks from outside."""

    session_limits = SessionLimits(errors_slow=3, errors=6)

    @settings(max_examples=300, deadline=None)
    @given(TALK, TROUBLE)
    def test_a_client_cannot_tell_which_way_it_was_answered(
        self, talk: list[bytes | int], trouble: dict[int, str]
    ) -> None:
        straight = self.told(talk, trouble)
        self.assertEqual(straight, self.told(talk, trouble, straight=False))
        self.assertEqual(straight, self.told(talk, trouble, promises=False))

    def told(
        self, talk: list[bytes | int], trouble: dict[int, str], *, straight: bool = True, promises: bool = True
    ) -> list[Any]:
        """What was said after each step, and what is known of it."""
        self.setUp()
        server, _, wire = self.greeted()
        server._visit = visit = Hesitant(None)
        visit.promises = promises
        if not straight:
            server._session = Deaf(server._session)  # type: ignore[assignment]
        heard: list[Any] = []
        for number, step in enumerate(talk):
            match trouble.get(number) if not wire.disconnecting else "answer":
                case "wait":
                    visit.hesitates = True
                case "answer" | "refuse" as how:
                    visit.decide(answers.OUR_FAULT if how == "refuse" else answers.CONTENT_OK)
                case "fail":
                    visit.fails = True
                case "stress" | "ease" as how:
                    server._doorway.admission.stressed = how == "stress"
                case "choke":
                    server.pauseProducing()
                case "choke later":
                    wire.full = server.pauseProducing
                case "read":
                    server.resumeProducing()
                case "stop":
                    server.stop()
                case "deaf":
                    server.readConnectionLost()
                case _:
                    pass
            if isinstance(step, int):
                self.time.advance(step)
            elif not wire.disconnecting and not wire.aborted:
                server.dataReceived(step)
            heard.append((wire.value(), visit.taken, wire.disconnecting, wire.aborted, wire.producerState))
        for _ in range(8):
            self.time.advance(59)
            heard.append((wire.value(), wire.disconnecting, wire.aborted))
        heard.append([failure.getErrorMessage() for failure in self.flushLoggedErrors()])
        return heard


class Hesitant(Scripted):
    """Thinks about some questions when it is told to."""

    hesitates = False
    fails = False
    #: What content comes to is a promise, as that of a `Visit`.
    promises = True
    waiting: Deferred[Reply] | Coming[Reply] | None = None

    def answer(self, question: Question) -> Any:
        if self.fails:
            self.fails = False
            raise OutcomeUnknown("?") if isinstance(question, ContentEnded) else LookupError(type(question).__name__)
        if not self.hesitates or not isinstance(question, ContentEnded | Rcpt | Data):
            return super().answer(question)
        self.waiting = Coming() if self.promises and isinstance(question, ContentEnded) else Deferred()
        return self.waiting

    def decide(self, reply: Reply) -> None:
        self.hesitates = False
        waiting, self.waiting = self.waiting, None
        if isinstance(waiting, Coming):
            waiting.give(reply)
        elif waiting is not None and not waiting.called:
            waiting.callback(reply)


class Deaf:
    """A session that hears nothing straight."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def hear(self, octets: bytes) -> None:
        """It goes the general way."""

    hear_content = hear


class TroubleTests(ServerCase):
    def test_an_exception_of_ours_is_451_and_a_traceback_in_the_log(self) -> None:
        for trouble in (ZeroDivisionError("at once"), None):
            server, visit, wire = self.greeted()
            visit.script[Noop] = trouble or (later := Deferred[Reply]())
            server.dataReceived(b"NOOP\r\nRSET\r\n")
            if trouble is None:
                later.errback(ZeroDivisionError("later"))
            self.assertEqual(wire.said(), [451, 250])
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_where_nobody_knows_nothing_is_said(self) -> None:
        for later in (None, Deferred[Reply](), Coming[Reply]()):
            server, visit, wire = self.greeted()
            visit.script[ContentEnded] = OutcomeUnknown() if later is None else later
            server.dataReceived(ENVELOPE + b".\r\nNOOP\r\n")
            if isinstance(later, Coming):
                later.fail(Failure(OutcomeUnknown()))
            elif later is not None:
                later.errback(OutcomeUnknown())
            self.assertEqual(wire.said(), [250, 250, 354])
            self.assertTrue(wire.aborted)
            self.assertEqual(len(self.flushLoggedErrors(OutcomeUnknown)), 1)

    def test_many_errors_make_answers_slow(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(b"FOO\r\n" * 12)
        self.assertEqual(len(wire.said()), 11)
        self.time.advance(0.9)
        self.assertEqual(wire.said(), [])
        self.time.advance(0.2)
        self.assertEqual(wire.said(), [500])


class DeadlineTests(ServerCase):
    def test_an_idle_client_is_told_and_closed(self) -> None:
        _server, _, wire = self.greeted()
        self.time.advance(299)
        self.assertEqual(wire.said(), [])
        self.time.advance(2)
        self.assertEqual(wire.said(), [421])
        self.assertTrue(wire.disconnecting)

    def test_a_command_moves_the_deadline_and_a_dribble_does_not(self) -> None:
        server, _, wire = self.greeted()
        self.time.advance(200)
        server.dataReceived(b"NOOP\r\n")
        self.time.advance(200)
        self.assertEqual(wire.said(), [250])
        server.dataReceived(b"N")
        self.time.advance(101)
        self.assertEqual(wire.said(), [421])

    def test_a_policy_that_thinks_too_long_makes_it_451(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[Noop] = Deferred[Reply]()
        server.dataReceived(b"NOOP\r\nRSET\r\n")
        self.time.advance(30 + MARGIN - 1)
        self.assertEqual(wire.said(), [])
        self.time.advance(2)
        self.assertEqual(wire.said(), [451, 250])

    def test_whom_nobody_can_greet_is_told_so_and_let_go(self) -> None:
        for answer in (LookupError(), Deferred[Reply]()):
            self.script = {Connected: answer}
            _, _, wire = self.connect()
            self.time.advance(30 + MARGIN + 1)
            self.assertEqual(wire.value(), b"421 4.3.0 Local error, closing\r\n")
            self.assertTrue(wire.disconnecting)
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    def test_a_commit_that_takes_too_long_is_not_called_anything(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[ContentEnded] = Deferred[Reply]()
        server.dataReceived(ENVELOPE + b".\r\n")
        self.time.advance(299)
        self.assertFalse(wire.aborted)
        self.time.advance(2)
        self.assertEqual(wire.said(), [250, 250, 354])
        self.assertTrue(wire.aborted)

    def test_content_may_be_slow_but_not_silent(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(ENVELOPE)
        for _ in range(10):
            self.time.advance(60)
            server.dataReceived(b"x\r\n")
        self.assertEqual(wire.said(), [250, 250, 354])
        self.time.pump([60] * 6)
        self.assertEqual(wire.said(), [421])

    def test_content_has_half_an_hour_in_all(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(ENVELOPE)
        for _ in range(29):
            self.time.advance(60)
            server.dataReceived(b"x" * 998 + b"\r\n")
        self.assertEqual(wire.said(), [250, 250, 354])
        self.time.advance(61)
        self.assertEqual(wire.said(), [421])

    def test_a_second_message_has_a_half_hour_of_its_own(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(ENVELOPE)
        for _ in range(20):
            self.time.advance(60)
            server.dataReceived(b"x\r\n")
        server.dataReceived(b".\r\n" + ENVELOPE)
        for _ in range(20):
            self.time.advance(60)
            server.dataReceived(b"x\r\n")
        server.dataReceived(b".\r\n")
        self.assertEqual(wire.said(), [250, 250, 354, 250, 250, 250, 354, 250])

    def test_who_does_not_read_our_replies_is_closed(self) -> None:
        server, _, wire = self.greeted()
        server.pauseProducing()
        server.dataReceived(b"NOOP\r\n")
        self.assertEqual((wire.said(), wire.producerState), ([], "paused"))
        self.time.advance(59)
        self.assertFalse(wire.aborted)
        self.time.advance(2)
        self.assertTrue(wire.aborted)

    def test_who_reads_again_is_answered_again(self) -> None:
        server, _, wire = self.greeted()
        server.pauseProducing()
        server.dataReceived(b"NOOP\r\n")
        self.time.advance(50)
        server.resumeProducing()
        self.assertEqual((wire.said(), wire.producerState), ([250], "producing"))
        self.time.advance(200)
        self.assertFalse(wire.aborted or wire.disconnecting)

    def test_a_client_that_sends_far_ahead_is_not_read(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[Noop] = thinking = Deferred[Reply]()
        server.dataReceived(b"NOOP\r\n" + b"RSET\r\n" * 3)
        server.dataReceived(b"x" * 70_000)
        self.assertEqual(wire.producerState, "paused")
        thinking.callback(answers.NOTHING_DONE)
        self.assertEqual(wire.producerState, "producing")

    def test_a_chunk_may_be_slow_as_long_as_octets_flow_and_half_an_hour_in_all(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(ENVELOPE[:-6] + b"BDAT 2000000 LAST\r\n")
        self.assertEqual(wire.said(), [250, 250])
        for _ in range(29):
            self.time.advance(60)
            server.dataReceived(b"x" * 998 + b"\r\n")
        self.assertEqual(wire.said(), [])
        self.time.advance(61)
        self.assertEqual(wire.said(), [421])

    def test_small_chunks_do_not_begin_the_half_hour_anew(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(ENVELOPE[:-6])
        for _ in range(40):
            server.dataReceived(b"BDAT 1\r\nx")
            self.time.pump([50])
        self.assertEqual(wire.said()[-1], 421)

    def test_a_chunk_that_was_refused_leaves_no_deadline_to_the_next_content(self) -> None:
        server, _, wire = self.greeted()
        server.dataReceived(b"NOOP\r\nBDAT 5\r\nab")
        server.dataReceived(b"cde")
        for _ in range(14):
            self.time.advance(120)
            server.dataReceived(b"NOOP\r\n")
        server.dataReceived(ENVELOPE)
        self.time.advance(100)
        self.assertEqual(wire.said()[-1], 354)

    def test_a_client_that_reads_again_has_the_patience_that_was_promised(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[ContentEnded] = commit = Deferred[Reply]()
        server.dataReceived(ENVELOPE + b".\r\n")
        server.pauseProducing()
        server.resumeProducing()
        self.time.advance(200)
        self.assertFalse(wire.aborted)
        commit.callback(answers.NOTHING_DONE)
        self.assertEqual(wire.said()[-1], 250)

    def test_who_did_not_read_for_a_while_has_its_time_behind_the_answer(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[ContentEnded] = commit = Deferred[Reply]()
        server.dataReceived(ENVELOPE + b".\r\n")
        server.pauseProducing()
        server.resumeProducing()
        self.time.advance(self.limits.final_reply - 1)
        commit.callback(answers.NOTHING_DONE)
        self.time.advance(self.limits.idle - 1)
        self.assertEqual(wire.said()[-1], 250)
        self.assertFalse(wire.disconnecting)

    def test_one_segment_is_not_answered_with_more_than_the_client_is_let_not_to_read(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[Noop] = Reply.of(250, "2.0.0", *["x" * 400] * 20)
        pause = wire.write

        def full(octets: bytes) -> None:
            pause(octets)
            server.pauseProducing()

        wire.write = full  # type: ignore[method-assign]
        server.dataReceived(b"NOOP\r\n" * 1000)
        self.assertLess(len(wire.value()), 2 * 64 * 1024)
        self.assertEqual(wire.producerState, "paused")
        self.time.advance(61)
        self.assertTrue(wire.aborted)

    def test_a_connection_that_is_cut_off_waits_for_nothing_any_more(self) -> None:
        server, visit, _ = self.greeted()
        cancelled: list[object] = []
        visit.script[Noop] = thinking = Deferred[Reply](cancelled.append)
        server.dataReceived(b"NOOP\r\n")
        server.abort()
        self.assertEqual(cancelled, [thinking])


class StopTests(ServerCase):
    def test_an_idle_client_is_sent_away_at_once(self) -> None:
        server, _, wire = self.greeted()
        server.stop()
        self.assertEqual(wire.said(), [421])
        self.assertTrue(wire.disconnecting)

    def test_what_is_in_flight_is_finished_first(self) -> None:
        server, visit, wire = self.greeted()
        visit.script[ContentEnded] = commit = Deferred[Reply]()
        server.dataReceived(ENVELOPE + b"hel")
        server.stop()
        self.assertEqual(wire.said(), [250, 250, 354])
        server.dataReceived(b"lo\r\n.\r\n")
        commit.callback(answers.NOTHING_DONE)
        self.assertEqual(wire.said(), [250, 421])
        self.assertTrue(wire.disconnecting)


class AdmissionTests(ServerCase):
    limits = Limits(connections=6, connections_per_address=2, connections_per_minute=3)

    def greeting(self, address: str) -> tuple[SmtpServer, int]:
        server, _, wire = self.connect(address)
        return server, wire.said()[0]

    def test_an_address_has_so_many_connections_at_once(self) -> None:
        first, code = self.greeting("192.0.2.1")
        self.assertEqual(code, 220)
        self.assertEqual(self.greeting("192.0.2.1")[1], 220)
        third, code = self.greeting("192.0.2.1")
        self.assertEqual(code, 421)
        self.assertEqual(self.greeting("192.0.2.2")[1], 220)
        third.connectionLost()
        first.connectionLost()
        self.assertEqual(self.greeting("192.0.2.1")[1], 220)

    def test_an_address_connects_so_often_in_a_minute(self) -> None:
        for _ in range(3):
            server, code = self.greeting("192.0.2.1")
            server.connectionLost()
            self.assertEqual(code, 220)
        server, code = self.greeting("192.0.2.1")
        server.connectionLost()
        self.assertEqual(code, 421)
        self.time.advance(61)
        self.assertEqual(self.greeting("192.0.2.1")[1], 220)

    def test_there_are_so_many_connections_in_all(self) -> None:
        servers = [self.greeting(f"192.0.2.{number}") for number in range(6)]
        self.assertEqual([code for _, code in servers], [220] * 6)
        self.assertEqual(self.greeting("192.0.2.7")[1], 421)

    def test_who_was_turned_away_was_counted_and_is_counted_off(self) -> None:
        others = [self.greeting(f"198.51.100.{number}")[0] for number in range(4)]
        mine = [self.greeting("192.0.2.1")[0] for _ in range(2)]
        for _ in range(5):
            server, code = self.greeting("192.0.2.1")
            self.assertEqual(code, 421)
            server.connectionLost()
        for server in others:
            server.connectionLost()
        self.assertEqual(self.greeting("192.0.2.1")[1], 421)
        self.assertEqual(len(mine), 2)

    def test_addresses_are_forgotten(self) -> None:
        admission = Admission(Limits(), [], ReactorClock(self.time))
        for number in range(200):
            admission.enter(f"192.0.2.{number}")
            admission.leave(f"192.0.2.{number}")
        self.time.advance(61)
        admission.enter("198.51.100.1")
        self.assertEqual(len(admission._recent), 1)

    def test_a_full_house_waits_less_for_idle_clients(self) -> None:
        for number in range(5):
            _, _, wire = self.connect(f"192.0.2.{number}")
        self.assertEqual(wire.said(), [220])
        self.time.advance(31)
        self.assertEqual(wire.said(), [421])
