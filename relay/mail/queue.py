"""What the spool keeps: entries and their recipients, as values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from attrs import evolve, frozen

from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.dsn import NO_WISHES, Notify, Wishes
from relay.mail.envelope import Envelope
from relay.mail.facts import NO_FACTS, Facts
from relay.mail.lanes import lane
from relay.mail.outcome import Delayed
from relay.mail.routing import Deliver, Discard, Forward, Hold, Reject, Route
from relay.mail.value import value

#: Where a recipient goes that stands for an alias and has no copy of its own: its sender is told that the message has
#: gone to all who stand behind it, and then it is settled (RFC 3461 section 5.2.7.3). No agent can have this name.
EXPANSION: Final = Deliver("(expansion)")

#: A mailbox by one policy's decision: it gets one copy.
_Copy: TypeAlias = tuple[Address, str]


@value
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


@value
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
    #: Groups what is carried together; the text of the first next hop, or the agent's name and what it carries to.
    destination: str
    #: The policy that decided, by its name in the configuration.
    policy: str = ""
    #: What the sender wants to be told of it.
    wishes: Wishes = NO_WISHES
    #: What policies have found out by the time at which it was accepted: for those that are asked later.
    facts: Facts = NO_FACTS


def recipients(id: str, placements: Sequence[Placement]) -> tuple[Recipient, ...]:
    """
    The recipients that the spool has to keep for these placements, under the queue id `id`.

    A mailbox that was named twice, or that two aliases lead to, gets one copy (RFC 5321 section 4.1.1.3 permits it).
    Discarded copies are not kept: the mail log has their verdict. Where a sender wants to hear of success, an alias
    that leads to several adds a recipient of its own, whose route is `EXPANSION`.
    """
    if len(placements) == 1:
        # As it is nearly always.
        only = placements[0]
        if only.wishes.notify is None:
            return () if type(only.route) is Discard else (_recipient(f"{id}.0", only),)
    kept: list[Placement] = []
    wished = False
    for placement in placements:
        if not isinstance(placement.route, Discard):
            kept.append(placement)
            wished = wished or placement.wishes.notify is not None
    if wished:
        copies = _as_wished(kept)
    elif len(kept) > 1:
        first: dict[_Copy, Placement] = {}
        for placement in kept:
            first.setdefault((placement.address, placement.policy), placement)
        copies = tuple(first.values())
    else:
        copies = kept
    return tuple([_recipient(f"{id}.{number}", one) for number, one in enumerate(copies)])


def _recipient(id: str, one: Placement) -> Recipient:
    route = one.route
    name = route.next_hops[0].text if type(route) is Forward else destination(route)
    return Recipient(id, one.address, one.original, route, name, one.policy, one.wishes, one.facts)


def _as_wished(placements: Sequence[Placement]) -> Sequence[Placement]:
    """
    One placement for each copy, and one for each expansion, such that nobody hears of success twice or not at all.

    Where several names lead to one mailbox, its copy tells of what is wished for any of them.
    """
    copies: dict[_Copy, list[Placement]] = {}
    names: dict[Address, dict[_Copy, Placement]] = {}
    for placement in placements:
        copy = (placement.address, placement.policy)
        copies.setdefault(copy, []).append(placement)
        names.setdefault(placement.original, {}).setdefault(copy, placement)
    speaking = {copy: _speaker(alike) for copy, alike in copies.items()}
    expanded = {
        name: next(iter(members.values()))
        for name, members in names.items()
        if any(placement.wishes.wants(Notify.SUCCESS) for placement in members.values())
        and (len(members) > 1 or any(speaking[copy].original != name for copy in members))
    }
    return [
        *(evolve(speaking[copy], wishes=_together(speaking[copy], alike, expanded)) for copy, alike in copies.items()),
        *(
            Placement(name, name, EXPANSION, placement.policy, "", placement.wishes)
            for name, placement in expanded.items()
        ),
    ]


def _speaker(alike: Sequence[Placement]) -> Placement:
    """Whose name a notice about this copy uses: the mailbox's own, if the client has said it."""
    return next((placement for placement in alike if placement.original == placement.address), alike[0])


def _together(speaker: Placement, alike: Sequence[Placement], expanded: Iterable[Address]) -> Wishes:
    """What is wished for a copy. Of the success of an expansion its members say nothing any more."""
    if all(placement.wishes.notify is None for placement in alike):
        return speaker.wishes
    wanted = {
        what
        for placement in alike
        for what in (Notify.SUCCESS, Notify.FAILURE, Notify.DELAY)
        if placement.wishes.wants(what) and not (what is Notify.SUCCESS and placement.original in expanded)
    }
    return Wishes(frozenset(wanted or {Notify.NEVER}), speaker.wishes.orcpt)


def destination(route: Route) -> str:
    """The name under which copies that go the same way wait together."""
    match route:
        case Forward():
            return route.next_hops[0].text
        case Deliver(agent, parameters):
            return lane(agent, parameters)
        case Hold():
            return "hold"
        case Reject():
            return "refused"
        case Discard():
            return "discard"


@value
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
