from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dns.flags
import dns.message
from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from relay.config.addresses import Inet
from relay.interfaces import IResolver
from relay.mail.answer import Absent, Answer, Exchange, Found, Unanswered
from relay.net.clock import ReactorClock
from relay.net.datagrams import ConnectedDatagrams
from relay.net.resolver import Resolver, system_servers
from relay.net.waiting import start
from relay.testing.dns import FakeNames, Names, Records
from relay.testing.nameserver import NameServer
from relay.testing.resolvers import ResolverContract

ONE = Inet("192.0.2.53", 53)
TWO = Inet("192.0.2.54", 53)
HERE = Inet("127.0.0.1", 53)

NAMES: dict[str, Records] = {"example.org": {"MX": [(10, "mx.example.org")]}, "mx.example.org": {"A": ["192.0.2.1"]}}
EXCHANGES = Found((Exchange(10, "mx.example.org"),))


class FakeNet:
    """
    A network in memory, as a reactor and as an opener of datagram ports.

    A server is a `NameServer`, or a function from a query's octets to the datagrams that come back; one that is not
    there is silent. `down` are out of reach.
    """

    def __init__(self, servers: Mapping[Inet, NameServer | Callable[[bytes], list[bytes]]]) -> None:
        self.servers = servers
        self.down: set[Inet] = set()
        #: Each query: by what, whom, its octets.
        self.sent: list[tuple[str, Inet, bytes]] = []
        self.ports: list[FakePort] = []
        self.connections: list[FakeConnector] = []

    def open(self, address: Inet, received: Callable[[bytes], None], broken: Callable[[str], None]) -> FakePort:
        port = FakePort(self, address, received, broken)
        self.ports.append(port)
        return port

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None) -> Any:
        connector = FakeConnector(self, Inet(host, port), factory)
        self.connections.append(connector)
        connector.connect()
        return connector

    def asked(self) -> list[Inet]:
        return [server for _, server, _ in self.sent]


class FakePort:
    def __init__(self, net: FakeNet, address: Inet, received: Any, broken: Any) -> None:
        self.net, self.address, self.received, self.broken = net, address, received, broken
        self.open = True

    def send(self, octets: bytes) -> None:
        self.net.sent.append(("udp", self.address, octets))
        if self.address in self.net.down:
            self.broken("Connection refused")
            return
        server = self.net.servers.get(self.address)
        if isinstance(server, NameServer):
            payload = dns.message.from_wire(octets).payload
            self.received(server.reply(octets, longest=max(512, payload)))
        elif server is not None:
            for datagram in server(octets):
                self.received(datagram)

    def close(self) -> None:
        self.open = False


class FakeConnector(StringTransport):
    """A TCP connection, and its transport."""

    def __init__(self, net: FakeNet, address: Inet, factory: Any) -> None:
        super().__init__()
        self.net, self.address, self.factory = net, address, factory
        self.ended = False
        #: The kernel takes its time to close it.
        self.lingers = False

    def connect(self) -> None:
        if self.address in self.net.down:
            self.end(ConnectionRefusedError())
        elif self.address in self.net.servers:
            self.peer = self.factory.buildProtocol(None)
            self.peer.makeConnection(self)

    def write(self, data: bytes) -> None:
        (length,) = struct.unpack_from("!H", data)
        octets = data[2:]
        assert length == len(octets)
        self.net.sent.append(("tcp", self.address, octets))
        server = self.net.servers[self.address]
        if isinstance(server, NameServer):
            reply = server.reply(octets)
            stream = struct.pack("!H", len(reply)) + reply
        else:
            stream = b"".join(server(octets))
        for at in range(len(stream)):  # the network cuts as it likes
            self.peer.dataReceived(stream[at : at + 1])

    def disconnect(self) -> None:
        if not self.ended and not self.lingers:
            self.end(ConnectionDone())

    def end(self, why: Exception) -> None:
        self.ended = True
        self.factory.clientConnectionLost(self, Failure(why))


class ResolverCase(SynchronousTestCase):
    def connect(
        self,
        servers: Mapping[Inet, NameServer | Callable[[bytes], list[bytes]]],
        ask: list[Inet] | None = None,
        **options: Any,
    ) -> Resolver:
        self.clock = Clock()
        self.net = FakeNet(servers)
        return Resolver(
            self.net,
            ReactorClock(self.clock, lambda: 0.0),
            ask or list(servers),
            open_datagrams=self.net.open,
            **options,
        )

    def tearDown(self) -> None:
        """No port, no connection and no timer is left behind by any test."""
        if hasattr(self, "net"):
            self.assertEqual([port for port in self.net.ports if port.open], [])
            self.assertEqual([one for one in self.net.connections if not one.ended], [])
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def ask(self, resolver: Resolver, name: str = "example.org", kind: str = "MX") -> Deferred[Answer]:
        """For an answer that has to be waited for."""
        answer: Answer | Deferred[Answer] = start(resolver.look_up(name, kind))
        assert isinstance(answer, Deferred), answer
        return answer

    def told(self, resolver: Resolver, name: str = "example.org", kind: str = "MX") -> Answer:
        """The answer, which must be there without waiting."""
        answer: Answer | Deferred[Answer] = start(resolver.look_up(name, kind))
        assert not isinstance(answer, Deferred), "it waits"
        return answer

    def wait(self, seconds: float, step: float = 0.25) -> None:
        self.clock.pump([step] * int(seconds / step))


class ContractTests(ResolverContract, ResolverCase):
    def resolver(self, names: Mapping[str, Records], signed: Sequence[str] = ()) -> IResolver:
        return self.connect({HERE: NameServer(Names(names, signed))})

    def test_it_is_what_it_says(self) -> None:
        verifyObject(IResolver, self.resolver({}))


class UnhelpfulServerContractTests(ContractTests):
    """The same with a server that knows no EDNS, follows no CNAME, and sends no SOA records."""

    def resolver(self, names: Mapping[str, Records], signed: Sequence[str] = ()) -> IResolver:
        server = NameServer(Names(names, signed), knows_edns=False, chases=False, negative_ttl=None)
        return self.connect({HERE: server})


class FakeNamesContractTests(ResolverContract, SynchronousTestCase):
    def resolver(self, names: Mapping[str, Records], signed: Sequence[str] = ()) -> IResolver:
        return FakeNames(names, signed)


class FakeNamesTests(SynchronousTestCase):
    def test_an_answer_can_be_held_back(self) -> None:
        names = FakeNames(NAMES)
        names.hold("example.org", "MX")
        first, second = (Deferred.fromCoroutine(names.look_up("example.org", "MX")) for _ in range(2))
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.assertNoResult(first)
        names["example.org"] = Unanswered("SERVFAIL")
        names.release("example.org", "MX")
        self.assertEqual(self.successResultOf(first), Unanswered("SERVFAIL"))
        self.assertEqual(names.asked.count(("example.org", "MX")), 2)
        verifyObject(IResolver, names)


class ServersInTurnTests(ResolverCase):
    def test_the_next_server_is_asked_at_once_if_one_refuses(self) -> None:
        broken = NameServer({"example.org": Unanswered("SERVFAIL")})
        resolver = self.connect({ONE: broken, TWO: NameServer(NAMES)})
        self.assertEqual(self.told(resolver), EXCHANGES)
        self.assertEqual(self.net.asked(), [ONE, TWO])

    def test_the_next_server_is_asked_at_once_if_one_is_out_of_reach(self) -> None:
        resolver = self.connect({ONE: NameServer(NAMES), TWO: NameServer(NAMES)})
        self.net.down.add(ONE)
        self.assertEqual(self.told(resolver), EXCHANGES)
        self.assertEqual(self.net.asked(), [ONE, TWO])

    def test_when_all_refuse_nobody_waits(self) -> None:
        broken = NameServer({"example.org": Unanswered("SERVFAIL")})
        self.assertEqual(self.told(self.connect({ONE: broken, TWO: broken})), Unanswered("SERVFAIL"))

    def test_the_next_server_is_asked_if_one_is_silent(self) -> None:
        resolver = self.connect({TWO: NameServer(NAMES)}, ask=[ONE, TWO])
        answer = self.ask(resolver)
        self.wait(1.75)
        self.assertNoResult(answer)
        self.wait(0.25)
        self.assertEqual(self.successResultOf(answer), EXCHANGES)

    def test_one_that_was_silent_is_asked_last_for_a_minute(self) -> None:
        resolver = self.connect({TWO: NameServer(NAMES)}, ask=[ONE, TWO])
        self.ask(resolver)
        self.wait(2)
        self.assertEqual(self.told(resolver, "mx.example.org", "A"), Found(("192.0.2.1",)))
        self.assertEqual(self.net.asked(), [ONE, TWO, TWO])
        self.wait(60)
        self.ask(resolver, "other.example", "A")
        self.wait(2)
        self.assertEqual(self.net.asked()[3:], [ONE, TWO])

    def test_silence_everywhere_takes_20_seconds_and_a_few_queries(self) -> None:
        resolver = self.connect({}, ask=[ONE, TWO])
        answer = self.ask(resolver)
        self.wait(19.75)
        self.assertNoResult(answer)
        self.wait(0.25)
        self.assertEqual(self.successResultOf(answer), Unanswered("no answer"))
        # 2 and 2, 4 and 4, 8.
        self.assertEqual(self.net.asked(), [ONE, TWO, ONE, TWO, ONE])

    def test_a_late_server_is_heard_in_the_second_round(self) -> None:
        answers: list[list[bytes]] = [[]]
        server = NameServer(NAMES)
        resolver = self.connect({ONE: lambda octets: answers.pop() if answers else [server.reply(octets)]})
        answer = self.ask(resolver)
        self.wait(2)
        self.assertEqual(self.successResultOf(answer), EXCHANGES)

    def test_without_any_server_there_is_no_answer(self) -> None:
        self.assertEqual(self.told(self.connect({})), Unanswered("no DNS server"))

    def test_each_query_has_a_port_and_an_id_of_its_own(self) -> None:
        numbers = iter((0.25, 0.5, 1.0))
        resolver = self.connect({ONE: NameServer(NAMES)}, random=lambda: next(numbers))
        self.told(resolver)
        self.told(resolver, "mx.example.org", "A")
        self.told(resolver, "mx.example.org", "AAAA")
        self.assertEqual([octets[:2] for _, _, octets in self.net.sent], [b"\x40\0", b"\x80\0", b"\0\0"])
        self.assertEqual(len(self.net.ports), 3)


class LyingNetworkTests(ResolverCase):
    def test_forged_datagrams_before_the_answer_mean_nothing(self) -> None:
        server = NameServer(NAMES)
        liar = NameServer({"example.org": {"MX": [(1, "evil.example")]}, "x.example": {"MX": [(1, "evil.example")]}})

        def answers(octets: bytes) -> list[bytes]:
            other_id = bytes((octets[0] ^ 1,)) + octets[1:]
            other_name = dns.message.make_query("x.example", "MX", id=dns.message.from_wire(octets).id)
            return [
                b"",
                b"garbage",
                octets,
                liar.reply(other_id),
                liar.reply(other_name.to_wire()),
                server.reply(octets),
                liar.reply(octets),
            ]

        self.assertEqual(self.told(self.connect({ONE: answers})), EXCHANGES)

    def test_a_server_that_talks_nonsense_has_not_answered(self) -> None:
        server = NameServer(NAMES)
        resolver = self.connect({ONE: lambda octets: [server.reply(octets)[:-3]]})
        answer = self.told(resolver)
        assert isinstance(answer, Unanswered)
        self.assertIn("nonsense", answer.why)

    def test_only_a_validating_server_on_loopback_is_believed(self) -> None:
        server = NameServer(Names(NAMES, signed=[""]))
        for where in HERE, Inet("127.0.0.53", 53), Inet("::1", 53):
            self.assertEqual(self.told(self.connect({where: server})), evolve(EXCHANGES, authentic=True))
        for where in ONE, Inet("10.0.0.1", 53), Inet("fe80::1", 53), Inet("2001:db8::53", 53):
            self.assertEqual(self.told(self.connect({where: server})), EXCHANGES)

    def test_nobody_else_is_believed_though_it_says_what_it_was_not_asked(self) -> None:
        server = NameServer(NAMES)

        def claims(octets: bytes) -> list[bytes]:
            reply = bytearray(server.reply(octets))
            reply[3] |= dns.flags.AD
            return [bytes(reply)]

        self.assertEqual(self.told(self.connect({ONE: claims})), EXCHANGES)
        self.assertEqual(self.told(self.connect({HERE: claims})), evolve(EXCHANGES, authentic=True))

    def test_what_was_validated_is_kept_as_such(self) -> None:
        server = NameServer(Names(NAMES, signed=["example.org"]))
        resolver = self.connect({HERE: server})
        for name, kind in ("example.org", "MX"), ("nowhere.example.org", "MX"):
            answers = [self.told(resolver, name, kind) for _ in range(2)]
            self.assertEqual(answers[0], answers[1])
            assert isinstance(answers[1], Found | Absent)
            self.assertTrue(answers[1].authentic)
        self.assertEqual(len(server.asked), 2)

    def test_a_tail_of_aliases_without_end_is_given_up(self) -> None:
        count = iter(range(1000))

        def answers(octets: bytes) -> list[bytes]:
            asked = dns.message.from_wire(octets).question[0].name.to_text(omit_final_dot=True)
            return [NameServer({asked: {"CNAME": f"{next(count)}.example"}}, chases=False).reply(octets)]

        self.assertEqual(self.told(self.connect({ONE: answers})), Unanswered("its CNAMEs come to no end"))
        self.assertLess(len(self.net.sent), 12)


LONG: dict[str, Records] = {"long.example": {"TXT": ["x" * 2000]}}


class LongAnswerTests(ResolverCase):
    def test_what_is_too_long_for_a_datagram_comes_by_tcp(self) -> None:
        resolver = self.connect({ONE: NameServer(LONG)})
        self.assertEqual(self.told(resolver, "long.example", "TXT"), Found(("x" * 2000,)))
        self.assertEqual([how for how, _, _ in self.net.sent], ["udp", "tcp"])

    def test_a_server_that_takes_no_tcp_has_not_answered(self) -> None:
        class NoTcp(FakeNet):
            def connectTCP(self, *args: Any, **kw: Any) -> Any:
                self.down.add(ONE)
                return super().connectTCP(*args, **kw)

        resolver = self.connect({ONE: NameServer(LONG)})
        self.net.__class__ = NoTcp
        answer = self.told(resolver, "long.example", "TXT")
        assert isinstance(answer, Unanswered)
        self.assertIn("by TCP", answer.why)

    def test_a_server_that_is_silent_by_tcp_is_left_for_the_next(self) -> None:
        server = NameServer(LONG)

        def silent_by_tcp(octets: bytes) -> list[bytes]:
            return [server.reply(octets, longest=512)] if self.net.sent[-1][0] == "udp" else [b"\0"]

        resolver = self.connect({ONE: silent_by_tcp, TWO: server})
        answer = self.ask(resolver, "long.example", "TXT")
        self.wait(2)
        self.assertEqual(self.successResultOf(answer), Found(("x" * 2000,)))

    def test_a_server_that_truncates_by_tcp_too_has_not_answered(self) -> None:
        server = NameServer(LONG)

        def truncates(octets: bytes) -> list[bytes]:
            reply = server.reply(octets, longest=100)
            return [reply if self.net.sent[-1][0] == "udp" else struct.pack("!H", len(reply)) + reply]

        answer = self.told(self.connect({ONE: truncates}), "long.example", "TXT")
        self.assertEqual(answer, Unanswered("truncated by TCP"))

    def test_nonsense_by_tcp_is_no_answer(self) -> None:
        server = NameServer(LONG)

        def babbles(octets: bytes) -> list[bytes]:
            return [server.reply(octets, longest=100) if self.net.sent[-1][0] == "udp" else b"\0\5abcde\0\1x"]

        self.assertIsInstance(self.told(self.connect({ONE: babbles}), "long.example", "TXT"), Unanswered)


class CacheTests(ResolverCase):
    def setUp(self) -> None:
        self.server = NameServer(NAMES)
        self.resolver = self.connect({ONE: self.server})

    def queries(self, name: str = "example.org", kind: str = "MX") -> int:
        self.told(self.resolver, name, kind)
        return self.server.asked.count((name, kind))

    def test_an_answer_is_kept_for_its_ttl(self) -> None:
        self.assertEqual(self.queries(), 1)
        self.clock.advance(299)
        self.assertEqual(self.queries(), 1)
        self.clock.advance(1)
        self.assertEqual(self.queries(), 2)

    def test_a_no_is_kept_as_long_as_the_soa_says(self) -> None:
        for name in "none.example", "mx.example.org":  # no such name, no such records
            self.assertEqual(self.queries(name), 1)
            self.clock.advance(59)
            self.assertEqual(self.queries(name), 1)
            self.clock.advance(1)
            self.assertEqual(self.queries(name), 2)

    def test_no_answer_is_kept_beyond_bounds(self) -> None:
        self.server.ttl = self.server.negative_ttl = 10**8
        self.assertEqual([self.queries(), self.queries("none.example")], [1, 1])
        self.clock.advance(15 * 60)
        self.assertEqual([self.queries(), self.queries("none.example")], [1, 2])
        self.clock.advance(24 * 3600)
        self.assertEqual(self.queries(), 2)

    def test_what_holds_for_no_time_is_not_kept(self) -> None:
        self.server.ttl = 0
        self.assertEqual([self.queries(), self.queries()], [1, 2])

    def test_a_failure_is_kept_for_a_few_seconds_only(self) -> None:
        self.server.names["example.org"] = Unanswered("SERVFAIL")
        self.assertEqual([self.queries(), self.queries()], [1, 1])
        self.server.names["example.org"] = NAMES["example.org"]
        self.clock.advance(5)
        self.assertEqual(self.told(self.resolver), EXCHANGES)

    def test_an_alias_bounds_the_time_of_what_it_leads_to(self) -> None:
        names: dict[str, Records] = {"a.example": {"CNAME": "b.example"}, "b.example": {"A": ["192.0.2.1"]}}
        server = NameServer(names, chases=False, ttl=100)

        def answers(octets: bytes) -> list[bytes]:
            server.ttl = 100 if b"\1a\7example" in octets else 300
            return [server.reply(octets)]

        self.resolver = self.connect({ONE: answers})
        self.told(self.resolver, "a.example", "A")
        self.clock.advance(100)
        self.told(self.resolver, "a.example", "A")
        self.assertEqual(server.asked.count(("a.example", "A")), 2)


class SharingTests(ResolverCase):
    def setUp(self) -> None:
        self.late: list[bytes] = []
        self.resolver = self.connect({ONE: self.keep_silent})
        self.server = NameServer(NAMES)

    def keep_silent(self, octets: bytes) -> list[bytes]:
        self.late.append(octets)
        return []

    def answer_now(self) -> None:
        self.net.ports[-1].received(self.server.reply(self.late.pop()))

    def test_those_who_ask_for_the_same_share_one_query(self) -> None:
        first, second = self.ask(self.resolver), self.ask(self.resolver)
        self.assertEqual(len(self.net.sent), 1)
        self.answer_now()
        self.assertEqual(self.successResultOf(first), EXCHANGES)
        self.assertEqual(self.successResultOf(second), EXCHANGES)

    def test_one_of_them_may_lose_patience(self) -> None:
        first, second = self.ask(self.resolver), self.ask(self.resolver)
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.assertNoResult(second)
        self.answer_now()
        self.assertEqual(self.successResultOf(second), EXCHANGES)

    def test_one_that_is_told_may_cancel_the_next(self) -> None:
        first, second, third = self.ask(self.resolver), self.ask(self.resolver), self.ask(self.resolver)
        first.addCallback(lambda _: second.cancel())
        self.answer_now()
        self.failureResultOf(second, CancelledError)
        self.assertEqual(self.successResultOf(third), EXCHANGES)

    def test_the_answer_is_kept_though_all_lost_patience(self) -> None:
        only = self.ask(self.resolver)
        only.cancel()
        self.failureResultOf(only, CancelledError)
        self.answer_now()
        self.assertEqual(self.told(self.resolver), EXCHANGES)

    def test_no_more_than_so_many_sockets_are_used(self) -> None:
        self.resolver = self.connect({}, ask=[ONE], most_at_once=2)
        waiting = [self.ask(self.resolver, f"{n}.example", "A") for n in range(3)]
        self.assertEqual(len([port for port in self.net.ports if port.open]), 2)
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.wait(20)
        self.assertEqual(self.successResultOf(waiting[1]), Unanswered("no answer"))
        self.assertEqual(self.successResultOf(waiting[2]), Unanswered("too many look-ups at once"))

    def test_a_place_that_is_free_again_is_taken(self) -> None:
        self.resolver = self.connect({ONE: self.keep_silent}, most_at_once=1)
        first, second = self.ask(self.resolver), self.ask(self.resolver, "mx.example.org", "A")
        self.answer_now()
        self.assertEqual(self.successResultOf(first), EXCHANGES)
        self.answer_now()
        self.assertEqual(self.successResultOf(second), Found(("192.0.2.1",)))

    def test_closing_ends_what_is_under_way(self) -> None:
        self.resolver = self.connect({ONE: self.keep_silent}, most_at_once=1)
        waiting = [self.ask(self.resolver), self.ask(self.resolver), self.ask(self.resolver, "b.example", "A")]
        self.successResultOf(Deferred.fromCoroutine(self.resolver.close()))
        for one in waiting:
            self.assertIsInstance(self.successResultOf(one), Unanswered)
        self.assertEqual(self.told(self.resolver), Unanswered("the relay is stopping"))

    def test_closing_waits_for_connections_to_end(self) -> None:
        self.resolver = self.connect({ONE: self.keep_silent})
        answer = self.ask(self.resolver)
        truncated = dns.message.make_response(dns.message.from_wire(self.late.pop()))
        truncated.flags |= dns.flags.TC
        self.net.ports[-1].received(truncated.to_wire())
        [connection] = self.net.connections
        connection.lingers = True
        closed = Deferred.fromCoroutine(self.resolver.close())
        self.assertIsInstance(self.successResultOf(answer), Unanswered)
        self.assertNoResult(closed)
        connection.end(ConnectionDone())
        self.successResultOf(closed)

    def test_our_own_mistake_reaches_those_who_wait_and_spoils_nothing(self) -> None:
        def no_number() -> float:
            raise ZeroDivisionError

        self.resolver = self.connect({ONE: self.keep_silent}, random=no_number)
        for _ in range(2):
            self.assertRaises(ZeroDivisionError, start, self.resolver.look_up("example.org", "MX"))

    def test_our_own_mistake_is_logged_if_nobody_waits_any_more(self) -> None:
        self.resolver = self.connect({ONE: self.keep_silent}, most_at_once=1, random=lambda: 1 / len(self.late))
        self.late.append(b"")
        self.ask(self.resolver)
        only = self.ask(self.resolver, "mx.example.org", "A")
        only.cancel()
        self.failureResultOf(only, CancelledError)
        octets = self.late.pop()
        self.late.clear()
        self.net.ports[-1].received(self.server.reply(octets))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class SystemServersTests(SynchronousTestCase):
    def test_the_servers_of_resolv_conf_are_asked_in_its_order(self) -> None:
        text = (
            "# made by hand\nsearch example.org\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 # second\n"
            "nameserver fe80::1%eth0\nnameserver nonsense\nnameserver\n;nameserver 192.0.2.54\noptions edns0\n"
        )
        self.assertEqual(system_servers(text), [ONE, Inet("2001:db8::53", 53), Inet("fe80::1%eth0", 53)])

    def test_without_any_the_server_is_this_machine(self) -> None:
        self.assertEqual(system_servers("search example.org\n"), [HERE])


class RealSocketTests(TestCase):
    """Through the kernel, on loopback; what is left in the reactor fails the test."""

    timeout = 20

    def serve(self, server: NameServer, interface: str = "127.0.0.1") -> Inet:
        from twisted.internet import reactor

        streams = reactor.listenTCP(0, server.streams(), interface=interface)
        number = streams.getHost().port
        datagrams = reactor.listenUDP(number, server.datagrams(), interface=interface)
        self.addCleanup(streams.stopListening)
        self.addCleanup(datagrams.stopListening)
        return Inet(interface, number)

    def ask(self, *servers: Inet) -> Resolver:
        from twisted.internet import reactor

        return Resolver(reactor, ReactorClock(reactor), servers)

    async def test_a_server_is_asked_by_udp_and_by_tcp(self) -> None:
        server = NameServer(Names({**NAMES, "long.example": {"TXT": ["x" * 3000]}}, signed=[""]))
        resolver = self.ask(self.serve(server))
        answer = await resolver.look_up("example.org", "MX")
        self.assertEqual(answer, Found(EXCHANGES.records, authentic=True))
        answer = await resolver.look_up("long.example", "TXT")
        self.assertEqual(answer, Found(("x" * 3000,), authentic=True))
        self.assertEqual(await resolver.look_up("none.example", "A"), Absent(nonexistent=True, authentic=True))
        await resolver.close()

    async def test_a_port_where_nobody_listens_is_found_out_at_once(self) -> None:
        from twisted.internet import reactor

        free = reactor.listenUDP(0, NameServer({}).datagrams(), interface="127.0.0.1")
        nobody = Inet("127.0.0.1", free.getHost().port)
        await free.stopListening()
        resolver = self.ask(nobody, self.serve(NameServer(NAMES)))
        answer = await resolver.look_up("example.org", "MX")
        assert isinstance(answer, Found)
        await resolver.close()

    async def test_another_address_is_not_heard(self) -> None:
        from twisted.internet import reactor

        heard: list[bytes] = []
        server = NameServer(NAMES)
        asked = self.serve(server)
        port = ConnectedDatagrams(reactor, asked, heard.append, heard.append)
        self.addCleanup(port.close)
        own = port._socket.getsockname()
        other = reactor.listenUDP(0, server.datagrams(), interface="127.0.0.1")
        self.addCleanup(other.stopListening)
        other.write(b"forged", own)
        port.send(dns.message.make_query("example.org", "MX").to_wire())
        while not heard:
            await self.next_turn()
        self.assertEqual(len(heard), 1)
        self.assertNotEqual(heard, [b"forged"])

    def next_turn(self) -> Deferred[None]:
        from twisted.internet import reactor
        from twisted.internet.task import deferLater

        return deferLater(reactor, 0.001, lambda: None)

    async def test_closing_leaves_nothing_in_the_reactor(self) -> None:
        from twisted.internet import reactor

        silent = reactor.listenUDP(0, Silent(), interface="127.0.0.1")
        self.addCleanup(silent.stopListening)
        resolver = self.ask(Inet("127.0.0.1", silent.getHost().port))
        answer = Deferred.fromCoroutine(resolver.look_up("example.org", "MX"))
        await resolver.close()
        self.assertEqual(await answer, Unanswered("the relay is stopping"))


class Silent(DatagramProtocol):
    noisy = False
