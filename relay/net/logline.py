"""
Lines of the mail log: an event as one line of text, or as one JSON object.

What stands in a line comes from peers too, so nothing in a value can end the line or look like another field.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from relay.mail.address import Address
from relay.mail.event import Event, Shape
from relay.net.harmless_lines import USUAL, text_of, written

#: Characters of a value that are kept: a peer's reply may have 64 KiB.
LONGEST = 1000

#: Printable, and neither a blank nor what quoting needs for itself.
_BARE = re.compile(r"[!#-\[\]-~]+").fullmatch
#: The same and the blank, which is not bare, but within quotes is nothing else.
_HARMLESS: Final = bytes(octet for octet in range(ord(" "), ord("~") + 1) if octet not in b'"\\')

#: Neither what is no number nor what is infinite.
_FINITE: Final = 1e300

#: Makes a line, its end included, of an event.
Formatter: TypeAlias = Callable[[float, Shape[Any], tuple[Any, ...]], str]
#: Makes the lines of several, or says that each of them has to be looked at by itself.
Together: TypeAlias = Callable[[Iterable[Event]], bytes | None]


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

    def line(when: float, shape: Shape[Any], row: tuple[Any, ...]) -> str:
        told = zip(shape.names, row, strict=True)
        words = [f" {name}={_word(value)}" for name, value in told if _says_something(value)]
        return f"{stamp(when)} {shape.what}{''.join(words)}\n"

    return line


def plain_text_lines() -> Together:
    """
    The same lines, for events of which no value has to be cut, nor has anything in it that would have to be escaped.

    That is what nearly all are, and it is looked at once for all of them (`_if_harmless`).
    """
    stamp = Stamps()

    def lines(events: Iterable[Event]) -> bytes | None:
        made: list[str] = []
        quotes = 0
        last, time = -1.0, ""
        for when, shape, row in events:
            if when != last:
                last, time = when, stamp(when)
            line, quoted = USUAL.get(shape, written)(shape, row)
            made.append(f"{time} {line}")
            quotes += quoted
        return _if_harmless(made, quotes)

    return lines


def json_lines() -> Formatter:
    """`{"time":"2026-11-23T01:28:37.123Z","event":"accepted","id":"4Q2x7","sender":"ann@example.org","size":1234}`"""
    stamp = Stamps()
    encode = json.JSONEncoder(separators=(",", ":"), default=_plain).encode

    def line(when: float, shape: Shape[Any], row: tuple[Any, ...]) -> str:
        told = {name: _cut(value) for name, value in zip(shape.names, row, strict=True) if _says_something(value)}
        return encode({"time": stamp(when), "event": shape.what, **told}) + "\n"

    return line


def plain_json_lines() -> Together:
    """The same lines, as `plain_text_lines` does it."""
    stamp = Stamps()

    def lines(events: Iterable[Event]) -> bytes | None:
        made: list[str] = []
        quotes = 0
        last, time = -1.0, ""
        for when, shape, row in events:
            if when != last:
                last, time = when, stamp(when)
            line = f'{{"time":"{time}","event":"{shape.what}"'
            quotes += 8
            for name, value in zip(shape.names, row, strict=True):
                kind = type(value)
                if kind is str:
                    if value:
                        line = f'{line},"{name}":"{value}"'
                        quotes += 4
                elif value is None:
                    continue
                elif kind is Address:
                    line = f'{line},"{name}":"{value.text}"'
                    quotes += 4
                elif kind is int or (kind is float and -_FINITE < value < _FINITE):
                    line = f'{line},"{name}":{value!r}'
                    quotes += 2
                else:
                    return None
            made.append(f"{line}}}")
        return _if_harmless(made, quotes)

    return lines


def _if_harmless(lines: list[str], quotes: int) -> bytes | None:
    """
    The lines, if all are short, and nothing in them means anything but so many quotes, and their ends: those were put
    there by whoever has made the lines. What does no harm is taken out, and if more than that is left, a value has
    brought it in.
    """
    if max(map(len, lines), default=0) > LONGEST:
        return None  # it may be that a value has to be cut
    lines.append("")
    octets = "\n".join(lines).encode("utf-8", "backslashreplace")
    return octets if len(octets.translate(None, _HARMLESS)) == quotes + len(lines) - 1 else None


def _says_something(value: object) -> bool:
    return value is not None and value != "" and value != () and value != []


def _word(value: object) -> str:
    text = value if type(value) is str else text_of(value)
    return text if _BARE(text) and len(text) <= LONGEST else _quoted(text)


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
