"""
What would become of a mail: a session that never was.

It is played by reception itself, with policies of its own that were made as those of the relay: there is no second copy
of any rule. Only what would stay behind is taken away: the spool is in memory, nobody delivers, nobody writes a log,
and what policies keep is dropped after each question.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from attrs import evolve, field, frozen
from twisted.internet.defer import Deferred, DeferredLock, gatherResults
from zope.interface import implementer

from relay.config.listeners import ListenerSettings
from relay.config.settings import Settings
from relay.delivery.exchangers import Exchangers
from relay.interfaces import (
    Claim,
    HistoryUnavailable,
    IClock,
    IDispatch,
    IHistory,
    IScreening,
    IStore,
    ITakesRows,
)
from relay.mail.address import Address, literal
from relay.mail.decision import Admission, Placement
from relay.mail.envelope import Client, Envelope
from relay.mail.event import Shape
from relay.mail.explanation import Decided, Explanation, Way, way
from relay.mail.history import Accounts, Findings
from relay.mail.outcome import Peer, Unresolved
from relay.mail.phases import ConnectionInquiry, SenderInquiry
from relay.mail.queue import Recipient
from relay.mail.reference import unreferred
from relay.mail.reply import Reply
from relay.mail.routing import Forward, Inquiry, NextHop
from relay.mail.tls import TlsFacts
from relay.net.doorway import Arrival
from relay.net.waiting import start
from relay.reception import Reception
from relay.reception.visit import Visit
from relay.smtp.events import Answer, Content, Misspoken, Verdicts
from relay.smtp.extensions import ALL, Standing
from relay.smtp.octets import wire
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.server import ServerSession
from relay.spool.memory import MemorySpool
from relay.store.overlay import Overlay

#: Where nobody says who the client is: a stranger, at an address of documentation (RFC 5737), which is nobody's.
STRANGER: Final = "192.0.2.1"
#: The connection of a client that is said to use TLS.
_TLS: Final = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
#: How a client says who it is: which way that is makes no difference.
_MECHANISM: Final = "PLAIN"
#: Stands in the place of a reference, and of a queue id.
_REFERENCE: Final = "000000"
_ID: Final = "(its queue id)"
#: Copies whose hosts are looked up.
_MOST_WAYS: Final = 20
#: Each question is asked with the same chance.
_SEED: Final = 1


@frozen
class Asked:
    """A mail that somebody asks about."""

    recipient: Address
    #: `None` is the null reverse-path.
    sender: Address | None = None
    #: An IP address; "": a client at a Unix socket.
    client: str = STRANGER
    #: "": what a client says that has no name (RFC 5321 section 4.1.3).
    helo: str = ""
    user: str | None = None
    #: By name; "": the first.
    listener: str = ""
    tls: bool = False
    #: In plain form. `None`: the session ends behind the recipient.
    message: bytes | None = field(default=None, repr=False)


#: Makes a reception whose policies keep what they keep there, and draw chance from that.
MakeReception = Callable[[IStore, random.Random], Reception]


@frozen
class Threshold:
    """What sessions of one client at one listener are held to."""

    profile: Profile
    limits: SessionLimits = field(factory=SessionLimits)
    trusted: bool = False
    #: Somebody could prove here who it is.
    users: bool = True


#: That of a client at this address; `None`: at a Unix socket.
MakeThreshold = Callable[[ListenerSettings, str | None], Threshold]
#: `relay.delivery.search`, or whoever else finds the hosts of a next hop.
Find = Callable[[NextHop], Exchangers | Unresolved | Awaitable[Exchangers | Unresolved]]


class Rehearsal:
    """Answers one question at a time. Its reception is made at the first one."""

    def __init__(
        self,
        settings: Settings,
        clock: IClock,
        store: IStore,
        make: MakeReception,
        find: Find,
        threshold: MakeThreshold | None = None,
    ) -> None:
        """`threshold`: what sessions are held to; `None`: at each listener there is all that a client needs."""
        self._settings = settings
        self._threshold = threshold or _obliging
        self._clock = clock
        self._store = Overlay(store, clock)
        self._random = random.Random()  # noqa: S311  # chance that is the same each time keeps no secrets
        self._make = make
        self._find = find
        self._made: Reception | None = None
        self._one = DeferredLock()

    @property
    def listeners(self) -> Sequence[str]:
        """The names that a question may give."""
        return [listener.name for listener in self._settings.listener]

    async def explain(self, asked: Asked) -> Explanation:
        """
        How it would be decided about this mail, and where it would go. Nothing of it stays.

        Raises `LookupError` for a listener that there is not, and whatever making the policies raises.
        """
        await self._one.acquire()
        try:
            return await self._explain(asked)
        finally:
            self._store.drop()
            self._one.release()

    async def _explain(self, asked: Asked) -> Explanation:
        self._store.drop()
        self._random.seed(_SEED)
        history = _Remembering()
        listener = self._listener(asked.listener)
        local = not asked.client and listener.local_users
        # Nobody says AUTH in clear (RFC 4954 section 4).
        tls = asked.tls or listener.tls == "implicit" or (asked.user is not None and not local)
        asked = evolve(asked, listener=listener.name, tls=tls)
        reception = self._reception(asked, listener, history)
        client = _client(asked, listener, lmtp=reception.lmtp)
        helo = asked.helo or (literal(asked.client) if asked.client else "localhost")
        session = _Session(self._threshold(listener, client.address), reception, asked, client)
        try:
            reply = await session.play(helo)
        finally:
            session.visit.lost()
        steps = session.visit.known.steps if session.visit.known is not None else ()
        client = evolve(client, helo=helo, user=asked.user, tls=_TLS if asked.tls else None)
        decided = history.last or Decided(steps, client, reply, asked.sender, (asked.recipient,))
        # All at the same time: where the DNS is silent, one after the other would take too long.
        ways = await gatherResults(
            [Deferred.fromCoroutine(self._way(each)) for each in decided.placements[:_MOST_WAYS]], consumeErrors=True
        )
        explanation = decided.explanation()
        said = str(reply if reply.positive else decided.reply)
        return evolve(
            explanation,
            reply=unreferred(said.replace(history.id, _ID) if history.id else said),
            because=session.because or explanation.because,
            ways=(*ways, *explanation.ways[len(ways) :]),
        )

    def _listener(self, name: str) -> ListenerSettings:
        for listener in self._settings.listener:
            if not name or listener.name == name:
                return listener
        raise LookupError(f"there is no listener '{name}': there is {', '.join(self.listeners) or 'none'}")

    def _reception(self, asked: Asked, listener: ListenerSettings, history: IHistory) -> Reception:
        """The reception at that listener, with nobody around it."""
        if self._made is None:
            self._made = self._make(self._store, self._random)
        made = self._made
        screening: IScreening | None = made.screening
        if screening is not None and asked.message is None:
            screening = _WithoutContents(screening)
        return evolve(
            made,
            spool=MemorySpool(self._clock),
            dispatch=_Nobody(),
            maillog=_Silent(),
            history=history,
            refer=lambda: _REFERENCE,
            screening=screening,
            submission=listener.protocol == "submission",
            lmtp=listener.protocol == "lmtp",
        )

    async def _way(self, placement: Placement) -> Way:
        route = placement.route
        if not isinstance(route, Forward):
            return way(placement)
        peers: list[Peer] = []
        troubles: list[str] = []
        for next_hop in route.next_hops:
            found = self._find(next_hop)
            match found if isinstance(found, Exchangers | Unresolved) else await found:
                case Exchangers(more):
                    peers += more
                case Unresolved(trouble, domain, text):
                    troubles.append(f"{domain}: {trouble.value}" + (f" ({text})" if text else ""))
        return way(placement, list(dict.fromkeys(peers)), "; ".join(troubles))


class _Session:
    """
    What the client says, in octets, to a session as the listener has them: what may be said when, and how much of it,
    is for that one to judge. What has to be proved, a handshake and a password, is taken for proved.
    """

    def __init__(self, threshold: Threshold, reception: Reception, asked: Asked, client: Client) -> None:
        self._threshold = threshold
        self._reception = reception
        self._asked = asked
        #: Why it cannot be as it was asked, or "".
        self.because = ""
        self._begin(client)

    def _begin(self, client: Client, known: Any = None, *, greeted: bool = False) -> None:
        threshold = self._threshold
        standing = Standing(client.tls is not None, client.user is not None, threshold.trusted)
        words = {"AUTH": _MECHANISM} if threshold.users and standing.secured else {}
        self._offered = {each.keyword for each in threshold.profile.extensions if each.to(standing)}
        self._session = ServerSession(threshold.profile, threshold.limits, standing, words, greeted=greeted)
        self._client = client
        self.visit = Visit(self._reception, Arrival(client.address, known=known), client)

    async def play(self, helo: str) -> Reply:
        """Go on until something is refused. The last reply that counts."""
        asked, lmtp = self._asked, self._reception.lmtp
        hello = f"{'LHLO' if lmtp else 'EHLO'} {helo}"
        reply = await self._answered()
        if reply.positive:
            reply = await self._say(hello)
        if reply.positive and asked.tls and self._client.tls is None:
            reply = await self._secured(hello)
        if reply.positive and asked.user is not None and self._client.user is None:
            reply = await self._known(hello)
        if reply.positive:
            reply = await self._say(self._mail())
        if reply.positive:
            reply = await self._say(f"RCPT TO:<{asked.recipient}>")
        if not reply.positive:
            return reply
        answer = await self._say("DATA")
        if answer.positive:
            self._session.receive_data(b"".join(wire([asked.message or b"\r\n"])))
            answer = await self._answered()
        # Without a message, what was heard at its end is not part of the answer.
        return reply if asked.message is None and answer.positive else answer

    async def _secured(self, hello: str) -> Reply:
        """STARTTLS, and another session behind it (RFC 3207 section 4.2)."""
        reply = await self._say("STARTTLS")
        if not reply.positive:
            self.because = "there is no TLS at this listener"
            return reply
        self._again(evolve(self._client, tls=_TLS))
        return await self._say(hello)

    async def _known(self, hello: str) -> Reply:
        """AUTH, if somebody could have said it here."""
        self._session.receive_data(f"AUTH {_MECHANISM}\r\n".encode())
        question = self._session.next_event()
        if isinstance(question, Misspoken):
            self.because = "nobody can say at this listener who it is"
            return question.reply
        self._again(evolve(self._client, user=self._asked.user))
        return await self._say(hello)

    def _again(self, client: Client) -> None:
        known = self.visit.known
        self.visit.lost()
        self._begin(client, known, greeted=True)

    def _mail(self) -> str:
        """MAIL, with what was offered and is needed."""
        asked = self._asked
        words = [f"MAIL FROM:<{asked.sender or ''}>"]
        if asked.message is not None and "SIZE" in self._offered:
            words.append(f"SIZE={len(asked.message)}")
        if not (asked.recipient.ascii and (asked.sender is None or asked.sender.ascii)) and "SMTPUTF8" in self._offered:
            words.append("SMTPUTF8")
        return " ".join(words)

    async def _say(self, line: str) -> Reply:
        octets = line.encode("utf-8", "replace").replace(b"\r", b" ").replace(b"\n", b" ")
        self._session.receive_data(octets + b"\r\n")
        return await self._answered()

    async def _answered(self) -> Reply:
        """The reply to what was said."""
        session = self._session
        while True:
            event = session.next_event()
            if event is None:
                raise RuntimeError("the session waits for more, and a client for its reply")
            if not isinstance(event, Content):
                break
            self.visit.take(event)
        answer: Any = start(self.visit.answer(event))
        said: Answer = answer if isinstance(answer, Reply | Verdicts) else await answer
        session.send(said)
        # There is one recipient.
        return said.each[0] if isinstance(said, Verdicts) else said


def _client(asked: Asked, listener: ListenerSettings, *, lmtp: bool) -> Client:
    """As it is when it connects."""
    local = not asked.client and listener.local_users
    return Client(
        asked.client or None,
        0,
        listener=asked.listener,
        user=asked.user if local else None,
        tls=_TLS if listener.tls == "implicit" else None,
        lmtp=lmtp,
    )


def _obliging(listener: ListenerSettings, address: str | None) -> Threshold:
    """A listener that has all that a client asks for."""
    return Threshold(
        Profile(
            "localhost",
            extensions=ALL,
            lmtp=listener.protocol == "lmtp",
            requires_tls=listener.tls == "require",
            requires_auth=listener.protocol == "submission",
        )
    )


# Whom a rehearsal has around it.


@implementer(IScreening)
class _WithoutContents:
    """The same policies, where there is no content to ask them about."""

    asks_contents = False

    def __init__(self, screening: IScreening) -> None:
        self._screening = screening
        self.asks_clients: bool = screening.asks_clients
        self.asks_senders: bool = screening.asks_senders

    async def connect(self, inquiry: ConnectionInquiry, observe: Any = None) -> Admission:
        return await self._screening.connect(inquiry, observe)

    async def sender(self, inquiry: SenderInquiry, observe: Any = None, until: float | None = None) -> Admission:
        return await self._screening.sender(inquiry, observe, until)

    def content_policies(self, inquiry: Inquiry) -> tuple[int, ...]:
        return ()

    def sparing(self, inquiry: Inquiry) -> Callable[[Sequence[Inquiry]], Sequence[Any] | None]:
        return lambda about: ()

    def content(self, id: str, envelope: Envelope, about: Sequence[Inquiry], observe: Any = None) -> Any:
        return self._screening.content(id, envelope, about, observe)


@implementer(ITakesRows)
class _Silent:
    """Nothing has happened."""

    def event(self, what: str, /, **fields: object) -> None:
        pass

    def row(self, shape: Shape[Any], row: tuple[Any, ...]) -> None:
        pass


@implementer(IHistory)
class _Remembering(_Silent):
    """Remembers the decision."""

    def __init__(self) -> None:
        self.last: Decided | None = None
        self.id = ""

    def decided(self, decision: Decided, id: str = "", ref: str = "") -> None:
        self.last, self.id = decision, id

    async def find(self, text: str, most: int = 20) -> Findings:
        raise HistoryUnavailable("this is a rehearsal")

    async def why(self, text: str, most: int = 20) -> Accounts:
        raise HistoryUnavailable("this is a rehearsal")

    async def close(self) -> None:
        pass


@implementer(IDispatch)
class _Nobody:
    """Delivers nothing."""

    def lease(self, envelope: Envelope, recipients: Sequence[Recipient]) -> float | None:
        return None

    def accept(self, claims: Sequence[Claim], left: Sequence[Recipient] = ()) -> None:
        pass

    async def hasten(self, domain: str, below: bool = False) -> int:
        return 0
