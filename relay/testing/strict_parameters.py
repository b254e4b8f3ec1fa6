"""What may stand behind a path in MAIL and RCPT, as strictly as the RFCs have it, for `FakeExchange`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

#: RFC 3461 section 4: what is not between "!" and "~", and "+" and "=", is `+` and two digits, in upper case.
_XTEXT: Final = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_NOTIFY: Final = r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}"
#: RFC 6533 section 3 has what an address of type utf-8 is like; it may stand as it is if SMTPUTF8 was said.
_UTF8: Final = r"(?:[!-*,-<>-\[\]-~\x80-\U0010ffff]|\\x\{[0-9A-F]{2,6}\})"

#: By parameter: the keyword that offers it, and its value; "" where it has none.
_OF_MAIL: Final[Mapping[str, tuple[str, str]]] = {
    "AUTH": ("AUTH", rf"<>|{_XTEXT}+"),
    "BODY": ("8BITMIME", "7BIT|8BITMIME|BINARYMIME"),
    "BY": ("DELIVERBY", r"-?[0-9]{1,9};[NR]T?"),
    "ENVID": ("DSN", rf"{_XTEXT}{{1,100}}"),
    "HOLDFOR": ("FUTURERELEASE", "[1-9][0-9]{0,8}"),
    "HOLDUNTIL": ("FUTURERELEASE", r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,}(?:Z|[+-][0-9]{2}:[0-9]{2})"),
    "MT-PRIORITY": ("MT-PRIORITY", "-?[0-9]"),
    "PRDR": ("PRDR", ""),
    "REQUIRETLS": ("REQUIRETLS", ""),
    "RET": ("DSN", "FULL|HDRS"),
    "SIZE": ("SIZE", "[0-9]{1,20}"),
    "SMTPUTF8": ("SMTPUTF8", ""),
}
_OF_RCPT: Final[Mapping[str, tuple[str, str]]] = {
    "NOTIFY": ("DSN", _NOTIFY),
    "ORCPT": ("DSN", rf"[A-Za-z0-9-]+;{_XTEXT}{{1,500}}|utf-8;{_UTF8}{{1,500}}"),
}


@frozen
class Objection:
    """What a client has done that it may not do, if it could know; and what it is answered."""

    reply: str
    complaint: str


def object_to_mail(path: str, parameters: Sequence[str], offers: Mapping[str, str]) -> Objection | None:
    """What is wrong with MAIL, where this was offered."""
    objection = _object(parameters, _OF_MAIL, offers)
    if objection is not None:
        return objection
    given = dict(parameter.partition("=")[::2] for parameter in parameters)
    limit = int(offers.get("SIZE") or 0)
    if limit and int(given.get("SIZE", 0)) > limit:
        return Objection(
            "552 5.3.4 Too large", f"a message of {given['SIZE']} octets was announced to who takes {limit}"
        )
    if given.get("BODY") == "BINARYMIME" and "BINARYMIME" not in offers:
        return Objection("555 5.5.4 BINARYMIME is not known here", "BINARYMIME was not offered")
    if not path.isascii() and "SMTPUTF8" not in given:
        return _without_smtputf8(path)
    return None


def object_to_rcpt(
    path: str, parameters: Sequence[str], of_mail: Sequence[str], offers: Mapping[str, str]
) -> Objection | None:
    """What is wrong with RCPT, where this was offered and MAIL has said that."""
    objection = _object(parameters, _OF_RCPT, offers)
    if objection is not None:
        return objection
    notify = [word for parameter in parameters if parameter.startswith("NOTIFY=") for word in parameter[7:].split(",")]
    if len(notify) != len(set(notify)):
        return Objection("501 5.5.4 Malformed", f"the same twice in NOTIFY: {notify}")
    if not all(text.isascii() for text in (path, *parameters)) and "SMTPUTF8" not in of_mail:
        return _without_smtputf8(path)
    return None


def _object(
    parameters: Sequence[str], known: Mapping[str, tuple[str, str]], offers: Mapping[str, str]
) -> Objection | None:
    seen = set()
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        keyword, pattern = known.get(name, (name, ""))
        if keyword not in offers or name not in known:
            return Objection(f"555 5.5.4 {name} is not known here", f"{name} was not offered")
        if bool(equals) is not bool(pattern) or not re.fullmatch(pattern, value):
            return Objection("501 5.5.4 Malformed", f"malformed: {parameter}")
        if name in seen:
            return Objection("501 5.5.4 Malformed", f"{name} was said twice")
        seen.add(name)
    return None


def _without_smtputf8(path: str) -> Objection:
    return Objection("553 5.6.7 SMTPUTF8 is needed", f"an address in UTF-8 without SMTPUTF8: {path}")
