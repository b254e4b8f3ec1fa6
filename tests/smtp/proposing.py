"""A transaction as nearly all are: said in one piece, if it can be."""

from __future__ import annotations

from relay.mail.address import Address
from relay.smtp.client import ClientSession
from relay.smtp.parameters import plainly
from relay.smtp.transaction import Transaction


def propose(session: ClientSession, sender: Address | None, recipient: Address, size: int) -> None:
    """Begin it as whoever is in a hurry does."""
    terms = session.terms
    commands = plainly(terms.plain, terms, "" if sender is None else sender.text, size, recipient.text)
    if commands:
        session.propose(commands)
    else:
        session.begin(Transaction(sender, (recipient,), size))
