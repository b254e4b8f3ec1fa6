"""
SASLprep (RFC 4013): names and passwords as they are compared, so that the same characters typed on two machines match.

Unicode 3.2 throughout, as the RFC has it; the tables are the standard library's.
"""

from __future__ import annotations

import stringprep
from collections.abc import Callable
from typing import Final
from unicodedata import ucd_3_2_0

#: RFC 4013 section 2.3. The non-ASCII spaces (C.1.2) were mapped to a space before.
_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class Unpreparable(ValueError):
    """The text has a character, or an order of characters, that SASLprep does not let pass. It never says which."""

    def __init__(self) -> None:
        super().__init__("the text has characters that SASLprep (RFC 4013) does not allow")


def prepare(text: str, *, stored: bool = False) -> str:
    """
    The text as it is compared. Raises `Unpreparable`.

    `stored`: the text is kept, or keys are derived from it, so that code points which Unicode 3.2 had not assigned are
    refused (RFC 3454 section 7); in what only asks (a user's name) they are let through.
    """
    if text.isascii():
        # Nothing in ASCII is mapped, and the control characters alone are prohibited.
        if text and not text.isprintable():
            raise Unpreparable
        return text
    mapped = "".join(" " if stringprep.in_table_c12(c) else c for c in text if not stringprep.in_table_b1(c))
    prepared = ucd_3_2_0.normalize("NFKC", mapped)
    if any(prohibited(c) for c in prepared for prohibited in _PROHIBITED):
        raise Unpreparable
    if stored and any(stringprep.in_table_a1(c) for c in prepared):
        raise Unpreparable
    if any(stringprep.in_table_d1(c) for c in prepared):
        # RFC 3454 section 6: text from right to left has no letter from left to right, and begins and ends as it is.
        ends = stringprep.in_table_d1(prepared[0]) and stringprep.in_table_d1(prepared[-1])
        if not ends or any(stringprep.in_table_d2(c) for c in prepared):
            raise Unpreparable
    return prepared
