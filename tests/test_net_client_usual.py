"""
A connection hears most replies in one step, and lets the next message follow in the same. That means what it means
where each reply is an event: the same messages are carried, in the same words, and end in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.outcome import Carried, Fact, Peer
from relay.net.client import Connection, Dialer, Passage
from relay.net.clock import ReactorClock
from relay.smtp.transaction import Approach, Transaction
from tests.smtp.proposing import commands_for

PEER = Peer("mx.example.net", "192.0.2.9")
JON, ANN = Address("jon", "example.net"), Address("ann", "example.net")
BODY = b"Subject: hello\r\n\r\nhello\r\n.\r\n"
LARGE = b"x" * 78 + b"\r\n"


class Cable:
    """Takes whatever is written; nobody is at its other end."""

    disconnecting = False

    def __init__(self) -> None:
        self.written = b""
        self.closed = ""

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def loseConnection(self) -> None:
        self.closed = self.closed or "politely"

    def abortConnection(self) -> None:
        self.closed = self.closed or "at once"


class Message(Passage):
    """One of several messages, and what becomes of it."""

    def __init__(self, line: Line, kind: str, follower: str) -> None:
        self.over = False
        self.line, self.kind, self.follower = line, kind, follower
        self.number = len(line.messages)
        self.ended: list[object] = []

    def note(self, what: object) -> None:
        self.ended.append(what)
        self.line.transcript.append((self.number, what))

    def content(self) -> bytes | Iterator[bytes]:
        match self.kind:
            case "damaged":
                raise OSError("it cannot be read")
            case "in pieces":
                return iter([LARGE * 900, BODY])
            case "torn":
                return self._torn()
            case _:
                return BODY

    def _torn(self) -> Iterator[bytes]:
        yield LARGE
        yield LARGE
        raise OSError("nor to its end")

    def sent(self) -> None:
        self.note("sent")
        if self.follower == "cut off":
            self.line.connection.abort()
        if self.follower:
            self.line.begin(self.follower, "")
        if self.follower == "careless":
            raise RuntimeError("and then it stumbles")

    def settled(self, facts: tuple[Fact, ...]) -> None:
        self.note(facts)

    def failed(self, problem: BaseException) -> None:
        self.note(type(problem))


class Line:
    """A connection, and the messages on it; `straight`, or by the way that is for everything."""

    def __init__(self, *, straight: bool, lmtp: bool) -> None:
        self.clock = Clock()
        self.straight = straight
        clock = ReactorClock(self.clock, lambda: 0.0)
        self.connection = Connection(PEER, Dialer(cast(Any, None), clock, "relay.test"), Approach(lmtp=lmtp))
        self.cable = Cable()
        self.messages: list[Message] = []
        #: Which of them was told what, in order.
        self.transcript: list[tuple[int, object]] = []
        self.connection.makeConnection(cast(Any, self.cable))
        self.hear(b"220 mx\r\n")
        self.hear(b"250-mx\r\n250-PIPELINING\r\n250 8BITMIME\r\n")

    def begin(self, kind: str, follower: str) -> None:
        session = self.connection.session
        if not session.can_begin and not session.over:
            return
        message = Message(self, kind, follower)
        self.messages.append(message)
        commands = commands_for(session, JON, ANN, 9)
        if kind == "for two":
            self.connection.convey(Transaction(JON, (JON, ANN), 9), message)
        elif self.straight:
            self.connection.propose(commands, message)
        else:
            self.connection.convey(Transaction(JON, (ANN,), 9), message)

    def hear(self, octets: bytes) -> None:
        if not self.cable.closed:
            (self.connection.dataReceived if self.straight else self.connection._hear)(octets)

    def withdraw(self, number: int) -> None:
        if number < len(self.messages):
            self.connection.withdraw(self.messages[-1 - number])

    def lose(self) -> None:
        self.connection.connectionLost(Failure(ConnectionLost()))

    @property
    def state(self) -> object:
        session = self.connection.session
        return (
            self.cable.written,
            self.cable.closed,
            tuple(self.transcript),
            session.phase,
            session.deadline,
            session.can_begin,
            self.connection.moved,
            [call.getTime() for call in self.clock.getDelayedCalls()],
        )


YES, MORE = b"250 2.1.0 Ok\r\n", b"354 Go ahead\r\n"
GO = YES + YES + MORE
KEPT = b"250 2.0.0 Ok: queued as 4711\r\n"
HEARD = st.sampled_from([GO, GO, GO, KEPT, KEPT + GO, KEPT + GO, KEPT + GO])
ODD = st.sampled_from(
    [
        YES,
        MORE,
        b"25",
        b"250-a\r\n250 b\r\n",
        b"550 5.1.1 No\r\n",
        b"421 4.3.2 Closing\r\n",
        b"250 Ok\n",
        b"\0",
        GO + KEPT,
        GO[:20],
        GO[20:],
        KEPT + GO[:40],
    ]
)
KINDS = st.sampled_from(["", "", "", "", "for two", "in pieces", "damaged", "torn"])
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("begin"), KINDS, st.sampled_from(["", "", "plain", "plain", "for two", "careless", "cut off"])
        ),
        st.tuples(st.just("hear"), HEARD),
        st.tuples(st.just("hear"), HEARD),
        st.tuples(st.just("hear"), ODD),
        st.tuples(st.just("hear"), st.lists(st.one_of(HEARD, ODD), max_size=3).map(b"".join)),
        st.tuples(st.just("withdraw"), st.integers(0, 2)),
    ),
    max_size=14,
)


class UsualTests(SynchronousTestCase):
    @given(STEPS, st.booleans())
    @example([("begin", "", "plain"), ("hear", GO), ("hear", KEPT + GO), ("hear", KEPT)], False)
    @example([("begin", "", "plain"), ("hear", GO), ("withdraw", 0), ("hear", KEPT + GO)], False)
    @example([("begin", "", "plain"), ("hear", GO), ("withdraw", 0), ("hear", KEPT)], True)
    @example([("begin", "", "plain"), ("hear", GO), ("withdraw", 1), ("hear", KEPT + GO)], False)
    @example([("begin", "", "for two"), ("hear", GO), ("hear", KEPT + YES + GO), ("hear", KEPT)], False)
    @example([("begin", "in pieces", "plain"), ("hear", GO), ("hear", KEPT + GO)], False)
    @example([("begin", "damaged", ""), ("hear", GO)], False)
    @example([("begin", "", "cut off"), ("hear", GO)], False)
    def test_in_one_step_it_means_what_it_means_reply_by_reply(
        self, steps: Sequence[tuple[Any, ...]], lmtp: bool
    ) -> None:
        both = Line(straight=True, lmtp=lmtp), Line(straight=False, lmtp=lmtp)
        for what, *how in steps:
            for each in both:
                each.clock.advance(1)
                getattr(each, what)(*how)
            self.assertEqual(both[0].state, both[1].state)
        for each in both:
            each.lose()
        self.assertEqual(both[0].state, both[1].state)
        for message in both[0].messages:
            ends = [end for end in message.ended if end != "sent"]
            self.assertEqual(len(ends), 1, message.ended)
        self.flushLoggedErrors(RuntimeError)

    def test_one_message_behind_the_other_is_carried(self) -> None:
        line = Line(straight=True, lmtp=False)
        line.begin("", "plain")
        for octets in (GO, KEPT + GO, KEPT):
            line.hear(octets)
        self.assertEqual([type(message.ended[-1][0]) for message in line.messages], [Carried, Carried])  # type: ignore[index]
