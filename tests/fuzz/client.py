"""
A server says what it likes to our client, which has mail for it, and perhaps wants TLS and a login first.

A handshake is a word between friends here: what was wanted of it came true, or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from attrs import define, evolve, field

from relay.mail.address import Address
from relay.mail.dsn import Notify, Return, Wishes
from relay.mail.envelope import ByMode
from relay.mail.outcome import Breakage, Broke, Carried, Peer, Phase, Unauthenticated, Unencrypted
from relay.mail.reply import Reply
from relay.smtp.client import ClientSession
from relay.smtp.features import Features
from relay.smtp.replies import LINES, OCTETS, Nonsense, ReplyReader
from relay.smtp.sasl_client import Login, Password, Token
from relay.smtp.transaction import (
    Approach,
    By,
    Event,
    Over,
    Proceed,
    Ready,
    Settled,
    StartTls,
    Transaction,
    TurnedAway,
)
from tests.fuzz import naive
from tests.fuzz.given import Given
from tests.smtp.proposing import propose

#: Flags: a second message; content that is sent late; the next transaction begun before the last one is settled.
#: The two bits of `KIND`, twice, choose what the messages need. `MORE`: an octet says how the server is met.
SECOND, SLOWLY, AHEAD, KIND = range(4)
MORE = 7
#: Traits: the level of TLS (two bits), LMTP, a login (two bits), BDAT where it is offered, a certificate that is believed,
#: and messages with every wish there is.
_LEVEL, BY_LMTP, LOGIN, CHUNKED, VERIFIED, WISHES = 0, 2, 3, 5, 6, 7

PEER: Final = Peer("mx.example.net", "192.0.2.9", assured=True)
SENDER: Final = Address.parse("ann@example.org")
JON: Final = Address.parse("jon@example.net")
EVE: Final = Address.parse('"e v>e"@example.net')
JÖRG: Final = Address.parse("jörg@example.net")

KINDS: Final = (
    Transaction(SENDER, (JON, EVE), size=100),
    Transaction(None, (JON,)),
    Transaction(SENDER, (JÖRG, JON), size=2000, eight_bit=True),
    Transaction(JÖRG, (EVE,), size=10, international=True),
)

LOGINS: Final[tuple[Login | None, ...]] = (
    None,
    Password("ann", "pencil"),
    Token("ann", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg=="),
    None,
)


def check(data: bytes) -> None:
    given = Given.of(data)
    traits, octets = 0, given.octets
    if given.has(MORE):
        traits, octets = (octets[0], octets[1:]) if octets else (0, b"")
    _replies(given)
    Conversation(given, traits).follow(given.cut(octets))
    Conversation(given, traits).follow([octets])
    # A server that waits for us, as most do.
    Conversation(given, traits).follow(re.findall(rb"(?:[0-9]{3}-[^\n]*\n)*[^\n]*(?:\n|\Z)", octets))
    Features.offered(given.octets.decode("latin-1").split("\r\n"))


def _replies(given: Given) -> None:
    """Replies are read alike wherever they are cut, within their bounds, and as somebody else reads them."""
    whole, cut = _hear([given.octets]), _hear(given.pieces)
    assert whole == cut, f"{cut} and whole: {whole}"
    codes = [reply.code for reply in whole if isinstance(reply, Reply)]
    assert codes == naive.replies(given.octets), f"{codes} instead of {naive.replies(given.octets)}"
    for reply in whole:
        if isinstance(reply, Nonsense):
            assert reply.text.isprintable()
            assert len(reply.text) < 300
        elif len(reply.lines) <= LINES and len(reply.wire) <= OCTETS:
            [again] = _hear([reply.wire])
            assert isinstance(again, Reply)
            # A tab is shown as a space, and what stood before it may look like a status then.
            assert again.code == reply.code
            assert again.status == reply.status or b"\t" in given.octets


def _hear(pieces: Iterable[bytes]) -> list[Reply | Nonsense]:
    reader = ReplyReader()
    heard: list[Reply | Nonsense] = []
    for piece in pieces:
        reader.receive_data(piece)
        while (reply := reader.next_reply()) is not None:
            heard.append(reply)
            if isinstance(reply, Nonsense):
                assert reader.next_reply() == reply
                return heard
        assert reader._octets + len(reader._buffer) <= OCTETS, "more is kept than a reply may be"
    return heard


@define
class Course:
    """What we have said of one transaction, by its place among all that we have said."""

    transaction: Transaction
    mail: int = -1
    recipients: dict[str, int] = field(factory=dict)
    data: int = -1
    #: Chunks that are not the last.
    chunks: list[int] = field(factory=list)
    content: int = -1


class Conversation:
    """One client, which does what its events ask for, and whoever is at the other end."""

    def __init__(self, given: Given, traits: int) -> None:
        self.given = given
        self.traits = traits
        self.approach = Approach(
            lmtp=self._is(BY_LMTP),
            tls=("none", "may", "encrypt", "verify")[traits >> _LEVEL & 3],
            login=LOGINS[traits >> LOGIN & 3],
            nonce=lambda: "fyko",
        )
        self.session = ClientSession("relay.example.org", PEER, approach=self.approach)
        self.secured = False
        #: AUTH was said: what we say is base64.
        self.proving = False
        self.heard = b""
        first, second = KINDS[given.flags >> KIND & 3], KINDS[given.flags >> KIND + 2 & 3]
        if self._is(WISHES):
            first, second = _with_wishes(first), _with_wishes(second)
        self.waiting = [first, second] if given.has(SECOND) else [first]
        self.begun: list[Course] = []
        self.settled: list[Settled] = []
        #: How many replies are due in all. The greeting answers that we are there.
        self.said = 1
        self.ends: list[Event] = []
        self.sending = False

    def follow(self, pieces: Iterable[bytes]) -> None:
        session = self.session
        session.connected()
        for piece in pieces:
            self._wait()
            if self.sending:
                self._send_content()
            self.heard += piece
            session.receive_data(piece)
            self._turn()
        self._wait()
        if self.sending and not session.over:
            self._send_content()
        session.break_off(Breakage.LOST)
        self._turn()
        self._judge()

    def _is(self, trait: int) -> bool:
        return bool(self.traits >> trait & 1)

    def _wait(self) -> None:
        """What somebody would ask who looks at the clock."""
        session = self.session
        assert session.deadline is None or session.deadline > 0
        assert isinstance(session.phase, Phase)
        assert session.over or session.can_begin or session.deadline is not None, "we wait for nothing, and for ever"

    def _turn(self) -> None:
        session = self.session
        while (event := session.next_event()) is not None:
            assert not any(isinstance(end, Over) for end in self.ends), f"{event} when all was over"
            match event:
                case Ready():
                    self._begin()
                case Proceed():
                    assert not self.sending
                    self.sending = True
                    if not self.given.has(SLOWLY):
                        self._send_content()
                case Settled():
                    self._check(self.begun[len(self.settled)], event)
                    self.settled.append(event)
                    if session.idle:
                        self._begin()
                case StartTls():
                    # What we have said up to here leaves in clear.
                    self._say(session.data_to_send())
                    assert not self.secured
                    assert self.approach.tls != "none"
                    assert len(naive.replies(self.heard)) == self.said, "a reply that was said in clear"
                    assert self.heard.endswith(b"\n")
                    self.secured = True
                    session.secured("TLSv1.3", verified=self._is(VERIFIED))
                case TurnedAway(fact):
                    self._believe(fact)
                    self.ends.append(event)
                    self.sending = False
                case Over():
                    self.ends.append(event)
                    self.sending = False
        self._say(session.data_to_send())
        assert not session.over or session.data_to_send() == b""

    def _begin(self) -> None:
        if self.session.over:
            return
        if not self.waiting:
            self.session.quit()
            return
        transaction = self.waiting.pop(0)
        if self._is(CHUNKED) and self.session.features.chunking:
            transaction = evolve(transaction, chunked=True)
        self.begun.append(Course(transaction))
        self._may_begin()
        if transaction is KINDS[1]:
            propose(self.session, transaction.reverse_path, *transaction.recipients, size=100)
        else:
            self.session.begin(transaction)

    def _may_begin(self) -> None:
        """What had to come true first has come true."""
        assert self.secured or self.approach.tls in ("none", "may"), "a message would leave in clear"
        if self.approach.login is not None:
            assert self.secured
            assert self._is(VERIFIED)
            assert 235 in naive.replies(self.heard) or any(code // 100 == 2 for code in naive.replies(self.heard)[2:])

    def _believe(self, fact: object) -> None:
        if isinstance(fact, Unencrypted):
            assert self.approach.tls != "none"
        if isinstance(fact, Unauthenticated):
            assert self.approach.login is not None

    def _send_content(self) -> None:
        self.sending = False
        self._say(self.session.data_to_send())
        course = self._course_of_content()
        if course.transaction.chunked and not self.session.holds_content:
            course.chunks.append(self.said)
            self.said += 1
            self.session.piece_sent()
        course.content = self.said
        self.said += self._accepted(course) if self.approach.lmtp else 1
        self.session.content_sent()
        if self.given.has(AHEAD) and self.waiting and self.session.can_begin:
            self._begin()
            self._say(self.session.data_to_send())

    def _course_of_content(self) -> Course:
        """The one that has been asked for its content."""
        for number, course in enumerate(self.begun):
            begun = course.mail >= 0 and number >= len(self.settled) if course.transaction.chunked else course.data >= 0
            if begun and course.content < 0:
                return course
        raise AssertionError("nobody's content is wanted")

    def _accepted(self, course: Course) -> int:
        codes = naive.replies(self.heard)
        return sum(_digit(codes, place) == 2 for place in course.recipients.values())

    def _say(self, octets: bytes) -> None:
        """What we say is lines of commands, whatever was said to us."""
        *lines, rest = octets.split(b"\r\n")
        assert rest == b""
        for line in lines:
            assert b"\r" not in line
            assert b"\n" not in line
            text = line.decode()
            assert text.isprintable()
            self._note(text)
            self.said += 1

    def _note(self, line: str) -> None:
        verb, _, path = line.partition(":")
        course = self.begun[-1] if self.begun else None
        if verb == "MAIL FROM":
            assert course is not None
            course.mail = self.said
        elif verb == "RCPT TO":
            assert course is not None
            course.recipients[path.partition("> ")[0].removesuffix(">") + ">"] = self.said
        elif verb == "DATA":
            assert course is not None
            course.data = self.said
        elif verb == ".":
            assert course is not None
            course.content = self.said
        elif verb.split(" ")[0] == "AUTH":
            assert self.approach.login is not None
            assert self.secured
            assert self._is(VERIFIED), "a secret for whoever is there"
            self.proving = True
        elif (self.proving and line == "*") or line in (
            "RSET",
            "QUIT",
            "STARTTLS",
            "EHLO relay.example.org",
            "HELO relay.example.org",
        ):
            self.proving = False
        elif self.proving:
            assert naive.base64(line.encode()) is not None, line
        else:
            assert line == "LHLO relay.example.org"
            assert self.approach.lmtp

    def _judge(self) -> None:
        """It is over, once, and everybody has heard what came of it."""
        assert self.session.over
        assert sum(isinstance(end, Over) for end in self.ends) == 1
        assert sum(isinstance(end, TurnedAway) for end in self.ends) <= (not self.begun)
        assert len(self.settled) == len(self.begun)

    def _check(self, course: Course, settled: Settled) -> None:
        """Everybody has a fact, and nobody's copy counts as carried whom the server has not promised to carry by now."""
        codes = naive.replies(self.heard)
        recipients = course.transaction.recipients
        assert len(settled.facts) == len(recipients)
        for recipient, fact in zip(recipients, settled.facts, strict=True):
            if isinstance(fact, Carried):
                place = course.recipients[f"<{recipient}>"]
                content = course.content
                if self.approach.lmtp:
                    before = [at for at in course.recipients.values() if at < place]
                    content += sum(_digit(codes, at) == 2 for at in before)
                answers = [_digit(codes, at) for at in (course.mail, place, *course.chunks, content)]
                assert set(answers) == {2}, f"{recipient} is called carried after {answers}"
                assert course.transaction.chunked or _digit(codes, course.data) == 3
                assert not course.transaction.require_tls or (self.secured and self._is(VERIFIED))
            elif isinstance(fact, Broke):
                assert len(fact.text) <= 600
                assert fact.text.isprintable()


def _with_wishes(transaction: Transaction) -> Transaction:
    """The same message, with all that may be said of one."""
    wishes = Wishes(frozenset({Notify.SUCCESS, Notify.DELAY}), "rfc822;jon@example.net")
    return evolve(
        transaction,
        wishes=(wishes,) * len(transaction.recipients),
        returns=Return.HEADERS,
        envid="QQ314159",
        require_tls=transaction.size == 10,
        priority=-3,
        by=By(600, ByMode.RETURN if transaction.eight_bit else ByMode.NOTIFY, True),
    )


def _digit(codes: list[int], at: int) -> int:
    """The first digit of the answer to what was said at this place."""
    return codes[at] // 100 if 0 <= at < len(codes) else 0
