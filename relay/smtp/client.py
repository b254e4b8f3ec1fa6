"""
The client's side of the dialogue: replies in, events out; transactions in, octets out (RFC 5321 section 3).

`ClientSession` decides nothing about mail: which hosts are tried, and what a refusal means, is asked elsewhere. It
turns one conversation into one fact for each recipient, whatever the peer does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Final, TypeAlias

from attrs import frozen

from relay.mail.outcome import Answered, Breakage, Broke, Carried, Fact, Need, Peer, Phase, Unsuitable
from relay.mail.reply import Reply
from relay.smtp.features import Features
from relay.smtp.octets import TERMINATOR
from relay.smtp.replies import Nonsense, ReplyReader
from relay.smtp.transaction import Event, Over, Proceed, Ready, Settled, Transaction, TurnedAway

#: Seconds that QUIT may take. Nobody is served by a longer wait: all that mattered has been answered.
QUIT_SECONDS: Final = 5.0
#: How much of a reply is kept in a fact's text.
_TEXT = 500


@frozen
class Deadlines:
    """How many seconds the peer may take, for each command and not for each octet (RFC 5321 section 4.5.3.2)."""

    connect: float = 30.0
    #: The greeting, and the answers to EHLO, HELO and RSET.
    greeting: float = 300.0
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    #: To take one piece of content.
    block: float = 180.0
    end: float = 600.0

    def of(self, phase: Phase) -> float:
        """The deadline of a phase of the dialogue."""
        match phase:
            case Phase.CONNECT:
                return self.connect
            case Phase.MAIL:
                return self.mail
            case Phase.RCPT:
                return self.rcpt
            case Phase.DATA:
                return self.data
            case Phase.CONTENT:
                return self.block
            case Phase.END:
                return self.end
            case _:
                return self.greeting


DEADLINES: Final = Deadlines()


class Said(Enum):
    """What we have said, and a reply is due to."""

    #: We have connected: the greeting is due.
    NOTHING = auto()
    EHLO = auto()
    HELO = auto()
    RSET = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    #: All of it, with its terminator.
    CONTENT = auto()
    QUIT = auto()


#: What people call the time between something that we say and its reply.
_PHASES: Final[Mapping[Said, Phase]] = {
    Said.NOTHING: Phase.GREETING,
    Said.EHLO: Phase.HELLO,
    Said.HELO: Phase.HELLO,
    Said.RSET: Phase.MAIL,
    Said.MAIL: Phase.MAIL,
    Said.RCPT: Phase.RCPT,
    Said.DATA: Phase.DATA,
    Said.CONTENT: Phase.END,
    Said.QUIT: Phase.END,
}


class Stage(Enum):
    """How far the conversation as a whole has come."""

    CONNECTING = auto()
    #: Greeting, EHLO, HELO.
    OPENING = auto()
    #: Transactions, one behind the other.
    OPEN = auto()
    #: The same, but the last transaction was left without its end: RSET before the next (RFC 5321 section 4.1.1.5).
    ABANDONED = auto()
    #: QUIT was said.
    LEAVING = auto()
    OVER = auto()


class _Course:
    """The course of a transaction: what is known of each recipient so far. Dropped when the transaction is over."""

    __slots__ = ("accepted", "facts", "transaction", "unsettled")

    def __init__(self, transaction: Transaction) -> None:
        self.transaction = transaction
        self.facts: list[Fact | None] = [None] * len(transaction.recipients)
        self.unsettled = len(self.facts)
        #: How many recipients the server has accepted.
        self.accepted = 0

    def settle(self, index: int, fact: Fact) -> None:
        """The first fact about a recipient stands."""
        if self.facts[index] is None:
            self.facts[index] = fact
            self.unsettled -= 1

    def settle_rest(self, fact: Fact) -> None:
        """The same fact for all of whom nothing is known yet."""
        self.facts = [fact if known is None else known for known in self.facts]
        self.unsettled = 0

    def settled(self) -> Settled:
        """What there is to report, once there is a fact for everybody."""
        return Settled(tuple(fact for fact in self.facts if fact is not None))


#: How a conversation ended: the fact about a recipient, given how far its transaction had come.
_Ending: TypeAlias = Callable[[Phase], Answered | Broke]


@frozen
class _Due:
    """A reply that is due: to what, of which transaction, and for RCPT about which recipient."""

    said: Said
    course: _Course | None = None
    index: int = -1


class ClientSession:
    """
    One conversation with one server. The adapter does this, and nothing else:

    `connected`, then `receive_data` with what the network brought, or `break_off` with how the connection ended;
    after these and after every other call, `next_event` until it returns `None`, and `data_to_send` to the
    network. `phase` and `deadline` say what is being waited for; a deadline begins anew whenever `moves` has changed.

    `begin` a transaction when `can_begin`; its end is one `Settled`, whatever happens. `quit` when there are no more.
    A next transaction may begin when the last one is settled; or, where PIPELINING is offered, already when its
    content has been sent (RFC 2920 section 3.1), so that both leave in one write.
    """

    __slots__ = (
        "_content",
        "_courses",
        "_due",
        "_ending",
        "_events",
        "_features",
        "_hello",
        "_peer",
        "_reader",
        "_stage",
        "_to_send",
        "_unsaid",
        "deadlines",
        "moves",
    )

    def __init__(self, hello: str, peer: Peer, deadlines: Deadlines = DEADLINES) -> None:
        """`hello` is our name, or an address literal: what EHLO says (RFC 5321 section 4.1.1.1)."""
        self._hello = _speakable(hello)
        self._peer = peer
        self.deadlines = deadlines
        #: How often a reply or a call has moved the session.
        self.moves = 0
        self._features = Features()
        self._stage = Stage.CONNECTING
        self._reader = ReplyReader()
        #: Replies that are due, in the order in which they have to come.
        self._due: deque[_Due] = deque()
        #: What is to be said next, each with what will be due for it.
        self._unsaid: deque[tuple[bytes, _Due]] = deque()
        #: The transactions that have begun and are not settled, in order.
        self._courses: deque[_Course] = deque()
        #: The one whose content is on its way.
        self._content: _Course | None = None
        self._events: deque[Event] = deque()
        self._to_send: list[bytes] = []
        #: Why it is over, once it is.
        self._ending: _Ending = _broken(peer, Breakage.LOST)

    # What the adapter asks.

    @property
    def features(self) -> Features:
        """What the server offers; nothing before `Ready`."""
        return self._features

    @property
    def over(self) -> bool:
        """Nothing more will be said or heard."""
        return self._stage is Stage.OVER

    @property
    def idle(self) -> bool:
        """There is no transaction, and one could begin."""
        return self._stage in _WILLING and not self._courses

    @property
    def leaving(self) -> bool:
        """QUIT was said, and is not answered yet."""
        return self._stage is Stage.LEAVING

    @property
    def can_begin(self) -> bool:
        """Whether a transaction may begin now."""
        if self._stage not in _WILLING or self._content is not None or self._unsaid:
            return False
        ahead = len(self._due) == 1 and self._due[0].said is Said.CONTENT and self._features.pipelining
        return not self._courses or ahead

    @property
    def phase(self) -> Phase:
        """What we wait for, or (`CONTENT`) what we are sending."""
        if self._stage is Stage.CONNECTING:
            return Phase.CONNECT
        if self._content is not None:
            return Phase.CONTENT
        return _PHASES[self._due[0].said] if self._due else Phase.MAIL

    @property
    def deadline(self) -> float | None:
        """Seconds from the last move after which `break_off(Breakage.TIMEOUT)` is to be called; `None`: no hurry."""
        if self._stage is Stage.OVER or self.idle:
            return None
        if self._stage is Stage.LEAVING:
            return QUIT_SECONDS
        return self.deadlines.of(self.phase)

    def next_event(self) -> Event | None:
        """What has happened since, in order."""
        return self._events.popleft() if self._events else None

    def data_to_send(self) -> bytes:
        """What is to be sent now, and only once: all of it may leave in one write."""
        if not self._to_send:
            return b""
        octets = b"".join(self._to_send)
        self._to_send.clear()
        return octets

    # What the adapter tells.

    def connected(self) -> None:
        """The connection is there: the server speaks first."""
        self._stage = Stage.OPENING
        self._due.append(_Due(Said.NOTHING))
        self.moves += 1

    def receive_data(self, octets: bytes) -> None:
        """
        Take what the network brought. Whatever it is, and wherever it was cut, this never raises.

        All that is in it was said before the peer could hear what we say next. So a reply that comes in one piece
        with a 354 or with the answer to EHLO, and that nobody has asked for, is an unasked reply.
        """
        if self.over:
            return
        self._reader.receive_data(octets)
        while not self.over and (reply := self._reader.next_reply()) is not None:
            if isinstance(reply, Nonsense):
                self._nonsense(reply.text)
            else:
                self._take(reply)

    def break_off(self, breakage: Breakage, text: str = "") -> None:
        """The connection was not made, was lost, or a deadline has passed. What is not settled yet is settled now."""
        self._end(_broken(self._peer, breakage, text))

    def begin(self, transaction: Transaction) -> None:
        """
        Begin a transaction. Ends with `Settled`, at once if the server cannot be given the message.

        On a session that is over its facts say why: a connection that is kept for the next message may end at any time.
        """
        course = _Course(transaction)
        if self.over:
            course.settle_rest(self._ending(Phase.MAIL))
            self._events.append(course.settled())
            return
        if not self.can_begin:
            raise RuntimeError("the last transaction is not over")
        self._settle_unsuitable(course)
        commands = self._commands(course) if course.unsettled else []
        self._courses.append(course)
        self.moves += 1
        if not commands:
            if course is self._courses[0]:
                self._finish()
            return
        self._unsaid.extend(commands)
        self._stage = Stage.OPEN
        self._speak()

    def content_sent(self) -> None:
        """All of the content has been given to the network, with its terminator."""
        if self._content is None:
            raise RuntimeError("no content was asked for")
        self._due.append(_Due(Said.CONTENT, self._content))
        self._content = None
        self.moves += 1

    def quit(self) -> None:
        """Say QUIT. `Over` follows when it is answered, or when nobody wants to wait any longer."""
        if self._courses:
            raise RuntimeError("a transaction is not over")
        if self._stage in (Stage.LEAVING, Stage.OVER):
            return
        if self._stage is Stage.CONNECTING or self._due:
            self._end(self._ending)
            return
        self._stage = Stage.LEAVING
        self.moves += 1
        self._say("QUIT", Said.QUIT)

    # Saying.

    def _commands(self, course: _Course) -> list[tuple[bytes, _Due]]:
        """All that is to be said up to the content, each with what will be due for it."""
        commands = [] if self._stage is Stage.OPEN else [_command("RSET", _Due(Said.RSET))]
        commands.append(_command(self._mail(course), _Due(Said.MAIL, course)))
        for index, recipient in enumerate(course.transaction.recipients):
            if course.facts[index] is None:
                commands.append(_command(f"RCPT TO:<{recipient}>", _Due(Said.RCPT, course, index)))
        commands.append(_command("DATA", _Due(Said.DATA, course)))
        return commands

    def _say(self, line: str, said: Said) -> None:
        self._unsaid.append(_command(line, _Due(said)))
        self._speak()

    def _speak(self) -> None:
        """Say what may be said now: everything to a server that offers PIPELINING, else one command a reply."""
        while self._unsaid and (self._features.pipelining or not self._due):
            octets, due = self._unsaid.popleft()
            self._to_send.append(octets)
            self._due.append(due)

    def _mail(self, course: _Course) -> str:
        """MAIL, with the parameters that this message needs and this server takes."""
        transaction, features = course.transaction, self._features
        line = f"MAIL FROM:<{transaction.reverse_path or ''}>"
        if features.sized and transaction.size:
            line += f" SIZE={transaction.size}"
        if features.eight_bit and (transaction.eight_bit or transaction.international):
            line += " BODY=8BITMIME"
        if self._needs_smtputf8(transaction) or any(
            not recipient.ascii and fact is None
            for recipient, fact in zip(transaction.recipients, course.facts, strict=True)
        ):
            # Only what needs it asks for it (RFC 6531 section 3.4): the next hop then has fewer reasons to refuse.
            line += " SMTPUTF8"
        return line

    @staticmethod
    def _needs_smtputf8(transaction: Transaction) -> bool:
        """Whether the message needs it for each recipient, whatever the recipient's own address."""
        reverse_path = transaction.reverse_path
        return transaction.international or (reverse_path is not None and not reverse_path.ascii)

    def _settle_unsuitable(self, course: _Course) -> None:
        """Settle those recipients whose copy this server cannot be given (RFC 1870, RFC 6152, RFC 6531)."""
        transaction, features = course.transaction, self._features
        if features.size and transaction.size > features.size:
            course.settle_rest(Unsuitable(Need.SIZE, self._peer))
        if transaction.eight_bit and not features.eight_bit:
            course.settle_rest(Unsuitable(Need.EIGHT_BIT, self._peer))
        if features.smtputf8:
            return
        if self._needs_smtputf8(transaction):
            course.settle_rest(Unsuitable(Need.SMTPUTF8, self._peer))
        for index, recipient in enumerate(transaction.recipients):
            if not recipient.ascii:
                course.settle(index, Unsuitable(Need.SMTPUTF8, self._peer))

    # Hearing.

    def _take(self, reply: Reply) -> None:
        """One reply: the row of the table says what it means, and no row means that it cannot mean anything."""
        if not self._due:
            self._unasked(reply)
            return
        due = self._due[0]
        if reply.code == 421 and self._stage is not Stage.LEAVING:
            self._end(_refused(self._peer, reply))
            return
        row = _ROWS.get((due.said, reply.code // 100))
        if row is None:
            self._nonsense(f"this is no answer to {due.said.name}: {reply}")
            return
        self._due.popleft()
        self.moves += 1
        row(self, reply, due)
        self._speak()

    def _unasked(self, reply: Reply) -> None:
        """
        A reply that nothing was said for. A refusal while content is on its way is an answer all the same: the server
        has had enough (552, 421), it cannot have accepted anything, and nothing can be said behind it.
        """
        if reply.code == 421 or (self._content is not None and not reply.positive):
            self._end(_refused(self._peer, reply))
        else:
            self._nonsense(f"a reply that nobody asked for: {reply}")

    def _nonsense(self, text: str) -> None:
        self._end(_broken(self._peer, Breakage.NONSENSE, text[:_TEXT]))

    def _end(self, ending: _Ending, politely: bool = False) -> None:
        """The conversation is over: settle everybody, each by how far its transaction had come."""
        if self.over:
            return
        if self._stage in (Stage.CONNECTING, Stage.OPENING):
            self._events.append(TurnedAway(ending(self.phase)))
        while self._courses:
            self._courses[0].settle_rest(ending(self._phase_of(self._courses[0])))
            self._finish()
        self._ending = ending
        self._stage = Stage.OVER
        if self._content is not None:
            # Nobody wants the content any more, even if we have not been asked for our events since the 354.
            self._events = deque(event for event in self._events if not isinstance(event, Proceed))
        self._due.clear()
        self._unsaid.clear()
        self._to_send.clear()
        self._content = None
        self._events.append(Over(politely))

    def _phase_of(self, course: _Course) -> Phase:
        if course is self._content:
            return Phase.CONTENT
        return next((_PHASES[due.said] for due in self._due if due.course is course), Phase.MAIL)

    def _finish(self) -> None:
        """The oldest transaction is settled, and with it those behind it that need nothing to be said."""
        self._events.append(self._courses.popleft().settled())
        while self._courses and not self._courses[0].unsettled:
            self._events.append(self._courses.popleft().settled())

    def _abandon(self) -> None:
        """The oldest transaction is settled before its content. What was not said of it yet is left unsaid."""
        self._unsaid.clear()
        self._stage = Stage.ABANDONED
        self._finish()

    # The rows. Each is called with the reply and with what it answers.

    def _hear_greeting(self, reply: Reply, due: _Due) -> None:
        self._say(f"EHLO {self._hello}", Said.EHLO)

    def _fall_back(self, reply: Reply, due: _Due) -> None:
        """It does not know EHLO, or says so (RFC 5321 section 3.2): in older words, then."""
        self._say(f"HELO {self._hello}", Said.HELO)

    def _hear_features(self, reply: Reply, due: _Due) -> None:
        if due.said is Said.EHLO:
            self._features = Features.offered(reply.lines)
        self._stage = Stage.OPEN
        self._events.append(Ready(self._features))

    def _hear_refusal(self, reply: Reply, due: _Due) -> None:
        """Refused before any transaction: QUIT is all that may be said (RFC 5321 section 3.1)."""
        self._events.append(TurnedAway(Answered(reply, _PHASES[due.said], self._peer)))
        self.quit()

    def _go_on(self, reply: Reply, due: _Due) -> None:
        """As it should be."""

    def _refuse_mail(self, reply: Reply, due: _Due) -> None:
        course = self._courses[0]
        course.settle_rest(Answered(reply, Phase.MAIL, self._peer))
        if self._unsaid:
            self._abandon()

    def _accept_recipient(self, reply: Reply, due: _Due) -> None:
        self._courses[0].accepted += 1

    def _refuse_recipient(self, reply: Reply, due: _Due) -> None:
        course = self._courses[0]
        course.settle(due.index, Answered(reply, Phase.RCPT, self._peer))
        if not course.unsettled and self._unsaid:
            self._abandon()

    def _refuse_data(self, reply: Reply, due: _Due) -> None:
        self._courses[0].settle_rest(Answered(reply, Phase.DATA, self._peer))
        self._abandon()

    def _send_content(self, reply: Reply, due: _Due) -> None:
        """
        354. If nobody is left to send to, the content is empty, and whatever is said to it is no promise (RFC 2920
        section 3.1). A server that refused the sender but not all recipients would deliver that emptiness.
        """
        course = self._courses[0]
        if course.unsettled:
            self._content = course
            self._events.append(Proceed())
        elif course.accepted:
            self._nonsense("354 to a transaction whose sender was refused")
        else:
            self._to_send.append(TERMINATOR)
            self._due.append(_Due(Said.CONTENT, course))

    def _accept_content(self, reply: Reply, due: _Due) -> None:
        self._courses[0].settle_rest(Carried(onward=True, by=str(self._peer), text=str(reply)[:_TEXT]))
        self._finish()

    def _refuse_content(self, reply: Reply, due: _Due) -> None:
        self._courses[0].settle_rest(Answered(reply, Phase.END, self._peer))
        self._finish()

    def _part(self, reply: Reply, due: _Due) -> None:
        self._end(self._ending, politely=True)


#: In these stages a transaction may begin.
_WILLING: Final = (Stage.OPEN, Stage.ABANDONED)

_Row: TypeAlias = Callable[[ClientSession, Reply, _Due], None]

#: The law: for each thing that we say exactly one reply is due, and replies come in the order of what was said. What
#: a reply means is the row of what it answers and of its code's first digit (RFC 5321 section 4.2.1: it is all that a
#: client may go by); a reply without a row, and one that nobody asked for, ends the conversation as nonsense, and
#: a 421 ends it as the answer to all that was still open.
_ROWS: Final[Mapping[tuple[Said, int], _Row]] = {
    (Said.NOTHING, 2): ClientSession._hear_greeting,
    (Said.NOTHING, 4): ClientSession._hear_refusal,
    (Said.NOTHING, 5): ClientSession._hear_refusal,
    (Said.EHLO, 2): ClientSession._hear_features,
    (Said.EHLO, 4): ClientSession._hear_refusal,
    (Said.EHLO, 5): ClientSession._fall_back,
    (Said.HELO, 2): ClientSession._hear_features,
    (Said.HELO, 4): ClientSession._hear_refusal,
    (Said.HELO, 5): ClientSession._hear_refusal,
    (Said.RSET, 2): ClientSession._go_on,
    (Said.MAIL, 2): ClientSession._go_on,
    (Said.MAIL, 4): ClientSession._refuse_mail,
    (Said.MAIL, 5): ClientSession._refuse_mail,
    (Said.RCPT, 2): ClientSession._accept_recipient,
    (Said.RCPT, 4): ClientSession._refuse_recipient,
    (Said.RCPT, 5): ClientSession._refuse_recipient,
    (Said.DATA, 3): ClientSession._send_content,
    (Said.DATA, 4): ClientSession._refuse_data,
    (Said.DATA, 5): ClientSession._refuse_data,
    (Said.CONTENT, 2): ClientSession._accept_content,
    (Said.CONTENT, 4): ClientSession._refuse_content,
    (Said.CONTENT, 5): ClientSession._refuse_content,
    (Said.QUIT, 2): ClientSession._part,
    (Said.QUIT, 3): ClientSession._part,
    (Said.QUIT, 4): ClientSession._part,
    (Said.QUIT, 5): ClientSession._part,
}


def _refused(peer: Peer, reply: Reply) -> _Ending:
    return lambda phase: Answered(reply, phase, peer)


def _broken(peer: Peer, breakage: Breakage, text: str = "") -> _Ending:
    return lambda phase: Broke(breakage, phase, peer, text)


def _command(line: str, due: _Due) -> tuple[bytes, _Due]:
    return _speakable(line).encode() + b"\r\n", due


def _speakable(line: str) -> str:
    """
    The line, if it is certain that it is one. An address that was parsed has no character that would be found here,
    and so it is our own fault if there is one.
    """
    if not line.isprintable():
        raise ValueError("a command has characters that no command may have")
    return line
