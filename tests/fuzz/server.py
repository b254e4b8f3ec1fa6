"""A client says what it likes to a server session, cut as the network likes, and is answered sooner or later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from relay.mail.reply import Reply
from relay.smtp import answers
from relay.smtp.events import (
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
from relay.smtp.server import MOVES, Profile, ServerSession, SessionLimits, State
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
        assert self.session.state is State.CONTENT
        assert content.octets
        if self.steps and isinstance(before := self.steps[-1][0], Content):
            content = Content(before.octets + content.octets)
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
            case ContentEnded(_, Reply() as fault):
                return fault
            case _ if refuses:
                return answers.STOPPING if self.given.has(FINAL) else answers.OUR_FAULT
            case Data():
                return answers.SEND_CONTENT
            case Quit():
                return Reply.of(221, "2.0.0", "Bye")
            case _:
                return answers.NOTHING_DONE


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
            case ContentEnded(size, Reply()):
                told.append(("refused", size, code // 100))
            case Content():
                told.append(event)
            case _:
                told.append((event, code))
    return told


def _as_somebody_else_reads_it(given: Given, steps: list[Step]) -> None:
    """Each command is one line, each content ends at its dot, and nothing is read twice or left out."""
    limits = LIMITS[given.has(TIGHT)]
    octets, at = given.octets, 0
    newline = None if given.has(LENIENT) else b"\r\n"
    assert isinstance(steps[0][0], Connected)
    content: bytes | None = None  # what was handed out of a content that has not ended
    for event, code in steps[1:]:
        if isinstance(event, Content):
            content = event.octets
            continue
        if isinstance(event, ContentEnded):
            assert newline is not None
            expected = naive.read_content(octets[at:], newline)
            if event.fault is answers.MUCH_TOO_LARGE:
                assert code == 421
                assert len(octets) - at > limits.message
                return
            assert expected.used is not None, "content ended that has no end"
            assert content == expected.wire, f"{content!r} instead of {expected.wire!r}"
            assert event.size == len(expected.plain), f"{event.size} instead of {len(expected.plain)}"
            at_fault = (
                expected.has_bare_newline
                or expected.longest > limits.content_line
                or len(expected.plain) > limits.message
            )
            assert (event.fault is not None) == at_fault, f"{event.fault} of {expected}"
            assert event.fault is None or code >= 400
            at += expected.used
            content = None
        else:
            end = octets.find(b"\n", at)
            line = octets[at : end + 1] if end >= 0 else octets[at:]
            at += len(line)
            if len(line) > limits.command_line or end < 0:
                assert len(line) >= limits.command_line, "half a line was answered"
                assert event in (Misspoken(answers.LINE_TOO_LONG), Misspoken(answers.LINES_TOO_LONG))
            else:
                if newline is None:
                    newline = b"\r\n" if line.endswith(b"\r\n") else b"\n"
                if not line.endswith(newline):
                    assert event == Misspoken(answers.NEWLINE_ALONE)
                    assert code == 421
                elif not isinstance(event, Misspoken):
                    verb = line.removesuffix(newline).strip(b" ").split(b" ")[0].upper()
                    assert type(event) is _TYPES.get(verb), f"{event} from {line!r}"
            if isinstance(event, Data) and code == 354:
                content = b""
        if code in (221, 421):
            return
    if content is None:
        assert b"\n" not in octets[at:], f"nobody has answered {octets[at:]!r}"
    else:
        assert newline is not None
        expected = naive.read_content(octets[at:], newline)
        assert expected.used is None, "content has ended and nobody was told"
        came = octets[at:] if newline == b"\r\n" else octets[at:].replace(b"\n", b"\r\n")
        # A CR at the end waits for what follows.
        assert content in (came, came.removesuffix(b"\r"))
