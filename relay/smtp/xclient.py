"""
XCLIENT: a host that we trust says for whom it speaks.

There is no RFC; Postfix has described it, and speaks it on both sides (its `XCLIENT_README`). The attributes are those
that matter here; one that we do not offer is refused, since to ignore it would be to take another client's place.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final

from relay.mail.dsn import decoded, is_xtext
from relay.mail.reply import Reply

#: What EHLO shows behind the keyword.
ATTRIBUTES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN")
#: What a host says that knows no value: there is none, or it could not be found out for the moment.
_NONE: Final = ("[UNAVAILABLE]", "[TEMPUNAVAIL]")
_LONGEST: Final = 255
_PORT = re.compile(r"[0-9]{1,5}\Z")

_SYNTAX: Final = Reply.of(501, "5.5.4", "Syntax: XCLIENT attribute=value ...")


def read_attributes(text: str) -> tuple[tuple[str, str | None], ...] | Reply:
    """The attributes in the order in which they came, each with its value in canonical form or `None` for no value."""
    attributes: dict[str, str | None] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        name = name.upper()
        if not equals or name in attributes:
            return _SYNTAX
        if name not in ATTRIBUTES:
            return Reply.saying(501, "5.5.4", f"The attribute {name[:40]} is not offered")
        try:
            attributes[name] = _value(name, value)
        except ValueError:
            return Reply.saying(501, "5.5.4", f"Bad value of the attribute {name}")
    return tuple(attributes.items()) if attributes else _SYNTAX


def _value(name: str, xtext: str) -> str | None:
    """Raises `ValueError`."""
    if xtext.upper() in _NONE:
        return None
    value = decoded(xtext)
    if not value or not is_xtext(xtext) or len(value) > _LONGEST or not value.isprintable():
        raise ValueError("no attribute value")
    match name:
        case "ADDR":
            return _address(value)
        case "PORT":
            if not _PORT.match(value) or int(value) > 65535:
                raise ValueError("no port")
            return str(int(value))
        case "PROTO":
            if value.upper() not in ("SMTP", "ESMTP"):
                raise ValueError("no protocol")
            return value.upper()
        case "HELO" | "NAME":
            if not value.isascii() or " " in value:
                raise ValueError("no name")
            return value
        case _:
            return value


def _address(text: str) -> str:
    marked = text[:5].upper() == "IPV6:"
    address = ip_address(text[5:] if marked else text)
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            raise ValueError("an address with a zone")
        return str(address.ipv4_mapped or address)
    if marked:
        raise ValueError("no IPv6 address")
    return str(address)
