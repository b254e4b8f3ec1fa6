"""The local agents of a world in memory: mail that was delivered, by where it went."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from attrs import frozen
from zope.interface import implementer

from relay.interfaces import Consignment, IAgent, Report
from relay.mail.envelope import Form
from relay.mail.outcome import Carried, Fact
from relay.mail.queue import Recipient
from relay.mail.routing import Deliver
from relay.mail.trace import return_path
from relay.smtp.octets import plain


@frozen
class Mail:
    """One message in a mailbox."""

    recipient: str
    #: With `Return-Path` on top, lines ended by CRLF.
    octets: bytes


@implementer(IAgent)
class FakeMailboxes:
    """
    An agent that keeps what it gets, in `mailboxes`, by the first parameter of the route (a folder, a file), or ""
    where there is none.
    """

    def __init__(self) -> None:
        self.mailboxes: dict[str, list[Mail]] = defaultdict(list)
        #: How often something was carried here.
        self.consignments = 0
        #: What becomes of the next copies instead, one fact for each.
        self.facts: list[Fact | Exception] = []

    def carry(self, consignment: Consignment) -> Sequence[Report]:
        self.consignments += 1
        return [Report(recipient, self._keep(consignment, recipient)) for recipient in consignment.recipients]

    def _keep(self, consignment: Consignment, recipient: Recipient) -> Fact:
        if self.facts:
            fact = self.facts.pop(0)
            if isinstance(fact, Exception):
                raise fact
            return fact
        blocks = consignment.content.blocks()
        octets = b"".join(plain(blocks) if consignment.content.form is Form.WIRE else blocks)
        where = ""
        if isinstance(recipient.route, Deliver):
            where = next(iter(recipient.route.parameters.values()), "")
        top = return_path(consignment.entry.envelope.reverse_path)
        self.mailboxes[where].append(Mail(str(recipient.address), top + consignment.head + octets))
        return Carried(onward=False, by=where or "memory")
