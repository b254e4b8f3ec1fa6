"""A transaction as nearly all are: said in one piece, if it can be."""

from __future__ import annotations

from relay.mail.address import Address
from relay.smtp.client import ClientSession
from relay.smtp.parameters import plainly
from relay.smtp.transaction import Transaction


def commands_for(session: ClientSession, sender: Address | None, recipient: Address, size: int) -> bytes:
    """What the session may `propose`, or nothing."""
    terms = session.terms
    return plainly(terms.plain, terms, "" if sender is None else sender.text, size, recipient.text)


def propose(session: ClientSession, sender: Address | None, recipient: Address, size: int) -> None:
    """Begin it as whoever is in a hurry does."""
    commands = commands_for(session, sender, recipient, size)
    if commands:
        session.propose(commands)
    else:
        session.begin(Transaction(sender, (recipient,), size))
