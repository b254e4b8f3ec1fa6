"""A server says what it likes to our client, which has mail for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from attrs import define, field

from relay.mail.address import Address
from relay.mail.outcome import Breakage, Broke, Carried, Peer, Phase
from relay.mail.reply import Reply
from relay.smtp.client import ClientSession
from relay.smtp.features import Features
from relay.smtp.replies import LINES, OCTETS, Nonsense, ReplyReader
from relay.smtp.transaction import Event, Over, Proceed, Ready, Settled, Transaction, TurnedAway
from tests.fuzz import naive
from tests.fuzz.given import Given

#: Flags: a second message; content that is sent late; the next transaction begun before the last one is settled.
#: The two bits of `KIND` choose what the messages need.
SECOND, SLOWLY, AHEAD, KIND = range(4)

PEER: Final = Peer("mx.example.net", "192.0.2.9")
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


def check(data: bytes) -> None:
    given = Given.of(data)
    _replies(given)
    Conversation(given).follow(given.pieces)
    Conversation(given).follow([given.octets])
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
    content: int = -1


class Conversation:
    """One client, which does what its events ask for, and whoever is at the other end."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.session = ClientSession("relay.example.org", PEER)
        first, second = KINDS[given.flags >> KIND & 3], KINDS[given.flags >> KIND + 2 & 3]
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
        heard = b""
        for piece in pieces:
            self._wait()
            if self.sending:
                self._send_content()
            session.receive_data(piece)
            heard += piece
            self._turn()
        self._wait()
        if self.sending and not session.over:
            self._send_content()
        session.break_off(Breakage.LOST)
        self._turn()
        self._judge(naive.replies(heard))

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
                    self.settled.append(event)
                    if session.idle:
                        self._begin()
                case TurnedAway() | Over():
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
        self.begun.append(Course(self.waiting.pop(0)))
        self.session.begin(self.begun[-1].transaction)

    def _send_content(self) -> None:
        self.sending = False
        self._say(self.session.data_to_send())
        course = next(course for course in self.begun if course.data >= 0 and course.content < 0)
        course.content = self.said
        self.said += 1
        self.session.content_sent()
        if self.given.has(AHEAD) and self.waiting and self.session.can_begin:
            self._begin()
            self._say(self.session.data_to_send())

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
            course.recipients[path] = self.said
        elif verb == "DATA":
            assert course is not None
            course.data = self.said
        elif verb == ".":
            assert course is not None
            course.content = self.said
        else:
            assert verb.split(" ")[0] in ("EHLO", "HELO", "RSET", "QUIT"), line

    def _judge(self, codes: list[int]) -> None:
        """Everybody has a fact, and nobody's copy counts as carried whom the server has not promised to carry."""
        assert self.session.over
        assert sum(isinstance(end, Over) for end in self.ends) == 1
        assert sum(isinstance(end, TurnedAway) for end in self.ends) <= (not self.begun)
        assert len(self.settled) == len(self.begun)
        for course, settled in zip(self.begun, self.settled, strict=True):
            recipients = course.transaction.recipients
            assert len(settled.facts) == len(recipients)
            for recipient, fact in zip(recipients, settled.facts, strict=True):
                if isinstance(fact, Carried):
                    place = course.recipients[f"<{recipient}>"]
                    answers = [_digit(codes, at) for at in (course.mail, place, course.data, course.content)]
                    assert answers == [2, 2, 3, 2], f"{recipient} is called carried after {answers}"
                elif isinstance(fact, Broke):
                    assert len(fact.text) <= 600
                    assert fact.text.isprintable()


def _digit(codes: list[int], at: int) -> int:
    """The first digit of the answer to what was said at this place."""
    return codes[at] // 100 if 0 <= at < len(codes) else 0
