from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from relay.testing.internet import BUFFER, FakeInternet, FakeTransport
from relay.testing.peers import Babble, Drop, FakeExchange, Message, Reset, Say, Slow, Stall

ADDRESS = "192.0.2.9"
ENVELOPE = b"EHLO me\r\nMAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nDATA\r\n"


class Client(Protocol):
    """Notes what it hears, and how it ended."""

    transport: FakeTransport

    def __init__(self) -> None:
        self.heard = b""
        self.made = False
        self.ended: str | None = None

    def connectionMade(self) -> None:
        self.made = True

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason.type.__name__


class Clients(ClientFactory[Client]):
    def __init__(self) -> None:
        self.client = Client()
        self.failed: str | None = None
        self.lost: str | None = None

    def buildProtocol(self, addr: IAddress | None) -> Client:
        return self.client

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.failed = reason.type.__name__

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        self.lost = reason.type.__name__


class PeersTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.internet = FakeInternet(self.clock)
        self.exchange = FakeExchange("mx", clock=self.clock)
        self.internet.add(ADDRESS, self.exchange)

    def connect(self, address: str = ADDRESS, port: int = 25) -> Client:
        factory = Clients()
        self.internet.connectTCP(address, port, factory)
        self.clock.advance(0)
        return factory.client

    def say(self, *segments: bytes) -> Client:
        """A connection on which this was said, segment by segment, each when the one before was answered."""
        client = self.connect()
        for segment in segments:
            client.transport.write(segment)
            self.clock.advance(0)
        return client

    def codes(self, client: Client) -> list[int]:
        return [int(line[:3]) for line in client.heard.splitlines() if line[3:4] != b"-"]


class ExchangeTests(PeersTestCase):
    def test_it_takes_a_message_and_finds_nothing_to_complain_of(self) -> None:
        client = self.say(ENVELOPE, b"Subject: x\r\n\r\n..dot\r\n.\r\n", b"QUIT\r\n")
        self.assertEqual(self.codes(client), [220, 250, 250, 250, 354, 250, 221])
        self.assertEqual(self.exchange.messages, [Message("a@x", ("b@y",), b"Subject: x\r\n\r\n.dot\r\n", (), "me")])
        self.assertEqual(client.ended, "ConnectionDone")
        self.assertEqual((self.exchange.connections, self.exchange.open), (1, 0))
        # What follows EHLO may only be said when its answer has told that it may.
        self.assertEqual(self.exchange.complaints, [f"said more before the reply to EHLO: {ENVELOPE[9:49]!r}"])

    def test_content_ends_at_crlf_dot_crlf_however_it_is_cut(self) -> None:
        for content in (b".\r\n", b"\r\n.\r\n", b"a\r\n..\r\nb\r\n.\r\n", b"..\r\n.\r\n"):
            exchange = FakeExchange()
            self.internet.add(ADDRESS, exchange)
            self.say(ENVELOPE, content)
            self.say(ENVELOPE, *[content[at : at + 1] for at in range(len(content))])
            one, two = exchange.messages
            self.assertEqual(one, two)
            self.assertEqual(one.content, content[:-3].replace(b"..", b"."))

    def test_what_no_client_may_do_is_a_complaint(self) -> None:
        for said in (
            [b"EHLO me\r\n", b"MAIL FROM: <a@x>\r\n"],
            [b"EHLO me\r\n", b"MAIL FROM:<a@x> DSN\r\n"],
            [b"EHLO me\r\n", b"MAIL FROM:<a@x> SIZE=many\r\n"],
            [b"EHLO me\r\n", b"MAIL FROM:<a@x> SIZE=26214401\r\n"],
            [b"EHLO me\r\n", "MAIL FROM:<ä@x>\r\n".encode()],
            [b"EHLO me\r\n", b"MAIL FROM:<a@x>\r\n", "RCPT TO:<ä@x>\r\n".encode()],
            [b"EHLO me\r\n", b"MAIL FROM:<a@x>\r\n", b"RCPT TO:<>\r\n"],
            [b"EHLO me\r\n", b"MAIL FROM:<a@x>\r\n", b"MAIL FROM:<a@x>\r\n"],
            [b"MAIL FROM:<a@x>\r\n"],
            [b"HELO\r\n"],
            [b"EHLO me\n"],
            [b"EHLO me\r\n", b"RSET\r\rNOOP\r\n"],
            [b"EHLO me\r\n", b"HACK\r\n"],
            [b"EHLO me\r\n", b"RCPT TO:<" + b"x" * 600 + b"@y>\r\n"],
            [b"HELO me\r\n", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n"],
            [b"HELO me\r\n", b"MAIL FROM:<a@x> SIZE=1\r\n"],
            [b"EHLO me\r\n", ENVELOPE[9:] + b"content before its time\r\n.\r\n"],
            [b"EHLO me\r\n", ENVELOPE[9:], b"a\nb\r\n.\r\n"],
            [b"EHLO me\r\n", ENVELOPE[9:], b"a\rb\r\n.\r\n"],
            [b"EHLO me\r\n", ENVELOPE[9:], b".a\r\n.\r\n"],
            [b"EHLO me\r\n", ENVELOPE[9:], b"a\r\n.\r\n.\r\n"],
        ):
            self.exchange.complaints.clear()
            self.say(*said)
            self.assertEqual(len(self.exchange.complaints), 1, said)

    def test_a_message_for_nobody_is_not_taken(self) -> None:
        client = self.say(b"EHLO me\r\n", b"MAIL FROM:<>\r\n", b"DATA\r\n")
        self.assertEqual(self.codes(client)[-1], 554)

    def test_several_messages_come_by_one_connection(self) -> None:
        self.say(b"EHLO me\r\n", ENVELOPE[9:], b"1\r\n.\r\n" + ENVELOPE[9:], b"2\r\n.\r\nRSET\r\n")
        self.assertEqual([message.content for message in self.exchange.messages], [b"1\r\n", b"2\r\n"])
        self.assertEqual(self.exchange.complaints, [])

    def test_one_that_knows_helo_only_does_not_know_ehlo(self) -> None:
        self.exchange.extended = False
        self.assertEqual(self.codes(self.say(b"EHLO me\r\n", b"HELO me\r\n")), [220, 502, 250])


class FaultTests(PeersTestCase):
    def test_a_planned_reply_is_said_instead_of_the_usual_one(self) -> None:
        self.exchange.at("RCPT", Say("450-4.2.1 Busy\n450 4.2.1 Later"), number=2)
        client = self.say(b"EHLO me\r\n", b"MAIL FROM:<a@x>\r\n", *[b"RCPT TO:<b@y>\r\n"] * 3)
        self.assertEqual(self.codes(client)[-3:], [250, 450, 250])
        self.assertIn(b"450-4.2.1 Busy\r\n450 4.2.1 Later\r\n", client.heard)

    def test_a_fault_that_is_planned_for_a_time_is_over_after_it(self) -> None:
        self.exchange.at("GREETING", Say("421 4.3.2 Later"), times=2)
        clients = [self.connect() for _ in range(3)]
        self.assertEqual([self.codes(client) for client in clients], [[421], [421], [220]])
        self.assertEqual([client.ended for client in clients], ["ConnectionDone", "ConnectionDone", None])

    def test_a_fault_may_be_about_one_address(self) -> None:
        self.exchange.at("RCPT", Say("550 5.1.1 No"), about="elvis@")
        client = self.say(b"EHLO me\r\n", b"MAIL FROM:<elvis@x>\r\n", b"RCPT TO:<jon@y>\r\nRCPT TO:<elvis@y>\r\n")
        self.assertEqual(self.codes(client)[-3:], [250, 250, 550])

    def test_what_was_refused_or_left_without_a_reply_is_not_among_the_messages(self) -> None:
        for fault in (Say("554 Spam"), Drop(), Reset(), Babble(b"250 Ok"), Stall()):
            exchange = FakeExchange().at("END", fault)
            self.internet.add(ADDRESS, exchange)
            self.say(ENVELOPE, b"x\r\n.\r\n")
            self.assertEqual((len(exchange.messages), len(exchange.unpromised)), (0, 1))

    def test_a_connection_is_dropped_or_reset(self) -> None:
        for fault, ended in ((Drop(), "ConnectionDone"), (Reset(), "ConnectionLost")):
            for moment in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "CONTENT", "END", "QUIT"):
                exchange = FakeExchange().at(moment, fault)
                self.internet.add(ADDRESS, exchange)
                client = self.say(ENVELOPE, b"x\r\n", b".\r\n", b"QUIT\r\n")
                self.assertEqual((client.ended, exchange.open), (ended, 0), moment)

    def test_one_that_stalls_reads_nothing_more(self) -> None:
        self.exchange.at("MAIL", Stall())
        client = self.say(b"EHLO me\r\n", b"MAIL FROM:<a@x>\r\n", b"QUIT\r\n")
        self.clock.advance(10000)
        self.assertEqual(self.codes(client), [220, 250])
        self.assertIsNone(client.ended)
        self.assertEqual(self.exchange.transcript[-1], ("C", b"MAIL FROM:<a@x>\r\n"))

    def test_one_that_is_slow_answers_what_came_meanwhile_in_order(self) -> None:
        self.exchange.at("MAIL", Slow(60))
        client = self.say(b"EHLO me\r\n", b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\n", b"RSET\r\n")
        self.clock.advance(59)
        self.assertEqual(self.codes(client), [220, 250])
        self.clock.advance(1)
        self.assertEqual(self.codes(client), [220, 250, 250, 250, 250])


class InternetTests(PeersTestCase):
    def fate(self, address: str, port: int = 25) -> str | None:
        factory = Clients()
        self.internet.connectTCP(address, port, factory, timeout=30)
        self.clock.pump([10] * 3)
        return factory.failed

    def test_who_is_not_there_cannot_be_reached_and_who_is_refuses_other_ports(self) -> None:
        self.internet.silence("192.0.2.10")
        self.assertEqual(self.fate(ADDRESS), None)
        self.assertEqual(self.fate(ADDRESS, 26), "ConnectionRefusedError")
        self.assertEqual(self.fate("192.0.2.77"), "NoRouteError")
        self.assertEqual(self.fate("192.0.2.10"), "TimeoutError")

    def test_names_are_not_looked_up(self) -> None:
        self.assertRaises(ValueError, self.internet.connectTCP, "mx.example.org", 25, Clients())

    def test_a_listener_is_told_who_connects(self) -> None:
        server = Clients()
        port = self.internet.listenTCP(2525, server, interface="127.0.0.1")
        self.internet.connectTCP("127.0.0.1", 2525, Clients(), bindAddress=("127.0.0.2", 0))
        self.clock.advance(0)
        self.assertEqual(server.client.transport.getPeer().host, "127.0.0.2")  # type: ignore[attr-defined]
        self.assertEqual(server.client.transport.getHost(), port.getHost())
        port.stopListening()
        self.assertEqual(self.fate("127.0.0.1", 2525), "ConnectionRefusedError")

    def test_connecting_can_be_given_up(self) -> None:
        factory = Clients()
        connector = self.internet.connectTCP(ADDRESS, 25, factory)
        connector.disconnect()
        self.clock.advance(0)
        self.assertEqual(factory.failed, "UserError")
        self.assertEqual((self.exchange.connections, self.clock.getDelayedCalls()), (0, []))

    def pair(self) -> tuple[Clients, Client, Client]:
        """A connection between two that only listen: the factory and both ends."""
        near, far = Clients(), Clients()
        self.internet.add("192.0.2.20", far)
        self.internet.connectTCP("192.0.2.20", 25, near)
        self.clock.advance(0)
        return near, near.client, far.client

    def test_octets_arrive_in_order_after_their_time_and_as_the_network_cuts_them(self) -> None:
        self.internet.latency = 0.5
        self.internet.cut = lambda waiting: 2
        _, near, far = self.pair()
        self.assertFalse(near.made)
        self.clock.advance(0.5)
        self.assertTrue(near.made)
        near.transport.write(b"abcd")
        near.transport.write(b"ef")
        seen = []
        for _ in range(4):
            self.clock.advance(0.5)
            seen.append(far.heard)
        self.assertEqual(seen, [b"ab", b"abcd", b"abcdef", b"abcdef"])

    def test_what_was_written_before_a_close_arrives_and_before_a_reset_does_not(self) -> None:
        factory, near, far = self.pair()
        near.transport.write(b"bye")
        near.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual((far.heard, far.ended, near.ended), (b"bye", "ConnectionDone", "ConnectionDone"))
        self.assertEqual(factory.lost, "ConnectionDone")
        _, near, far = self.pair()
        near.transport.write(b"bye")
        near.transport.abortConnection()
        self.clock.advance(0)
        self.assertEqual((far.heard, far.ended, near.ended), (b"", "ConnectionLost", "ConnectionAborted"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_both_ends_may_close_at_once(self) -> None:
        _, near, far = self.pair()
        for end in (near, far):
            end.transport.write(b"never read")
            end.transport.loseConnection()
        self.clock.advance(0)
        self.assertEqual((near.ended, far.ended), ("ConnectionDone", "ConnectionDone"))

    def test_a_producer_is_paused_while_nobody_reads(self) -> None:
        class Producer:
            said: list[str]

            def __init__(self) -> None:
                self.said = []

            def pauseProducing(self) -> None:
                self.said.append("pause")

            def resumeProducing(self) -> None:
                self.said.append("resume")

            def stopProducing(self) -> None:
                self.said.append("stop")

        _, near, far = self.pair()
        producer = Producer()
        far.transport.pauseProducing()
        near.transport.registerProducer(producer, True)
        near.transport.write(b"x" * BUFFER)
        self.assertEqual(producer.said, [])
        near.transport.write(b"x")
        self.clock.advance(0)
        self.assertEqual((producer.said, far.heard), (["pause"], b""))
        far.transport.resumeProducing()
        self.clock.advance(0)
        self.assertEqual((producer.said, len(far.heard)), (["pause", "resume"], BUFFER + 1))
        self.assertEqual(near.transport.most_buffered, BUFFER + 1)
        far.transport.abortConnection()
        self.clock.advance(0)
        self.assertEqual(producer.said, ["pause", "resume", "stop"])
