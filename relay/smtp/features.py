"""What a server offers, as it has said in its answer to EHLO (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Final

from attrs import field, frozen

_KEYWORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*\Z")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
#: An answer to EHLO as nearly all are: of some printable lines, no line too long, and without a status. What is offered
#: stands behind the first line, which has the name of the host.
_ANSWER: Final = re.compile(
    rb"250-(?![245]\.[0-9])[ -~]{0,490}\r\n(?=(?:250-[ -~]{0,490}\r\n){0,50}250(?: [ -~]{0,490})?\r\n\Z)"
)
#: So many different offers are remembered, and none that is longer. Hosts of one kind offer the same.
_REMEMBERED: Final = 256
_OCTETS: Final = 1024
#: RFC 9422 section 3: up to six digits, and never none at all.
_LIMIT = re.compile(r"[1-9][0-9]{0,5}\Z")


def offered_by(octets: bytes, without: frozenset[str]) -> Features | None:
    """
    What a server offers by these octets, if they are a whole answer to EHLO as nearly all are. Then it is what
    `Features.offered` finds in the reply that they are. `None`: that it is to be asked.
    """
    behind = _ANSWER.match(octets) if len(octets) <= _OCTETS else None
    return None if behind is None else _offered_in(octets[behind.end() :], without)


@lru_cache(maxsize=_REMEMBERED)
def _offered_in(octets: bytes, without: frozenset[str]) -> Features:
    """By the lines behind the first. To remember that helps where many hosts, or one again and again, say the same."""
    return Features.offered(("", *[line[4:] for line in octets.decode().split("\r\n")[:-1]]), without)


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

    # What the keywords say besides: read once, since it is asked for with each message.

    #: RFC 3207.
    starttls: bool = field(init=False, repr=False, eq=False)
    #: RFC 3030 section 2.
    chunking: bool = field(init=False, repr=False, eq=False)
    #: RFC 3030 section 3: of no use without chunks.
    binary: bool = field(init=False, repr=False, eq=False)
    #: RFC 3461.
    dsn: bool = field(init=False, repr=False, eq=False)
    #: RFC 8689.
    requires_tls: bool = field(init=False, repr=False, eq=False)
    #: RFC 6710.
    prioritizes: bool = field(init=False, repr=False, eq=False)
    #: The fewest seconds within which it may be asked to deliver (RFC 2852 section 4); `None`: it never may.
    deliver_by: int | None = field(init=False, repr=False, eq=False)
    #: The limits of RFC 9422 by their names: `RCPTMAX`, `MAILMAX`, `RCPTDOMAINMAX`. What is malformed is no limit.
    limits: Mapping[str, int] = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        offered = self.keywords
        for name, value in (
            ("starttls", "STARTTLS" in offered),
            ("chunking", "CHUNKING" in offered),
            ("binary", "BINARYMIME" in offered and "CHUNKING" in offered),
            ("dsn", "DSN" in offered),
            ("requires_tls", "REQUIRETLS" in offered),
            ("prioritizes", "MT-PRIORITY" in offered),
            ("deliver_by", _deliver_by(offered.get("DELIVERBY"))),
            ("limits", _limits(offered.get("LIMITS", ""))),
        ):
            object.__setattr__(self, name, value)

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
    def mechanisms(self) -> tuple[str, ...]:
        """What AUTH may be said with (RFC 4954)."""
        return tuple(self.keywords.get("AUTH", "").split())

    def limit(self, name: str) -> int | None:
        """One of `limits`, if there is such a limit."""
        return self.limits.get(name)


def _deliver_by(parameters: str | None) -> int | None:
    if parameters is None:
        return None
    least = parameters.partition(",")[0]
    return int(least) if _NUMBER.match(least) else 0


def _limits(parameters: str) -> Mapping[str, int]:
    """Of a limit that is named twice, the first counts that is one."""
    limits: dict[str, int] = {}
    for limit in parameters.split():
        name, _, value = limit.partition("=")
        if _LIMIT.match(value):
            limits.setdefault(name.upper(), int(value))
    return limits


def _size(parameters: str) -> int:
    """RFC 1870 section 4: up to 20 digits. What is malformed is no limit: the server will say what is too much."""
    return int(parameters) if parameters.isascii() and parameters.isdigit() and len(parameters) <= 20 else 0


#: What is known before a server has said anything, and of one that only knows HELO.
NOTHING_OFFERED: Final = Features()
