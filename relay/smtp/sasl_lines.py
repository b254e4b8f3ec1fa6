"""
How SASL's octets stand on a line of SMTP (RFC 4954 section 4): base64, strictly.

Both sides use this. A line is given without its CRLF.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64
from typing import Final

from attrs import frozen

#: RFC 4954 section 4: the longest line of an exchange, its CRLF included.
LONGEST: Final = 12288


@frozen
class Malformed:
    """The line is not what RFC 4954 allows."""

    #: It has more octets than `LONGEST`; otherwise it is not base64.
    too_long: bool = False


@frozen
class Cancelled:
    """The client has said `*`: it does not want to go on."""


def decode(line: bytes) -> bytes | Malformed | Cancelled:
    """What the client answered to a challenge. An empty line is an empty response; so is `=`, which some say for it."""
    if line == b"*":
        return Cancelled()
    return b"" if line == b"=" else _decode64(line)


def decode_initial(argument: bytes) -> bytes | Malformed:
    """
    The initial response, as it stands behind the mechanism's name in AUTH: an empty one is written `=`.

    Where there is no argument there is no initial response, and nothing to decode.
    """
    return b"" if argument == b"=" else (_decode64(argument) if argument else Malformed())


def decode_challenge(text: str) -> bytes | Malformed:
    """What a server said behind 334."""
    return _decode64(text.encode("utf-8", "surrogateescape"))


def encode(octets: bytes) -> bytes:
    """A challenge, or a response to one."""
    return b2a_base64(octets, newline=False)


def encode_initial(octets: bytes) -> bytes:
    """An initial response."""
    return encode(octets) or b"="


def _decode64(line: bytes) -> bytes | Malformed:
    if len(line) + 2 > LONGEST:
        return Malformed(too_long=True)
    octets = strict(line)
    return Malformed() if octets is None else octets


def strict(text: bytes) -> bytes | None:
    """
    What this base64 says, or `None` where it is not the one way to write something (RFC 4648 section 3): no blanks, no
    padding left out or in excess, no bits set that mean nothing.
    """
    try:
        octets = a2b_base64(text, strict_mode=True)
    except Error:
        return None
    # What the decoder lets pass all the same, such as bits in the padding.
    return octets if encode(octets) == text else None
