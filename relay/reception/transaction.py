"""A mail transaction up to its content: what MAIL and RCPT have said (RFC 5321 section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from attrs import Factory, define

from relay.interfaces import IClock
from relay.mail.address import Address
from relay.mail.decision import Placement
from relay.mail.envelope import Client, DeliverBy, Envelope
from relay.mail.facts import NO_FACTS, Facts
from relay.mail.reply import Reply
from relay.mail.routing import Inquiry
from relay.smtp.events import Mail

#: RFC 4865 sections 5.1.1 and 5.2.2.
_HELD_NOTICE: Final = Reply.of(501, "5.5.4", "A message with the null reverse-path is not held")
_HELD_TOO_LONG: Final = Reply.of(501, "5.5.4", "The message would be held for longer than it may take")


@define(eq=False)
class Transaction:
    """
    The open transaction. RCPT adds to it, and what says of content that nobody has to look at it; behind that nothing
    in it is ever changed.
    """

    envelope: Envelope
    #: How the trace field of its message begins (`relay.mail.trace.came`).
    came: str
    #: The SIZE parameter, or 0.
    size: int = 0
    #: What policies have found out about the client and the sender.
    facts: Facts = NO_FACTS
    #: The client hears of each recipient behind the content (LMTP, PRDR).
    each: bool = False
    #: How all that was accepted so far came about (`relay.policy.steps`), if a record is kept.
    steps: list[Any] = Factory(list)
    placements: tuple[Placement, ...] = ()
    #: How many RCPT were accepted: with an alias that is less than there are placements.
    recipients: int = 0
    #: What was asked about each RCPT that was accepted, if policies will be asked about the content.
    asked: tuple[Inquiry, ...] = ()

    def accept(self, placements: tuple[Placement, ...], steps: Sequence[Any], asked: tuple[Inquiry, ...]) -> None:
        """One more RCPT was accepted, for these placements."""
        self.placements += placements
        self.recipients += 1
        self.steps += steps
        self.asked += asked

    def judged(self, placements: tuple[Placement, ...], steps: Sequence[Any], recipients: int) -> Transaction:
        """What is kept of it once policies have seen its content: these placements, for so many of the recipients."""
        known = [*self.steps, *steps]
        return Transaction(
            self.envelope, self.came, self.size, self.facts, self.each, known, placements, recipients, self.asked
        )

    @property
    def can_be_told(self) -> bool:
        """Whether a notice reaches the sender: somebody who is known, and who has an address."""
        return self.envelope.client.user is not None and self.envelope.reverse_path is not None

    @property
    def named(self) -> tuple[Address, ...]:
        """The recipients that were accepted, as the client has named them."""
        return tuple(dict.fromkeys(placement.original for placement in self.placements))


def envelope(mail: Mail, client: Client, clock: IClock, longest_hold: float) -> Envelope | Reply:
    """What MAIL has said, with its times as the spool's clock has them; or why that is too much."""
    release = None
    if mail.hold_for is not None or mail.hold_until is not None:
        hold = float(mail.hold_for) if mail.hold_for is not None else (mail.hold_until or 0.0) - clock.calendar()
        if hold > longest_hold:
            return Reply.of(501, "5.5.4", f"A message is held for at most {longest_hold:.0f} seconds")
        if mail.reverse_path is None:
            return _HELD_NOTICE
        if mail.by is not None and hold > mail.by.seconds:
            return _HELD_TOO_LONG
        release = clock.now() + max(0.0, hold)
    by = mail.by
    return Envelope(
        mail.reverse_path,
        mail.body,
        mail.smtputf8,
        client,
        mail.returns,
        mail.envid,
        mail.require_tls,
        mail.priority,
        None if by is None else DeliverBy(clock.now() + by.seconds, by.mode, by.trace),
        release,
        mail.hold_for,
    )
