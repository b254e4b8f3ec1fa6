"""What a server offers, as it has said in its answer to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from attrs import field, frozen

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
#: RFC 9422 section 3: up to six digits, and never none at all.
_LIMIT = re.compile(r"[1-9][0-9]{0,5}\Z")


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
    #: Whether MAIL may have an AUTH parameter (RFC 4954 section 5).
    authenticates: bool = False

    @classmethod
    def offered(cls, lines: Sequence[str], without: Collection[str] = ()) -> Features:
        """
        Read the lines of the answer to EHLO; the first one is the server's name and a greeting.

        Keywords that are in `without` count as not offered; of AUTH only the parameter of MAIL does. A line that is no
        keyword with parameters (`AUTH=LOGIN`, an old custom) means nothing. The same keyword twice is taken as it came
        first.
        """
        keywords: dict[str, str] = {}
        for line in lines[1:]:
            keyword, _, parameters = line.strip(" ").partition(" ")
            if _KEYWORD.match(keyword):
                keywords.setdefault(keyword.upper(), parameters.strip(" "))
        for keyword in without:
            if keyword != "AUTH":
                keywords.pop(keyword, None)
        return cls(
            pipelining="PIPELINING" in keywords,
            size=_size(keywords.get("SIZE", "")),
            sized="SIZE" in keywords,
            eight_bit="8BITMIME" in keywords,
            smtputf8="SMTPUTF8" in keywords,
            enhanced_status_codes="ENHANCEDSTATUSCODES" in keywords,
            keywords=keywords,
            authenticates="AUTH" in keywords and "AUTH" not in without,
        )

    @property
    def starttls(self) -> bool:
        """RFC 3207."""
        return "STARTTLS" in self.keywords

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """What AUTH may be said with (RFC 4954)."""
        return tuple(self.keywords.get("AUTH", "").split())

    @property
    def chunking(self) -> bool:
        """RFC 3030 section 2."""
        return "CHUNKING" in self.keywords

    @property
    def binary(self) -> bool:
        """RFC 3030 section 3: of no use without chunks."""
        return "BINARYMIME" in self.keywords and self.chunking

    @property
    def dsn(self) -> bool:
        """RFC 3461."""
        return "DSN" in self.keywords

    @property
    def requires_tls(self) -> bool:
        """RFC 8689."""
        return "REQUIRETLS" in self.keywords

    @property
    def prioritizes(self) -> bool:
        """RFC 6710."""
        return "MT-PRIORITY" in self.keywords

    @property
    def deliver_by(self) -> int | None:
        """The fewest seconds within which it may be asked to deliver (RFC 2852 section 4); `None`: it never may."""
        if "DELIVERBY" not in self.keywords:
            return None
        least = self.keywords["DELIVERBY"].partition(",")[0]
        return int(least) if _NUMBER.match(least) else 0

    def limit(self, name: str) -> int | None:
        """A limit of RFC 9422: `RCPTMAX`, `MAILMAX`, `RCPTDOMAINMAX`. What is malformed is no limit."""
        for limit in self.keywords.get("LIMITS", "").split():
            found, _, value = limit.partition("=")
            if found.upper() == name and _LIMIT.match(value):
                return int(value)
        return None


def _size(parameters: str) -> int:
    """RFC 1870 section 4: up to 20 digits. What is malformed is no limit: the server will say what is too much."""
    return int(parameters) if parameters.isascii() and parameters.isdigit() and len(parameters) <= 20 else 0
