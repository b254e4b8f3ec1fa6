"""
The adapter between a connection to another server and a `ClientSession`: octets, deadlines, and nothing about mail.

What is said at once leaves in one write. Content is drawn as the peer takes it, so that memory does not grow with a
message. However a conversation ends, it ends as facts; an exception comes only from our own content.
"""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from socket import AF_INET, inet_pton
from typing import Any, Final, TypeAlias, cast

from attrs import evolve, frozen
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHandshakeListener,
    IPushProducer,
    IReactorTCP,
    IReactorUNIX,
    ITCPTransport,
)
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.interfaces import IClock
from relay.mail.outcome import Breakage, Fact, Peer
from relay.mail.reply import printable
from relay.mail.routing import UNIX
from relay.net.clock import cancel
from relay.net.tls_client import PeerTls
from relay.smtp.client import DEADLINES, QUIT_SECONDS, ClientSession, Deadlines
from relay.smtp.features import NOTHING_OFFERED
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

#: What a connection becomes: one that transactions can begin on, or why there is none.
Opened: TypeAlias = "Connection | Refusal"
#: Called with that.
Told: TypeAlias = "Callable[[Opened], object]"
#: Called when the last of a content leaves.
Sent: TypeAlias = Callable[[], None]

#: Not more than this is copied to leave in one write with what follows it.
_LITTLE: Final = 16 * 1024

_log = Logger(namespace="relay.delivery")


@frozen
class Dialer:
    """
    How this relay connects to others: by address and never by name.

    `tcp` is a reactor, or `relay.testing`'s `FakeInternet`; for Unix sockets it is an `IReactorUNIX`, too. A
    connection leaves from `bind_v4` or `bind_v6`, where they are given.
    """

    tcp: IReactorTCP
    clock: IClock
    #: What EHLO says: our host name in canonical form.
    hello: str
    deadlines: Deadlines = DEADLINES
    bind_v4: str | None = None
    bind_v6: str | None = None

    def introduced(self, hello: str, source: Sequence[str]) -> Dialer:
        """
        One that says this in EHLO, unless it is "", and whose connections come from these addresses, of which each
        family has one at most.
        """
        if not hello and not source:
            return self
        four = next((each for each in source if ":" not in each), self.bind_v4)
        six = next((each for each in source if ":" in each), self.bind_v6)
        return evolve(self, hello=hello or self.hello, bind_v4=four, bind_v6=six)

    def connect(self, peer: Peer, approach: Approach = PLAINLY, tls: PeerTls | None = None) -> Deferred[Opened]:
        """As `dial`, where somebody waits for it. Cancelling closes the connection."""
        return awaited(lambda told: self.dial(peer, told, approach, tls))

    def dial(self, peer: Peer, told: Told, approach: Approach = PLAINLY, tls: PeerTls | None = None) -> Connection:
        """
        Connect to `peer.address` and `peer.port`, or to the socket that `peer.name` is, and come to where a transaction
        may begin as `approach` wants it. `told` is called when one can, or when it is certain that none can, once and
        not before this returns; unless whoever dials has given it up by then.

        `tls` is for this connection alone, and there unless the approach wants no TLS. Raises `ValueError` if
        `peer.address` is not an IP address.
        """
        connection = Connection(peer, self, approach, tls, told)
        if not peer.address and peer.name.startswith(UNIX):
            unix, path = cast(IReactorUNIX, self.tcp), peer.name.removeprefix(UNIX)
            factory = cast(Any, _Dialled(connection))
            connection.dialled(unix.connectUNIX(path, factory, timeout=self.deadlines.connect))
            return connection
        bind = self.bind_v6 if _is_v6(peer.address) else self.bind_v4
        connector = self.tcp.connectTCP(
            peer.address,
            peer.port,
            _Dialled(connection),
            timeout=self.deadlines.connect,
            bindAddress=None if bind is None else (bind, 0),
        )
        connection.dialled(connector)
        return connection


def awaited(dial: Callable[[Told], Connection]) -> Deferred[Opened]:
    """What dialling comes to. Cancelling closes the connection."""

    def cancel_it(waiting: Deferred[Opened]) -> None:
        waiting.errback(CancelledError())
        connection.give_up()

    opened: Deferred[Opened] = Deferred(cancel_it)
    connection = dial(opened.callback)
    return opened


class _Dialled(ClientFactory[Protocol]):
    """Hands the one connection to Twisted, or to a shorter way: a mail server speaks first (`relay.net.dialling`)."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        return self._connection

    def answered(self) -> Connection:
        return self._connection

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        self._connection.not_connected(reason)


class Passage:
    """
    One transaction on its way through a connection, and what whoever carries it has to say and to do; the connection
    calls. None of this may raise, but for `content`.
    """

    __slots__ = ("over",)

    def __init__(self) -> None:
        #: Nobody waits for it any more.
        self.over = False

    def content(self) -> bytes | Iterator[bytes]:
        """
        The content, now that the server wants it: as a whole, in pieces, or in chunks if the transaction is `chunked`.
        """
        raise NotImplementedError

    def sent(self) -> None:
        """The last of the content leaves. If another transaction can begin now, it may follow."""

    def settled(self, facts: tuple[Fact, ...]) -> None:
        """It is over: a fact for each of its recipients, in their order."""
        raise NotImplementedError

    def failed(self, problem: BaseException) -> None:
        """It is over, and there are no facts: it was withdrawn, or reading its content has raised this."""
        raise NotImplementedError


class _Awaited(Passage):
    """Somebody waits for the facts as a `Deferred`."""

    __slots__ = ("_content", "_sent", "facts")

    def __init__(self, connection: Connection, content: Iterator[bytes], sent: Sent | None) -> None:
        self.over = False
        self._content = content
        self._sent = sent
        self.facts: Deferred[tuple[Fact, ...]] = Deferred(lambda _: connection.withdraw(self))

    def content(self) -> Iterator[bytes]:
        return self._content

    def sent(self) -> None:
        if self._sent is not None:
            self._sent()

    def settled(self, facts: tuple[Fact, ...]) -> None:
        self.facts.callback(facts)

    def failed(self, problem: BaseException) -> None:
        self.facts.errback(problem)


@implementer(IPushProducer, IHandshakeListener)
class Connection(Protocol):
    """
    One connection to one server, from the first packet to the last.

    `carry` as many transactions as there are, one after the other, then `quit`.
    """

    transport: Any

    def __init__(
        self,
        peer: Peer,
        dialer: Dialer,
        approach: Approach = PLAINLY,
        tls: PeerTls | None = None,
        told: Told | None = None,
    ) -> None:
        #: The dialogue. Whoever lends the connection looks there whether a transaction can begin.
        self.session = ClientSession(dialer.hello, peer, dialer.deadlines, approach)
        #: What the server offers, once a transaction can begin.
        self.features = NOTHING_OFFERED
        self._tls = tls
        #: How far TLS has come: its handshake has begun; it is complete.
        self._shaking = self._shaken = False
        self._moves = self.session.moves
        self._clock = dialer.clock
        self._seconds = dialer.clock.seconds
        self._soonest = dialer.deadlines.soonest
        #: When the session has moved last, by `IClock.seconds`.
        self.moved = 0.0
        #: When it is seen whether that was too long ago: before any deadline could pass, see `_look`.
        self._timer: Any = None
        self._connector: IConnector | None = None
        #: Who is to be told what it has become; `None`: nobody any more.
        self._told = told
        #: The transactions that are not settled, the oldest first.
        self._carried: deque[Passage] = deque()
        #: The content that is on its way, and its piece that leaves next.
        self._content: Iterator[bytes] | None = None
        self._piece: bytes | None = None
        #: The last piece is about to leave: whatever is said now leaves behind it, in the same write.
        self._parting = False
        self._paused = False
        self._producing = False
        self._connected = False
        self._closing = False

    # What the agent asks.

    def carry(
        self, transaction: Transaction, content: Iterator[bytes], sent: Sent | None = None
    ) -> Deferred[tuple[Fact, ...]]:
        """
        One transaction: a fact for each of its recipients, in their order.

        `content` is in wire form with its terminator, or in chunks if the transaction is `chunked`
        (`relay.smtp.outgoing`), and is not touched unless the server wants it. What it raises comes out here, and the
        connection is closed before the terminator or the last chunk could leave. Cancelling closes the connection;
        but not before the final reply to the transaction ahead of it is there, since only that tells what has become of
        it.

        `sent` is called when the last of the content leaves. If the `session` lets another one begin by then, the next
        transaction may be carried already: its first words leave in the same write (RFC 2920 section 3.1).
        """
        passage = _Awaited(self, content, sent)
        self.convey(transaction, passage)
        return passage.facts

    def convey(self, transaction: Transaction, passage: Passage) -> None:
        """As `carry`, where nobody needs a `Deferred`."""
        self.session.begin(transaction)
        self._carried.append(passage)
        if not self._parting:
            self._turn()

    def propose(self, commands: bytes, passage: Passage) -> None:
        """The same of a transaction that the session may `propose`."""
        self.session.propose(commands)
        self._carried.append(passage)
        if not self._parting:
            self._turn()

    def withdraw(self, passage: Passage) -> None:
        """Cancel it, unless it is over."""
        if passage.over:
            return
        passage.over = True
        passage.failed(CancelledError())
        if self._carried and self._carried[0] is not passage and not self._carried[0].over:
            # Somebody else's message is sent and not answered yet: this one's turn never comes, see `_settle`.
            return
        self.abort("cancelled")

    def quit(self) -> None:
        """
        There is nothing more to carry: say QUIT and close, without keeping anybody waiting. Amid a transaction, or
        before one could begin, it just closes. May be called at any time and again.
        """
        if self.session.idle:
            self.session.quit()
            self._turn()
            self._hurry()
        elif not self.session.leaving:
            self.abort()

    def abort(self, text: str = "") -> None:
        """Close at once, whatever is under way."""
        self.session.break_off(Breakage.LOST, text)
        self._turn()

    def give_up(self) -> None:
        """Whoever has dialled does not want it any more."""
        self._told = None
        self.abort("cancelled")

    # What the network says.

    def dialled(self, connector: IConnector) -> None:
        """Connecting has begun; whoever does it also keeps its deadline."""
        self._connector = connector

    def not_connected(self, reason: Failure) -> None:
        """Connecting has failed."""
        breakage = next((breakage for kind, breakage in _FAILURES if reason.check(kind)), Breakage.UNREACHABLE)
        self.session.break_off(breakage, _text(reason))
        self._turn()

    def connectionMade(self) -> None:
        self._connected = True
        self._connector = None  # they would keep each other
        if self.session.over:
            # It was cancelled at the same moment.
            self._close(politely=False)
            return
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
        self.session.connected()
        self._turn()

    def dataReceived(self, data: bytes) -> None:
        session = self.session
        heard = session.hear_at_once(data)
        if heard is None:
            self._hear(data)
            return
        self.moved = self._seconds()
        fact, proceed = heard
        if fact is not None:
            self._settle((fact,))
        if proceed and not self._closing:
            self._proceed()
        self._moves = session.moves
        if session.events or session.to_send:
            self._turn()

    def _hear(self, data: bytes) -> None:
        """Whatever it is."""
        self.session.hear(data)
        self._turn()
        if self._content is not None:
            # A chunk was answered: the next one may follow, or none.
            self._send_content()
            self._turn()

    def handshakeCompleted(self) -> None:
        """TLS is there."""
        if self._tls is None or self.session.over:
            return
        self._shaken = True
        made = self._tls.handshake()
        tls = f"{made.protocol}:{made.cipher}"
        self.session.secured(f"{tls}:verified" if made.verified else tls, verified=made.verified)
        self._turn()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connected = False
        self.session.break_off(Breakage.LOST, self._why(reason))
        self._turn()
        cancel(self._timer)
        self._timer = None

    def _why(self, reason: Failure) -> str:
        """A peer that closes as it should has not said why; else there is more to say than that it is gone."""
        closed = reason.check(error.ConnectionDone) is not None
        if self._tls is not None and self._shaking and not (self._shaken and closed):
            return self._tls.why(cast(BaseException, reason.value))
        return "" if closed else _text(reason)

    # The transport's view of us: we produce content.

    def pauseProducing(self) -> None:
        """The peer does not take it as fast as we make it."""
        self._paused = True

    def resumeProducing(self) -> None:
        """A piece has left: the next one has its own time (RFC 5321 section 4.5.3.2.5)."""
        self._paused = False
        self._watch()
        self._send_content()
        self._turn()

    def stopProducing(self) -> None:
        """The connection is going away; `connectionLost` follows."""

    # The dialogue.

    def _turn(self) -> None:
        """Do all that is to be done now. What is called from here may call us again."""
        session = self.session
        if session.moves != self._moves:
            self._watch()
        # Commands leave before anything that follows them, such as content.
        if octets := session.to_send:
            session.to_send = b""
            self.transport.write(octets)
        if events := session.events:
            while events:
                event = events.popleft()
                if type(event) is Settled:
                    self._settle(event.facts)
                elif event is PROCEED:
                    self._proceed()
                else:
                    self._do(event)
            if octets := session.to_send:
                session.to_send = b""
                self.transport.write(octets)
            # What was done about them was done at the same moment.
            self._moves = session.moves

    def _do(self, event: Event) -> None:
        match event:
            case Settled(facts):
                self._settle(facts)
            case Proceed():
                self._proceed()
            case StartTls():
                self._start_tls()
            case Ready():
                self.features = self.session.features
                self._open(self)
            case TurnedAway(fact):
                self._open(fact)
                self._hurry()
            case Over(politely):
                self._close(politely)

    def _settle(self, facts: tuple[Fact, ...]) -> None:
        carried = self._carried
        passage = carried.popleft()
        if carried and carried[0].over:
            self.abort("cancelled")
        if not passage.over:
            passage.over = True
            passage.settled(facts)

    def _proceed(self) -> None:
        passage = self._carried[0]
        try:
            content = passage.content()
        except Exception as problem:
            self._fail(problem)
            return
        if type(content) is bytes:
            self._part(passage, content)
        else:
            self._content = cast(Iterator[bytes], content)
            self._draw()
            self._send_content()

    def _fail(self, problem: Exception) -> None:
        """Ours, not the peer's: a file that cannot be read. Without its terminator the message does not exist."""
        self._content = self._piece = None
        passage = self._carried[0]
        if not passage.over:
            passage.over = True
            passage.failed(problem)
        self.abort("the content could not be read")

    def _start_tls(self) -> None:
        self._shaking = True
        try:
            if self._tls is None:
                raise ValueError("there is nothing to start TLS with")
            self.transport.startTLS(self._tls)
        except Exception:
            # Ours: whatever it is, nothing is said in clear for it.
            _log.failure("TLS could not be started")
            self.abort("TLS could not be started")

    def _open(self, result: Opened) -> None:
        told, self._told = self._told, None
        if told is not None:
            told(result)

    def _send_content(self) -> None:
        """
        Write pieces until the transport has enough of them, or the server wants no more.

        One piece is drawn ahead, so that we know the last one when it is written: its reply may come before we are
        told that it has left.
        """
        session = self.session
        while self._piece is not None and not self._paused and session.wants_content and not session.holds_content:
            piece = self._piece
            self._draw()
            if self._content is None:
                # Gone while its next piece was drawn: our own content has failed.
                return
            if self._piece is None:
                self._content = None
                self._part(self._carried[0], piece)
                self._produce(False)
                return
            self._produce(True)
            session.piece_sent()
            self.transport.write(piece)
        if not session.wants_content:
            self._drop_content()

    def _part(self, passage: Passage, piece: bytes) -> None:
        """The last piece leaves, and with it the first words of the next transaction, if somebody begins one now."""
        session = self.session
        session.content_sent()
        self._parting = True
        try:
            passage.sent()
        except Exception:
            # Ours: it harms none of the messages.
            _log.failure("What should follow a message could not begin")
        finally:
            self._parting = False
        if self._closing:
            return
        following = session.to_send
        if following:
            session.to_send = b""
            if len(piece) <= _LITTLE:
                piece += following
            else:
                self.transport.write(piece)
                piece = following
        self.transport.write(piece)

    def _drop_content(self) -> None:
        self._content = self._piece = None
        if self._connected:
            self._produce(False)

    def _draw(self) -> None:
        if self._content is None:
            return
        try:
            self._piece = next(self._content, None)
        except Exception as problem:
            self._fail(problem)

    def _produce(self, on: bool) -> None:
        """Be the transport's producer while there is more content than one piece."""
        if on is self._producing:
            return
        self._producing = on
        if on:
            self.transport.registerProducer(self, True)
        else:
            self.transport.unregisterProducer()
            self._paused = False

    # Deadlines.

    def _watch(self) -> None:
        """
        Whatever is waited for now has its time from now on. How long that is nobody asks before it might be over: there
        are many moves for each time that it is.

        A deadline is for a whole command: octets that do not finish a reply do not move the session.
        """
        self._moves = self.session.moves
        self.moved = self._seconds()
        if self._timer is None and self._connected and not self._closing:
            self._timer = self._clock.callLater(self._soonest, self._look)

    def _look(self) -> None:
        """
        Leave a peer that has taken too long. Whatever begins to be waited for behind this look ends no earlier than the
        next one; an idle connection needs none.
        """
        self._timer = None
        if self._closing:
            self.transport.abortConnection()
            return
        seconds = self.session.deadline
        if seconds is None:
            return
        left = self.moved + seconds - self._seconds()
        if left > 0:
            self._timer = self._clock.callLater(min(left, self._soonest), self._look)
            return
        self.session.break_off(Breakage.TIMEOUT)
        self._turn()

    def _hurry(self) -> None:
        """For QUIT nobody waits as long as for anything else."""
        if self._timer is not None and self.session.leaving:
            self._timer.reset(QUIT_SECONDS)

    # The transport.

    def _close(self, politely: bool) -> None:
        self._content = self._piece = None
        self._closing = True
        if not self._connected:
            if self._connector is not None and self.transport is None:
                self._connector.disconnect()
            return
        self._produce(False)
        if politely:
            if self._tls is not None and self._shaken:
                self._tls.remember()
            # What was said last still leaves; the deadline of QUIT goes on, since the peer may have stopped reading.
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()


#: What Twisted says when there is no connection; everything else is `UNREACHABLE`.
_FAILURES: Final[tuple[tuple[type[Exception], Breakage], ...]] = (
    (error.ConnectionRefusedError, Breakage.REFUSED),
    (error.TimeoutError, Breakage.TIMEOUT),
    (error.TCPTimedOutError, Breakage.TIMEOUT),
    (error.ConnectBindError, Breakage.NO_SOCKET),
)


def _is_v6(address: str) -> bool:
    """Raises `ValueError` if it is no IP address."""
    try:
        inet_pton(AF_INET, address)
    except OSError:
        return ipaddress.ip_address(address).version == 6
    return False


def _text(reason: Failure) -> str:
    return printable(str(reason.value))
