"""
Content's two forms, and the only two places that turn one into the other (RFC 5321 section 4.5.2).

*Wire* is what DATA carries: every line that begins with a dot has one more dot, and a line of a single
dot ends it. *Plain* is the message. Both work on blocks, however the message was cut into them, and
in time linear in its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import IncrementalNewlineDecoder
from typing import Final

CRLF = b"\r\n"
#: The end of content in wire form, and the whole of an empty message.
TERMINATOR = b".\r\n"
#: What `newlines` of Python's decoder is where each one is whole.
_WHOLE: Final = (None, "\r\n")


def is_lines(octets: bytes) -> bool:
    """
    Whether each CR and each LF is part of a CRLF.

    Python's own text files ask which kinds of newlines there are, in one pass; to take CRLF out and to search what is
    left takes two or three times as long.
    """
    seen = IncrementalNewlineDecoder(None, False)
    seen.decode(octets.decode("latin-1"), True)
    return seen.newlines in _WHOLE


def stuffed(octets: bytes) -> bool:
    """Whether these, the beginning of wire content, have a line that begins with a dot: if not, they are plain, too."""
    return b"\n." in octets or octets[:1] == b"."


def wire(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Stuff and terminate plain content.

    Content that does not end with CRLF gets one, since DATA cannot say otherwise (RFC 5321 section 4.1.1.4).
    """
    tail = CRLF  # the octets before the block: content begins at the start of a line
    for block in blocks:
        if not block:
            continue
        stuffed = block.replace(b"\r\n.", b"\r\n..")
        # What is cut between blocks: CRLF | "." and CR | LF "."
        if tail == CRLF and block.startswith(b"."):
            stuffed = b"." + stuffed
        elif tail.endswith(b"\r") and block.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        yield stuffed
        tail = (tail + block[-2:])[-2:]
    yield TERMINATOR if tail == CRLF else CRLF + TERMINATOR


def plain(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Un-stuff wire content, and drop its terminator.

    The blocks are one message as it was received: what stands behind the terminator is never looked for.
    """
    unstuffing = Unstuffing()
    for block in blocks:
        if out := unstuffing.take(block):
            yield out
    if rest := unstuffing.end():
        yield rest


class Unstuffing:
    """`plain`, for whoever is handed the blocks one by one."""

    __slots__ = ("_first", "_held")

    def __init__(self) -> None:
        #: Up to four octets of wire whose meaning depends on the next: never more than CRLF "." CR.
        self._held = CRLF
        self._first = True

    def take(self, block: bytes) -> bytes:
        """What is certain of the message by now, and was not given before."""
        joined = self._held + block
        keep = _undecided(joined)
        body, self._held = joined[: len(joined) - keep], joined[len(joined) - keep :]
        out = body.replace(b"\r\n.", b"\r\n")
        if self._first and out:
            # The CRLF that we have put before the first line is not the message's.
            out, self._first = out[2:], False
        return out

    def end(self) -> bytes:
        """What is left of the message."""
        if not self._first:
            held, terminator = self._held, CRLF + TERMINATOR
        else:
            held, terminator = self._held[2:], TERMINATOR
        return held[:-3] if held.endswith(terminator) else held


def _undecided(octets: bytes) -> int:
    """How many octets at the end may be part of a stuffed dot or of the terminator."""
    for candidate in (b"\r\n.\r\n", b"\r\n.\r", b"\r\n.", b"\r\n", b"\r"):
        if octets.endswith(candidate):
            return len(candidate)
    return 0
