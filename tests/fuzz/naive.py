"""
The same questions, answered slowly: line by line, by somebody who has read RFC 5321 and not our code.

Nothing here is shared with `relay.smtp`, so that both cannot be wrong in the same way.
"""

from __future__ import annotations

import re

from attrs import frozen

#: RFC 5321 section 4.2: lines of the same code, all but the last with a hyphen.
ONE_REPLY = re.compile(rb"(?:([2-5][0-9]{2})-[ -~]*\r\n)*([2-5][0-9]{2})(?: [ -~]*)?\r\n")


@frozen
class Content:
    """What stands behind a 354."""

    #: How many octets up to its end, terminator included; `None` if that has not come.
    used: int | None
    #: Its lines, without their ends and without the dots that were doubled.
    lines: tuple[bytes, ...]
    #: The same as they came.
    stuffed: tuple[bytes, ...]

    @property
    def plain(self) -> bytes:
        return b"".join(line + b"\r\n" for line in self.lines)

    @property
    def wire(self) -> bytes:
        return b"".join(line + b"\r\n" for line in self.stuffed) + b".\r\n"

    @property
    def has_bare_newline(self) -> bool:
        return any(b"\r" in line or b"\n" in line for line in self.lines)

    @property
    def longest(self) -> int:
        return max(map(len, self.stuffed), default=0)


def read_content(octets: bytes, newline: bytes = b"\r\n") -> Content:
    """Content at the beginning of `octets`, if lines end with `newline` and with nothing else."""
    *lines, _unfinished = octets.split(newline)
    for number, line in enumerate(lines):
        if line == b".":
            stuffed = tuple(lines[:number])
            used = sum(len(each) + len(newline) for each in lines[: number + 1])
            return Content(used, tuple(each.removeprefix(b".") for each in stuffed), stuffed)
    return Content(None, tuple(each.removeprefix(b".") for each in lines), tuple(lines))


def stuff(message: bytes) -> bytes:
    """RFC 5321 section 4.5.2, and a line end for a last line that has none."""
    if message and not message.endswith(b"\r\n"):
        message += b"\r\n"
    lines = message.split(b"\r\n")[:-1]
    return b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n"


def is_bare(octets: bytes) -> bool:
    """Whether a CR or LF in there is no part of a CRLF."""
    return any(b"\r" in line or b"\n" in line for line in octets.split(b"\r\n"))


def is_one_reply(octets: bytes) -> bool:
    """Whether this is exactly one reply, of lines that are no longer than RFC 5321 section 4.5.3.1.5 has them."""
    match = ONE_REPLY.fullmatch(octets)
    if match is None:
        return False
    lines = octets.split(b"\r\n")[:-1]
    return all(line[:3] == lines[0][:3] and len(line) <= 510 for line in lines)


_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def base64(text: bytes) -> bytes | None:
    """What this says (RFC 4648 section 4), or `None` where it is not the one way to say it (section 3)."""
    digits = text.rstrip(b"=")
    padding = len(text) - len(digits)
    values = [_BASE64.find(digit) for digit in digits]
    if -1 in values or len(text) % 4 or padding > 2:
        return None
    number = 0
    for value in values:
        number = number * 64 + value
    spare = len(values) * 6 % 8
    if padding != {0: 0, 4: 2, 2: 1}.get(spare) or number & (1 << spare) - 1:
        return None
    return (number >> spare).to_bytes(len(values) * 6 // 8, "big")


def replies(octets: bytes) -> list[int]:
    """The codes of what a server has said, up to where it makes no sense or has not ended."""
    found: list[int] = []
    *lines, _unfinished = octets.split(b"\r\n")
    codes: list[bytes] = []
    size = 0
    for line in lines:
        size += len(line) + 2
        if b"\r" in line or b"\n" in line or re.match(rb"[2-5][0-9]{2}(?:[ -]|\Z)", line) is None:
            break
        codes.append(line[:3])
        if len(codes) > 100 or size > 64 * 1024 or codes[0] != line[:3]:
            break
        if line[3:4] != b"-":
            found.append(int(line[:3]))
            codes, size = [], 0
    return found
