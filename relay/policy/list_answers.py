"""What lists in the DNS answer (RFC 5782): which of the addresses mean that somebody is listed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Final

from attrs import frozen

#: RFC 5782 section 2.1: a list answers within this network. Who answers with another address is no list (any more), but
#: somebody who answers whatever he is asked.
_LISTS: Final = IPv4Network("127.0.0.0/8")
#: "You may not ask": too many questions, or by way of a public resolver. Spamhaus and those that do as it does.
_ERRORS: Final = IPv4Network("127.255.255.0/24")

#: A number, or several of them and ranges in brackets.
_OCTET: Final = re.compile(r"[0-9]{1,3}\Z|\[([0-9]{1,3}(?:-[0-9]{1,3})?(?:, ?[0-9]{1,3}(?:-[0-9]{1,3})?)*)\]\Z")


class Meaning(Enum):
    """What an answer means."""

    LISTED = "listed"
    #: Listed, for a reason that does not count.
    OTHER = "listed for what does not count"
    #: The list does not want to be asked.
    ERROR = "an error"
    #: This is no list.
    FOREIGN = "outside of 127.0.0.0/8"


@frozen
class Pattern:
    """
    Addresses that a list may answer with: `127.0.0.2`, `127.0.0.[2-11]`, `127.0.[0-255].[1,3]`.

    For each octet of an address, the values that it may have.
    """

    octets: tuple[frozenset[int], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Raises `ValueError`, also for what no list answers with."""
        parts = text.split(".")
        if len(parts) != 4:
            raise ValueError("should be an address such as '127.0.0.2', or a pattern such as '127.0.0.[2-11]'")
        octets = tuple(map(_octet, parts))
        if octets[0] != {127}:
            raise ValueError("begins with 127, as all answers of lists do")
        if octets[1] == octets[2] == {255}:
            raise ValueError("is what a list answers that does not want to be asked")
        return cls(octets)

    def __contains__(self, address: IPv4Address) -> bool:
        return all(octet in values for octet, values in zip(address.packed, self.octets, strict=True))


def _octet(text: str) -> frozenset[int]:
    values: set[int] = set()
    found = _OCTET.match(text)
    for part in (found[1] or text).split(",") if found else ("256",):
        first, _, last = part.partition("-")
        if not int(first) <= int(last or first) <= 255:
            raise ValueError(f"{text!r} is neither a number up to 255 nor a range such as '[2-11]'")
        values.update(range(int(first), int(last or first) + 1))
    return frozenset(values)


def meaning(answers: Sequence[str], counting: Iterable[Pattern]) -> Meaning:
    """What the addresses of one answer mean together. Without patterns each counts."""
    addresses = [IPv4Address(answer) for answer in answers]
    if any(address not in _LISTS for address in addresses):
        return Meaning.FOREIGN
    if any(address in _ERRORS for address in addresses):
        return Meaning.ERROR
    patterns = tuple(counting)
    if not patterns or any(address in pattern for address in addresses for pattern in patterns):
        return Meaning.LISTED
    return Meaning.OTHER


def reversed_address(ip: IPv4Address | IPv6Address) -> str:
    """An address as a list has it in its names: octets or nibbles, the last one first (RFC 5782 sections 2.1, 2.4)."""
    # `1.2.0.192.in-addr.arpa`
    return ip.reverse_pointer.rpartition(".")[0].rpartition(".")[0]
