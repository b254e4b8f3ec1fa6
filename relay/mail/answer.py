"""What the DNS said, as values."""

from __future__ import annotations

from typing import TypeAlias

from attrs import frozen


@frozen(order=True)
class Exchange:
    """An MX record (RFC 5321 section 5.1). The null MX of RFC 7505 has the exchanger `""`."""

    preference: int
    exchanger: str


#: A, AAAA, PTR, CNAME: the address or the name in canonical form. TXT: its strings joined. MX: `Exchange`.
Record: TypeAlias = str | Exchange


@frozen
class Found:
    """Records, in the order of the answer."""

    records: tuple[Record, ...]
    #: The resolver has validated them (the AD bit of a resolver on loopback, and only of such a one).
    authentic: bool = False


@frozen
class Absent:
    """A definite no. If the name exists but has no records of this kind (NODATA), `nonexistent` is false."""

    #: The name itself does not exist (NXDOMAIN).
    nonexistent: bool
    authentic: bool = False


@frozen
class Unanswered:
    """Nobody gave an answer that can be relied on: SERVFAIL, REFUSED, a timeout, nonsense. Temporary."""

    why: str


Answer: TypeAlias = Found | Absent | Unanswered


def in_words(answer: Answer) -> str:
    """The answer for people: `192.0.2.1, 192.0.2.2`, `10 mx.example.org`, `no such name`."""
    match answer:
        case Found(records):
            return ", ".join(
                f"{record.preference} {record.exchanger or '.'}" if isinstance(record, Exchange) else record
                for record in records
            )
        case Absent(nonexistent):
            return "no such name" if nonexistent else "no such records"
        case Unanswered(why):
            return f"no answer: {why}"
