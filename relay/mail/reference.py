"""
The short word at the end of a refusal, by which it is asked about later: `[ref 7K3QX2]`.

It is made to be read out on the telephone: six characters of Crockford's base 32, which has no I, L, O or U.
"""

from __future__ import annotations

import re
from typing import Final

from relay.mail.reply import LINE_TEXT, Reply

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
#: So many random bits a reference is made of: of ten thousand refusals a day, two of one day share theirs once in
#: three weeks, and `relayctl why` shows both.
BITS: Final = 30
_LENGTH: Final = BITS // 5

_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
#: What people write for what they have read.
_MISREAD: Final = str.maketrans("ILO", "110")
_WRITTEN: Final = re.compile(rf"\s*(?:\[?\s*REF[ .:]\s*)?([{_ALPHABET}ILO]{{{_LENGTH}}})\s*\]?\s*", re.ASCII)


def reference(number: int) -> str:
    """The reference for a random number of `BITS` bits (`random.getrandbits(BITS)`)."""
    pairs = _PAIRS
    return pairs[number >> 20 & 1023] + pairs[number >> 10 & 1023] + pairs[number & 1023]


def read_reference(text: str) -> str | None:
    """
    The reference that somebody has written in any letter case, with or without `[ref ...]`; `None` if it is none.

    Whoever writes I or L means 1, and O means 0.
    """
    # Not every letter that Unicode holds for one in another case is meant.
    match = _WRITTEN.fullmatch(text.upper()) if text.isascii() else None
    return match[1].translate(_MISREAD) if match else None


def referred(reply: Reply, ref: str) -> Reply:
    """
    The reply with ` [ref 7K3QX2]` at its end. Where its last line has no room for that (RFC 5321 section 4.5.3.1.5) it
    has a line of its own.
    """
    mark = f"[ref {ref}]"
    *before, last = reply.lines
    line = f"{last} {mark}" if last else mark
    lines = (*before, line) if len(line) <= LINE_TEXT else (*before, last, mark)
    return Reply(reply.code, reply.status, lines)


def unreferred(text: str) -> str:
    """The text of a reply without the mark at its end, if it has one."""
    return _MARK.sub("", text)


_MARK: Final = re.compile(rf" ?\[ref [{_ALPHABET}]{{{_LENGTH}}}\]\Z")
