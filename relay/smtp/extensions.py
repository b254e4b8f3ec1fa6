"""
The extension table: which keywords EHLO shows, and which parameters of MAIL and RCPT they bring.

A row is all that an extension adds to the grammar. What an extension adds as a verb stands in
`relay.smtp.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from attrs import field, frozen

from relay.mail.envelope import Body
from relay.mail.reply import Reply

#: Reads a parameter's value (`None`: there was no `=`) into arguments of `Mail` or `Rcpt`, or says what is wrong.
Reader: TypeAlias = Callable[[str | None], Mapping[str, Any] | Reply]

_BAD_VALUE = "5.5.4"
#: RFC 1870 section 3: up to 20 digits.
_SIZE_DIGITS = 20


@frozen
class Extension:
    """One row: a keyword of EHLO, and what comes with it."""

    keyword: str
    #: Parameters of MAIL, by name in upper case.
    mail: Mapping[str, Reader] = field(factory=dict)
    #: Parameters of RCPT.
    rcpt: Mapping[str, Reader] = field(factory=dict)


def _size(value: str | None) -> Mapping[str, Any] | Reply:
    if value is None or not (value.isascii() and value.isdigit()) or len(value) > _SIZE_DIGITS:
        return Reply.of(501, _BAD_VALUE, "SIZE takes a number of octets")
    return {"size": int(value)}


def _body(value: str | None) -> Mapping[str, Any] | Reply:
    match (value or "").upper():
        case "7BIT":
            return {"body": Body.SEVEN_BIT}
        case "8BITMIME":
            return {"body": Body.EIGHT_BIT}
        case "BINARYMIME":
            return Reply.of(504, _BAD_VALUE, "BODY=BINARYMIME is not offered")
        case _:
            return Reply.of(501, _BAD_VALUE, "BODY takes 7BIT or 8BITMIME")


def _smtputf8(value: str | None) -> Mapping[str, Any] | Reply:
    if value is not None:
        return Reply.of(501, _BAD_VALUE, "SMTPUTF8 takes no value")
    return {"smtputf8": True}


#: RFC 2920: replies to commands that came together leave together.
PIPELINING = Extension("PIPELINING")
#: RFC 1870. EHLO shows the limit behind the keyword.
SIZE = Extension("SIZE", mail={"SIZE": _size})
#: RFC 6152.
EIGHT_BIT = Extension("8BITMIME", mail={"BODY": _body})
#: RFC 2034.
ENHANCED_STATUS = Extension("ENHANCEDSTATUSCODES")
#: RFC 6531.
SMTPUTF8 = Extension("SMTPUTF8", mail={"SMTPUTF8": _smtputf8})

#: RFC 3030: BDAT. BINARYMIME is another extension, since few next hops take it.
CHUNKING = Extension("CHUNKING")
#: RFC 5321 section 4.1.1.8; section 2.2.1 wants the keyword.
HELP = Extension("HELP")

#: What a listener offers unless told otherwise, in the order in which EHLO shows it. The place for STARTTLS,
#: AUTH, CHUNKING, DSN and the others is a row above and a word here.
OFFERED: tuple[Extension, ...] = (PIPELINING, SIZE, EIGHT_BIT, ENHANCED_STATUS, SMTPUTF8, CHUNKING, HELP)
