"""
The client's side of the dialogue: replies in, events out; transactions in, octets out (RFC 5321 section 3).

`ClientSession` decides nothing about mail: which hosts are tried, and what a refusal means, is asked elsewhere. It
turns one conversation into one fact for each recipient, whatever the peer does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, TypeAlias, assert_never

from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Need,
    Peer,
    Phase,
    TlsTrouble,
    Unencrypted,
    Unsuitable,
)
from relay.mail.reply import Reply
from relay.smtp.course import PHASES, Course, Due, Said, Usual, due_to_proposal, spoken
from relay.smtp.deadlines import DEADLINES as DEADLINES
from relay.smtp.deadlines import QUIT_SECONDS as QUIT_SECONDS
from relay.smtp.deadlines import Deadlines as Deadlines
from relay.smtp.features import NOTHING_OFFERED
from relay.smtp.meaning import MEANINGS, TEXT, Absurdity, Counterpart, Follows
from relay.smtp.octets import TERMINATOR
from relay.smtp.opening import Leave, Opening, Say, Step
from relay.smtp.parameters import Terms, lacking, mail, rcpt
from relay.smtp.replies import GO_AHEAD, TAKEN, Nonsense, ReplyReader
from relay.smtp.transaction import (
    PLAINLY,
    PROCEED,
    Approach,
    Event,
    Over,
    Proceed,
    Ready,
    Refusal,
    Settled,
    StartTls,
    Transaction,
    TurnedAway,
)

#: Members of an enumeration are looked up slowly.
_CONTENT: Final = Said.CONTENT
_EHLO: Final = Said.EHLO
_NOTHING: Final = Follows.NOTHING
_NONE: Final = Usual.NONE
_PROPOSED: Final = Usual.PROPOSED
_SENDING: Final = Usual.SENDING
_SENT: Final = Usual.SENT
_FOLLOWED: Final = Usual.FOLLOWED
#: What is waited for, or is being done.
_USUAL_PHASES: Final = {
    _PROPOSED: Phase.MAIL,
    _SENDING: Phase.CONTENT,
    _SENT: Phase.END,
    _FOLLOWED: Phase.END,
}
_NO_TERMS: Final = Terms(NOTHING_OFFERED)


class Stage(Enum):
    """How far the conversation as a whole has come."""

    CONNECTING = auto()
    #: What `relay.smtp.opening` does.
    OPENING = auto()
    #: Amid that, TLS shakes hands.
    SHAKING = auto()
    #: Transactions, one behind the other.
    OPEN = auto()
    #: The same, but the last transaction was left without its end: RSET before the next (RFC 5321 section 4.1.1.5).
    ABANDONED = auto()
    #: QUIT was said.
    LEAVING = auto()
    OVER = auto()


_OPEN: Final = Stage.OPEN

#: What `hear_at_once` has heard if nothing was taken.
_MAY_COME: Final = (None, True)

#: How a conversation ended: the fact about a recipient, given how far its transaction had come.
_Ending: TypeAlias = Callable[[Phase], Refusal]


class ClientSession:
    """
    One conversation with one server. The adapter does this, and nothing else:

    `connected`, then `receive_data` with what the network brought, or `break_off` with how the connection ended;
    after these and after every other call, `next_event` until it returns `None`, and `data_to_send` to the
    network. `phase` and `deadline` say what is being waited for; a deadline begins anew whenever `moves` has changed.

    `begin` a transaction when `can_begin`, or `propose` one; its end is one `Settled`, whatever happens. `quit` when
    there are no more. A next transaction may begin when the last one is settled; or, where PIPELINING is offered,
    already when its content has been sent (RFC 2920 section 3.1), so that both leave in one write.

    Who is in a hurry says `hear_at_once` what the network brought, and if that is not for it, `hear`.
    """

    __slots__ = (
        "_amid",
        "_approach",
        "_content",
        "_counterpart",
        "_courses",
        "_due",
        "_ending",
        "_opening",
        "_reader",
        "_stage",
        "_unproved",
        "_unsaid",
        "_usual",
        "can_begin",
        "deadlines",
        "events",
        "features",
        "moves",
        "terms",
        "to_send",
    )

    def __init__(self, hello: str, peer: Peer, deadlines: Deadlines = DEADLINES, approach: Approach = PLAINLY) -> None:
        """`hello` is our name, or an address literal: what EHLO says (RFC 5321 section 4.1.1.1)."""
        self._opening = Opening(hello, peer, approach)
        self._approach = approach
        self.deadlines = deadlines
        #: How often a reply or a call has moved the session.
        self.moves = 0
        #: What the server offers; nothing before `Ready`.
        self.features = NOTHING_OFFERED
        #: What follows from that for a transaction, and from who we both are.
        self.terms = _NO_TERMS
        #: Whom we speak with. What a message that is taken means there is known when one can be taken.
        self._counterpart = Counterpart(peer, str(peer), approach.lmtp)
        #: Whether a transaction may begin now. `_may_begin` says when that is so.
        self.can_begin = False
        self._stage = Stage.CONNECTING
        self._reader = ReplyReader()
        #: It has a reply that is not whole yet.
        self._amid = False
        #: TLS is there, and nothing was heard by it yet.
        self._unproved = False
        #: Replies that are due, in the order in which they have to come.
        self._due: deque[Due] = deque()
        #: What is to be said next, each with what will be due for it.
        self._unsaid: deque[tuple[bytes, Due]] = deque()
        #: The transactions that have begun and are not settled, in order.
        self._courses: deque[Course] = deque()
        #: The one whose content is on its way.
        self._content: Course | None = None
        #: Instead of all these, as long as it says all: see `_spell_out`.
        self._usual = _NONE
        #: What `next_event` and `data_to_send` would give, for who looks whether it is anything.
        self.events: deque[Event] = deque()
        self.to_send = b""
        #: Why it is over, once it is.
        self._ending: _Ending = _broken(peer, Breakage.LOST)

    # What the adapter asks.

    @property
    def over(self) -> bool:
        """Nothing more will be said or heard."""
        return self._stage is Stage.OVER

    @property
    def idle(self) -> bool:
        """There is no transaction, and one could begin."""
        return self._stage in _WILLING and self._usual is _NONE and not self._courses

    @property
    def leaving(self) -> bool:
        """QUIT was said, and is not answered yet."""
        return self._stage is Stage.LEAVING

    @property
    def wants_content(self) -> bool:
        """Whether content that was asked for is still of use."""
        return self._content is not None or self._usual is _SENDING

    @property
    def holds_content(self) -> bool:
        """Whether the next chunk has to wait for the reply to the last one: who offers no PIPELINING wants it so."""
        return bool(self._due) and not self.features.pipelining

    @property
    def phase(self) -> Phase:
        """What we wait for, or (`CONTENT`) what we are sending."""
        if self._usual is not _NONE:
            return _USUAL_PHASES[self._usual]
        if self._stage is Stage.CONNECTING:
            return Phase.CONNECT
        if self._stage is Stage.SHAKING:
            return Phase.STARTTLS
        if self._content is not None:
            return Phase.CONTENT
        return PHASES[self._due[0][0]] if self._due else Phase.MAIL

    @property
    def deadline(self) -> float | None:
        """Seconds from the last move after which `break_off(Breakage.TIMEOUT)` is to be called; `None`: no hurry."""
        if self._content is not None:
            return self.deadlines.block
        if self._due:
            return self.deadlines.replies[self._due[0][0]]
        return None if self._stage is Stage.OVER or self.idle else self.deadlines.of(self.phase)

    def next_event(self) -> Event | None:
        """What has happened since, in order."""
        return self.events.popleft() if self.events else None

    def data_to_send(self) -> bytes:
        """What is to be sent now, and only once: all of it may leave in one write."""
        octets, self.to_send = self.to_send, b""
        return octets

    # What the adapter tells.

    def connected(self) -> None:
        """The connection is there: the server speaks first."""
        self._stage = Stage.OPENING
        self._due.append((Said.NOTHING, None, -1))
        self.moves += 1

    def secured(self, tls: str, *, verified: bool) -> None:
        """
        The handshake that `StartTls` asked for is complete.

        `tls` says how, for the log; `verified`: the server's certificate comes from an authority that is trusted, and
        is for the name of the server that was meant.
        """
        if self._stage is not Stage.SHAKING:
            raise RuntimeError("no handshake was asked for")
        self._stage = Stage.OPENING
        self._unproved = True
        self.moves += 1
        self._step(self._opening.secured(tls, verified))
        self.can_begin = self._may_begin()

    def receive_data(self, octets: bytes) -> None:
        """
        Take what the network brought. Whatever it is, and wherever it was cut, this never raises.

        All that is in it was said before the peer could hear what we say next. So a reply that comes in one piece
        with a 354 or with the answer to EHLO, and that nobody has asked for, is an unasked reply; and so is whatever
        comes with the 220 to STARTTLS, from whomever it may be (RFC 3207 section 6).
        """
        heard = self.hear_at_once(octets)
        if heard is None:
            self.hear(octets)
            return
        fact, proceed = heard
        if fact is not None:
            self.events.append(Settled((fact,)))
        if proceed:
            self.events.append(PROCEED)

    def hear(self, octets: bytes) -> None:
        """As `receive_data`, whatever it is, reply by reply."""
        self._hear(octets)
        self._amid = not self._reader.empty
        self.can_begin = self._may_begin()

    def _hear(self, octets: bytes) -> None:
        if self._stage is Stage.OVER:
            return
        if self._stage is Stage.SHAKING:
            self._nonsense("something was said in clear when TLS had begun")
            return
        self._spell_out()
        if len(self._due) == 1 and self._hear_alone(octets):
            return
        self._reader.receive_data(octets)
        #: What a reply among these octets can answer; what we say because of them is answered later.
        asked = len(self._due)
        while (reply := self._reader.next_reply()) is not None:
            if type(reply) is Nonsense:
                self._nonsense(reply.text)
            elif asked:
                asked -= 1
                self._take(reply)
            else:
                self._unasked(reply)

    def _hear_alone(self, octets: bytes) -> bool:
        """One reply is due: whether these octets are that, and nothing else, as most are."""
        if self._due[0][0] is _EHLO and not self._amid and (step := self._opening.hear_offers(octets)) is not None:
            self._unproved = False
            self._go_on_opening(step)
            return True
        reply = self._reader.whole(octets)
        if reply is None:
            return False
        self._take(reply)
        return True

    def _spell_out(self) -> None:
        """From now on what is due to the `Usual` is heard one by one, and it may end in any way."""
        usual, self._usual = self._usual, _NONE
        if usual is _NONE:
            return
        if usual is not _PROPOSED:
            course = Course(1, False)
            course.accepted.append(0)
            self._courses.append(course)
            if usual is _SENDING:
                self._content = course
            else:
                self._due.append((_CONTENT, course, 0 if self._approach.lmtp else -1))
        if usual is _PROPOSED or usual is _FOLLOWED:
            course = Course(1, False)
            self._courses.append(course)
            self._due.extend(due_to_proposal(course))

    def hear_at_once(self, octets: bytes) -> tuple[Carried | None, bool] | None:
        """
        What most servers say of most messages, in one step: the fact that one is taken, or that the content of the one
        that was proposed may come, or both. It means what the rows would say of it one by one, but is no event. `None`
        if it is anything else; then nothing has happened yet.
        """
        usual = self._usual
        if usual is _FOLLOWED or usual is _SENT:
            heard = TAKEN.match(octets)
            if heard is None:
                return None
            proceed = heard.lastindex == 2
            if usual is _FOLLOWED:
                self._usual = _SENDING if proceed else _PROPOSED
            elif proceed:
                return None
            else:
                self._usual = _NONE
                self.can_begin = True
            self.moves += 1
            who = self._counterpart
            return Carried(who.onward, who.by, heard[1].decode(), who.told, who.tls, who.timed), proceed
        if usual is not _PROPOSED or GO_AHEAD.match(octets) is None:
            return None
        self._usual = _SENDING
        self.moves += 1
        return _MAY_COME

    def break_off(self, breakage: Breakage, text: str = "") -> None:
        """The connection was not made, was lost, or a deadline has passed. What is not settled yet is settled now."""
        # A server that does not like our side of the handshake (TLS 1.3) can only say so when ours is complete.
        unproved = self._unproved and breakage is Breakage.LOST
        if self.phase is Phase.STARTTLS or unproved:
            why = Unencrypted(TlsTrouble.FAILED, self._counterpart.peer, (text or breakage.value)[:TEXT])
            self._end(lambda phase: why)
        else:
            self._end(_broken(self._counterpart.peer, breakage, text))
        self.can_begin = False

    def begin(self, transaction: Transaction) -> None:
        """
        Begin a transaction. Ends with `Settled`, at once if the server cannot be given the message.

        On a session that is over its facts say why: a connection that is kept for the next message may end at any time.
        """
        terms, recipients = self.terms, transaction.recipients
        need = lacking(transaction, terms)
        if (
            len(recipients) == 1
            and not transaction.chunked
            and terms.features.pipelining
            and need is None
            and (recipients[0].ascii or terms.features.smtputf8)
        ):
            self.propose(spoken((mail(transaction, terms), rcpt(transaction, 0, terms), "DATA")))
            return
        course = Course(len(recipients), transaction.chunked)
        if not self.can_begin:
            self._begin_in_vain(course)
            return
        self._spell_out()
        if need is not None:
            course.settle_rest(Unsuitable(need, self._counterpart.peer))
        elif not self.features.smtputf8:
            # RFC 6531 section 3.4.
            for index, recipient in enumerate(recipients):
                if not recipient.ascii:
                    course.settle(index, Unsuitable(Need.SMTPUTF8, self._counterpart.peer))
        if course.unsettled:
            self._propose(course, transaction)
        self._courses.append(course)
        self.moves += 1
        if not course.unsettled and course is self._courses[0]:
            self._finish()
        self.can_begin = self._may_begin()

    def propose(self, commands: bytes) -> None:
        """
        As `begin`, of a transaction for one recipient and with its content behind DATA. These are its MAIL, RCPT and
        DATA by the session's `terms` (`relay.smtp.parameters.plainly`): the server offers PIPELINING, and may be given
        the message.
        """
        if self._usual is _SENT:
            self._usual = _FOLLOWED
        elif self.can_begin and self._stage is _OPEN and not (self._courses or self._due or self._amid):
            self._usual = _PROPOSED
        else:
            self._propose_amid(commands)
            return
        self.to_send += commands
        self.can_begin = False
        self.moves += 1

    def _propose_amid(self, commands: bytes) -> None:
        """The same where not all is as usual."""
        course = Course(1, False)
        if not self.can_begin:
            self._begin_in_vain(course)
            return
        if self._stage is Stage.ABANDONED:
            commands = spoken(("RSET",)) + commands
            self._due.append((Said.RSET, None, -1))
            self._stage = _OPEN
        self.to_send += commands
        self._due.extend(due_to_proposal(course))
        self._courses.append(course)
        self.can_begin = False
        self.moves += 1

    def _begin_in_vain(self, course: Course) -> None:
        if not self.over:
            raise RuntimeError("the last transaction is not over")
        course.settle_rest(self._ending(Phase.MAIL))
        self.events.append(course.settled())

    def piece_sent(self) -> None:
        """A piece of the content has been given to the network, and it was not the last."""
        if self._usual is _SENDING:
            return
        if self._content is None:
            raise RuntimeError("no content was asked for")
        if self._content.chunked:
            self._due.append((Said.CHUNK, self._content, -1))

    def content_sent(self) -> None:
        """All of the content has been given to the network: its terminator, or its last chunk."""
        if self._usual is _SENDING:
            self._usual = _SENT
            self.can_begin = True
            self.moves += 1
            return
        course, due = self._content, self._due
        if course is None:
            raise RuntimeError("no content was asked for")
        self._content = None
        if self._approach.lmtp:
            # RFC 2033 section 4.2: a reply for each recipient that was accepted, in their order.
            due.extend([(_CONTENT, course, index) for index in course.accepted])
        else:
            due.append((_CONTENT, course, -1))
        self.can_begin = len(due) == 1 and self.features.pipelining
        self.moves += 1

    def quit(self) -> None:
        """Say QUIT. `Over` follows when it is answered, or when nobody wants to wait any longer."""
        if self._courses or self._usual is not _NONE:
            raise RuntimeError("a transaction is not over")
        if self._stage in (Stage.LEAVING, Stage.OVER):
            return
        self.can_begin = False
        if self._stage in (Stage.CONNECTING, Stage.SHAKING) or self._due:
            self._end(self._ending)
            return
        self._stage = Stage.LEAVING
        self.moves += 1
        self._say("QUIT", Said.QUIT)

    # Saying.

    def _propose(self, course: Course, transaction: Transaction) -> None:
        """
        Say all of a transaction up to its content: in one piece to a server that offers PIPELINING (RFC 2920 section
        3.1), to others one command after each reply.
        """
        terms = self.terms
        course.unanswered = course.unsettled
        if transaction.chunked and not terms.features.chunking:
            raise ValueError("chunks were not offered")
        left = course.left()
        lines = [mail(transaction, terms), *[rcpt(transaction, index, terms) for index in left]]
        due: list[Due] = [(Said.MAIL, course, -1), *[(Said.RCPT, course, index) for index in left]]
        if not transaction.chunked:
            lines += ["DATA"]
            due += [(Said.DATA, course, -1)]
        if self._stage is Stage.ABANDONED:
            lines = ["RSET", *lines]
            due = [(Said.RSET, None, -1), *due]
        if terms.features.pipelining:
            self.to_send += spoken(lines)
            self._due.extend(due)
        else:
            self._unsaid.extend(zip([spoken((line,)) for line in lines], due, strict=True))
            self._speak()
        self._stage = Stage.OPEN

    def _say(self, line: str, said: Said) -> None:
        self._unsaid.append((spoken((line,)), (said, None, -1)))
        self._speak()

    def _speak(self) -> None:
        """Say what may be said now, where not all was said at once: one command after each reply."""
        if self._unsaid and not self._due:
            octets, due = self._unsaid.popleft()
            self.to_send += octets
            self._due.append(due)

    # Hearing.

    def _take(self, reply: Reply) -> None:
        """
        One reply to what was said first of all that is not answered: for each thing that we say exactly one is due. It
        means what its table says, for a transaction `relay.smtp.meaning` and before the first one `relay.smtp.opening`;
        one that means nothing, and one that nobody asked for, ends the conversation as nonsense, and a 421 ends it as
        the answer to all that was still open.
        """
        self._unproved = False
        said, _, index = self._due[0]
        if reply.code == 421 and self._stage is not Stage.LEAVING:
            self._end(_refused(self._counterpart.peer, reply))
            return
        if self._stage is Stage.OPENING:
            self._open(said, reply)
            return
        meaning = MEANINGS.get((said, reply.code // 100))
        if meaning is None and not (said is Said.QUIT or (said is Said.RSET and reply.code < 300)):
            self._make_no_sense_of(said, reply)
            return
        self._due.popleft()
        self.moves += 1
        if meaning is not None:
            follows = meaning(self._courses[0], reply, index, self._counterpart)
            if follows is not _NOTHING:
                self._do(follows)
        elif said is Said.QUIT:
            self._end(self._ending, politely=True)
        if self._unsaid:
            self._speak()

    def _do(self, follows: Follows | Absurdity) -> None:
        """What follows from a reply to the oldest transaction."""
        course = self._courses[0]
        match follows:
            case Follows.NOTHING:
                pass
            case Follows.VANITY:
                if self._unsaid:
                    self._abandon()
            case Follows.RESET:
                self._abandon()
            case Follows.CONTENT:
                self._content = course
                self.events.append(PROCEED)
            case Follows.EMPTINESS:
                self.to_send += TERMINATOR
                self._due.append((_CONTENT, course, -1))
            case Follows.CHUNK:
                if not course.unsettled:
                    self._content = None
                    if not (self._due and self._awaits(course)):
                        self._abandon()
            case Follows.END:
                if not (self._due and self._awaits(course)):
                    self._finish()
            case Follows.UNCERTAIN_END:
                self._stage = Stage.ABANDONED
                if not (self._due and self._awaits(course)):
                    self._finish()
            case Absurdity(text):
                self._nonsense(text)
            case _:
                assert_never(follows)

    def _open(self, said: Said, reply: Reply) -> None:
        step = self._opening.hear(said, reply)
        if step is None:
            self._make_no_sense_of(said, reply)
            return
        self._go_on_opening(step)

    def _go_on_opening(self, step: Step) -> None:
        self._due.popleft()
        self.moves += 1
        self._step(step)

    def _step(self, step: Step) -> None:
        """The next step on the way to the first transaction."""
        match step:
            case Say(line, said):
                self._say(line, said)
            case StartTls():
                self._stage = Stage.SHAKING
                if self._reader.empty:
                    self.events.append(step)
                else:
                    self._nonsense("something was said in clear behind the 220 to STARTTLS")
            case Leave(fact):
                self.events.append(TurnedAway(fact))
                self.quit()
            case Ready(features):
                opening, lmtp, peer = self._opening, self._approach.lmtp, self._counterpart.peer
                self.terms = Terms(
                    features,
                    verified=opening.verified,
                    assured=peer.assured,
                    authenticated=opening.authenticated,
                    lmtp=lmtp,
                )
                self.features = features
                self._counterpart = Counterpart(
                    peer,
                    self._counterpart.by,
                    lmtp,
                    onward=not lmtp,
                    told=not lmtp and features.dsn,
                    tls=opening.tls,
                    timed=not lmtp and features.deliver_by is not None,
                )
                self._stage = Stage.OPEN
                self.events.append(step)

    def _unasked(self, reply: Reply) -> None:
        """
        A reply that nothing was said for. A refusal while content is on its way is an answer all the same: the server
        has had enough (552, 421), it cannot have accepted anything, and nothing can be said behind it.
        """
        if reply.code == 421 or (self._content is not None and not reply.positive):
            self._end(_refused(self._counterpart.peer, reply))
        else:
            self._nonsense(f"a reply that nobody asked for: {reply}")

    def _make_no_sense_of(self, said: Said, reply: Reply) -> None:
        self._nonsense(f"this is no answer to {said.name}: {reply}")

    def _nonsense(self, text: str) -> None:
        self._end(_broken(self._counterpart.peer, Breakage.NONSENSE, text[:TEXT]))

    def _end(self, ending: _Ending, politely: bool = False) -> None:
        """The conversation is over: settle everybody, each by how far its transaction had come."""
        if self.over:
            return
        self._spell_out()
        if self._stage in (Stage.CONNECTING, Stage.OPENING, Stage.SHAKING):
            self.events.append(TurnedAway(ending(self.phase)))
        while self._courses:
            self._courses[0].settle_rest(ending(self._phase_of(self._courses[0])))
            self._finish()
        self._ending = ending
        self._stage = Stage.OVER
        # Nobody wants the content any more, or the handshake, even if our events since then were not asked for.
        wanted = [event for event in self.events if not isinstance(event, Proceed | StartTls)]
        self.events.clear()
        self.events.extend(wanted)
        # What else has been heard already means nothing.
        self._reader = ReplyReader()
        self._amid = False
        self._due.clear()
        self._unsaid.clear()
        self.to_send = b""
        self._content = None
        self.events.append(Over(politely))

    def _phase_of(self, course: Course) -> Phase:
        if course is self._content:
            return Phase.CONTENT
        phases = [PHASES[said] for said, asker, _ in self._due if asker is course]
        # With the last chunk the server has all of it, whatever it has not answered yet.
        return Phase.END if Phase.END in phases else phases[0] if phases else Phase.MAIL

    def _finish(self) -> None:
        """The oldest transaction is settled, and with it those behind it that need nothing to be said."""
        courses = self._courses
        self.events.append(courses.popleft().settled())
        while courses and not courses[0].unsettled:
            self.events.append(courses.popleft().settled())

    def _abandon(self) -> None:
        """The oldest transaction is settled before its content. What was not said of it yet is left unsaid."""
        self._unsaid.clear()
        self._stage = Stage.ABANDONED
        self._finish()

    def _may_begin(self) -> bool:
        """
        The law of `can_begin`: there is no transaction; or there is nothing of any but the final reply to the last one,
        and the next may be said before that comes.
        """
        if self._usual is not _NONE:
            return self._usual is _SENT
        if self._stage not in _WILLING or self._content is not None or self._unsaid:
            return False
        if not self._courses:
            return True
        due = self._due
        return len(due) == 1 and due[0][0] is _CONTENT and self.features.pipelining

    def _awaits(self, course: Course) -> bool:
        """Whether a reply is still due to something that was said of it."""
        return any(asker is course for _, asker, _ in self._due)


#: In these stages a transaction may begin.
_WILLING: Final = (Stage.OPEN, Stage.ABANDONED)


def _refused(peer: Peer, reply: Reply) -> _Ending:
    return lambda phase: Answered(reply, phase, peer)


def _broken(peer: Peer, breakage: Breakage, text: str = "") -> _Ending:
    return lambda phase: Broke(breakage, phase, peer, text)
