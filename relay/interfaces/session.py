"""What a session and the delivery ask of what stands between them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from zope.interface import Attribute, Interface

from relay.interfaces.spool import Claim
from relay.mail.decision import Admission, Decision, Placement
from relay.mail.envelope import Envelope
from relay.mail.phases import (
    AttemptInquiry,
    AttemptVerdict,
    ConnectionInquiry,
    SenderInquiry,
)
from relay.mail.queue import Recipient
from relay.mail.routing import Inquiry
from relay.smtp.events import Answer as Said
from relay.smtp.events import Content, Question

#: `IChain.route`, without a coroutine where nothing waits. What is one copy that goes one way may be said as that copy,
#: if no more is known of it than was known before.
Deciding: TypeAlias = Callable[[Inquiry, Any], Placement | Decision | Awaitable[Decision]]


class IChain(Interface):
    """
    All policies together.

    One that has a `deciding` besides is asked by it what decides about the recipients of the client of an inquiry, once
    for each client.
    """

    async def route(inquiry: Inquiry, observe: Any = None) -> Decision:
        """
        Where the recipient's copies go, or why it is refused. Never raises for what a policy did: that is a refusal
        with 451.
        """

    async def inquire(inquiry: Inquiry) -> Decision:
        """As `route`, for somebody who only wants to know: policies keep nothing of it."""


class IScreening(Interface):
    """
    All policies together, about everything in a session but where a recipient's copies go.

    None of these raises for what a policy did: that is a refusal with 451.
    """

    asks_clients = Attribute("Whether any policy has a word in the connection phase; if none has, none need be asked.")
    asks_senders = Attribute("The same of the sender phase.")
    asks_contents = Attribute("The same of the content phase.")

    async def connect(inquiry: ConnectionInquiry, observe: Any = None) -> Admission:
        """
        Whether a client may stay. `observe`, here and below, is called with each step (`relay.policy.steps`) as it is
        made.
        """

    async def sender(inquiry: SenderInquiry, observe: Any = None, until: float | None = None) -> Admission:
        """
        Whether mail is taken from this sender. `until`, by `IClock.seconds`: when that has to be known, where the same
        command has asked about the client.
        """

    def content_policies(inquiry: Inquiry) -> tuple[int, ...]:
        """
        Which policies will have a word about content for this recipient: two recipients for whom that is the same have
        the same verdict, unless a policy tells them apart by `Each`.
        """

    def sparing(inquiry: Inquiry) -> Callable[[Sequence[Inquiry]], Sequence[Any] | None]:
        """
        What says of recipients of this inquiry's client, one or more, whether no policy will have a word about content
        for any of them, since no guard holds. Then nobody need be asked by `content`, and these are the steps that an
        observer would have heard of there; else `None`.
        """

    def content(id: str, envelope: Envelope, about: Sequence[Inquiry], observe: Any = None) -> Any:
        """
        The questions about one message that begins to come in (`relay.policy.contents.Content`), and that will have
        this queue id: `take(octets)` for each piece in plain form if it `wants_stream`, and `decide(size, fields,
        blocks)` at its end, which gives a `relay.mail.screening.Outcome`, or an awaitable of one where a policy has to
        think. `about`: what was asked about each recipient.
        """


class IAttemptScreening(Interface):
    """All policies together, about each attempt to deliver a copy."""

    asks_attempts = Attribute("Whether any policy has a word about attempts; if none has, none need be asked.")

    async def attempt(inquiry: AttemptInquiry, about: Inquiry) -> AttemptVerdict:
        """
        What the first says that does not abstain; `about` is what its guard looks at. Several may be asked at the same
        time. Never raises for what a policy did: that is a `Delay`, and so it is that they take too long together.
        """


class IRoutes(Interface):
    """Policies, asked where a copy goes by the configuration of today."""

    async def today(inquiry: Inquiry, policy: str) -> Decision | None:
        """
        Where the copy of this recipient goes, which `policy` has once sent its way: at most one placement, or why there
        is none. Only policies that say `routes = True` are asked, and no alias is followed. `None`: this policy does
        not say so, hence its word stands. Never raises for what a policy did.
        """


class IVisit(Interface):
    """
    Answers one client's questions. The adapter of a connection (`relay.net.server`) calls it, and nothing else does.
    """

    known: Any = Attribute("What is known of the client that holds for its next session on the same connection, too.")

    def answer(question: Question) -> Said | Awaitable[Said]:
        """
        The reply to a question of `relay.smtp.server.ServerSession`. May wait; there is one question at a time.
        `Verdicts` answer the end of content only.

        An exception is answered with 451 4.3.0. `OutcomeUnknown` closes the connection without a reply.
        """

    def take(content: Content) -> None:
        """A piece of content. Never waits and never raises: trouble is told at its end."""

    def lost() -> None:
        """
        The connection is gone. What was not promised is forgotten; a commit that is under way goes on.

        Called exactly once, also after a farewell.
        """


class IDispatch(Interface):
    """Where reception hands over what it has just promised."""

    def lease(envelope: Envelope, recipients: Sequence[Recipient]) -> float | None:
        """
        For how many seconds the recipients of a new entry should be claimed for the dispatcher at once, or `None` if it
        has enough to do, in all or for their destinations: then they wait in the spool. Nobody claims what is held.
        """

    def accept(claims: Sequence[Claim], left: Sequence[Recipient] = ()) -> None:
        """
        Carry these, which the commit of an `Enrol` with that lease has returned; if it has returned none, its
        recipients are `left` in the spool. Without either, nobody knows what is there. Called in the turn that answers
        250; never raises.
        """

    async def hasten(domain: str, below: bool = False) -> int:
        """
        Try now what waits for this domain (`ISpool.hasten`), as ETRN asks for (RFC 1985), and return how many
        recipients that concerns. Raises `SpoolError`.
        """
