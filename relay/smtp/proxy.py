"""
The header that a proxy puts before a client's octets to say who the client is.

The PROXY protocol, versions 1 and 2, as haproxy's `proxy-protocol.txt` has it: section 2.1 is a line of text, section
2.2 a block of octets. Whether a header is to come is configured and never guessed, and only from networks that are
trusted with it: whoever may send one may call himself anybody.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias

from attrs import frozen

#: Section 2.1: the longest line, its CRLF included.
_LONGEST_LINE: Final = 107
_LINE_BEGINS: Final = b"PROXY "

#: Section 2.2: what a block begins with, then version and command, family and transport, and the length of the rest.
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED_PART: Final = 16
#: The addresses take at most 216 octets. More than this of anything else nobody needs to tell us.
_LONGEST_REST: Final = 4096


#: The command is the low half of the 13th octet.
_LOCAL: Final = 0
_COMMANDS: Final = (_LOCAL, 1)

#: Families are the high half of the 14th octet, transports the low half: UNSPEC, STREAM, DGRAM.
_INET: Final = 1
_INET6: Final = 2
_STREAM: Final = 1
_TRANSPORTS: Final = (0, _STREAM, 2)
#: What the addresses of a family take, of source and destination, with ports: UNSPEC, AF_INET, AF_INET6, AF_UNIX.
_ADDRESSES: Final = {0: 0, _INET: 12, _INET6: 36, 3: 216}


@frozen
class Announced:
    """The header is complete, and this is the client."""

    #: An IP address in canonical form. `None`: the proxy speaks for itself, or for somebody without an IP address, and
    #: the connection's own address holds (`LOCAL`, `UNKNOWN`, a Unix socket).
    address: str | None
    port: int
    #: What stood behind the header: the client's first octets, untouched.
    rest: bytes


@frozen
class Nonsense:
    """
    This is no such header, or none that makes sense: close the connection without a word.

    Section 2.1: a proxy notices that, and a client who has found the way around the proxy learns nothing.
    """

    why: str


#: `None`: more octets are needed.
Heard: TypeAlias = Announced | Nonsense | None


class ProxyReader:
    """
    Reads the header of one connection, however the network has cut it.

    It holds no more than a header, since nonsense is told from a header at the first octet that does not fit. Its
    answer is given once: after an `Announced` or `Nonsense` it is not asked again.
    """

    def __init__(self) -> None:
        self._octets = b""

    def receive_data(self, octets: bytes) -> Heard:
        """Take the connection's next octets, which may be some of the header or all of it with what follows."""
        self._octets += octets
        if not self._octets:
            return None
        if _agree(self._octets, _LINE_BEGINS):
            return _line(self._octets)
        if _agree(self._octets, _SIGNATURE):
            return _block(self._octets)
        return Nonsense("it does not begin as a PROXY header")


def _agree(octets: bytes, beginning: bytes) -> bool:
    """Whether `octets` begin so, as far as they have come."""
    return octets[: len(beginning)] == beginning[: len(octets)]


def _line(octets: bytes) -> Heard:
    """Version 1: `PROXY TCP4 192.0.2.7 192.0.2.25 56324 25`."""
    end = octets.find(b"\r\n", 0, _LONGEST_LINE)
    line = octets[: end if end >= 0 else _LONGEST_LINE]
    if b"\n" in line or b"\r" in (line if end >= 0 else line[:-1]):
        return Nonsense("a CR or LF alone in the PROXY line")
    if end < 0:
        return Nonsense("the PROXY line is too long") if len(octets) >= _LONGEST_LINE else None
    rest = octets[end + 2 :]
    match line.split(b" "):
        case [_, b"UNKNOWN", *_]:  # what else the line says is to be ignored
            return Announced(None, 0, rest)
        case [_, (b"TCP4" | b"TCP6") as family, source, destination, source_port, destination_port]:
            kind = IPv4Address if family == b"TCP4" else IPv6Address
            try:
                _written(kind, destination), _port(destination_port)
                return Announced(_canonical(_written(kind, source)), _port(source_port), rest)
            except ValueError:
                return Nonsense(f"an address or a port in the PROXY line is no {family.decode()}")
        case _:
            return Nonsense("the PROXY line does not say TCP4, TCP6 or UNKNOWN, two addresses and two ports")


def _written(kind: type[IPv4Address | IPv6Address], text: bytes) -> IPv4Address | IPv6Address:
    if b"%" in text:  # a scope means something on the proxy's machine only
        raise ValueError
    return kind(text.decode("ascii"))


def _port(text: bytes) -> int:
    # "Heading zeroes are not permitted", and `int` would take signs, blanks and underscores.
    if not text.isdigit() or (text.startswith(b"0") and text != b"0") or int(text) > 65535:
        raise ValueError
    return int(text)


def _block(octets: bytes) -> Heard:
    """Version 2."""
    if len(octets) > 12 and octets[12] >> 4 != 2:
        return Nonsense(f"version {octets[12] >> 4} of the PROXY header")
    if len(octets) > 12 and octets[12] & 15 not in _COMMANDS:
        return Nonsense(f"command {octets[12] & 15} in the PROXY header")
    if len(octets) < _FIXED_PART:
        return None
    length = int.from_bytes(octets[14:16])
    if length > _LONGEST_REST:
        return Nonsense("the PROXY header is too long")
    local = octets[12] & 15 == _LOCAL
    family, transport = octets[13] >> 4, octets[13] & 15
    if not local:  # "discard the protocol block including the family" of a LOCAL one
        if family not in _ADDRESSES or transport not in _TRANSPORTS:
            return Nonsense(f"family and transport {octets[13]:#04x} in the PROXY header")
        if length < _ADDRESSES[family]:
            return Nonsense("the PROXY header is too short for its addresses")
    if len(octets) < _FIXED_PART + length:
        return None
    # Behind the addresses may stand type-length-value triples. They are skipped, as section 2.2 allows.
    addresses, rest = octets[_FIXED_PART : _FIXED_PART + length], octets[_FIXED_PART + length :]
    if not local and transport == _STREAM and family == _INET:
        return Announced(_canonical(IPv4Address(addresses[:4])), int.from_bytes(addresses[8:10]), rest)
    if not local and transport == _STREAM and family == _INET6:
        return Announced(_canonical(IPv6Address(addresses[:16])), int.from_bytes(addresses[32:34]), rest)
    # "falls back to the UNSPEC mode for the valid combinations above that it does not support"
    return Announced(None, 0, rest)


def _canonical(address: IPv4Address | IPv6Address) -> str:
    """As our own sockets' addresses are written: IPv4 by way of an IPv6 socket is IPv4."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
