"""Recipients' names: how our own domains compare them, and how a reply speaks of them."""

from __future__ import annotations

import unicodedata

from relay.mail.address import Address
from relay.mail.reply import Reply


def fold(local: str) -> str:
    """
    The form of a local part in which it is looked up: letter case means nothing in domains that are ours.

    Only the domain that a local part belongs to may fold it (RFC 5321 section 2.4). Characters that
    can be written in two ways (`é`) are one (RFC 6532 section 3.1).
    """
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", local.lower())


def without_detail(local: str, separator: str) -> str:
    """`jon` of `jon+lists`, if `separator` is `+`; a local part that begins with it has no detail."""
    if not separator:
        return local
    at = local.find(separator)
    return local if at <= 0 else local[:at]


def about(address: Address, code: int, status: str, text: str) -> Reply:
    """A reply that says which recipient it is about: a client that pipelines sees many of them at once."""
    return Reply.saying(code, status, f"<{address}>: {text}")
