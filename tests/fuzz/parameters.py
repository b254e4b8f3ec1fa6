"""
A word behind MAIL, RCPT or XCLIENT: `KEYWORD=value`.

Each is read a second time, by an expression that was written from its RFC.
"""

from __future__ import annotations

import re
from typing import Any, Final

from relay.mail.reply import Reply
from relay.smtp.esmtp import Reader
from relay.smtp.extensions import ALL
from relay.smtp.xclient import ATTRIBUTES, read_attributes
from tests.fuzz import naive

#: Every parameter that there is.
KNOWN: Final[dict[str, Reader]] = {
    name: reader for extension in ALL for name, reader in {**extension.mail, **extension.rcpt}.items()
}
_XTEXT = r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})"
#: xtext of printable ASCII, and of anything but controls.
_PRINTABLE_XTEXT = r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[2-6][0-9A-F]|\+7[0-9A-E])"
_CLEAN_XTEXT = r"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[2-689A-F][0-9A-F]|\+7[0-9A-E])"
#: Values that are taken, as the RFCs write them; `None` is for no value.
RIGHT: Final[dict[str, str | None]] = {
    "SIZE": r"[0-9]{1,20}",
    "BODY": r"(?i:7BIT|8BITMIME|BINARYMIME)",
    "SMTPUTF8": None,
    "REQUIRETLS": None,
    "PRDR": None,
    "RET": r"(?i:FULL|HDRS)",
    "ENVID": rf"(?=.{{1,100}}\Z){_PRINTABLE_XTEXT}+",
    "NOTIFY": r"(?i:NEVER|(?!.*(SUCCESS|FAILURE|DELAY).*\1)(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY))*)",
    "BY": r"(?i:[+-]?[0-9]{1,9};NT?|\+?(?!0{1,9};)[0-9]{1,9};RT?)",
    "MT-PRIORITY": r"0|-?[1-9]",
    "HOLDFOR": r"(?!0+\Z)[0-9]{1,9}",
}
_ORCPT = re.compile(rf"(?=.{{3,500}}\Z)[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~-]+;{_CLEAN_XTEXT}+")
#: RFC 6533 section 3: neither `+` nor `=`, whatever else.
_UTF8 = re.compile(r"(?=.{7,500}\Z)(?i:utf-8);(?!.*[\x00-\x20+=\x7f]).+", re.DOTALL)


def check(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    name, equals, value = text.partition("=")
    name = name.upper()
    given = value if equals else None
    if name in KNOWN:
        _judge(name, given, KNOWN[name](given))
    for reader in KNOWN.values():
        _told(reader(given))
    _xclient(text)


def _told(read: Any) -> None:
    if isinstance(read, Reply):
        assert read.code in (501, 504)
        assert naive.is_one_reply(read.wire)


def _judge(name: str, value: str | None, read: Any) -> None:
    taken = not isinstance(read, Reply)
    if name in RIGHT:
        pattern = RIGHT[name]
        if pattern is None:
            right = value is None
        else:
            right = value is not None and re.fullmatch(pattern, value, re.ASCII) is not None
        assert taken == right, f"{name}={value!r}: {read}"
    elif name == "ORCPT":
        kind = _UTF8 if (value or "").lower().startswith("utf-8;") else _ORCPT
        right = value is not None and kind.fullmatch(value) is not None
        assert taken == right, f"{name}={value!r}: {read}"
        if taken:
            assert value is not None
            assert read == {"orcpt": value}
            assert not re.search(r"[\x00-\x20\x7f]", value)
    elif name == "AUTH" and taken:
        assert value is not None
        assert value == "<>" or re.fullmatch(f"{_XTEXT}+", value)
    elif name == "HOLDUNTIL" and taken:
        assert value is not None
        assert re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9:]{8}([Zz]|[+-][0-9]{2}:[0-9]{2})", value, re.ASCII)
        assert isinstance(read["hold_until"], float)


def _xclient(text: str) -> None:
    read = read_attributes(text)
    if isinstance(read, Reply):
        _told(read)
        return
    assert 0 < len(read) <= len(text.split())
    assert len(dict(read)) == len(read)
    for name, value in read:
        assert name in ATTRIBUTES
        if value is None:
            continue
        assert 0 < len(value) <= 255
        assert value.isprintable()
        # In its canonical form it says the same.
        if value.isascii() and not set(value) & set("+= "):
            assert read_attributes(f"{name}={value}") == ((name, value),), f"{name}={value}"
