"""What a server offers, as it has said in its answer to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import field, frozen

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")


@frozen
class Features:
    """
    The extensions that a server offers. `Features()` is a server of RFC 821, one that knows HELO only.

    A keyword that we know has an attribute that says what we need to know of it; all that came are in `keywords`.
    """

    pipelining: bool = False
    #: The size of the largest message it takes (RFC 1870); 0: it has named no limit.
    size: int = 0
    #: Whether MAIL may name the size of a message.
    sized: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    enhanced_status_codes: bool = False
    #: Every keyword offered, in upper case, with its parameters as they came.
    keywords: Mapping[str, str] = field(factory=dict)

    @classmethod
    def offered(cls, lines: Sequence[str]) -> Features:
        """
        Read the lines of the answer to EHLO; the first one is the server's name and a greeting.

        A line that is no keyword with parameters (`AUTH=LOGIN`, an old custom) means nothing. The same keyword twice
        is taken as it came first.
        """
        keywords: dict[str, str] = {}
        for line in lines[1:]:
            keyword, _, parameters = line.strip(" ").partition(" ")
            if _KEYWORD.match(keyword):
                keywords.setdefault(keyword.upper(), parameters.strip(" "))
        return cls(
            pipelining="PIPELINING" in keywords,
            size=_size(keywords.get("SIZE", "")),
            sized="SIZE" in keywords,
            eight_bit="8BITMIME" in keywords,
            smtputf8="SMTPUTF8" in keywords,
            enhanced_status_codes="ENHANCEDSTATUSCODES" in keywords,
            keywords=keywords,
        )


def _size(parameters: str) -> int:
    """RFC 1870 section 4: up to 20 digits. What is malformed is no limit: the server will say what is too much."""
    return int(parameters) if parameters.isascii() and parameters.isdigit() and len(parameters) <= 20 else 0
