"""What a happening is kept as, and by which words it is found again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from relay.mail.address import AddressError, parse_address
from relay.mail.history import Plain

#: Characters of a value that are kept, and of a key: a peer's reply may have 64 KiB.
LONGEST: Final = 1000
_LONGEST_KEY: Final = 500

#: Fields that name a mailbox, a user, or a message of ours.
_NAMES: Final = ("sender", "recipient", "original", "user", "notice")
#: The addresses in `to`, which has been made of addresses in canonical form.
_ADDRESSES: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s",@]+)@[^\s,]+').findall


def key(text: str) -> str:
    """
    The form in which a queue id, a Message-ID, an address of mail or of a client is compared.

    Letter case means nothing, nor do the brackets around an address or a Message-ID; a domain may be given as people
    write it (RFC 5891).
    """
    text = text.strip().removeprefix("<").removesuffix(">").strip()
    if "@" in text and (not text.isascii() or text.startswith('"')):
        with suppress(AddressError):  # then it may still be a Message-ID
            text = str(parse_address(text))
    return text.casefold()[:_LONGEST_KEY]


def keys(what: str, fields: Mapping[str, object]) -> Iterator[str]:
    """By what this event is found, besides its queue id. Some may come twice."""
    for name in _NAMES:
        value = fields.get(name)
        if value is not None and value != "" and value != "<>":
            yield str(value).casefold()[:_LONGEST_KEY]
    to = fields.get("to")
    if to:
        for address in _ADDRESSES(str(to)):
            yield address.casefold()
    message_id = fields.get("message_id")
    if message_id:
        yield key(str(message_id))
    client = fields.get("client")
    # A client whose mail is accepted day by day is no question: those whom it was for are.
    if client and (what == "refused" or "id" not in fields):
        yield str(client).casefold()


def plain(fields: Mapping[str, object]) -> dict[str, Plain]:
    """The fields that say something, without the queue id, as JSON can say them."""
    return {name: _plain(value) for name, value in fields.items() if name != "id" and _says_something(value)}


def _says_something(value: object) -> bool:
    return value is not None and value != "" and value != ()


def _plain(value: object) -> Plain:
    kind = type(value)
    if kind is int or kind is float or kind is bool:
        return value  # type: ignore[return-value]
    if kind is tuple or kind is list:
        return [str(each)[:LONGEST] for each in value]  # type: ignore[attr-defined]
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
