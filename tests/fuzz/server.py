"""A client says what it likes to a server session, cut as the network likes, and is answered sooner or later."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from relay.mail.envelope import Form
from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.events import (
    ChunkEnded,
    Connected,
    Content,
    ContentEnded,
    Data,
    Event,
    Hello,
    Help,
    Mail,
    Misspoken,
    Noop,
    Question,
    Quit,
    Rcpt,
    Reset,
    Verify,
)
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.server import MOVES, ServerSession, State
from tests.fuzz import naive
from tests.fuzz.given import Given

#: Flags: a listener for people at netcat; limits that are soon met; a no that closes; a client that is not welcome.
LENIENT, TIGHT, FINAL, UNWELCOME = range(4)

PROFILES: Final = {False: Profile("mx.test"), True: Profile("mx.test", lenient=True)}
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
}

#: What happened, with the code of the answer to it; content has none, and is in one piece.
Step = tuple[Event, int]


def check(data: bytes) -> None:
    given = Given.of(data)
    whole = Dialogue(given).follow([given.octets])
    _agree("cut", Dialogue(given).follow(given.pieces), whole)
    _agree("answered late", Dialogue(given, late=True).follow(given.pieces), whole)
    _as_somebody_else_reads_it(given, whole)


class Dialogue:
    """One session, its client and whoever answers."""

    def __init__(self, given: Given, *, late: bool = False) -> None:
        self.given = given
        self.late = late
        self.limits = LIMITS[given.has(TIGHT)]
        self.session = ServerSession(PROFILES[given.has(LENIENT)], self.limits)
        self.steps: list[Step] = []
        self.questions = 0
        self.asked: Question | None = None

    def follow(self, pieces: Iterable[bytes]) -> list[Step]:
        """All that happens. Where answers are late, each comes when the client has said something more."""
        session = self.session
        self._go_on()
        for piece in pieces:
            session.receive_data(piece)
            if self.asked is not None:
                assert session.next_event() is None, "there is an event while an answer is owed"
                self._answer()
            self._go_on()
        while self.asked is not None:
            self._answer()
            self._go_on()
        if session.closed:
            session.receive_data(b"NOOP\r\n")
            assert session.next_event() is None
        else:
            bound = 2 if session.state is State.CONTENT else self.limits.command_line
            assert session.buffered < bound, f"{session.buffered} octets are kept in {session.state}"
        session.farewell(answers.IDLE)
        assert session.closed
        return self.steps

    def _go_on(self) -> None:
        session = self.session
        while self.asked is None and (event := session.next_event()) is not None:
            if isinstance(event, Content):
                self._keep(event)
                continue
            if not isinstance(event, Misspoken):
                assert (session.state, type(event)) in MOVES, f"{event} in {session.state}"
            self.asked = event
            if not self.late:
                self._answer()

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
        said = self.session.send(self._reply(asked))
        assert naive.is_one_reply(said), said
        self.steps.append((asked, int(said[:3])))
        self.asked = None

    def _reply(self, asked: Question) -> Reply:
        self.questions += 1
        refuses = self.given.refuses(self.questions)
        match asked:
            case Misspoken(reply):
                return reply
            case Connected():
                return answers.NOT_IMPLEMENTED if self.given.has(UNWELCOME) else answers.NOTHING_DONE
            case ContentEnded(_, Reply() as fault) | ChunkEnded(_, Reply() as fault):
                return fault
            case _ if refuses:
                return answers.STOPPING if self.given.has(FINAL) else answers.OUR_FAULT
            case Data():
                return answers.SEND_CONTENT
            case Quit():
                return Reply.of(221, "2.0.0", "Bye")
            case ChunkEnded() | ContentEnded() | Hello() | Mail() | Rcpt() | Reset() | Noop() | Help() | Verify():
                return answers.NOTHING_DONE
            case _:
                return answers.NOT_IMPLEMENTED  # until this target has learnt it


def _agree(how: str, steps: list[Step], whole: list[Step]) -> None:
    left, right = _comparable(steps), _comparable(whole)
    assert left == right, f"{how}:\n{left}\nand whole:\n{right}"


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


def _as_somebody_else_reads_it(given: Given, steps: list[Step]) -> None:
    """Each command is one line, each content ends where it ends, and nothing is read twice or left out."""
    assert isinstance(steps[0][0], Connected)
    reader = Reader(given)
    for event, code in steps[1:]:
        reader.read(event, code)
        if code in (221, 421):
            return
    reader.end()


class Reader:
    """Reads the same octets again, slowly, beside a session that has read them."""

    def __init__(self, given: Given) -> None:
        self.octets = given.octets
        self.at = 0
        self.limits = LIMITS[given.has(TIGHT)]
        #: How the client ends its lines, once that is known.
        self.newline = None if given.has(LENIENT) else b"\r\n"
        self.after_data = False
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
        elif (chunk := self._announced()) is not None:
            self._chunk(event, code, *chunk)
        else:
            assert self.came == b""
            self._command(event, code)
        if isinstance(event, Hello | Reset | ContentEnded) and code < 400:
            self.chunks, self.count = b"", 0

    def end(self) -> None:
        """There is no more: nothing whole may be left."""
        rest = self.octets[self.at :]
        if self.after_data:
            assert self.newline is not None
            assert naive.read_content(rest, self.newline).used is None, "content has ended and nobody was told"
            came = rest if self.newline == b"\r\n" else rest.replace(b"\n", b"\r\n")
            # A CR at the end waits for what follows.
            assert self.came in (came, came.removesuffix(b"\r"))
        elif (chunk := self._announced()) is not None:
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
        at_fault = (
            event.size > self.limits.message
            or self.count > self.limits.chunks
            or naive.is_bare(message)
            or any(len(line) > self.limits.content_line for line in lines)
        )
        assert (event.fault is not None) == at_fault, f"{event.fault} of {message!r}"
        assert event.fault is None or code >= 400

    def _command(self, event: Event, code: int) -> None:
        end = self.octets.find(b"\n", self.at)
        line = self.octets[self.at : end + 1] if end >= 0 else self.octets[self.at :]
        self.at += len(line)
        if len(line) > self.limits.command_line or end < 0:
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
        self.after_data = isinstance(event, Data) and code == 354


def _announces(line: bytes) -> bool:
    """Whether it may be that content follows this line."""
    return line.lstrip(bytes(range(33)) + b"\x7f").upper().startswith(b"BDAT")
