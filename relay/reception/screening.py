"""Clients and senders before the policies that have a word about them."""

from __future__ import annotations

from typing import Any

from attrs import define

from relay.interfaces import IScreening
from relay.mail.decision import Admission, Refused
from relay.mail.envelope import Client
from relay.mail.facts import NO_FACTS, Facts
from relay.mail.phases import ConnectionInquiry, SenderInquiry
from relay.mail.reply import Reply
from relay.reception.accounts import observer
from relay.reception.reception import Reception
from relay.smtp.events import Mail


@define(eq=False)
class Known:
    """What policies have said of a client: it stays so for as long as the client is connected."""

    facts: Facts = NO_FACTS
    #: How that came about, if a record is kept.
    steps: tuple[Any, ...] = ()
    #: Why it may not stay.
    refused: Refused | None = None


#: Nobody was asked.
NOBODY: Known = Known()


async def meet(client: Client, reception: Reception, screening: IScreening) -> Known:
    """The connection phase."""
    steps: list[Any] = []
    admission: Admission = await screening.connect(ConnectionInquiry(client), observer(reception, steps))
    if isinstance(admission, Refused):
        return Known(NO_FACTS, tuple(steps), admission)
    return Known(admission.facts, tuple(steps))


async def consider(
    mail: Mail,
    client: Client,
    known: Known,
    reception: Reception,
    screening: IScreening,
    until: float | None = None,
) -> Known:
    """The sender phase: what is known behind MAIL, or why this sender is refused. `until` as of `IScreening.sender`."""
    steps: list[Any] = [*known.steps]
    inquiry = SenderInquiry(client, mail.reverse_path, mail.size, known.facts)
    admission: Admission = await screening.sender(inquiry, observer(reception, steps), until)
    if isinstance(admission, Refused):
        return Known(known.facts, tuple(steps), admission)
    return Known(admission.facts, tuple(steps))


def greeting_refused(reply: Reply) -> Reply:
    """A refusal in the place of a greeting has one of two codes (RFC 5321 section 3.1)."""
    code = 554 if reply.permanent else 421
    return reply if reply.code == code else Reply(code, reply.status, reply.lines)
