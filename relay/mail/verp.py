"""
VERP: a reverse-path of its own for each recipient, so that whoever a notice speaks of is known by where it comes to.

`news@example.org` writes to `bob@example.net` as `news+bob=example.net@example.org`. Mailboxes in whose names `+`
begins a detail take what comes back.
"""

from __future__ import annotations

from relay.mail.address import LOCAL_PART_OCTETS, Address, quote_local


def verp(sender: Address, recipient: Address) -> Address | None:
    """The reverse-path for this recipient, or `None` where it would be too long, or have an address literal in it."""
    local = f"{sender.local}+{recipient.local}={recipient.domain}"
    if recipient.is_literal or len(quote_local(local).encode()) > LOCAL_PART_OCTETS:
        return None
    return Address(local, sender.domain)
