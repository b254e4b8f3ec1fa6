"""
A client says what it likes to a server session, cut as the network likes, and is answered sooner or later.

What follows the session on its connection is played too: another one behind a handshake, or an introduced client's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Final

from attrs import evolve

from relay.mail.envelope import Body, Form
from relay.mail.reply import Reply
from relay.smtp import answers, sasl
from relay.smtp.events import (
    Answer,
    Auth,
    Cancelled,
    ChunkEnded,
    Connected,
    Content,
    ContentEnded,
    Data,
    Event,
    Expand,
    Hello,
    Help,
    Mail,
    Misspoken,
    Noop,
    Question,
    Quit,
    Rcpt,
    Reset,
    Response,
    StartTls,
    TurnQueue,
    Verdicts,
    Verify,
    XClient,
)
from relay.smtp.extensions import ALL, Standing
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.server import MOVES, ServerSession, State
from tests.fuzz import naive
from tests.fuzz.given import Given

#: Flags: a listener for people at netcat; limits that are soon met; a no that closes; a client that is not welcome;
#: every extension, and an octet of traits more; a client that must not talk out of turn; recipients who differ.
LENIENT, TIGHT, FINAL, UNWELCOME, EVERYTHING, IN_TURN, DIFFER = range(7)
#: Traits, where there is every extension: of the client first, and then of the listener.
SECURED, AUTHENTICATED, TRUSTED, INTRODUCING, LMTP, NEEDS_TLS, NEEDS_AUTH = range(7)

WORDS: Final = {"AUTH": "PLAIN LOGIN", "FUTURERELEASE": "3600 2030-01-01T00:00:00Z"}
LIMITS: Final = {
    False: SessionLimits(),
    True: SessionLimits(
        command_line=64,
        content_line=50,
        recipients=2,
        message=200,
        errors_slow=3,
        errors=6,
        idle_commands=5,
        messages=2,
        chunks=3,
        auth_line=100,
    ),
}

_TYPES: Final[dict[bytes, type[Question]]] = {
    b"EHLO": Hello,
    b"HELO": Hello,
    b"MAIL": Mail,
    b"RCPT": Rcpt,
    b"DATA": Data,
    b"RSET": Reset,
    b"NOOP": Noop,
    b"HELP": Help,
    b"VRFY": Verify,
    b"QUIT": Quit,
    b"LHLO": Hello,
    b"STARTTLS": StartTls,
    b"AUTH": Auth,
    b"EXPN": Expand,
    b"ETRN": TurnQueue,
    b"XCLIENT": XClient,
}
#: As a client sends it that does not pipeline: a command, or the whole of a content.
_SEGMENTS: Final = re.compile(rb"(?<=DATA\r\n)(?s:.*?)\r\n\.\r\n|[^\n]*\n|[^\n]+")
_YES, _NO = answers.NOTHING_DONE, answers.OUR_FAULT

#: What happened, with the code of the answer to it; content has none, and is in one piece.
Step = tuple[Event, int]


def check(data: bytes) -> None:
    given = Given.of(data)
    setting = Setting(given)
    whole = Dialogue(setting).follow([setting.octets])
    _agree("cut", setting, Dialogue(setting).follow(list(given.cut(setting.octets))), whole)
    straight = Dialogue(setting, straight=True).follow(_SEGMENTS.findall(setting.octets))
    _agree("heard straight", setting, straight, whole)
    late = Dialogue(setting, late=True).follow(list(given.cut(setting.octets)))
    if not given.has(IN_TURN):
        _agree("answered late", setting, late, whole)
    _as_somebody_else_reads_it(setting, whole)


@cache
def _profile(traits: int, *, lenient: bool) -> Profile:
    """The listener of these traits, which are -1 where there is nothing but what is usual."""
    if traits < 0:
        return Profile("mx.test", lenient=lenient)
    return Profile(
        "mx.test",
        lenient=lenient,
        extensions=ALL,
        lmtp=bool(traits >> LMTP & 1),
        requires_tls=bool(traits >> NEEDS_TLS & 1),
        requires_auth=bool(traits >> NEEDS_AUTH & 1),
    )


class Setting:
    """Who meets whom."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.octets = given.octets
        self.traits = -1
        if given.has(EVERYTHING):
            self.traits, self.octets = given.octets[0] if given.octets else 0, given.octets[1:]
        self.profile = _profile(self.traits, lenient=given.has(LENIENT))
        self.limits = evolve(LIMITS[given.has(TIGHT)], in_turn=given.has(IN_TURN))

    @property
    def standing(self) -> Standing:
        """The client, when it comes."""
        if self.traits < 0:
            return Standing()
        return Standing(*(bool(self.traits >> bit & 1) for bit in (SECURED, AUTHENTICATED, TRUSTED, INTRODUCING)))


class Dialogue:
    """Sessions of one client, and whoever answers."""

    def __init__(self, setting: Setting, *, late: bool = False, straight: bool = False) -> None:
        self.setting = setting
        self.straight = straight
        self.given = setting.given
        self.late = late
        self.limits = setting.limits
        self.standing = setting.standing
        self.session = ServerSession(setting.profile, self.limits, self.standing, WORDS)
        self.steps: list[Step] = []
        self.questions = 0
        self.recipients = 0
        self.asked: Question | None = None

    def follow(self, pieces: Iterable[bytes]) -> list[Step]:
        """All that happens. Where answers are late, each comes when the client has said something more."""
        self._go_on()
        for piece in pieces:
            if self.straight and self._go_straight(piece):
                continue
            self.session.receive_data(piece)
            if self.asked is not None:
                assert self.session.next_event() is None, "there is an event while an answer is owed"
                self._answer()
            self._go_on()
        while self.asked is not None:
            self._answer()
            self._go_on()
        session = self.session
        if session.closed:
            session.receive_data(b"NOOP\r\n")
            assert session.next_event() is None
        else:
            bound = {State.CONTENT: 2, State.EXCHANGE: self.limits.auth_line}
            most = bound.get(session.state, self.limits.command_line)
            assert session.buffered < most, f"{session.buffered} octets are kept in {session.state}"
        session.farewell(answers.IDLE)
        assert session.closed
        return self.steps

    def _go_straight(self, piece: bytes) -> bool:
        """Whether there was a straight way for it."""
        question = self.session.hear(piece) or self.session.hear_content(piece)
        if question is None:
            return False
        if isinstance(question, ContentEnded):
            self._keep(Content(piece))
        assert (self.session.state, type(question)) in MOVES
        self._may(question)
        self.asked = question
        self._answer()
        self._go_on()
        return True

    def _go_on(self) -> None:
        while self.asked is None and (event := self.session.next_event()) is not None:
            if isinstance(event, Content):
                self._keep(event)
                continue
            if not isinstance(event, Misspoken):
                assert (self.session.state, type(event)) in MOVES, f"{event} in {self.session.state}"
                self._may(event)
            self.asked = event
            if not self.late:
                self._answer()

    def _may(self, event: Event) -> None:
        """Nothing is asked for whom it is not offered."""
        profile, standing = self.setting.profile, self.standing
        known = standing.authenticated or standing.trusted
        if profile.requires_tls and not isinstance(event, Connected | Hello | Noop | StartTls | Quit):
            assert standing.secured, f"{event} in clear"
        match event:
            case StartTls():
                assert not standing.secured
                assert not standing.introduced, "the host itself would be behind the handshake"
            case Auth():
                assert standing.secured
                assert not standing.authenticated
            case Response() | Cancelled():
                assert standing.secured
            case Expand():
                assert standing.authenticated
            case TurnQueue():
                assert standing.trusted
            case XClient():
                assert standing.introducing
            case Mail():
                assert standing.authenticated or not profile.requires_auth
                assert known or (event.by is None and event.priority is None)
                assert standing.authenticated or (event.hold_for is None and event.hold_until is None)
                assert standing.secured or not event.require_tls
                assert self.setting.traits >= 0 or event.body is not Body.BINARY
            case _:
                pass

    def _follow_on(self, asked: Question) -> None:
        """One session after another, as `relay.net.server` has it."""
        session = self.session
        if session.state is State.HANDSHAKE:
            assert session.leftover == b"", "something was said in clear behind STARTTLS"
            self.standing = evolve(self.setting.standing, secured=True)
        elif session.state is State.INTRODUCED:
            assert isinstance(asked, XClient)
            login = dict(asked.attributes).get("LOGIN")
            self.standing = evolve(
                self.setting.standing, secured=self.standing.secured, authenticated=bool(login), introduced=True
            )
        else:
            return
        assert session.next_event() is None
        self.session = ServerSession(
            self.setting.profile, self.limits, self.standing, WORDS, greeted=True, errors=session.errors
        )
        self.session.receive_data(session.leftover)

    def _keep(self, content: Content) -> None:
        assert self.session.receiving
        assert (content.form is Form.WIRE) == (self.session.state is State.CONTENT)
        assert content.octets
        if self.steps and isinstance(before := self.steps[-1][0], Content):
            assert before.form is content.form
            content = Content(before.octets + content.octets, content.form)
            self.steps.pop()
        self.steps.append((content, 0))

    def _answer(self) -> None:
        asked = self.asked
        assert asked is not None
        assert self.session.waiting
        answer = self._decide(asked)
        said = _replies(self.session.send(answer))
        code = int(said[-1][:3])
        self._count(asked, answer, said)
        if isinstance(asked, Auth | Response) and code == 235:
            self.standing = evolve(self.standing, authenticated=True)
        if isinstance(asked, Mail) and code == 250:
            self.recipients = 0
        if isinstance(asked, Rcpt) and code == 250:
            self.recipients += 1
        self.steps.append((asked, code))
        self.asked = None
        self._follow_on(asked)

    def _count(self, asked: Question, answer: Answer, said: list[bytes]) -> None:
        """One reply, or as many as LMTP and PRDR want behind a content."""
        if not isinstance(asked, ContentEnded) or said[-1][:3] == b"421":
            assert len(said) == 1
        elif self.setting.profile.lmtp:
            assert len(said) == self.recipients, f"{len(said)} replies for {self.recipients} recipients"
        elif said[0][:3] == b"353":
            assert isinstance(answer, Verdicts)
            assert len(said) == self.recipients + 2
        else:
            assert len(said) == 1

    def _decide(self, asked: Question) -> Answer:
        self.questions += 1
        refuses = self.given.refuses(self.questions)
        match asked:
            case Misspoken(reply) | Cancelled(reply):
                return reply
            case Connected():
                return answers.NOT_IMPLEMENTED if self.given.has(UNWELCOME) else _YES
            case ContentEnded(_, Reply() as fault) | ChunkEnded(_, Reply() as fault):
                return fault
            case _ if refuses:
                return answers.STOPPING if self.given.has(FINAL) else _NO
            case Data():
                return answers.SEND_CONTENT
            case ContentEnded() if self.given.has(DIFFER):
                return Verdicts(tuple(_NO if number % 2 else _YES for number in range(self.recipients)), _YES)
            case Quit():
                return Reply.of(221, "2.0.0", "Bye")
            case StartTls() | XClient():
                return answers.GO_AHEAD
            case Auth(initial=None) | Response(octets=b""):
                return Reply.of(334, None, "")
            case Auth() | Response():
                return Reply.of(235, "2.7.0", "It is you")
            case _:
                return _YES


def _replies(said: bytes) -> list[bytes]:
    """What was said, cut into replies."""
    replies, reply = [], b""
    for line in said.splitlines(keepends=True):
        reply += line
        if line[3:4] != b"-":
            assert naive.is_one_reply(reply), said
            replies.append(reply)
            reply = b""
    assert replies
    assert not reply, said
    return replies


def _agree(how: str, setting: Setting, steps: list[Step], whole: list[Step]) -> None:
    left, right = (_comparable(each) for each in (_up_to_a_wait(setting, steps), _up_to_a_wait(setting, whole)))
    assert left == right, f"{how}:\n{left}\nand whole:\n{right}"


def _up_to_a_wait(setting: Setting, steps: list[Step]) -> list[Step]:
    """The steps as far as it means nothing what came together: before what a client has to hear the answer to."""
    for number, (event, code) in enumerate(steps):
        early = isinstance(event, Misspoken) and event.reply in (answers.OUT_OF_TURN, answers.BEHIND_STARTTLS)
        waits = isinstance(event, StartTls) or (isinstance(event, Data) and setting.limits.in_turn)
        if early or waits or (waits and code == 421):
            return steps[:number]
    return steps


def _comparable(steps: list[Step]) -> list[object]:
    """
    The steps, without what may differ: which of several faults of a content is told, and where content that is hopeless
    was given up.
    """
    told: list[object] = []
    for event, code in steps:
        match event:
            case ContentEnded(_, Reply(code=421)):
                if told and isinstance(told[-1], Content):
                    told.pop()
                told.append("hopeless")
            case ContentEnded(size, Reply()) | ChunkEnded(size, Reply()):
                told.append(("refused", type(event), size, code // 100))
            case Content():
                told.append(event)
            case _:
                told.append((event, code))
    return told


def _as_somebody_else_reads_it(setting: Setting, steps: list[Step]) -> None:
    """Each command is one line, each content ends where it ends, and nothing is read twice or left out."""
    if isinstance(steps[0][0], Misspoken):
        assert steps[0][0].reply is answers.OUT_OF_TURN
        return
    assert isinstance(steps[0][0], Connected)
    reader = Reader(setting)
    for event, code in steps[1:]:
        reader.read(event, code)
        if code in (221, 421) or (isinstance(event, Misspoken) and event.last):
            return
    reader.end()


class Reader:
    """Reads the same octets again, slowly, beside a session that has read them."""

    def __init__(self, setting: Setting) -> None:
        self.octets = setting.octets
        self.at = 0
        self.limits = setting.limits
        self.lenient = setting.profile.lenient
        self.lmtp = setting.profile.lmtp
        #: How the client ends its lines, once that is known.
        self.newline = None if self.lenient else b"\r\n"
        self.after_data = False
        #: What comes is a response of AUTH.
        self.exchange = False
        #: The transaction is one of BODY=BINARYMIME.
        self.binary = False
        #: What was handed out of a content, or of a chunk, that has not ended.
        self.came = b""
        #: The chunks of the message so far.
        self.chunks = b""
        self.count = 0

    def read(self, event: Event, code: int) -> None:
        if isinstance(event, Content):
            self.came = event.octets
        elif self.after_data:
            assert isinstance(event, ContentEnded), f"{event} within a content"
            self._content(event, code)
        elif self.exchange:
            self._response(event)
        elif (chunk := self._announced()) is not None:
            self._chunk(event, code, *chunk)
        else:
            assert self.came == b""
            self._command(event, code)
        if isinstance(event, Auth | Response | Cancelled):
            self.exchange = code == 334
        if isinstance(event, Mail) and code == 250:
            self.binary = event.body is Body.BINARY
        if isinstance(event, Hello | Reset | ContentEnded | XClient) and code < 400:
            self.chunks, self.count = b"", 0
        if isinstance(event, XClient | StartTls) and code == 220:
            self.newline = None if self.lenient else b"\r\n"
        if isinstance(event, StartTls) and code == 220:
            assert self.at == len(self.octets)

    def _response(self, event: Event) -> None:
        """One line of base64 (RFC 4954 section 4)."""
        line = self._line()
        if len(line) > self.limits.auth_line or not line.endswith(b"\n"):
            assert len(line) >= self.limits.auth_line, "half a line was answered"
            assert event == Cancelled(sasl.TOO_LONG)
            return
        assert self.newline is not None
        if not line.endswith(self.newline):
            assert event == Misspoken(answers.NEWLINE_ALONE)
            return
        text = line.removesuffix(self.newline)
        octets = b"" if text == b"=" else naive.base64(text)
        if text == b"*":
            assert event == Cancelled(sasl.CANCELLED)
        elif octets is None:
            assert event == Cancelled(sasl.MALFORMED), f"{event} from {line!r}"
        else:
            assert event == Response(octets), f"{event} from {line!r}"

    def _line(self) -> bytes:
        end = self.octets.find(b"\n", self.at)
        line = self.octets[self.at : end + 1] if end >= 0 else self.octets[self.at :]
        self.at += len(line)
        return line

    def end(self) -> None:
        """There is no more: nothing whole may be left."""
        rest = self.octets[self.at :]
        if self.after_data:
            assert self.newline is not None
            assert naive.read_content(rest, self.newline).used is None, "content has ended and nobody was told"
            came = rest if self.newline == b"\r\n" else rest.replace(b"\n", b"\r\n")
            # A CR at the end waits for what follows.
            assert self.came in (came, came.removesuffix(b"\r"))
        elif not self.exchange and (chunk := self._announced()) is not None:
            line, size, _last = chunk
            assert len(rest) < line + size
            assert self.came in (b"", rest[line:])
        else:
            assert b"\n" not in rest, f"nobody has answered {rest!r}"

    def _content(self, event: ContentEnded, code: int) -> None:
        assert self.newline is not None
        rest = self.octets[self.at :]
        expected = naive.read_content(rest, self.newline)
        if event.fault is answers.MUCH_TOO_LARGE:
            assert code == 421
            assert len(rest) > self.limits.message
            return
        assert expected.used is not None, "content ended that has no end"
        assert self.came == expected.wire, f"{self.came!r} instead of {expected.wire!r}"
        self._judge(event, code, expected.plain, expected.stuffed)
        self.at += expected.used
        self.came, self.after_data = b"", False

    def _announced(self) -> tuple[int, int, bool] | None:
        """If here is a BDAT of RFC 3030: how long its line is, how many octets it announces, and whether it says LAST."""
        newline = re.escape(self.newline) if self.newline else b"\r?\n"
        match = re.compile(rb" *BDAT +([0-9]{1,15})( LAST)? *" + newline, re.IGNORECASE).match(self.octets, self.at)
        if match is None or match.end() - self.at > self.limits.command_line:
            return None
        return match.end() - self.at, int(match[1]), match[2] is not None

    def _chunk(self, event: Event, code: int, line: int, size: int, last: bool) -> None:
        """A line that announces a chunk, and its octets: they are nobody's commands."""
        if code == 421:
            return
        begin = self.at + line
        octets = self.octets[begin : begin + size]
        assert len(octets) == size, "a chunk ended that has no end"
        self.at = begin + size
        if isinstance(event, Misspoken):
            assert self.came == b"", "a chunk that was refused was handed out"
        else:
            assert isinstance(event, ContentEnded if last else ChunkEnded)
            assert self.came == octets, f"{self.came!r} instead of {octets!r}"
            self.chunks += octets
            self.count += 1
            *lines, unfinished = self.chunks.split(b"\r\n")
            # That one may have its CR already.
            lines.append(unfinished if last else unfinished[:-1])
            self._judge(event, code, self.chunks if last else self.chunks.removesuffix(b"\r"), lines)
            if last or code >= 400:
                self.chunks, self.count = b"", 0
        self.came = b""

    def _judge(self, event: ContentEnded | ChunkEnded, code: int, message: bytes, lines: Sequence[bytes]) -> None:
        assert event.size - len(message) in (0, isinstance(event, ChunkEnded)), f"{event.size} of {message!r}"
        binary = self.binary and not self.after_data
        at_fault = (
            event.size > self.limits.message
            or self.count > self.limits.chunks
            or (naive.is_bare(message) and not binary)
            or (any(len(line) > self.limits.content_line for line in lines) and not binary)
        )
        assert (event.fault is not None) == at_fault, f"{event.fault} of {message!r}"
        assert event.fault is None or code >= 400

    def _command(self, event: Event, code: int) -> None:
        line = self._line()
        if len(line) > self.limits.command_line or not line.endswith(b"\n"):
            assert len(line) >= self.limits.command_line, "half a line was answered"
            too_long = (answers.LINE_TOO_LONG, answers.LINES_TOO_LONG)
            assert isinstance(event, Misspoken)
            assert event.reply in too_long or (_announces(line) and code == 421), f"{event} to {line!r}"
            return
        if self.newline is None:
            self.newline = b"\r\n" if line.endswith(b"\r\n") else b"\n"
        if not line.endswith(self.newline):
            assert event == Misspoken(answers.NEWLINE_ALONE)
            assert code == 421
            return
        verb = line.removesuffix(self.newline).strip(b" ").split(b" ")[0].upper()
        if _announces(line):
            assert code == 421, "nobody knows how much content follows"
        elif not isinstance(event, Misspoken) and verb in _TYPES:
            assert type(event) is _TYPES[verb], f"{event} from {line!r}"
            assert not isinstance(event, Hello) or (verb == b"LHLO") is self.lmtp, f"{event} from {line!r}"
        self.after_data = isinstance(event, Data) and code == 354


def _announces(line: bytes) -> bool:
    """Whether it may be that content follows this line."""
    return line.lstrip(bytes(range(33)) + b"\x7f").upper().startswith(b"BDAT")
