"""Carries mail onward: one conversation with one host for one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from zope.interface import implementer

from relay.interfaces import Consignment, ITransmitter, Report
from relay.mail.envelope import Body, Envelope
from relay.mail.outcome import Peer
from relay.net.client import Connection, Dialer
from relay.smtp.features import Features
from relay.smtp.outgoing import outgoing
from relay.smtp.transaction import Transaction


@implementer(ITransmitter)
class SmtpTransmitter:
    """
    A connection for each call, and QUIT behind it, for whose answer nobody waits.

    An exception comes only from content that cannot be read or is damaged. Whoever keeps connections for the
    next message would do it here: `Connection.carry` may be called again while it is `usable`.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    async def transmit(self, consignment: Consignment, peer: Peer) -> Sequence[Report]:
        connection = await self._dialer.connect(peer)
        if not isinstance(connection, Connection):
            return [Report(recipient, connection) for recipient in consignment.recipients]
        try:
            content = outgoing(consignment.head, consignment.content.form, consignment.content.blocks())
            facts = await connection.carry(transaction_for(consignment, connection.features), content)
        finally:
            connection.quit()
        return [Report(recipient, fact) for recipient, fact in zip(consignment.recipients, facts, strict=True)]


def transaction_for(consignment: Consignment, features: Features) -> Transaction:
    """
    What the dialogue must know about a consignment. The content is read only as far as the answer depends on it.
    """
    envelope = consignment.entry.envelope
    return Transaction(
        reverse_path=envelope.reverse_path,
        recipients=tuple(recipient.address for recipient in consignment.recipients),
        size=len(consignment.head) + consignment.content.size,
        eight_bit=_is_eight_bit(envelope, consignment, features),
        international=envelope.smtputf8 and not _has_ascii_header(consignment),
    )


def _is_eight_bit(envelope: Envelope, consignment: Consignment, features: Features) -> bool:
    """
    Whether the content needs 8BITMIME. Where that is offered the client's word is passed on; where it is not,
    all of the content is read before it is refused.
    """
    if envelope.body is Body.SEVEN_BIT:
        return False
    if features.eight_bit:
        return True
    return not all(block.isascii() for block in _octets(consignment))


def _has_ascii_header(consignment: Consignment) -> bool:
    """Whether the header section is ASCII. Reads no further than its end, and keeps nothing of it."""
    seam = b"\r\n"  # so that a message that begins with an empty line has an empty header section
    for block in _octets(consignment):
        octets = seam + block
        end = octets.find(b"\r\n\r\n")
        if end >= 0:
            return octets[:end].isascii()
        if not block.isascii():
            return False
        seam = octets[-3:]
    return True


def _octets(consignment: Consignment) -> Iterator[bytes]:
    """The message from its first octet. Stuffed dots, if there are any, do not matter to who asks."""
    return chain((consignment.head,), consignment.content.blocks())
