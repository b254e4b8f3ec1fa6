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
    IMailLog,
    IScreening,
    IStore,
)
from relay.mail.address import Address
from relay.mail.decision import Admission, Placement
from relay.mail.envelope import Client, Envelope
from relay.mail.explanation import Decided, Explanation, Way, way
from relay.mail.history import Accounts, Findings
from relay.mail.outcome import Peer, Unresolved
from relay.mail.phases import ConnectionInquiry, ContentInquiry, SenderInquiry
from relay.mail.queue import Recipient
from relay.mail.reference import unreferred
from relay.mail.reply import Reply
from relay.mail.routing import Forward, Inquiry, NextHop
from relay.mail.tls import TlsFacts
from relay.net.waiting import start
from relay.reception import Reception
from relay.reception.visit import Visit
from relay.smtp import answers
from relay.smtp.events import Answer, Connected, Content, ContentEnded, Data, Hello, Mail, Question, Rcpt, Verdicts
from relay.smtp.octets import wire
from relay.spool.memory import MemorySpool
from relay.store.overlay import Overlay

#: Where nobody says who the client is: a stranger, at an address of documentation (RFC 5737), which is nobody's.
STRANGER: Final = "192.0.2.1"
#: The connection of a client that is said to use TLS.
_TLS: Final = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
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
#: `relay.delivery.search`, or whoever else finds the hosts of a next hop.
Find = Callable[[NextHop], Exchangers | Unresolved | Awaitable[Exchangers | Unresolved]]


class Rehearsal:
    """Answers one question at a time. Its reception is made at the first one."""

    def __init__(self, settings: Settings, clock: IClock, store: IStore, make: MakeReception, find: Find) -> None:
        self._settings = settings
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
        asked = evolve(asked, listener=listener.name, tls=asked.tls or listener.tls == "implicit")
        reception = self._reception(asked, listener, history)
        client = _client(asked, reception)
        visit = Visit(reception, evolve(client, helo="", extended=False))
        try:
            reply = await _play(visit, asked, client.helo, _wanted(listener, asked))
        finally:
            visit.lost()
        steps = visit.known.steps if visit.known is not None else ()
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


async def _play(visit: Visit, asked: Asked, helo: str, wanted: Reply | None) -> Reply:
    """
    Say to reception what the client would say, until it is refused. The last reply that counts.

    `wanted`: what the session says to MAIL by itself.
    """
    sender, recipient, message = asked.sender, asked.recipient, asked.message
    international = not (recipient.ascii and (sender is None or sender.ascii))
    size = None if message is None else len(message)
    for question in (
        Connected(),
        Hello(True, helo),
        Mail(sender, size, smtputf8=international),
        Rcpt(recipient, international=not recipient.ascii),
    ):
        if wanted is not None and isinstance(question, Mail):
            return wanted
        reply = await _said(visit, question)
        if not reply.positive:
            return reply
    answer = await _said(visit, Data())
    if not answer.positive:
        return answer
    visit.take(Content(b"".join(wire([message or b"\r\n"]))))
    answer = await _said(visit, ContentEnded(size or 0))
    # Without a message, what was heard at its end is not part of the answer.
    return reply if message is None and answer.positive else answer


def _wanted(listener: ListenerSettings, asked: Asked) -> Reply | None:
    """What a client has not done that it has to do first at this listener (`relay.doors`)."""
    if listener.tls == "require" and not asked.tls:
        return answers.TLS_FIRST
    if listener.protocol == "submission" and asked.user is None:
        return answers.AUTH_FIRST
    return None


def _client(asked: Asked, reception: Reception) -> Client:
    return Client(
        asked.client or None,
        0,
        asked.helo or _literal(asked.client),
        True,
        asked.listener,
        asked.user,
        _TLS if asked.tls else None,
        reception.lmtp,
    )


async def _said(visit: Visit, question: Question) -> Reply:
    answer: Any = start(visit.answer(question))
    said: Answer = answer if isinstance(answer, Reply | Verdicts) else await answer
    # There is one recipient.
    return said.each[0] if isinstance(said, Verdicts) else said


def _literal(address: str) -> str:
    if not address:
        return "localhost"
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


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

    def content(self, inquiry: ContentInquiry, about: Sequence[Inquiry], observe: Any = None) -> Any:
        return self._screening.content(inquiry, about, observe)


@implementer(IMailLog)
class _Silent:
    """Nothing has happened."""

    def event(self, what: str, /, **fields: object) -> None:
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
