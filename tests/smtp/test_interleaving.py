"""
One reply for each command, in order: whatever a client says, however late it is answered, and what session follows
on which.

A machine plays the client, the network and whoever answers, over the real adapter and the real session. In the end
`Listener`, who has read the RFCs and not our code, reads what both sides have said.
"""

from __future__ import annotations

import itertools
import re
from typing import Any, Final

from attrs import define, evolve
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.limits import Limits
from relay.interfaces import IVisit
from relay.mail.reply import Reply
from relay.net.admission import Admission
from relay.net.clock import ReactorClock
from relay.net.doorway import Arrival, Doorway
from relay.net.listener import SmtpServerFactory
from relay.smtp import answers
from relay.smtp.events import (
    Answer,
    Auth,
    Cancelled,
    ChunkEnded,
    Connected,
    Content,
    ContentEnded,
    Data,
    Mail,
    Misspoken,
    Question,
    Quit,
    Rcpt,
    Response,
    StartTls,
    Verdicts,
    XClient,
)
from relay.smtp.extensions import ALL, Standing
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.server import ServerSession
from tests.fuzz import naive
from tests.stage import Wire

EVERYTHING: Final = Profile("mx.test", extensions=ALL, arguments={"SIZE": "1000"})
PROFILES: Final = {
    "plain": Profile("mx.test"),
    "everything": EVERYTHING,
    "lenient": evolve(EVERYTHING, lenient=True),
    "requires TLS": evolve(EVERYTHING, requires_tls=True),
    "requires AUTH": evolve(EVERYTHING, requires_auth=True),
    "requires both": evolve(EVERYTHING, requires_tls=True, requires_auth=True),
    "LMTP": evolve(EVERYTHING, lmtp=True),
}
STANDINGS: Final = tuple(Standing(*each) for each in itertools.product((False, True), repeat=4))
LIMITS: Final = {
    "usual": SessionLimits(),
    "tight": SessionLimits(
        recipients=2, message=300, errors_slow=2, errors=6, idle_commands=6, messages=2, chunks=3, content_line=60
    ),
    "in turn": SessionLimits(in_turn=True),
}
WORDS: Final = {"AUTH": "PLAIN LOGIN", "FUTURERELEASE": "3600 2030-01-01T00:00:00Z"}

#: What a client may say: lines without their ends.
LINES: Final = (
    *(
        "NOOP",
        "RSET",
        "HELP",
        "VRFY x",
        "NONSENSE",
        "",
        "MAIL FROM:<a@b.test>",
        "RCPT TO:<c@d.test>",
        "RCPT TO:<nobody",
    ),
    *("DATA", "Subject: x", ".", "BDAT 0 LAST", "STARTTLS", "STARTTLS now", "AUTH PLAIN", "AUTH PLAIN AGEAYg=="),
    *("AUTH LOGIN", "YQ==", "YQ", "*", "=", "AUTH", "AUTH X =", "AUTH PLAIN ===", "A" * 1500, "NOOP \0", "NOOP \r"),
    *("EXPN x", "ETRN b.test", "ETRN #x", "XCLIENT ADDR=192.0.2.7 LOGIN=ann", "XCLIENT FOO=x", "EHLO c", "LHLO c"),
)
#: The same, and little comes after it.
LAST_WORDS: Final = ("QUIT", "GET / HTTP/1.1", "BDAT x", "x" * 2100, "A" * 13000, "HELO c", "BDAT")
CHUNKS: Final = ("BDAT 6", "BDAT 6 LAST", "bdat 7 last ")
PARAMETERS: Final = ("", " PRDR", " BODY=BINARYMIME", " BY=9;R")
BODIES: Final = ("", "a: b", "..", "a\rb", "x" * 70, "MAIL FROM:<evil@b>")
YES, NO = Reply.of(250, "2.0.0", "yes"), Reply.of(450, "4.0.0", "no")


@implementer(IVisit)
class Undecided:
    """Waits with each answer until the machine gives it, or gives it at once."""

    known = None

    def __init__(self, machine: InterleavingMachine) -> None:
        self.machine = machine
        self.recipients = 0

    def answer(self, question: Question) -> Any:
        if isinstance(question, Mail):
            self.recipients = 0
        if not self.machine.late:
            return self.machine.decide(self, question, yes=True)
        assert self.machine.waiting is None, "two answers are owed at once"
        self.machine.waiting = Deferred(lambda waiting: self.machine.forget())
        self.machine.asked = (self, question)
        return self.machine.waiting

    def take(self, content: Content) -> None:
        assert content.octets

    def lost(self) -> None:
        """The session is over."""


class InterleavingMachine(RuleBasedStateMachine):
    """A client, a network, and whoever answers."""

    @initialize(
        profile=st.sampled_from(sorted(PROFILES)),
        standing=st.sampled_from(STANDINGS),
        limits=st.sampled_from(("usual", "usual", "usual", *sorted(LIMITS))),
        late=st.booleans(),
        patient=st.sampled_from([True, True, True, False]),
        differ=st.booleans(),
        lf=st.booleans(),
    )
    def connect(
        self, profile: str, standing: Standing, limits: str, late: bool, patient: bool, differ: bool, lf: bool
    ) -> None:
        self.time = Clock()
        self.profile, self.late = PROFILES[profile], late
        #: The recipients of a message have different answers.
        self.differ = differ
        self.newline = b"\n" if lf and self.profile.lenient else b"\r\n"
        self.waiting: Deferred[Answer] | None = None
        self.asked: tuple[Undecided, Question] | None = None
        self.gone = False
        #: What the client has said between handshakes.
        self.said = [b""]
        clock = ReactorClock(self.time, lambda: 1.7e9)

        def admit(arrival: Arrival) -> tuple[ServerSession, Undecided]:
            stands = evolve(standing, secured=standing.secured or arrival.secured is not None)
            session = ServerSession(
                self.profile, LIMITS[limits], stands, WORDS, greeted=arrival.greeted, errors=arrival.errors
            )
            return session, Undecided(self)

        doorway = Doorway(admit, Admission(Limits(), [], clock), Limits(), clock, tls=object())  # type: ignore[arg-type]
        peer = IPv4Address("TCP", "192.0.2.9", 4711)
        self.wire = Wire(peer)
        self.server = SmtpServerFactory(doorway).buildProtocol(peer)
        self.server.makeConnection(self.wire)
        if late and patient:
            self.answer(yes=True)

    # What happens.

    @rule(lines=st.lists(st.sampled_from(LINES), min_size=1, max_size=3))
    def say(self, lines: list[str]) -> None:
        self.speak(*lines)

    @rule()
    def introduce(self) -> None:
        self.speak("LHLO c" if self.profile.lmtp else "EHLO c")

    @rule(parameters=st.sampled_from(PARAMETERS), recipients=st.integers(1, 3))
    def begin(self, parameters: str, recipients: int) -> None:
        self.introduce()
        self.speak(f"MAIL FROM:<a@b.test>{parameters}", *["RCPT TO:<c@d.test> NOTIFY=NEVER"] * recipients)

    @rule(
        parameters=st.sampled_from(PARAMETERS),
        recipients=st.integers(1, 3),
        lines=st.lists(st.sampled_from(BODIES), max_size=3),
    )
    def send_a_message(self, parameters: str, recipients: int, lines: list[str]) -> None:
        self.begin(parameters, recipients)
        self.speak("DATA")
        self.end_content(lines)

    @rule(lines=st.lists(st.sampled_from(BODIES), max_size=3))
    def end_content(self, lines: list[str]) -> None:
        self.speak(*lines, ".")

    @rule(line=st.sampled_from(CHUNKS), octets=st.sampled_from([b"RSET\r\n", b"a: b\r\n", b"\n.\r\n..", b"NOOP\r\n"]))
    def send_a_chunk(self, line: str, octets: bytes) -> None:
        size = int(line.split()[1])
        self.send(line.encode() + self.newline + octets.ljust(size, b"x")[:size])

    @rule(size=st.sampled_from(CHUNKS))
    def send_a_message_in_chunks(self, size: str) -> None:
        self.begin(" PRDR", 2)
        self.send_a_chunk(size, b"a: b\r\n")

    @rule(line=st.sampled_from(("STARTTLS", "AUTH PLAIN", "AUTH LOGIN", "AUTH PLAIN AGEAYg==")))
    def begin_to_prove(self, line: str) -> None:
        self.introduce()
        self.speak(line)

    @precondition(lambda self: self.profile.requires_tls or self.profile.requires_auth)
    @rule()
    def do_what_is_required(self) -> None:
        if self.profile.requires_tls and len(self.said) == 1:
            self.begin_to_prove("STARTTLS")
        else:
            self.begin_to_prove("AUTH PLAIN AGEAYg==")

    @rule(more=st.lists(st.sampled_from(LINES), max_size=2))
    def speak_for_another(self, more: list[str]) -> None:
        self.speak("RSET", "XCLIENT ADDR=192.0.2.7 LOGIN=ann", *more)

    @rule(line=st.sampled_from(("",) * 40 + LAST_WORDS))
    def go_too_far(self, line: str) -> None:
        if line:
            self.speak(line)

    @precondition(lambda self: self.waiting is not None)
    @rule(yes=st.sampled_from([True, True, False]))
    def answer(self, yes: bool) -> None:
        waiting, asked = self.waiting, self.asked
        assert waiting is not None
        assert asked is not None
        self.forget()
        waiting.callback(self.decide(*asked, yes=yes))

    @precondition(lambda self: self.wire.shaking)
    @rule()
    def shake_hands(self) -> None:
        self.wire.shaking = False
        self.said.append(b"")
        self.server.handshakeCompleted()

    @rule()
    def a_moment_passes(self) -> None:
        self.time.advance(1.1)

    @rule(lost=st.sampled_from([False] * 40 + [True]))
    def hang_up(self, lost: bool) -> None:
        if lost and not self.gone and not self.wire.disconnecting:
            self.gone = True
            self.server.connectionLost()

    # How.

    def speak(self, *lines: str) -> None:
        self.send(b"".join(line.encode() + self.newline for line in lines))

    def send(self, octets: bytes) -> None:
        if self.gone or self.wire.disconnecting or self.wire.shaking:
            return
        self.said[-1] += octets
        self.server.dataReceived(octets)

    def forget(self) -> None:
        self.waiting = self.asked = None

    def decide(self, visit: Undecided, question: Question, *, yes: bool) -> Answer:
        """What `visit` answers, be it yes or no."""
        match question:
            case Misspoken(reply) | Cancelled(reply):
                return reply
            case ContentEnded(_, Reply() as fault) | ChunkEnded(_, Reply() as fault):
                return fault
            case ContentEnded() if self.differ:
                each = tuple(YES if number % 2 else NO for number in range(visit.recipients))
                return Verdicts(each, YES if yes else NO)
            case _ if not yes:
                return NO
            case Connected() | StartTls() | XClient():
                return Reply.of(220, None, "go on")
            case Data():
                return answers.SEND_CONTENT
            case Quit():
                return Reply.of(221, None, "bye")
            case Auth(initial=None):
                return Reply.of(334, None, "")
            case Auth() | Response():
                return Reply.of(235, None, "it is you")
            case Rcpt():
                visit.recipients += 1
                return YES
            case _:
                return YES

    # What holds.

    @invariant()
    def nothing_is_said_but_replies(self) -> None:
        if hasattr(self, "wire"):
            replies(self.wire.value())

    def teardown(self) -> None:
        if not hasattr(self, "wire"):
            return
        for _ in range(2000):
            if self.waiting is not None:
                self.answer(yes=True)
            elif self.wire.shaking:
                self.shake_hands()
            else:
                # Whoever has made too many errors is answered slowly.
                before = self.wire.value()
                self.time.advance(1.1)
                if self.waiting is None and self.wire.value() == before:
                    break
        if not self.gone:
            Listener(replies(self.wire.value()), self.profile.lmtp, self.newline).listen(
                self.said, over=bool(self.wire.disconnecting)
            )


def replies(octets: bytes) -> list[int]:
    """The codes of whole replies."""
    found, reply = [], b""
    for line in octets.splitlines(keepends=True):
        reply += line
        if line[3:4] != b"-":
            assert naive.is_one_reply(reply), reply
            found.append(int(reply[:3]))
            reply = b""
    assert not reply
    return found


@define
class Listener:
    """Reads both sides, one line and one reply after the other."""

    codes: list[int]
    lmtp: bool
    newline: bytes
    recipients: int = 0
    closed: bool = False

    def listen(self, said: list[bytes], *, over: bool) -> None:
        """`said`: between handshakes."""
        self.take()
        for number, octets in enumerate(said):
            self.session(octets, last=number == len(said) - 1)
        assert not self.codes, f"{self.codes} answer nothing"
        assert self.closed is over, "the connection should" + (" not" if over else "") + " be closed"

    def session(self, octets: bytes, *, last: bool) -> None:
        exchange = False
        while octets and not self.closed:
            line, end, rest = octets.partition(b"\n")
            if not end:
                break  # Of a line that has no end yet nothing is said.
            if exchange:
                code = self.take()
                exchange = code == 334
                octets = rest
                continue
            chunk = re.fullmatch(rb" *BDAT +([0-9]+)( LAST)? *\r?", line, re.IGNORECASE)
            size = int(chunk[1]) if chunk else 0
            in_transaction = self.recipients > 0
            if chunk and in_transaction and chunk[2]:
                code = self.verdict()
            else:
                code = self.take(content=bool(chunk))
            octets = rest[size:]
            verb = line.split(b" ")[0].strip().upper()
            if verb == b"DATA" and code == 354:
                used = naive.read_content(octets, self.newline).used
                if used is None:
                    assert not self.codes
                    return
                octets = octets[used:]
                self.verdict()
                self.recipients = 0
            elif verb == b"RCPT" and code == 250:
                self.recipients += 1
            elif (chunk and (chunk[2] or code >= 400)) or (
                verb in (b"EHLO", b"LHLO", b"HELO", b"RSET", b"XCLIENT") and code < 400
            ):
                self.recipients = 0
            elif verb == b"STARTTLS" and code == 220:
                assert octets == b""
                assert not last or not self.codes
                self.recipients = 0
                return
            exchange = code == 334

    def take(self, *, content: bool = False) -> int:
        assert self.codes, "there is no reply"
        code = self.codes.pop(0)
        # 554 behind a content is about that; else it is for who talks out of turn.
        self.closed = code in (221, 421) or (code == 554 and not content)
        return code

    def verdict(self) -> int:
        """The replies behind a content."""
        code = self.take(content=True)
        if self.closed:
            return code
        if self.lmtp:
            for _ in range(self.recipients - 1):
                self.take(content=True)
        elif code == 353:
            for _ in range(self.recipients + 1):
                code = self.take(content=True)
        return code


InterleavingMachine.TestCase.settings = settings(
    max_examples=250, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


class InterleavingTests(InterleavingMachine.TestCase):  # type: ignore[misc]
    """Hypothesis plays it."""


class ListenerTests(SynchronousTestCase):
    """Whoever judges others is judged first."""

    def hears(self, codes: list[int], said: bytes, *, lmtp: bool = False, over: bool = False) -> None:
        Listener(codes, lmtp, b"\r\n").listen([said], over=over)

    def test_what_is_right(self) -> None:
        self.hears([220, 250, 250, 250, 354, 250, 221], LETTER + b"x\r\n.\r\nQUIT\r\n", over=True)
        self.hears([220, 250, 250, 250, 354], LETTER)
        self.hears([220, 250, 250, 250, 250, 250], CHUNK + b"RSET\r\nNOOP\r\n")
        self.hears([220, 250, 250, 250, 250, 354, 250, 451], TWO, lmtp=True)
        self.hears([220, 250, 250, 250, 250, 354, 353, 250, 451, 250], TWO)
        self.hears([220, 334, 235, 250], b"AUTH PLAIN\r\nNOOP\r\nNOOP\r\n")

    def test_what_is_wrong(self) -> None:
        for codes, said, lmtp, over in (
            ([220, 250, 250, 250, 354, 250], LETTER + b"x\r\n.\r\nNOOP\r\n", False, False),
            ([220, 250, 250, 250, 354, 250, 250], LETTER + b"x\r\n.\r\n", False, False),
            ([220, 250, 250, 250, 250, 250, 250], CHUNK + b"RSET\r\nNOOP\r\n", False, False),
            ([220, 250, 250, 250, 250, 354, 250], TWO, True, False),
            ([220, 250, 250, 250, 250, 354, 353, 250, 451], TWO, False, False),
            ([220, 250], b"NOOP\r\n", False, True),
            ([], b"", False, False),
        ):
            self.assertRaises(AssertionError, self.hears, codes, said, lmtp=lmtp, over=over)


LETTER: Final = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
CHUNK: Final = b"EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 6\r\n"
TWO: Final = b"LHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nDATA\r\n.\r\n"
