"""What can be made to go wrong at a peer, and where in a dialogue."""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

#: Where in a dialogue something can be made to happen. `CONTENT` is its first octets, `END` its terminator or last
#: chunk (by LMTP once for each recipient), `BDAT` a chunk that is not the last, `HANDSHAKE` what comes instead of TLS
#: behind a 220, `CHALLENGE` each 334 of AUTH and `AUTH` the verdict.
Moment: TypeAlias = Literal[
    "GREETING",
    "EHLO",
    "HELO",
    "LHLO",
    "STARTTLS",
    "HANDSHAKE",
    "AUTH",
    "CHALLENGE",
    "MAIL",
    "RCPT",
    "DATA",
    "BDAT",
    "CONTENT",
    "END",
    "RSET",
    "QUIT",
]


@frozen
class Say:
    """
    This, instead of the usual reply. Several lines are divided by LF and sent with CRLF; 421 closes.

    What was asked happens if it begins as the positive reply would.
    """

    text: str


@frozen
class Babble:
    """These octets instead of a reply, whatever they are; nothing that was asked happens."""

    octets: bytes


@frozen
class Stall:
    """No answer, and nothing is read any more."""


@frozen
class Drop:
    """Close the connection instead of a reply."""


@frozen
class Reset:
    """Reset the connection instead of a reply."""


@frozen
class Slow:
    """The usual reply, after so many seconds."""

    seconds: float


Fault: TypeAlias = Say | Babble | Stall | Drop | Reset | Slow
