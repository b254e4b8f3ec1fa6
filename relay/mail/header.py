"""
The header section of a message, as octets: found, counted and searched, never parsed and never written anew.

What arrives here was written by strangers. Everything is linear in the number of octets, nothing nests, and
a message without a header section (text typed by hand) is as welcome as any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What we are willing to look at (and, at reception, to accept) of a header section.
SECTION_OCTETS = 256 * 1024

#: RFC 5322 section 4.5.8 lets old mail have white space before the colon; we count it too, lest a loop be missed.
_NAMED: dict[bytes, re.Pattern[bytes]] = {}
_RECEIVED = re.compile(rb"(?:\A|(?<=\r\n))received[ \t]*:", re.IGNORECASE)


def section_end(octets: bytes | bytearray, start: int = 0) -> int | None:
    """
    The index behind the empty line that ends the header section, or `None` if it has not come yet.

    Works on content in either form, since no stuffed line is empty. Who looks again when more octets have come
    passes as `start` how many there were before: those are not searched twice. If the content ends without
    an empty line, all of it is the header section.
    """
    if octets.startswith(b"\r\n"):
        return 2
    found = octets.find(b"\r\n\r\n", max(0, start - 3))
    return None if found < 0 else found + 4


def section(blocks: Iterable[bytes], most: int = SECTION_OCTETS) -> bytes:
    """
    The header section of plain content that comes in blocks, without its empty line, at most `most` octets.

    What is longer is cut at the last whole line. Takes no more blocks than it needs.
    """
    taken = bytearray()
    for block in blocks:
        before = len(taken)
        taken += block
        end = section_end(taken, before)
        if end is not None and end - 2 <= most:
            return bytes(taken[: end - 2])
        if len(taken) > most:
            return bytes(taken[: taken.rfind(b"\r\n", 0, most) + 2]) if b"\r\n" in taken[:most] else b""
    return bytes(taken)


def count_received(section: bytes | bytearray) -> int:
    """How many `Received` fields there are: how many hosts the message has passed (RFC 5321 section 6.3)."""
    return sum(1 for _ in _RECEIVED.finditer(section))


def has_field(section: bytes | bytearray, name: bytes) -> bool:
    """Whether there is a field of this name, which is in lower case."""
    pattern = _NAMED.get(name)
    if pattern is None:
        pattern = _NAMED[name] = re.compile(rb"(?:\A|(?<=\r\n))" + re.escape(name) + rb"[ \t]*:", re.IGNORECASE)
    return pattern.search(section) is not None


def field_body(section: bytes, name: bytes) -> bytes | None:
    """
    The body of the first field of this name, unfolded and without white space around it; `None` if there is none.

    `name` is in lower case. No encoded word is decoded and no comment removed: the caller knows what it looks for.
    """
    lines = section.split(b"\r\n")
    for at, line in enumerate(lines):
        found, colon, body = line.partition(b":")
        if not colon or found.rstrip(b" \t").lower() != name:
            continue
        parts = [body]
        for continuation in lines[at + 1 :]:
            if not continuation.startswith((b" ", b"\t")):
                break
            parts.append(continuation)
        return b"".join(parts).strip(b" \t")
    return None
