"""What a happening is kept as, and by which words it is found again."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from relay.mail.address import Address, AddressError, parse_address
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
#: Neither what is no number nor what is infinite.
_EXACT: Final = 1e300
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


def keys(what: str, fields: Mapping[str, object], told: Mapping[str, Plain]) -> Iterator[str]:
    """By what this event is found, besides its queue id. Some may come twice. `told` is `plain(fields)`."""
    for name in _NAMES:
        if name in told:
            value = str(told[name])
            if value != "<>":
                yield value.casefold()[:_LONGEST_KEY]
    if "to" in told:
        # As it was before it was cut.
        to = str(fields["to"])
        for address in _ADDRESSES(to if to.isascii() else to.encode("utf-8", "replace").decode("utf-8")):
            yield address.casefold()
    if "message_id" in told:
        yield key(str(told["message_id"]))
    # A client whose mail is accepted day by day is no question: those whom it was for are.
    if "client" in told and (what == "refused" or "id" not in fields):
        yield str(told["client"]).casefold()


def row(what: str, fields: Mapping[str, object]) -> tuple[str, list[str]] | None:
    """
    `plain(fields)` in JSON and `keys(what, fields, plain(fields))`, made in one go; `None`: not in this way.

    It is for what happens to nearly every message. Whether anything in it has to be cut or escaped is looked at once,
    in what comes out; if so, or where a value is a list, both are made in the general way.
    """
    text, quotes = "", 0
    found: list[str] = []
    for name, value in fields.items():
        kind = type(value)
        if kind is str or kind is Address:
            word = f"{value}"
            if not word or name == "id":
                continue
            text += f'"{name}":"{word}",'
            quotes += 4
            if name in _NAMES:
                if word != "<>":
                    found.append(word.casefold()[:_LONGEST_KEY])
            elif name == "to":
                found += [address.casefold() for address in _ADDRESSES(word)]
            elif name == "message_id":
                found.append(key(word))
            elif name == "client" and (what == "refused" or "id" not in fields):
                found.append(word.casefold())
        elif value is None:
            continue
        elif name in _FOUND_BY:
            return None
        elif kind is int:
            text += f'"{name}":{value},'
            quotes += 2
        elif kind is float and -_EXACT < value < _EXACT:  # type: ignore[operator]  # it is a number
            text += f'"{name}":{value!r},'
            quotes += 2
        else:
            return None
    if len(text) > LONGEST or not (text.isascii() and text.isprintable()):
        return None
    return None if "\\" in text or text.count('"') != quotes else (f"{{{text[:-1]}}}", found)


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


def _text(text: str) -> str:
    """As much of it as is kept, in characters that UTF-8 has."""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}..."
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")
