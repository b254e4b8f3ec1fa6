"""
Lines of the mail log: an event as one line of text, or as one JSON object.

What stands in a line comes from peers too, so nothing in a value can end the line or look like another field.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from relay.mail.address import Address

#: Characters of a value that are kept: a peer's reply may have 64 KiB.
LONGEST = 1000

#: Printable, and neither a blank nor what quoting needs for itself.
_BARE = re.compile(r"[!#-\[\]-~]+").fullmatch

#: Makes a line, its end included, of a time (seconds since the epoch), an event and its fields.
Formatter: TypeAlias = Callable[[float, str, Mapping[str, object]], str]


class Stamps:
    """Times as RFC 3339 writes them, in UTC with milliseconds. Most lines share their second with the one before."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def __call__(self, when: float) -> str:
        second, fraction = divmod(when, 1)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = int(second)
        return f"{self._text}.{int(fraction * 1000):03d}Z"


def text_lines() -> Formatter:
    """`2026-11-23T01:28:37.123Z accepted id=4Q2x7 sender=<ann@example.org> size=1234`"""
    stamp = Stamps()

    def line(when: float, what: str, fields: Mapping[str, object]) -> str:
        words = [f" {name}={_word(value)}" for name, value in fields.items() if _says_something(value)]
        return f"{stamp(when)} {what}{''.join(words)}\n"

    return line


def json_lines() -> Formatter:
    """`{"time":"2026-11-23T01:28:37.123Z","event":"accepted","id":"4Q2x7","sender":"ann@example.org","size":1234}`"""
    stamp = Stamps()
    encode = json.JSONEncoder(separators=(",", ":"), default=_plain).encode

    def line(when: float, what: str, fields: Mapping[str, object]) -> str:
        told = {name: _cut(value) for name, value in fields.items() if _says_something(value)}
        return encode({"time": stamp(when), "event": what, **told}) + "\n"

    return line


def _says_something(value: object) -> bool:
    return value is not None and value != "" and value != ()


def _word(value: object) -> str:
    text = value if type(value) is str else _text(value)
    return text if _BARE(text) and len(text) <= LONGEST else _quoted(text)


def _text(value: object) -> str:
    match value:
        case Address():
            return f"<{value}>"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case tuple() | list():
            return ",".join(_text(each) for each in value)
        case _:
            return str(value)


def _quoted(text: str) -> str:
    text = _cut(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not text.isprintable():
        escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in escaped)
    elif escaped == text and " " not in text:
        return text  # letters that are not ASCII (RFC 6531)
    return f'"{escaped}"'


def _cut(value: Any) -> Any:
    return value[:LONGEST] + "..." if isinstance(value, str) and len(value) > LONGEST else value


def _plain(value: object) -> str:
    """What JSON has no form for."""
    return _cut(str(value))  # type: ignore[no-any-return]
