"""
A DNS server for tests: `relay.testing.dns.Names` in wire format, in memory or on a real socket.

    server = NameServer({"example.org": {"MX": [(10, "mx.example.org")]}})
    port = reactor.listenUDP(0, server.datagrams(), interface="127.0.0.1")
    reactor.listenTCP(port.getHost().port, server.streams(), interface="127.0.0.1")
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rrset
from attrs import define, field
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import DatagramProtocol, Factory
from twisted.protocols.basic import Int16StringReceiver

from relay.mail.answer import Absent, Exchange, Found, Record
from relay.testing.dns import Names, Records


def _names(names: Names | Mapping[str, Records]) -> Names:
    return names if isinstance(names, Names) else Names(names)


@define
class NameServer:
    """
    A recursive resolver that knows only `names`. It follows CNAMEs, and its answers do not depend on the clock. What
    is authentic has the AD bit, for a client that asks for it.
    """

    names: Names = field(converter=_names)
    ttl: int = 300
    #: Of negative answers; `None` leaves the SOA record out of them.
    negative_ttl: int | None = 60
    #: False: one of the servers that answer FORMERR to EDNS.
    knows_edns: bool = True
    #: False: leaves it to the client to follow a CNAME.
    chases: bool = True
    #: What was asked, in order.
    asked: list[tuple[str, str]] = field(factory=list, init=False)

    def reply(self, octets: bytes, *, longest: int = 0xFFFF) -> bytes:
        """The response to a query; cut to nothing, with the TC bit, if it is longer than `longest`."""
        query = dns.message.from_wire(octets)
        response = dns.message.make_response(query, recursion_available=True)
        if query.edns >= 0 and not self.knows_edns:
            response.use_edns(False)
            response.set_rcode(dns.rcode.FORMERR)
            return response.to_wire()
        question = query.question[0]
        kind = question.rdtype.name
        self.asked.append((question.name.to_text(omit_final_dot=True), kind))
        authentic = self._fill(response, question.name.to_text(omit_final_dot=True), kind)
        if authentic and query.flags & dns.flags.AD:
            response.flags |= dns.flags.AD
        wire = response.to_wire(max_size=0xFFFF)
        if len(wire) > longest:
            response.answer.clear()
            response.authority.clear()
            response.flags |= dns.flags.TC
            wire = response.to_wire()
        return wire

    def _fill(self, response: dns.message.Message, name: str, kind: str) -> bool:
        """Put the answer in; whether all of it is authentic."""
        authentic = True
        for _ in range(12):
            answer = self.names.at(name.lower(), kind)
            match self.names.at(name.lower(), "CNAME"):
                case Found((str(target),), genuine) if isinstance(answer, Absent):
                    response.answer.append(self._rrset(name, "CNAME", target))
                    name, authentic = target, authentic and genuine
                    if not self.chases:
                        return authentic
                case _:
                    break
        match answer:
            case Found(records, genuine):
                response.answer.append(self._rrset(name, kind, *records))
            case Absent(nonexistent, genuine):
                if nonexistent:
                    response.set_rcode(dns.rcode.NXDOMAIN)
                if self.negative_ttl is not None:
                    response.authority.append(self._rrset(".", "SOA", f"a. b. 1 2 3 4 {self.negative_ttl}"))
            case _:
                genuine = False
                response.answer.clear()
                response.set_rcode(dns.rcode.SERVFAIL)
        return authentic and genuine

    def _rrset(self, name: str, kind: str, *records: Record) -> dns.rrset.RRset:
        owner = dns.name.from_text(name)
        return dns.rrset.from_text(owner, self.ttl, "IN", kind, *(_presented(kind, record) for record in records))

    def datagrams(self) -> DatagramProtocol:
        """For `reactor.listenUDP`."""
        return _Datagrams(self)

    def streams(self) -> IProtocolFactory:
        """For `reactor.listenTCP`."""
        return Factory.forProtocol(lambda: _Stream(self))


def _presented(kind: str, record: Record) -> str:
    """A record as it stands in a zone file."""
    if isinstance(record, Exchange):
        return f"{record.preference} {record.exchanger}."
    if kind == "TXT":
        return " ".join(f'"{record[at : at + 255]}"' for at in range(0, len(record), 255)) or '""'
    return record if kind in ("A", "AAAA", "SOA") else f"{record}."


class _Datagrams(DatagramProtocol):
    noisy = False

    def __init__(self, server: NameServer) -> None:
        self._server = server

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        query = dns.message.from_wire(datagram)
        assert self.transport is not None
        longest = max(512, query.payload)
        self.transport.write(self._server.reply(datagram, longest=longest), addr)


class _Stream(Int16StringReceiver):
    def __init__(self, server: NameServer) -> None:
        self._server = server

    def stringReceived(self, string: bytes) -> None:
        self.sendString(self._server.reply(string))  # type: ignore[no-untyped-call]
