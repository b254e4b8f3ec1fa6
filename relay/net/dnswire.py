"""
DNS messages: a question put into octets, and octets read as the response to one question.

No socket and no clock in here, and no opinion about servers; dnspython reads and writes the wire format. What
another machine sent never makes anything in this module raise.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
from attrs import frozen

from relay.mail.answer import Absent, Exchange, Found, Record

#: What we take in one datagram. It passes every path without being cut into fragments, which can be forged
#: (RFC 9715 section 3).
PAYLOAD: Final = 1232
#: More in the answer section is no answer (RELIABILITY.md, Limits).
MOST_RECORDS: Final = 100
#: What may stand in the other two sections: name servers, their addresses, OPT.
_MOST_OTHERS: Final = 300

_COUNTS = struct.Struct("!6x3H")
_EITHER_WAY = frozenset((dns.rcode.NOERROR, dns.rcode.NXDOMAIN))
_KNOWS_NO_EDNS = frozenset((dns.rcode.FORMERR, dns.rcode.NOTIMP))

#: What we let a name consist of: a host name with underscores, and the `/` of RFC 2317 section 4. A name of other
#: octets is legal in the DNS, but no host has one and none shall come near a reply or a log.
_LABEL = re.compile(rb"[a-z0-9_/-]+\Z")


@frozen
class Question:
    """What is asked: a name as the DNS has it, and a kind of record."""

    name: dns.name.Name
    kind: str

    @classmethod
    def about(cls, name: str, kind: str) -> Question:
        """
        The name is ASCII. Raises dnspython's `DNSException` if there can be no such name: a label of more than 63
        octets, an empty one, more than 255 octets in all.
        """
        # Not `dns.name.from_text`, for which a backslash and an @ mean something.
        labels = [label.encode("ascii") for label in name.removesuffix(".").split(".")]
        if b"" in labels:
            raise dns.name.EmptyLabel
        return cls(dns.name.Name([*labels, b""]), kind)


@frozen
class Settled:
    """The answer, and for how many seconds it holds."""

    answer: Found | Absent
    ttl: int


@frozen
class Alias:
    """A CNAME, of whose target the server says nothing: it has to be asked about in its turn."""

    target: Question
    ttl: int
    authentic: bool


@frozen
class Truncated:
    """The answer is too long for a datagram: ask again by TCP (RFC 7766 section 5)."""


@frozen
class Refused:
    """The server has no answer for us, and why: SERVFAIL, REFUSED, or what it says makes no sense."""

    why: str
    #: It may be one of those that do not know EDNS, and should be asked again without (RFC 6891 section 7).
    dislikes_edns: bool = False


Response: TypeAlias = Settled | Alias | Truncated | Refused


class Query:
    """A question to one server: its octets, and how octets are read that may be the response to it."""

    def __init__(
        self,
        question: Question,
        id: int,
        *,
        edns: bool = True,
        trusted: bool = False,
        most_records: int = MOST_RECORDS,
    ) -> None:
        """`trusted`: the server's word that it has validated an answer (the AD bit) is taken."""
        self._question = question
        self._most_records = most_records
        self._trusted = trusted
        # That we set the bit tells the server that we understand it (RFC 6840 section 5.7).
        flags = dns.flags.RD | (dns.flags.AD if trusted else 0)
        extended: dict[str, Any] = {"use_edns": 0, "payload": PAYLOAD} if edns else {"use_edns": False}
        self._message = dns.message.make_query(question.name, question.kind, id=id, flags=flags, **extended)
        self.octets: bytes = self._message.to_wire()

    def read(self, octets: bytes) -> Response | None:
        """
        The response, or `None` if these octets are not meant for this query: another id, another question, a query
        themselves, garbage. Whoever waits goes on waiting then, since anybody may have sent them.
        """
        try:
            start = dns.message.from_wire(octets, question_only=True)
            if not self._message.is_response(start):
                return None
        except Exception:  # on garbage dnspython raises more than its own exceptions
            return None
        # A truncated message may be cut off anywhere, so nothing else of it is looked at.
        if start.flags & dns.flags.TC:
            return Truncated()
        answers, *others = _COUNTS.unpack_from(octets)
        if answers > self._most_records or sum(others) > _MOST_OTHERS:
            return Refused("more records than we read")
        try:
            message = dns.message.from_wire(octets, ignore_trailing=True)
            if not isinstance(message, dns.message.QueryMessage):
                return None
            return self._judge(message)
        except Exception as problem:
            return Refused(f"nonsense ({type(problem).__name__})")

    def _judge(self, message: dns.message.QueryMessage) -> Response:
        code = message.rcode()
        if code not in _EITHER_WAY:
            return Refused(dns.rcode.to_text(code), dislikes_edns=code in _KNOWS_NO_EDNS)
        # An NXDOMAIN is about the end of the chain of CNAMEs (RFC 6604 section 3), and so is a NOERROR.
        chain = message.resolve_chaining()
        authentic = self._trusted and bool(message.flags & dns.flags.AD)
        if chain.answer is not None:
            records = tuple(map(_READERS[self._question.kind], chain.answer))
            return Settled(Found(records, authentic), chain.minimum_ttl)
        told = _has_soa(message, chain.canonical_name)
        # RFC 2308 section 5: a negative answer without an SOA is not kept.
        ttl = chain.minimum_ttl if told else 0
        if code == dns.rcode.NXDOMAIN:
            return Settled(Absent(nonexistent=True, authentic=authentic), ttl)
        if chain.cnames and not told:
            return Alias(Question(chain.canonical_name, self._question.kind), chain.minimum_ttl, authentic)
        if not told and not message.flags & (dns.flags.AA | dns.flags.RA):
            return Refused("a referral: not a resolver")
        return Settled(Absent(nonexistent=False, authentic=authentic), ttl)


def _has_soa(message: dns.message.Message, name: dns.name.Name) -> bool:
    """Whether an SOA record vouches for the negative answer about this name (RFC 2308 section 2)."""
    return any(rrset.rdtype == dns.rdatatype.SOA and name.is_subdomain(rrset.name) for rrset in message.authority)


def _text(name: dns.name.Name) -> str:
    """The name in canonical form; the root is "". Raises `ValueError` for octets that no host name has."""
    labels = [label.lower() for label in name.labels[:-1]]
    for label in labels:
        if not _LABEL.match(label):
            raise ValueError("not a host name")
    return b".".join(labels).decode("ascii")


def _host(name: dns.name.Name) -> str:
    """Like `_text`, for a record in which the root makes no sense."""
    if name == dns.name.root:
        raise ValueError("the root is not a host")
    return _text(name)


#: How records become values. TXT is octets: one character stands for each, so that none is lost.
_READERS: Final[Mapping[str, Callable[[Any], Record]]] = {
    "A": lambda rdata: str(rdata.address),
    "AAAA": lambda rdata: str(rdata.address),
    "CNAME": lambda rdata: _host(rdata.target),
    "MX": lambda rdata: Exchange(rdata.preference, _text(rdata.exchange)),
    "PTR": lambda rdata: _host(rdata.target),
    "TXT": lambda rdata: b"".join(rdata.strings).decode("latin-1"),
}

#: The kinds of records that can be asked for.
KINDS: Final = frozenset(_READERS)
