"""
The server's side of the dialogue: octets in, events out; replies in, octets out (RFC 5321 section 3).

`ServerSession` decides nothing about mail. It knows what may be said when, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final, TypeAlias, TypeVar

from attrs import evolve, frozen

from relay.mail.envelope import Body, Form
from relay.mail.reply import Reply
from relay.smtp import answers, sasl
from relay.smtp.commands import KEPT_OCTETS, announces_content
from relay.smtp.events import (
    Answer,
    Auth,
    Bdat,
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
from relay.smtp.extensions import STRANGER, Standing
from relay.smtp.intake import Chunks, Intake, size_of_all
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.sasl_lines import Cancelled as CancelledLine
from relay.smtp.sasl_lines import Malformed, decode


class State(Enum):
    """Where the dialogue stands."""

    # Each is itself and nothing else. The hash that Enum has is of its name, and in Python.
    __hash__ = object.__hash__

    #: Connected, and not greeted yet.
    OPENING = auto()
    #: Greeted; the client has not said its name.
    STRANGER = auto()
    #: Greeted with a refusal: there is nothing to do but to quit (RFC 5321 section 3.1).
    UNWELCOME = auto()
    #: No transaction.
    READY = auto()
    #: MAIL was accepted.
    SENDER = auto()
    #: At least one RCPT was accepted.
    RECIPIENTS = auto()
    #: 354 was said: what comes is content.
    CONTENT = auto()
    #: At least one chunk of BDAT was accepted, and the last has not come.
    CHUNKS = auto()
    #: 334 was said: what comes is a response of AUTH.
    EXCHANGE = auto()
    #: 220 was said to STARTTLS: what comes is a handshake, and then another session.
    HANDSHAKE = auto()
    #: 220 was said to XCLIENT: what comes is another client's session.
    INTRODUCED = auto()
    #: Nothing more is read.
    CLOSED = auto()


# To ask the class for them takes ten times as long.
_OPENING: Final = State.OPENING
_IN_CONTENT: Final = State.CONTENT
_IN_EXCHANGE: Final = State.EXCHANGE
_BINARY: Final = Body.BINARY

_NAMED: Final = (State.READY, State.SENDER, State.RECIPIENTS, State.CHUNKS)
_SPOKEN: Final = (State.STRANGER, *_NAMED)
#: Where BDAT may come; its octets come wherever it stands.
_CHUNKED: Final = (State.RECIPIENTS, State.CHUNKS)

#: The law: a question may be asked in a state if it has a row here; a positive reply moves the state as the row says,
#: and a negative reply moves nothing, so that the client may try again from where it stood (RFC 5321 section 4.1.4),
#: but for the rows of `REFUSED`. A 421 always closes.
MOVES: Final[Mapping[tuple[State, type[Question]], State]] = {
    (State.OPENING, Connected): State.STRANGER,
    **{(state, Hello): State.READY for state in _SPOKEN},
    (State.READY, Mail): State.SENDER,
    (State.SENDER, Rcpt): State.RECIPIENTS,
    (State.RECIPIENTS, Rcpt): State.RECIPIENTS,
    (State.RECIPIENTS, Data): State.CONTENT,
    (State.CONTENT, ContentEnded): State.READY,
    **{(state, ChunkEnded): State.CHUNKS for state in _CHUNKED},
    **{(state, ContentEnded): State.READY for state in _CHUNKED},
    (State.READY, StartTls): State.HANDSHAKE,
    (State.READY, Auth): State.READY,
    (State.EXCHANGE, Response): State.READY,
    (State.EXCHANGE, Cancelled): State.READY,
    (State.READY, Expand): State.READY,
    (State.READY, TurnQueue): State.READY,
    **{(state, XClient): State.INTRODUCED for state in (State.STRANGER, State.READY)},
    (State.STRANGER, Reset): State.STRANGER,
    **{(state, Reset): State.READY for state in _NAMED},
    **{(state, Noop): state for state in _SPOKEN},
    **{(state, Help): state for state in _SPOKEN},
    **{(state, Verify): state for state in _SPOKEN},
    **{(state, Quit): State.CLOSED for state in (*_SPOKEN, State.UNWELCOME)},
}

#: Where a negative reply moves the state all the same: who is not welcome can only quit (RFC 5321 section 3.1),
#: and content that was refused is over.
REFUSED: Final[Mapping[tuple[State, type[Question]], State]] = {
    (State.OPENING, Connected): State.UNWELCOME,
    (State.CONTENT, ContentEnded): State.READY,
    # RFC 3030 section 2: behind a chunk that was refused nothing but a new transaction makes sense.
    **{(state, ChunkEnded): State.READY for state in _CHUNKED},
    **{(state, ContentEnded): State.READY for state in _CHUNKED},
    (State.EXCHANGE, Response): State.READY,
    (State.EXCHANGE, Cancelled): State.READY,
}

#: In these nothing more is read by this session.
_ENDED: Final = frozenset({State.HANDSHAKE, State.INTRODUCED, State.CLOSED})
#: In these MAIL or RCPT may come.
_ENVELOPING: Final = frozenset({State.READY, State.SENDER, State.RECIPIENTS})
#: In this a client says its name first.
_NAMELESS: Final = State.STRANGER
#: To these a client has to hear the answer before it goes on.
_HEARD_OUT: Final = frozenset({Connected, Data, StartTls})
_CR: Final = ord("\r")
#: What a listener that requires TLS lets a client say in clear (RFC 3207 section 4).
_IN_CLEAR: Final = (Noop, Hello, StartTls, Quit, Misspoken)
#: What is not for everybody, or not always.
_GUARDED: Final = frozenset({StartTls, Auth, Expand, TurnQueue, XClient})
#: What a listener that requires authentication wants it for.
_FOR_USERS: Final = (Mail, Verify, Expand, TurnQueue)


#: Where there is no transaction nothing is asked of it, so this one is never looked at.
_NO_MAIL: Final = Mail(None)
_CONNECTED: Final = Connected()
_NOTHING_USUAL: Final[Mapping[bytes, Question]] = {}
_IDLING: Final = frozenset({Noop, Reset, Verify, Help, Hello, Expand, TurnQueue})

Q = TypeVar("Q", bound=Question)
#: What a question asks too much of, if it does.
Limit: TypeAlias = "Callable[[ServerSession, Any], Reply | None]"
#: What a positive reply changes beside the state.
Effect: TypeAlias = "Callable[[ServerSession, Any, Answer], None]"


@frozen
class Move:
    """All that there is to know of a question in a state in which it may be asked."""

    #: Where a positive reply leads, and where a negative one does.
    accepted: State
    refused: State
    limit: Limit | None
    effect: Effect | None
    #: It is the end of content, which has an effect: the answer may be one about each recipient.
    concludes: bool
    #: The client has to hear the answer before it goes on.
    heard_out: bool


class ServerSession:
    """
    One session. The adapter does this, and nothing else:

    `receive_data` with what the network brought; `next_event` until it returns `None` (more octets are needed, or
    an answer is still owed); for each event but `Content`, `send` with the reply, whose octets go to the client.
    There is no next event while a question waits for its reply, so a client that pipelines is answered in order
    by construction. When `closed`, the connection is to be closed once what was sent has left.

    Where `state` is `HANDSHAKE` or `INTRODUCED` this session is over and another one follows on the connection, with
    nothing of this one in it: behind a TLS handshake, or for the client that was introduced, who is handed `leftover`.
    """

    __slots__ = (
        "_asked",
        "_chunks",
        "_grammar",
        "_idiom",
        "_idled",
        "_input",
        "_intake",
        "_lf_ended",
        "_limits",
        "_mail",
        "_messages",
        "_move",
        "_overlong",
        "_profile",
        "_recipients",
        "_standing",
        "_straight",
        "_swallowing",
        "_usual",
        "_words",
        "closed",
        "errors",
        "in_chunk",
        "looked_at",
        "received",
        "slow",
        "state",
        "uneven",
    )

    def __init__(
        self,
        profile: Profile,
        limits: SessionLimits,
        standing: Standing = STRANGER,
        words: Mapping[str, str] | None = None,
        *,
        greeted: bool = False,
        errors: int = 0,
    ) -> None:
        """
        `words`: the arguments of keywords that are this session's own, such as the mechanisms of AUTH; without them
        these are not offered. `greeted`: it follows another session, which had so many `errors`.
        """
        self._profile = profile
        self._limits = limits
        self._standing = standing
        self._words = words
        self._idiom = idiom = profile.idiom(standing)
        self._grammar = grammar = idiom.plain
        lenient = profile.lenient
        #: Nothing has to be looked at in a line but what it asks.
        self._straight = straight = not lenient and limits.command_line > KEPT_OCTETS
        #: What lines ask that were heard lately, if it may be said. Names show what is offered to who has no words.
        self._usual = grammar.usual if straight and not words and not grammar.guarded else _NOTHING_USUAL
        #: Where the dialogue stands. Only the session itself moves it.
        self.state = State.STRANGER if greeted else State.OPENING
        #: It stands at its end: nothing more will be said.
        self.closed = False
        #: The question that waits for its reply, and what that will do; `None` if it is none that a client may ask.
        self._asked: Question | None = None
        self._move: Move | None = None
        #: The transaction is what this has opened, with so many recipients. It is forgotten when the next one begins.
        self._mail = _NO_MAIL
        self._recipients = 0
        #: `None`: nothing of its content has come yet, or all of it in one piece.
        self._intake: Intake | None = None
        self._chunks: Chunks | None = None
        #: The octets of a chunk are coming in.
        self.in_chunk = False
        self._input = b""
        #: How far it has been looked at, and how far it goes. Once a reply was sent and they are the same, there is no
        #: next event before more is received.
        self.looked_at = self.received = 0
        #: How this client ends its lines; `None` before its first command on a lenient listener.
        self._lf_ended: bool | None = None if lenient else False
        #: The rest of an overlong line is still to come.
        self._swallowing = False
        self._overlong = 0
        self._idled = 0
        self._messages = 0
        #: Negative replies so far.
        self.errors = errors
        #: So many errors that the next answer may take its time.
        self.slow = errors > limits.errors_slow
        #: Not all that the network brought has been dealt with, or not for certain: what comes next goes the general
        #: way. So it does where the session is slow.
        self.uneven = self.slow

    @property
    def receiving(self) -> bool:
        """What comes is content."""
        return self.state is _IN_CONTENT or self.in_chunk

    @property
    def leftover(self) -> bytes:
        """What was received and not looked at."""
        return self._input[self.looked_at :]

    @property
    def waiting(self) -> bool:
        """A question waits for its reply."""
        return self._asked is not None

    @property
    def buffered(self) -> int:
        """Octets that were received and not yet looked at: reading pauses when they are too many."""
        return self.received - self.looked_at

    def hear(self, octets: bytes) -> Question | None:
        """
        The straight way for what clients say most: what the network brought is a client's first EHLO, is MAIL or RCPT,
        or is DATA or QUIT word for word as it was heard before, nothing is owed or left over, it may be said now, and
        its answer need not be slow. Then this is its question, which waits for its reply. `None`: nothing has happened,
        and the octets are to be received (`receive_data`).
        """
        if self._asked is not None or (self.uneven and not self._is_even()):
            return None
        return self._hear_line(octets)

    def _hear_line(self, octets: bytes) -> Question | None:
        """What a whole line asks, its CRLF included, if it is of the usual kind, and may be said now."""
        question = self._usual.get(octets) or self._hear_new(octets)
        move = _MOVES[self.state].get(type(question))
        if move is None:
            return None
        limit = move.limit
        if limit is not None and limit(self, question) is not None:
            return None
        self._asked, self._move = question, move
        return question

    def _hear_new(self, octets: bytes) -> Question | None:
        if not self._straight or self._grammar.guarded:
            return None
        state = self.state
        if state in _ENVELOPING:
            return self._grammar.read_alone(octets)
        if state is not _NAMELESS:
            return None
        hello = self._grammar.read_name(octets)
        return None if hello is None else self._offered(hello)

    def _offered(self, hello: Hello) -> Hello:
        """The same, with what is offered to this client."""
        words = self._words
        if not words or not hello.extended:
            return hello
        return Hello(True, hello.name, self._profile.keywords(self._standing, words))

    def hear_content(self, octets: bytes) -> ContentEnded | None:
        """
        The straight way for content: what the network brought is the whole of it, without a fault, and nothing else.
        Then `octets` are all of the `Content` before this question. `None` is as in `hear`.
        """
        if self.state is not _IN_CONTENT or self._asked is not None or (self.uneven and not self._is_even()):
            return None
        limits = self._limits
        size = size_of_all(octets, limits.message, limits.content_line)
        if size is None:
            return None
        self._asked = question = ContentEnded(size)
        self._move = _END_OF_CONTENT
        return question

    def _is_even(self) -> bool:
        """
        What was received is over and done with: no octet of it is left, what comes next begins something, and its lines
        end as they should.
        """
        self.uneven = uneven = (
            self.looked_at < self.received
            or self.in_chunk
            or self._swallowing
            or self.slow
            or self._lf_ended is True
            or (self.state is _IN_CONTENT and self._intake is not None)
        )
        if not uneven:
            self._forget_input()
        return not uneven

    def _forget_input(self) -> None:
        """All of it was looked at. It may be much, and a client may be here for long behind a large message."""
        self._input = b""
        self.looked_at = self.received = 0

    def receive_data(self, octets: bytes) -> None:
        """Take what the network brought. Whatever it is, and wherever it was cut, this never raises."""
        self.uneven = True
        self._input = self._input[self.looked_at :] + octets if self.looked_at < self.received else octets
        self.looked_at, self.received = 0, len(self._input)

    def opened(self) -> Connected:
        """The straight way for the first question: the client has connected, and nothing has been received yet."""
        self._asked, self._move = _CONNECTED, _CONNECTS
        return _CONNECTED

    def next_event(self) -> Event | None:
        """What happened next, or `None`: a reply is owed, or there is nothing whole to look at."""
        state = self.state
        if self._asked is not None or state in _ENDED:
            return None
        if state is _IN_CONTENT:
            return self._next_of_content()
        if self.in_chunk:
            return self._next_of_chunk()
        if state is _OPENING:
            return self._ask(Misspoken(answers.OUT_OF_TURN, last=True) if self._out_of_turn else Connected())
        return self._next_command() if self.looked_at < self.received else None

    def send(self, answer: Answer) -> bytes:
        """
        Answer the question that waits; returns the octets for the client.

        The reply may become another one: after too many errors the answer is 421, whatever it would have been.
        """
        asked, move = self._asked, self._move
        if asked is None:
            raise RuntimeError("nothing was asked")
        self._asked = None
        if answer.code >= 400 or move is None:
            return self._refuse(asked, answer, move)
        if move.heard_out and self.looked_at < self.received:
            refusal = self._too_early(asked)
            if refusal is not None:  # It has come while the reply was waited for.
                return self._refuse(Misspoken(refusal, last=True), refusal, None)
        self.state = move.accepted
        effect = move.effect
        if effect is None:
            return answer.wire
        effect(self, asked, answer)
        if move.concludes and (self._profile.lmtp or type(answer) is Verdicts):
            return self._spoken(answer)
        return answer.wire

    def _refuse(self, asked: Question, answer: Answer, move: Move | None) -> bytes:
        """A negative reply, which may become another one; or whatever is said to what was no question."""
        if answer.code >= 400:
            self.errors += 1
            if self.errors > self._limits.errors_slow:
                self.slow = self.uneven = True
            if self.errors >= self._limits.errors and answer.code != 421:
                answer = answers.TOO_MANY_ERRORS
        code = answer.code
        if code == 421 or (type(asked) is Misspoken and asked.last):
            self.state = State.CLOSED
            self.closed = True
        elif move is not None:
            self.state = move.refused
        return self._spoken(answer) if move is not None and move.concludes and code != 421 else answer.wire

    def _spoken(self, answer: Answer) -> bytes:
        """The answer to the end of content: one reply, or with LMTP and PRDR one for each recipient."""
        if self._profile.lmtp:
            # RFC 2033 section 4.2: one for each RCPT that was accepted, in their order, and none for all together.
            each = answer.each if type(answer) is Verdicts else (answer,) * self._recipients
            return b"".join([one.wire for one in each])
        if type(answer) is Verdicts and self._mail.prdr:
            return b"".join([one.wire for one in (answers.EACH_FOLLOWS, *answer.each, answer.reply)])
        return answer.wire

    def farewell(self, reply: Reply) -> bytes:
        """
        Close without having been asked (421: the deadline has passed, the service stops).

        Returns no octets while a question waits, since its answer would be taken for something else.
        """
        quiet = self._asked is not None or self.state is State.CLOSED
        self._asked = None
        self.state = State.CLOSED
        self.closed = True
        return b"" if quiet else reply.wire

    # What a positive reply changes beside the state.

    def _after_mail(self, mail: Mail, answer: Answer) -> None:
        self._mail = mail
        self._recipients = 0
        self._intake = self._chunks = None

    def _after_rcpt(self, rcpt: Rcpt, answer: Answer) -> None:
        self._recipients += 1

    def _after_content(self, ended: ContentEnded, answer: Answer) -> None:
        self._messages += 1
        self._idled = 0

    def _after_hello(self, hello: Hello, answer: Answer) -> None:
        idiom = self._idiom
        self._grammar = grammar = idiom.extended if hello.extended else idiom.plain
        usual = self._straight and not grammar.guarded and (hello.extended or not self._words)
        self._usual = grammar.usual if usual else _NOTHING_USUAL

    def _after_proof(self, proof: Auth | Response, answer: Answer) -> None:
        if answer.code == 334:
            self.state = State.EXCHANGE
        elif answer.code == 235:
            self._standing = evolve(self._standing, authenticated=True)
            self._idiom = idiom = self._profile.idiom(self._standing)
            self._grammar = grammar = idiom.extended
            self._usual = grammar.usual if self._straight and not grammar.guarded else _NOTHING_USUAL

    def _after_quit(self, quit: Quit, answer: Answer) -> None:
        self.closed = True

    def _ask(self, question: Q) -> Q:
        if self.looked_at == self.received:
            self._forget_input()
        self._asked, self._move = question, _MOVES[self.state].get(type(question))
        return question

    # Content.

    def _next_of_content(self) -> Event | None:
        intake = self._intake
        if intake is not None and intake.ended:
            return self._ask(ContentEnded(intake.size, intake.fault))
        if self.looked_at >= self.received:
            return None
        if intake is None:
            limits = self._limits
            self._intake = intake = Intake(
                lf_ended=self._lf_ended is True, size_limit=limits.message, line_limit=limits.content_line
            )
        piece = intake.take(self._input, self.looked_at)
        if not piece.used:
            return None
        self.looked_at += piece.used
        if intake.fault is not None and intake.hopeless:
            return self._ask(ContentEnded(intake.size, answers.MUCH_TOO_LARGE))
        return Content(piece.octets)

    def _begin_chunk(self, bdat: Bdat) -> Event | None:
        """The announced octets come now, and are taken even if the chunk is refused (RFC 3030 section 2)."""
        chunks = self._chunks or Chunks(
            size_limit=self._limits.message, line_limit=self._limits.content_line, binary=self._mail.body is _BINARY
        )
        refusal: Reply | None = None
        if self.state not in _CHUNKED:
            refusal = self._out_of_order(bdat)
        elif chunks.count >= self._limits.chunks:
            chunks.fault = chunks.fault or answers.TOO_MANY_CHUNKS
        if bdat.size > 2 * self._limits.message:
            return self._ask(Misspoken(answers.MUCH_TOO_LARGE))
        chunks.begin(bdat.size, bdat.last, refusal)
        self._chunks = chunks
        self.in_chunk = True
        return self._next_of_chunk()

    def _next_of_chunk(self) -> Event | None:
        chunks = self._chunks
        if chunks is None:
            raise RuntimeError("there is a chunk without a transaction")
        while chunks.remaining:
            piece = chunks.take(self._input, self.looked_at)
            if not piece.used:
                return None
            self.looked_at += piece.used
            if chunks.refusal is None:
                return Content(piece.octets, Form.PLAIN)
        self.in_chunk = False
        if chunks.refusal is not None:
            if self.state not in _CHUNKED:
                self._chunks = None
            return self._ask(Misspoken(chunks.refusal))
        if not chunks.last:
            return self._ask(ChunkEnded(chunks.size, chunks.fault))
        chunks.end()
        return self._ask(ContentEnded(chunks.size, chunks.fault))

    # Commands.

    def _next_command(self) -> Event | None:
        input, at = self._input, self.looked_at
        end = input.find(b"\n", at)
        if end < 0:
            return self._unended_line()
        self.looked_at = end + 1
        if self._swallowing:
            self._swallowing = False
            return self._next_command() if self.looked_at < self.received else None
        heard = self._hear_line(input[at : end + 1])
        if heard is not None:
            return heard
        if end - at >= self._limits.command_line and end - at >= self._line_limit:
            return self._ask(self._too_long(input[at:end]))
        has_cr = end > at and input[end - 1] == _CR
        if self._lf_ended is None:
            self._lf_ended = not has_cr
        if not self._lf_ended:
            if not has_cr:
                # A peer that means CRLF never sends this, and somebody who does may have been made to (RELIABILITY:
                # smuggling). It is not answered as a command, and nothing behind it is read.
                return self._ask(Misspoken(answers.NEWLINE_ALONE))
            end -= 1
        line = input[at:end]
        if self.state is _IN_EXCHANGE:
            return self._ask(_response(line))
        question = self._grammar.read(line)
        if type(question) is Bdat:
            return self._begin_chunk(question)
        self._asked = question = self._consider(question)
        return question

    @property
    def _line_limit(self) -> int:
        return self._limits.auth_line if self.state is _IN_EXCHANGE else self._limits.command_line

    @property
    def _out_of_turn(self) -> bool:
        """The client has said more than it may by now, and is one that has to keep to it."""
        return self._limits.in_turn and self.looked_at < self.received

    def _unended_line(self) -> Event | None:
        if self.received - self.looked_at < self._line_limit:
            return None
        line = self._input[self.looked_at :]
        self.looked_at = self.received
        if self._swallowing:
            return None
        self._swallowing = True
        return self._ask(self._too_long(line))

    def _too_long(self, line: bytes) -> Question:
        if self.state is _IN_EXCHANGE:
            return Cancelled(sasl.TOO_LONG)
        # Only as much of it as is always here, wherever the network cuts.
        if announces_content(line[: self._limits.command_line]):
            return Misspoken(answers.MALFORMED_BDAT)
        self._overlong += 1
        return Misspoken(answers.LINE_TOO_LONG if self._overlong == 1 else answers.LINES_TOO_LONG)

    def _consider(self, question: Question) -> Question:
        """The question, if it may be asked now, as `_ask` would; else a `Misspoken` with what is to be said."""
        kind = type(question)
        move = _MOVES[self.state].get(kind)
        refusal: Reply | None = None
        self._move = None
        if move is None or self._grammar.guarded or kind in _GUARDED:
            if type(question) is Misspoken:
                # Parameters are not offered before EHLO; that it is missing is the better answer.
                early = self.state is State.STRANGER and question.reply.code == 555
                return Misspoken(self._hello_first) if early else question
            refusal = self._missing(question)
            if refusal is None and move is None:
                refusal = self._out_of_order(question)
        if refusal is None and move is not None and move.limit is not None:
            refusal = move.limit(self, question)
        if refusal is not None:
            return Misspoken(refusal, last=refusal is answers.OUT_OF_TURN)
        self._move = move
        return self._offered(question) if type(question) is Hello else question

    def _missing(self, question: Question) -> Reply | None:
        """What has to come before this is said at all: TLS, authentication, or trust."""
        profile, standing = self._profile, self._standing
        if profile.requires_tls and not standing.secured and not isinstance(question, _IN_CLEAR):
            return answers.TLS_FIRST
        if profile.requires_auth and not standing.authenticated and isinstance(question, _FOR_USERS):
            return answers.AUTH_FIRST
        match question:
            case StartTls() if standing.secured:
                return answers.TLS_ALREADY
            case StartTls() if standing.introduced:
                return answers.NOT_FOR_YOU
            case Auth() if not standing.secured:
                return sasl.NEEDS_TLS
            case Auth() if standing.authenticated:
                return answers.AUTH_ALREADY
            case Auth() if not (self._words and self._words.get("AUTH")):
                return answers.NO_AUTH
            case Expand() if not standing.authenticated:
                return answers.AUTH_FIRST
            case TurnQueue() if not standing.trusted:
                return answers.NOT_FOR_YOU
            case XClient() if not standing.introducing:
                return answers.NOT_FOR_YOU
            case _:
                return None

    # What a question asks too much of.

    def _limit_of_mail(self, mail: Mail) -> Reply | None:
        limits = self._limits
        if limits.messages is not None and self._messages >= limits.messages:
            return answers.TOO_MANY_MESSAGES
        if mail.international and not mail.smtputf8:
            return answers.SENDER_NEEDS_SMTPUTF8
        if mail.size is not None and mail.size > limits.message:
            return answers.MESSAGE_TOO_LARGE
        return None

    def _limit_of_rcpt(self, rcpt: Rcpt) -> Reply | None:
        if self._recipients >= self._limits.recipients:
            return answers.TOO_MANY_RECIPIENTS
        if rcpt.international and not self._mail.smtputf8:
            return answers.RECIPIENT_NEEDS_SMTPUTF8
        return None

    def _limit_of_data(self, data: Data) -> Reply | None:
        if self._mail.body is _BINARY:
            return answers.ONLY_BDAT
        return answers.OUT_OF_TURN if self._out_of_turn else None

    def _limit_of_idling(self, question: Question) -> Reply | None:
        most = self._limits.idle_commands
        self._idled += 1
        return answers.TOO_MUCH_IDLING if most is not None and self._idled > most else None

    def _too_early(self, question: Question) -> Reply | None:
        """What stands behind this, and has not waited for its reply (RFC 2920 section 3.1)."""
        if isinstance(question, StartTls):
            return answers.BEHIND_STARTTLS if self.looked_at < self.received else None
        return answers.OUT_OF_TURN if self._out_of_turn else None

    @property
    def _hello_first(self) -> Reply:
        return answers.LHLO_FIRST if self._profile.lmtp else answers.HELLO_FIRST

    def _out_of_order(self, question: Question | Bdat) -> Reply:
        if self.state is State.UNWELCOME:
            return answers.ONLY_QUIT
        if self.state is State.STRANGER:
            return self._hello_first
        if isinstance(question, Mail | StartTls | Auth | Expand | TurnQueue | XClient):
            return answers.NESTED_MAIL
        if self.state is State.CHUNKS:
            return answers.ONLY_CHUNKS
        return answers.MAIL_FIRST if self.state is State.READY else answers.RECIPIENT_FIRST


def _response(line: bytes) -> Response | Cancelled:
    """What a client says to a 334 (RFC 4954 section 4)."""
    octets = decode(line)
    match octets:
        case CancelledLine():
            return Cancelled(sasl.CANCELLED)
        case Malformed():
            return Cancelled(sasl.MALFORMED)
        case _:
            return Response(octets)


_LIMITS: Final[Mapping[type[Any], Limit]] = {
    Mail: ServerSession._limit_of_mail,
    Rcpt: ServerSession._limit_of_rcpt,
    Data: ServerSession._limit_of_data,
    StartTls: ServerSession._too_early,
    **dict.fromkeys(_IDLING, ServerSession._limit_of_idling),
}
_EFFECTS: Final[Mapping[type[Any], Effect]] = {
    Mail: ServerSession._after_mail,
    Rcpt: ServerSession._after_rcpt,
    ContentEnded: ServerSession._after_content,
    Hello: ServerSession._after_hello,
    Auth: ServerSession._after_proof,
    Response: ServerSession._after_proof,
    Quit: ServerSession._after_quit,
}
#: The law, as it is asked for: by state, and then by what was said.
_MOVES: Final[Mapping[State, Mapping[type[Any], Move]]] = {
    state: {
        kind: Move(
            accepted,
            REFUSED.get((state, kind), state),
            _LIMITS.get(kind),
            _EFFECTS.get(kind),
            concludes=kind is ContentEnded,
            heard_out=kind in _HEARD_OUT,
        )
        for (where, kind), accepted in MOVES.items()
        if where is state
    }
    for state in State
}
_END_OF_CONTENT: Final = _MOVES[State.CONTENT][ContentEnded]
_CONNECTS: Final = _MOVES[State.OPENING][Connected]
