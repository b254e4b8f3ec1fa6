"""What the spool keeps: entries and their recipients, as values."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import frozen

from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.dsn import NO_WISHES, Wishes
from relay.mail.envelope import Envelope
from relay.mail.outcome import Delayed
from relay.mail.routing import Deliver, Discard, Forward, Hold, Reject, Route


@frozen
class Entry:
    """One accepted message: its envelope, and where its content is found again. It never changes."""

    #: The queue id: unique across shards, machines, restarts and clock steps (`relay.spool.identity`).
    id: str
    #: When it was accepted: seconds since the epoch.
    arrived: float
    envelope: Envelope
    #: Whole header fields (each ended by CRLF, none begins with a dot) that stand on top of the content: our
    #: `Received`, and an empty line behind it if the content has no header section. The content is never touched.
    head: bytes


@frozen
class Recipient:
    """
    One accepted recipient of an entry, and where its copy goes.

    It has an identity of its own, `id`, unique like a queue id; it is never a position in a list.
    """

    id: str
    address: Address
    #: What the client named, where that differs (an alias): what a notice speaks of.
    original: Address
    route: Route
    #: Groups what is carried together; the text of the first next hop, or the agent's name.
    destination: str
    #: The policy that decided, by its name in the configuration.
    policy: str = ""
    #: What the sender wants to be told of it.
    wishes: Wishes = NO_WISHES


def recipients(id: str, placements: Iterable[Placement]) -> tuple[Recipient, ...]:
    """
    The recipients that the spool has to keep for these placements, under the queue id `id`.

    A mailbox that was named twice, or that two aliases lead to, gets one copy (RFC 5321 section 4.1.1.3 permits it).
    Discarded copies are not kept: the mail log has their verdict.
    """
    kept: dict[tuple[Address, str], Placement] = {}
    for placement in placements:
        if not isinstance(placement.route, Discard):
            kept.setdefault((placement.address, placement.policy), placement)
    return tuple(
        Recipient(
            f"{id}.{number}",
            placement.address,
            placement.original,
            placement.route,
            destination(placement.route),
            placement.policy,
            placement.wishes,
        )
        for number, placement in enumerate(kept.values())
    )


def destination(route: Route) -> str:
    """The name under which copies that go the same way wait together."""
    match route:
        case Forward(next_hops):
            return str(next_hops[0])
        case Deliver(agent):
            return agent
        case Hold():
            return "hold"
        case Reject():
            return "refused"
        case Discard():
            return "discard"


@frozen
class Pending:
    """A recipient in the queue, with what has happened to it so far."""

    recipient: Recipient
    attempts: int = 0
    #: Seconds since the epoch; the next attempt is made when it has passed.
    due: float = 0.0
    last: Delayed | None = None


@frozen
class Census:
    """How many recipients are in which state, and the age of the oldest entry, for `relayctl status`."""

    #: Due or waiting for their time.
    waiting: int
    #: Claimed by a holder at this moment.
    active: int
    held: int
    #: Entries that could not be read and were set aside.
    corrupt: int
    entries: int
    #: When the oldest entry was accepted, seconds since the epoch, or `None` for an empty queue.
    oldest: float | None
