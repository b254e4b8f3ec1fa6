"""A mail transaction up to its content: what MAIL and RCPT have said (RFC 5321 section 3.3)."""

from __future__ import annotations

from attrs import evolve, frozen

from relay.mail.decision import Placement
from relay.mail.envelope import Envelope
from relay.mail.queue import Recipient
from relay.mail.routing import Deliver, Discard, Forward, Hold, Reject, Route


@frozen
class Transaction:
    """The open transaction. It is replaced at each step, and dropped at its end; nothing in it is ever changed."""

    envelope: Envelope
    #: The SIZE parameter, or 0.
    size: int = 0
    placements: tuple[Placement, ...] = ()
    #: How many RCPT were accepted: with an alias that is less than there are placements.
    recipients: int = 0

    def accept(self, placements: tuple[Placement, ...]) -> Transaction:
        """One more RCPT was accepted, for these placements."""
        return evolve(self, placements=self.placements + placements, recipients=self.recipients + 1)

    def enrolled(self, id: str) -> tuple[Recipient, ...]:
        """
        The recipients that the spool has to keep, under the queue id `id`.

        A recipient that was named twice, or that two aliases lead to, gets one copy (RFC 5321 section 4.1.1.3
        permits it). Discarded copies are not kept: the mail log has their verdict.
        """
        kept: dict[tuple[object, ...], Placement] = {}
        for placement in self.placements:
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
            )
            for number, placement in enumerate(kept.values())
        )

    def discarded(self) -> tuple[Placement, ...]:
        """The placements that a policy throws away."""
        return tuple(placement for placement in self.placements if isinstance(placement.route, Discard))


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
