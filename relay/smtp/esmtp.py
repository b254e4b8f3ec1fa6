"""
The values of the parameters of MAIL and RCPT (RFC 5321 section 4.1.2, `esmtp-value`), each read as its RFC has it.

A reader is handed the value, or `None` where there was no `=`, and answers with arguments of `Mail` or `Rcpt`, or with
the reply that says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

from relay.mail.dsn import Notify, Return, decoded, is_xtext
from relay.mail.envelope import Body, ByMode
from relay.mail.reply import Reply
from relay.smtp.events import By

Arguments: TypeAlias = Mapping[str, Any]
Reader: TypeAlias = Callable[[str | None], Arguments | Reply]

#: RFC 1870 section 3: up to 20 digits.
_SIZE_DIGITS: Final = 20
#: RFC 3461 sections 4.2 and 4.4.
_ORCPT_LENGTH: Final = 500
_ENVID_LENGTH: Final = 100
#: RFC 3461 section 4.2, `addr-type`: an atom.
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+\Z")
#: RFC 6533 section 3: what may stand in an ORCPT of the type `utf-8` beside xtext.
_UNITEXT = re.compile(r"[!-*,-<>-~\u0080-\U0010ffff]+\Z")
#: RFC 2852 section 4: seconds of up to nine digits, and how it is meant.
_BY = re.compile(r"([+-]?[0-9]{1,9});([NnRr])([Tt]?)\Z")
_PRIORITY = re.compile(r"(?:0|-?[1-9])\Z")
#: RFC 4865 section 5.
_HOLD_DIGITS: Final = 9
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:[Zz]|[+-][0-9]{2}:[0-9]{2})\Z")


def _wrong(text: str) -> Reply:
    return Reply.of(501, "5.5.4", text)


def _is_number(value: str | None, digits: int) -> bool:
    return value is not None and value.isascii() and value.isdigit() and len(value) <= digits


def size(value: str | None) -> Arguments | Reply:
    """SIZE (RFC 1870 section 3)."""
    if value is None or not _is_number(value, _SIZE_DIGITS):
        return _wrong("SIZE takes a number of octets")
    return {"size": int(value)}


def body(value: str | None) -> Arguments | Reply:
    """BODY (RFC 6152 section 2)."""
    match (value or "").upper():
        case "7BIT":
            return {"body": Body.SEVEN_BIT}
        case "8BITMIME":
            return {"body": Body.EIGHT_BIT}
        case "BINARYMIME":
            return Reply.of(504, "5.5.4", "BODY=BINARYMIME is not offered")
        case _:
            return _wrong("BODY takes 7BIT or 8BITMIME")


def body_or_binary(value: str | None) -> Arguments | Reply:
    """BODY, where BINARYMIME is offered too (RFC 3030 section 3)."""
    return {"body": Body.BINARY} if (value or "").upper() == "BINARYMIME" else body(value)


def smtputf8(value: str | None) -> Arguments | Reply:
    """SMTPUTF8 (RFC 6531 section 3.4)."""
    return {"smtputf8": True} if value is None else _wrong("SMTPUTF8 takes no value")


def requiretls(value: str | None) -> Arguments | Reply:
    """REQUIRETLS (RFC 8689 section 2)."""
    return {"require_tls": True} if value is None else _wrong("REQUIRETLS takes no value")


def prdr(value: str | None) -> Arguments | Reply:
    """PRDR."""
    return {"prdr": True} if value is None else _wrong("PRDR takes no value")


def ret(value: str | None) -> Arguments | Reply:
    """RET (RFC 3461 section 4.3)."""
    try:
        return {"returns": Return((value or "").upper())}
    except ValueError:
        return _wrong("RET takes FULL or HDRS")


def envid(value: str | None) -> Arguments | Reply:
    """ENVID (RFC 3461 section 4.4); what it stands for is printable ASCII."""
    if not value or len(value) > _ENVID_LENGTH or not is_xtext(value) or not _is_printable(decoded(value)):
        return _wrong("ENVID takes xtext of at most 100 characters")
    return {"envid": value}


def notify(value: str | None) -> Arguments | Reply:
    """NOTIFY (RFC 3461 section 4.1)."""
    words = (value or "").upper().split(",")
    try:
        wanted = frozenset(Notify(word) for word in words)
    except ValueError:
        return _wrong("NOTIFY takes NEVER, or some of SUCCESS, FAILURE and DELAY")
    if len(wanted) != len(words) or (Notify.NEVER in wanted and len(wanted) > 1):
        return _wrong("NOTIFY takes each word once, and NEVER alone")
    return {"notify": wanted}


def orcpt(value: str | None) -> Arguments | Reply:
    """ORCPT (RFC 3461 section 4.2, RFC 6533 section 3)."""
    kind, mark, address = (value or "").partition(";")
    readable = _UNITEXT.match(address) if kind.lower() == "utf-8" else is_xtext(address)
    if not mark or not address or len(value or "") > _ORCPT_LENGTH or not _ATOM.match(kind) or not readable:
        return _wrong("ORCPT takes a type, ';', and xtext, of at most 500 characters")
    if any(character < " " or character == "\x7f" for character in decoded(address)):
        return _wrong("ORCPT has control characters in it")
    return {"orcpt": value}


def auth(value: str | None) -> Arguments | Reply:
    """
    AUTH (RFC 4954 section 5): who has sent the message, by the client's word. We take no one's word for that, which
    the section permits; and there are clients that say a user's name where it wants an address, so it may be anything.
    """
    if value and is_xtext(value) and decoded(value).isprintable():
        return {}
    return _wrong("AUTH takes <>, or an address in xtext")


def by(value: str | None) -> Arguments | Reply:
    """BY (RFC 2852 section 4)."""
    found = _BY.match(value or "")
    if found is None:
        return _wrong("BY takes seconds, ';', and R or N")
    seconds, mode = int(found[1]), ByMode(found[2].upper())
    if mode is ByMode.RETURN and seconds <= 0:
        return _wrong("BY takes a time to come with R")
    return {"by": By(seconds, mode, bool(found[3]))}


def priority(value: str | None) -> Arguments | Reply:
    """MT-PRIORITY (RFC 6710 section 4)."""
    if value is None or not _PRIORITY.match(value):
        return _wrong("MT-PRIORITY takes a number from -9 to 9")
    return {"priority": int(value)}


def hold_for(value: str | None) -> Arguments | Reply:
    """HOLDFOR (RFC 4865 section 5)."""
    if value is None or not _is_number(value, _HOLD_DIGITS) or int(value) == 0:
        return _wrong("HOLDFOR takes a number of seconds")
    return {"hold_for": int(value)}


def hold_until(value: str | None) -> Arguments | Reply:
    """HOLDUNTIL (RFC 4865 section 5): a date and time of RFC 3339."""
    if value is None or not _DATE_TIME.match(value):
        return _wrong("HOLDUNTIL takes a time like 2030-01-31T12:00:00Z")
    try:
        return {"hold_until": datetime.fromisoformat(value.upper()).timestamp()}
    except (ValueError, OverflowError):
        return _wrong("HOLDUNTIL takes a time like 2030-01-31T12:00:00Z")


def _is_printable(text: str) -> bool:
    return text.isascii() and text.isprintable()
