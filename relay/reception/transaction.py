"""A mail transaction up to its content: what MAIL and RCPT have said (RFC 5321 section 3.3)."""

from __future__ import annotations

from attrs import evolve, frozen

from relay.mail.decision import Placement
from relay.mail.envelope import Envelope


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
