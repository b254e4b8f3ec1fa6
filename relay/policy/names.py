"""
Names of people: how addresses are compared, and how a reply speaks of them.

For policies of others, too: `Mailboxes` and `fold` are the way to compare. `==` of two addresses, or of two texts,
tells `Jon@example.org` from `jon@example.org`, and a policy that does so is passed by whoever holds the shift key.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from relay.mail.address import Address, canonical_domain, parse_address
from relay.mail.reply import Reply


def fold(local: str) -> str:
    """
    The form of a local part in which it is looked up: letter case means nothing in domains that are ours.

    Only the domain that a local part belongs to may fold it (RFC 5321 section 2.4). Characters that
    can be written in two ways (`é`) are one (RFC 6532 section 3.1). A whole address as text may be folded, too: its
    domain is in its one form already.
    """
    if local.isascii():
        return local.lower()
    return unicodedata.normalize("NFC", local.lower())


class Mailboxes:
    """
    Addresses and whole domains, as people write them, and whether an address is one of them: `address in mailboxes`.

    Letter case means nothing, and an internationalized domain is the same in both of its forms. A domain stands for
    everybody in it, and for nobody in a domain below it. `"<>"` is the null reverse-path, which is `None`.

    Raises `AddressError`, a `ValueError`, for what is neither an address nor a domain.
    """

    __slots__ = ("addresses", "domains", "null")

    def __init__(self, patterns: Iterable[str]) -> None:
        addresses, domains = set[tuple[str, str]](), set[str]()
        self.null = False
        for pattern in patterns:
            if pattern == "<>":
                self.null = True
            elif "@" in pattern:
                address = parse_address(pattern)
                addresses.add((fold(address.local), address.domain))
            else:
                domains.add(canonical_domain(pattern))
        self.addresses = frozenset(addresses)
        self.domains = frozenset(domains)

    def __contains__(self, address: Address | None) -> bool:
        if address is None:
            return self.null
        if address.domain in self.domains:
            return True
        return bool(self.addresses) and (fold(address.local), address.domain) in self.addresses


def without_detail(local: str, separator: str) -> str:
    """`jon` of `jon+lists`, if `separator` is `+`; a local part that begins with it has no detail."""
    if not separator:
        return local
    at = local.find(separator)
    return local if at <= 0 else local[:at]


def about(address: Address, code: int, status: str, text: str) -> Reply:
    """A reply that says which recipient it is about: a client that pipelines sees many of them at once."""
    return Reply.saying(code, status, f"<{address}>: {text}")
