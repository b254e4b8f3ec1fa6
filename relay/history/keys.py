"""What a happening is kept as, and by which words it is found again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Final

from relay.mail.address import AddressError, parse_address
from relay.mail.history import Plain

#: Characters of a value that are kept, and of a key: a peer's reply may have 64 KiB.
LONGEST: Final = 1000
_LONGEST_KEY: Final = 500

#: What has happened cannot be read any more. No event of the mail log has this name.
UNREADABLE: Final = "(unreadable)"

#: Fields that name a mailbox, a user, or a message of ours.
_NAMES: Final = ("sender", "recipient", "original", "user", "notice")
#: All fields by which events are found.
_FOUND_BY: Final = frozenset({*_NAMES, "to", "message_id", "client"})
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


def fields_asked_for(what: str, names: Iterable[str]) -> frozenset[str]:
    """The fields by which an event is found, besides its queue id, of those that it has."""
    found = _FOUND_BY.intersection(names)
    # A client whose mail is accepted day by day is no question: those whom it was for are.
    return found - {"client"} if what != "refused" and "client" in found and "id" in names else found


def keys_in(name: str, texts: Collection[str]) -> set[str]:
    """By what events are found in whose field `name` these texts stand: of one event, or of a thousand at once."""
    if name == "to":
        return _addresses(texts)
    if name == "message_id":
        return set(map(key, texts))
    found = set(map(str.casefold, texts))
    if found and max(map(len, found)) > _LONGEST_KEY:
        found = {each[:_LONGEST_KEY] for each in found}
    found.discard("<>")
    return found


def keys(what: str, fields: Mapping[str, object], told: Mapping[str, Plain]) -> set[str]:
    """By what this event is found, besides its queue id. `told` is `plain(fields)`."""
    found: set[str] = set()
    for name in fields_asked_for(what, fields):
        if name in told:
            # As it was before it was cut.
            text = legible(str(fields[name])) if name == "to" else str(told[name])
            found |= keys_in(name, (text,))
    return found


def _addresses(texts: Collection[str]) -> set[str]:
    written = " ".join(texts).casefold()
    if '"' in written:
        return {address for text in texts for address in _ADDRESSES(text.casefold())}
    # Without quotes there is neither a comma nor a space in one.
    return {word for word in written.replace(",", " ").split() if "@" in word}


def plain(fields: Mapping[str, object]) -> dict[str, Plain]:
    """The fields that say something, without the queue id, as JSON can say them."""
    told: dict[str, Plain] = {}
    for name, value in fields.items():
        # By how often they come: this is done for everything that happens.
        if isinstance(value, str):
            if value and name != "id":
                told[name] = value if value.isascii() and len(value) <= LONGEST else _text(value)
        elif isinstance(value, int | float):
            told[name] = value
        elif isinstance(value, tuple | list):
            if value:
                told[name] = [_text(str(each)) for each in value]
        elif value is not None and name != "id":
            told[name] = _text(str(value))
    return told


def legible(text: str) -> str:
    """In characters that UTF-8 has."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _text(text: str) -> str:
    """As much of it as is kept."""
    return legible(f"{text[:LONGEST]}..." if len(text) > LONGEST else text)
