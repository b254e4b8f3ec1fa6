"""What a client may ask beside sending mail: VRFY, EXPN and ETRN (RFC 5321 section 3.5, RFC 1985)."""

from __future__ import annotations

from typing import Final

from relay.interfaces import SpoolError
from relay.mail.address import Address, AddressError, parse_address
from relay.mail.decision import Accepted, Decision
from relay.mail.envelope import Client
from relay.mail.reply import Reply, printable
from relay.mail.routing import Deliver, Inquiry
from relay.reception.reception import Reception
from relay.smtp import answers
from relay.smtp.events import TurnQueue

_NOT_AN_ADDRESS: Final = Reply.of(501, "5.1.3", "That is no address")
_NOT_A_LIST: Final = Reply.of(550, "5.1.1", "That is nobody, or a single mailbox")
#: How many members of an alias are listed.
_MOST: Final = 1000


async def verify(text: str, client: Client, reception: Reception) -> Reply:
    """
    VRFY from a client that may know (RFC 5321 section 3.5.1): asked like a recipient, and nothing is kept of it.

    Only what is delivered here can be verified (section 3.5.3): whether somebody elsewhere exists, nobody here knows.
    """
    address = _address(text, reception)
    if address is None:
        return _NOT_AN_ADDRESS
    decision = await _decision(address, client, reception)
    if not isinstance(decision, Accepted):
        return decision.reply
    if all(isinstance(placement.route, Deliver) for placement in decision.placements):
        return Reply.saying(250, "2.1.5", f"<{address}>")
    return answers.CANNOT_VERIFY


async def expand(text: str, client: Client, reception: Reception) -> Reply:
    """EXPN (RFC 5321 section 3.5.1): whom an alias stands for."""
    address = _address(text, reception)
    if address is None:
        return _NOT_AN_ADDRESS
    decision = await _decision(address, client, reception)
    if not isinstance(decision, Accepted):
        return decision.reply if decision.reply.temporary else _NOT_A_LIST
    members = list(dict.fromkeys(placement.address for placement in decision.placements))
    if members == [address]:
        return _NOT_A_LIST
    return Reply.of(250, "2.1.5", *(printable(f"<{member}>") for member in members[:_MOST]))


async def turn_queue(asked: TurnQueue, reception: Reception) -> Reply:
    """ETRN (RFC 1985 section 5.3)."""
    try:
        waiting = await reception.dispatch.hasten(asked.domain, asked.below)
    except SpoolError:
        reception.log.failure("ETRN could not be answered")
        return Reply.saying(458, "4.3.0", f"Unable to queue messages for node {asked.domain}")
    if not waiting:
        return Reply.saying(251, "2.0.0", f"OK, no messages waiting for node {asked.domain}")
    return Reply.saying(253, "2.0.0", f"OK, {waiting} pending messages for node {asked.domain} started")


async def _decision(address: Address, client: Client, reception: Reception) -> Decision:
    return await reception.chain.inquire(Inquiry(address, address, None, client))


def _address(text: str, reception: Reception) -> Address | None:
    """An address, with or without brackets; a name without a domain is one of ours."""
    name = text[1:-1] if text.startswith("<") and text.endswith(">") else text
    try:
        return parse_address(name if "@" in name else f"{name}@{reception.hostname}")
    except AddressError:
        return None
