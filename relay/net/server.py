"""
The adapter between a connection and a `ServerSession`: octets, deadlines, and nothing about mail.

All that a client asked in one segment is answered in one write, before the first wait and at the end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.interfaces import OutcomeUnknown
from relay.mail.reply import Reply
from relay.net.channel_binding import channel_bindings
from relay.net.doorway import Arrival, Doorway, Secured
from relay.net.timeouts import Deadline
from relay.net.tls import described, trouble
from relay.net.transports import READ, READ_CONTENT, PromptTcp, Undelayed
from relay.net.waiting import Coming, start
from relay.smtp import answers
from relay.smtp.events import Answer, Connected, Content, ContentEnded, Question, Verdicts, XClient
from relay.smtp.server import State

#: Seconds that an answer takes once a client has made too many errors.
SLOWNESS: Final = 1.0
#: Seconds that whoever answers gets beyond its own deadlines: what comes of these has a policy's name, and a reference.
MARGIN: Final = 5.0

# To ask the class for them takes ten times as long.
_READY: Final = State.READY
_IN_CONTENT: Final = State.CONTENT
_IN_HANDSHAKE: Final = State.HANDSHAKE
_CLOSED: Final = State.CLOSED
#: What comes is content, or more of it.
_FLOWING: Final = frozenset({State.CONTENT, State.CHUNKS})
#: Nothing but a command is waited for, where nothing but a command was waited for before.
_CALM: Final = frozenset({State.STRANGER, State.READY, State.SENDER, State.RECIPIENTS})


@implementer(IPushProducer, IHalfCloseableProtocol, IHandshakeListener)
class SmtpServer(Protocol):
    """One connection."""

    transport: Any

    # How each begins, of what most connections never change or look at: that is the class's, and costs them nothing.

    #: The TLS handshake is under way: nothing is said meanwhile.
    _shaking: bool = False
    #: The question whose answer we owe.
    _asked: Question | None = None
    #: Until when we have to answer, by `IClock.seconds`.
    _owed_until: float = 0.0
    #: The client has closed its side: it will say no more, but it may still listen.
    _heard_all: bool = False
    _closing: bool = False
    #: Octets of content that have come since the last look, when that was, and when 354 was said.
    _progress: int = 0
    _looked: float = 0.0
    _silent_since: float = 0.0

    def __init__(self, doorway: Doorway, address: str | None, port: int, gone: Callable[[SmtpServer], object]) -> None:
        self._doorway = doorway
        self._gone = gone
        self._admission = admission = doorway.admission
        self._arrival = arrival = Arrival(address, port, admission.enter(address))
        self._session, self._visit = doorway.admit(arrival)
        self._seconds = doorway.clock.seconds
        self._deadline = Deadline(doorway.timers, self._expired)
        # What is looked at for each command is found sooner here.
        #: The answer that we owe, while it waits.
        self._owed: Deferred[Answer] | Coming[Answer] | None = None
        #: Whether the relay was under stress when the deadline for a command was set.
        self._stressed = False
        #: The client does not read our replies.
        self._choked = False
        self._reading = True
        self._stopping = False
        self._content_since: float | None = None

    # What the network says.

    def makeConnection(self, transport: Any) -> None:
        """Twisted's own and `connectionMade`, in one step."""
        self.connected = True
        self.transport = transport
        doorway = self._doorway
        if not isinstance(transport, Undelayed) and ITCPTransport.providedBy(transport):
            transport.setTcpNoDelay(True)
        # Over this the transport asks us, its producer, to pause.
        transport.bufferSize = doorway.limits.unread_replies
        transport.registerProducer(self, True)
        if doorway.identify is not None and self._arrival.address is None:
            # Known only now: what was admitted before there was a connection is replaced.
            self._follow(user=doorway.identify(transport))
        if not doorway.implicit:
            self._greet()
        elif self._arrival.refusal is None:
            self._shake_hands()
        else:
            # It could only be told in TLS, and that costs us more than a flood costs them.
            self._abort()

    def handshakeCompleted(self) -> None:
        """
        From here on it is another session: nothing of what was said in clear counts (RFC 3207 section 4.2), but
        for errors that were made.
        """
        self._shaking = False
        connection = self.transport.getHandle()
        secured = Secured(
            described(connection),
            # To look for them takes a fifth of the time of a handshake, and few clients can use them.
            lambda: channel_bindings(connection, connection.get_certificate(as_cryptography=True)),
        )
        known = self._visit.known
        self._follow(secured=secured, greeted=not self._doorway.implicit, introduced=(), known=known)
        self._watch(answered=True)
        self._converse(b"")

    def dataReceived(self, data: bytes) -> None:
        if self._choked:
            self._receive(data)
            return
        if self._content_since is not None:
            self._receive_content(data)
            return
        session = self._session
        question = session.hear(data)
        if question is None:
            self._receive(data)
            return
        # The straight way of `_ask` and `_converse`, for an answer that is known and that nothing is left over behind.
        try:
            answer = self._visit.answer(question)
        except Exception:
            failed = self._failed(Failure(), question)
            if failed is not None:
                self._say(session.send(failed))
            return
        if type(answer) is not Reply:
            considered = self._considered(question, answer)
            if considered is not None:
                self._say(session.send(considered))
            return
        said = session.send(answer)
        if session.state in _CALM and self._admission.stressed is self._stressed:
            # As it was: the deadline for a command.
            self._deadline.since = self._seconds()
            self.transport.write(said)
        else:
            self._say(said)

    def _receive_content(self, data: bytes) -> None:
        """The straight way for content that has come as a whole."""
        session = self._session
        question = session.hear_content(data)
        if question is None:
            self._receive(data)
            return
        self._visit.take(Content(data))
        self._content_since = None
        answer = self._ask(question)
        if answer is not None:
            self._say(session.send(answer))

    def _receive(self, data: bytes) -> None:
        """The general way: what was said is put to what was said before, and one after the other answered."""
        session = self._session
        if session.state is _CLOSED or self._shaking:
            return
        session.receive_data(data)
        if self._content_since is not None:
            self._progress += len(data)
            if self._progress > READ:
                # There is more to come; TLS reads as it likes.
                self.transport.readSize = READ_CONTENT
        if self._owed is None and not self._choked:
            self._converse(b"")
        elif session.buffered > self._doorway.limits.input_ahead:
            self._read(False)

    def readConnectionLost(self) -> None:
        """The client has said all that it wants to (`printf ... | nc -N`): it is answered, and then we close."""
        self._heard_all = True
        self._reading = False
        if self._shaking:
            self._abort()
        elif self._owed is None:
            self._converse(b"")

    def writeConnectionLost(self) -> None:
        """We never close our side alone."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = False
        if self._shaking:
            address, why = self._arrival.address, trouble(cast(BaseException, reason.value))
            self._doorway.log.info("The TLS handshake with {address} failed: {why}", address=address, why=why)
        self._deadline.close()
        self._admission.leave(self._arrival.address)
        owed, self._owed = self._owed, None
        # First: so it can tell a client that has gone from an answer that took too long.
        self._visit.lost()
        if owed is not None and not isinstance(self._asked, ContentEnded):
            # Nobody waits for a verdict any more. A commit is another matter: it goes on (`IVisit.lost`).
            owed.cancel()
        self._gone(self)

    # The transport's view of us: we produce replies.

    def pauseProducing(self) -> None:
        """The client does not read: say no more until it does."""
        self._choked = True
        self._read(False)
        self._deadline.within(self._doorway.limits.unread_time)

    def resumeProducing(self) -> None:
        """The client has read."""
        self._choked = False
        if self._owed is None:
            self._watch(answered=True)
            self._converse(b"")
        else:
            self._deadline.within(max(0.0, self._owed_until - self._seconds()))

    def stopProducing(self) -> None:
        """The connection is going away; `connectionLost` follows."""

    # The dialogue.

    def _greet(self) -> None:
        """Answer the first question, which the connection itself is: nothing has been read yet."""
        session = self._session
        reply = self._ask(session.opened())
        if reply is None:
            return
        said = session.send(reply)
        if session.closed or self._stopping:
            self._say(said)
            return
        self.transport.write(said)
        if self._reading:
            self._watch_commands()

    def _converse(self, said: bytes) -> None:
        """Answer all that can be answered now, and send it in one write, together with what is `said` already."""
        session, visit = self._session, self._visit
        answered = said != b""
        while not self._choked and (event := session.next_event()) is not None:
            if type(event) is Content:
                visit.take(event)
                continue
            if type(event) is ContentEnded:
                self._content_since = None
                self.transport.readSize = READ
            reply = self._ask(event)  # type: ignore[arg-type]  # all but `Content` are questions
            if reply is None:
                break
            said += session.send(reply)
            if type(event) is XClient and session.state is State.INTRODUCED:
                self._introduce(event)
                session, visit = self._session, self._visit
            if answered and len(said) > self._doorway.limits.unread_replies:
                # Enough for the client to read first: the transport says when.
                self.transport.write(said)
                said = b""
            answered = True
            if session.looked_at == session.received:
                break
        if said:
            self.transport.write(said)
        if session.state is _IN_HANDSHAKE:
            self._shake_hands()
        elif self._stopping or self._heard_all or session.state is _CLOSED:
            self._part(answered)
        elif self._owed is None and not self._choked:
            if not self._reading:
                self._read(True)
            self._watch(answered)

    def _say(self, said: bytes) -> None:
        """The straight way for an answer to a command that nothing is left over behind: send it, and wait for more."""
        session = self._session
        calm = self._reading and not self._stopping
        if calm and session.closed:
            self._close(said)
            return
        self.transport.write(said)
        if not calm:
            self._converse(b"")
        elif session.state is _IN_CONTENT:
            self._watch_content()
        else:
            self._watch(answered=True)

    def _part(self, answered: bool) -> None:
        """The session is over, or one side wants it to be: close as soon as nothing is owed any more."""
        session, idle = self._session, self._owed is None
        if self._stopping and idle and not session.receiving:
            self._write(session.farewell(answers.STOPPING))
        if session.closed:
            self._close()
        elif idle and not self._choked:
            if self._heard_all:
                session.farewell(answers.STOPPING)  # which nobody waits for
                self._close()
            else:
                self._read(True)
                self._watch(answered)

    def _ask(self, question: Question) -> Answer | None:
        """The reply, or `None` if it has to wait for something."""
        try:
            answer = self._visit.answer(question)
        except Exception:
            return self._failed(Failure(), question)
        if (
            type(answer) is Reply
            and not self._session.slow
            and (type(question) is not Connected or not self._doorway.greeting_delay)
        ):
            return answer
        return self._considered(question, answer)

    def _considered(self, question: Question, answer: Answer | Awaitable[Answer]) -> Answer | None:
        """The answer, if it may be said at once; else it is owed from now on."""
        slow = self._session.slow
        if isinstance(answer, Coming) and answer.early is None and not slow and type(question) is ContentEnded:
            # As nearly always.
            self._owe(question, answer)
            return None
        if type(answer) is not Reply:
            try:
                answer = start(answer)
            except Exception:
                return self._failed(Failure(), question)
        if slow or (type(question) is Connected and self._doorway.greeting_delay):
            return self._not_at_once(question, answer)
        # `isinstance` is slow to say whether something is a Deferred.
        if type(answer) is Reply or type(answer) is Verdicts:
            return answer
        self._owe(question, answer)
        return None

    def _not_at_once(self, question: Question, answer: Answer | Deferred[Answer]) -> Answer | None:
        """As `_considered`, of an answer that is perhaps to be kept back for a while."""
        if isinstance(answer, Deferred):
            owed = answer
            owed.addCallback(self._kept_back, question, self._seconds())
            delay = self._doorway.greeting_delay if type(question) is Connected else SLOWNESS
        else:
            delay = self._delay(question, answer)
            if not delay:
                return answer
            owed = deferLater(cast(Any, self._doorway.clock), delay, lambda: answer)
        self._owe(question, owed, delay)
        return None

    def _owe(self, question: Question, owed: Deferred[Answer] | Coming[Answer], delay: float = 0.0) -> None:
        self._owed, self._asked = owed, question
        limits = self._doorway.limits
        patience = limits.final_reply if type(question) is ContentEnded else limits.policies_at_command + MARGIN
        self._owed_until = self._deadline.within(delay + patience)
        owed.addCallbacks(self._answered, self._not_answered)

    def _kept_back(self, answer: Answer, question: Question, since: float) -> Answer | Deferred[Answer]:
        """The answer, after the time that it has to wait for. A greeting that was thought about has waited already."""
        delay = self._delay(question, answer)
        if type(question) is Connected:
            delay -= self._seconds() - since
        return deferLater(cast(Any, self._doorway.clock), delay, lambda: answer) if delay > 0 else answer

    def _delay(self, question: Question, answer: Answer) -> float:
        """Seconds for which an answer that is known is kept back."""
        negative = isinstance(answer, Reply) and answer.code >= 400
        if isinstance(question, Connected):
            # Who may not stay is not kept here for it.
            waits = not negative and not self._admission.is_trusted(self._arrival.address)
            return self._doorway.greeting_delay if waits else 0.0
        return SLOWNESS if negative and self._session.slow else 0.0

    # One session after another.

    def _follow(self, **changes: Any) -> None:
        """The session that this connection has now is over, and another one begins on it."""
        self._visit.lost()
        self._arrival = evolve(self._arrival, errors=self._session.errors, **changes)
        self._session, self._visit = self._doorway.admit(self._arrival)

    def _introduce(self, introduction: XClient) -> None:
        """The host at the other end speaks for this client from now on; what it knows of it may come in parts."""
        leftover = self._session.leftover
        known = {**dict(self._arrival.introduced), **dict(introduction.attributes)}
        self._follow(introduced=tuple(known.items()), greeted=True, known=None)
        self._session.receive_data(leftover)

    def _shake_hands(self) -> None:
        """Go on in TLS. Twisted puts it between the connection and us, and tells us when it is ready."""
        self._shaking = True
        self._read(True)
        self._deadline.within(self._doorway.limits.handshake)
        self.transport.startTLS(self._doorway.tls)

    def _answered(self, answer: Answer) -> None:
        if self._owed is None:
            # Nobody waits for it any more.
            return
        self._owed = None
        session = self._session
        said = session.send(answer)
        if session.state is _READY and not session.uneven and self._reading and not self._stopping:
            # As most of them, this one was about content, and the client has waited for it, too.
            self._watch_commands()
            self.transport.write(said)
            return
        if session.state is State.INTRODUCED:
            self._introduce(cast(XClient, self._asked))
        self._converse(said)

    def _not_answered(self, failure: Failure) -> None:
        failed = self._failed(failure, self._asked)
        if failed is not None:
            self._answered(failed)

    def _failed(self, failure: Failure, question: Question | None) -> Reply | None:
        """Ours to explain, in the log only; the client hears 451, or nothing where that might be a lie."""
        if failure.check(OutcomeUnknown):
            self._doorway.log.failure("It is unknown whether a message was kept: closing without a reply", failure)
            self._abort()
            return None
        if not failure.check(CancelledError):
            self._doorway.log.failure("An answer failed, the client is told 451", failure)
        # Whom nobody could greet is no guest, and a greeting has codes of its own (RFC 5321 section 3.1).
        return answers.GIVEN_UP if type(question) is Connected else answers.OUR_FAULT

    def stop(self) -> None:
        """Finish what is in flight, then say 421 and close. The listener takes no new connections any more."""
        self._stopping = True
        if self._shaking:
            self._abort()
        elif self._owed is None and not self._session.closed:
            self._converse(b"")

    def abort(self) -> None:
        """Close at once."""
        self._abort()

    # Deadlines.

    def _watch(self, answered: bool) -> None:
        """
        Nothing is owed: until when must the client have said more?

        A deadline is for a whole command: octets that finish none (not `answered`) do not move it. Content has one of
        its own from its beginning on, and what comes by BDAT begins with the first chunk.
        """
        session = self._session
        if session.state not in _FLOWING and not session.in_chunk:
            self._content_since = None
            if answered:
                self._watch_commands()
        elif self._content_since is None:
            self._watch_content()
        elif answered:
            # A reply to a chunk does not put off the next look at how fast the content comes.
            self._deadline.within(max(0.0, self._looked + self._doorway.pace - self._seconds()))

    def _watch_commands(self) -> None:
        """What comes next is a command."""
        limits = self._doorway.limits
        self._content_since = None
        self._stressed = stressed = self._admission.stressed
        self._deadline.within(limits.idle_stressed if stressed else limits.idle)

    def _watch_content(self) -> None:
        """What comes next is content, from its beginning on."""
        deadline = self._deadline
        deadline.within(self._doorway.pace)
        self._content_since = self._looked = self._silent_since = deadline.since
        self._progress = 0

    def _expired(self) -> None:
        if self._choked or self._session.closed or self._shaking:
            self._abort()
        elif self._owed is not None:
            if isinstance(self._asked, ContentEnded):
                # The commit may yet happen: neither 250 nor 451 would be honest.
                self._doorway.log.error("A message was not kept in time: closing without a reply")
                self._abort()
            else:
                owed = self._owed
                owed.cancel()
                if self._owed is owed:
                    self._give_up()
        elif self._content_since is not None and self._content_goes_on():
            self._deadline.within(self._doorway.limits.progress_window)
        else:
            self._write(self._session.farewell(answers.IDLE))
            self._close()

    def _give_up(self) -> None:
        """
        Whoever answers does not let go even when it is cancelled, and what it says later must not be taken for the
        answer to something else: so nothing is asked any more on this connection.
        """
        asked = type(self._asked).__name__
        self._doorway.log.error("The answer to {asked} takes too long and cannot be cancelled: closing", asked=asked)
        self._owed = None
        self._write(self._session.send(answers.GIVEN_UP))
        self._close()

    def _content_goes_on(self) -> bool:
        """Whether content comes fast enough; asked once in each `progress_window`."""
        limits, admission = self._doorway.limits, self._admission
        now = self._seconds()
        rate = self._progress / max(now - self._looked, 0.001)
        if self._progress:
            self._silent_since = now
        self._progress, self._looked = 0, now
        if self._content_since is None or now - self._content_since >= limits.content_time:
            return False
        if now - self._silent_since >= limits.idle:
            return False
        return rate >= limits.progress or not (admission.crowded or admission.stressed)

    # The transport.

    def _write(self, octets: bytes) -> None:
        if octets:
            self.transport.write(octets)

    def _read(self, on: bool) -> None:
        if on is not self._reading and not self._heard_all:
            self._reading = on
            if on:
                self.transport.resumeProducing()
            else:
                self.transport.pauseProducing()

    def _close(self, said: bytes = b"") -> None:
        """Let what was `said` leave, for a while, and close."""
        if self._closing:
            return
        transport = self.transport
        self._closing = True
        if said and isinstance(transport, PromptTcp):
            transport.writeLast(said)
        else:
            self._write(said)
            # A transport with a producer would wait for it before it closes.
            transport.unregisterProducer()
            transport.loseConnection()
        if self.connected and not getattr(transport, "parting", False):
            self._deadline.within(self._doorway.limits.unread_time)

    def _abort(self) -> None:
        owed, self._owed = self._owed, None
        if owed is not None and not isinstance(self._asked, ContentEnded):
            owed.cancel()
        self._session.farewell(answers.STOPPING)
        if not self._closing:
            self._closing = True
            self.transport.unregisterProducer()
        self.transport.abortConnection()
