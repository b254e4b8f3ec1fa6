"""Agents, who carry mail, and what they carry it by."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from zope.interface import Attribute, Interface

from relay.interfaces.spool import IContent
from relay.interfaces.world import World
from relay.mail.outcome import Fact, Peer
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import NextHop
from relay.mail.value import value


@value
class Consignment:
    """What an agent carries: one entry's content for some recipients that go the same way."""

    entry: Entry
    recipients: tuple[Recipient, ...]
    content: IContent
    #: What stands on top of the content: `entry.head`. Final delivery puts `Return-Path` above it.
    head: bytes
    #: Where an `ITransmitter` carries it to, and how: of the route's next hops the one whose turn it is.
    next_hop: NextHop | None = None
    #: As `Claim.fresh`. Said only where that spares an agent a look for what it may have done before.
    fresh: bool = False


@value
class Report:
    """What happened to one recipient's copy."""

    recipient: Recipient
    fact: Fact


class IAgent(Interface):
    """
    Carries mail away. Called by the dispatcher with a consignment of recipients that share a destination.

    Registered like a policy: entry points `relay.agents`, `package.module:Name`, Twisted plugins.
    """

    def carry(consignment: Consignment) -> Awaitable[Sequence[Report]] | Sequence[Report]:
        """
        Try once, now. Exactly one report for each recipient, in any order. May wait; the dispatcher cancels it
        at its deadline.

        A report of `Carried` is a promise: the copy is durable where it went (a file and its directory are
        synced), or a server has said 250. An exception means `Misbehaved` for all: they are tried again.
        """


class IAgentMaker(Interface):
    """
    What a plugin registers to bring an agent.

    `options`, if it has it (a class: `Options`), is a pydantic model of the parameters, `extra='forbid'`; without it
    they are not checked.
    """

    use = Attribute("The agent's name in `Deliver(agent=...)`.")

    def make(world: World) -> Any:
        """An `IAgent`. Called once for a running relay."""


class Interrupted(Exception):
    """
    A transmission ended before everybody had a report, by what this is `from`: it was cancelled, or our own content
    failed. What others have said by then stands: a copy that was promised must not be sent again.
    """

    def __init__(self, reports: Sequence[Report]) -> None:
        super().__init__(f"{len(reports)} reports are there")
        self.reports = tuple(reports)


class IPlace(Interface):
    """
    What one attempt may have of its destination: a connection, and no two at the same time.

    A destination's limit is a promise to whoever is at the other end: on so many connections something is under way,
    and on no more. An attempt that began because another one awaited nothing but its final reply has no connection of
    its own, unless one is free: it follows on that of the other one, or waits.

    Where the connection on which it has followed is lost with the message ahead, it may make another one at once.
    """

    own: bool = Attribute("Whether it may use a connection that nobody uses, or make one.")

    def follow(ahead: IPlace) -> bool:
        """
        Whether it may be carried on the connection on which the message of `ahead` awaits its final reply. If it may,
        it is, and from the end of that one's attempt on the connection is its own.
        """

    def wait() -> Awaitable[None]:
        """Returns when it has a connection of its `own`. Asked only where it has none; may be cancelled."""

    def leave() -> None:
        """
        It is through with the host that it was at, and goes on elsewhere: somebody who has followed has its connection,
        and if there is somebody, it has none of its own.
        """


class ITraveller(IPlace):
    """An attempt that began in one step (`IWillingTransmitter`, `IWillingAgent`), told how far it has come."""

    def sent() -> None:
        """As `sent` of `ITransmitter.transmit`."""

    def arrived() -> None:
        """The `IPassing` is over. Never raises."""


class IPassing(Interface):
    """A consignment on its way, into a mailbox, on a connection, or to one."""

    over: bool = Attribute("Whether it has ended.")
    facts: Sequence[Fact] = Attribute(
        "Then, one for each of its recipients, in their order; none with a problem, or without a connection."
    )
    problem: BaseException | None = Attribute("Then, what `transmit` would raise: it was cancelled, or has no content.")

    def cancel() -> None:
        """End it at once, as if `transmit` were cancelled: `arrived` is called."""


class IWillingAgent(IAgent):
    """
    One that needs no coroutine for a single copy. For agents of our own: whoever brings one has `IAgent` to provide.
    """

    def set_off(consignment: Consignment, traveller: ITraveller) -> IPassing | None:
        """
        `carry` for one recipient, begun in one step; `None`: it needs `carry`, and nothing has happened. Never raises.
        If it is not `over` when this returns, `traveller.arrived` is called when it is. When it is cancelled it has
        the fact that `carry` would report.
        """


class ITransmitter(Interface):
    """
    Carries mail onward, to one host: the SMTP client. Which hosts, and what their answers mean for the next one,
    is decided by whoever calls (`relay.delivery.attempt`).
    """

    def transmit(
        consignment: Consignment, peer: Peer, sent: Callable[[], None] | None = None, place: IPlace | None = None
    ) -> Awaitable[Sequence[Report]]:
        """
        One conversation with the host at `peer.address` and `peer.port`.

        `sent` is called once at most: when the last octet of the content is on its way, nothing but the host's final
        reply is awaited, and the next message for the same host may follow on the same connection without waiting for
        that. It may be called before this returns, and never raises. Where nothing may follow it is not called.

        `place`: which connections it may use. Without one it may use as many as it likes, one after the other.

        Exactly one report for each recipient: `Carried` (`onward`, unless the next hop speaks LMTP), `Answered`,
        `Broke`, `Unencrypted`, `Unauthenticated` or `Unsuitable`. It connects to this address and no other (more than
        once where the host wants that), never looks up a name, keeps the deadlines of the configuration for each phase
        by itself, and never raises for what a peer does. The content is sent as it is kept, head first; not one octet
        of it is changed. When it is cancelled it closes the connection. Raises `Interrupted` where there are reports by
        then, be it when it is cancelled or for content that cannot be read.
        """


class IWillingTransmitter(ITransmitter):
    """One that needs no coroutine where nothing is in its way."""

    def set_off(consignment: Consignment, peer: Peer, place: ITraveller) -> IPassing | None:
        """
        `transmit` to one recipient, if it can begin now in one step: on a connection that is there, or on one that
        begins to be made; else `None`, and nothing has happened. Never raises. If it is not `over` when this returns,
        `place.arrived` is called when it is.
        """

    def transmit(
        consignment: Consignment,
        peer: Peer,
        sent: Callable[[], None] | None = None,
        place: IPlace | None = None,
        passing: IPassing | None = None,
    ) -> Awaitable[Sequence[Report]]:
        """As `ITransmitter.transmit`. It goes on with a `passing` to this peer that is over, of which it knows more."""
