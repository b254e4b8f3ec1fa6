"""What a message costs in the adapters, in calls: their own, and those of the dialogue that they drive."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITransport
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.limits import Limits
from relay.interfaces import IVisit
from relay.mail.address import Address
from relay.mail.outcome import Fact, Peer
from relay.mail.reply import Reply
from relay.net.admission import Admission
from relay.net.client import Connection, Dialer, Passage
from relay.net.clock import ReactorClock
from relay.net.doorway import Arrival, Doorway
from relay.net.listener import SmtpServerFactory
from relay.smtp import answers
from relay.smtp.events import Content, ContentEnded, Data, Question
from relay.smtp.parameters import plainly
from relay.smtp.profile import Profile, SessionLimits
from relay.smtp.server import ServerSession
from relay.smtp.transaction import Transaction
from tests.calls import calls_of


@implementer(ITransport)
class Cable:
    """A transport that costs one call for each write, and keeps nothing but how many there were."""

    disconnecting = False

    def __init__(self) -> None:
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1

    def registerProducer(self, producer: object, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def loseConnection(self) -> None:
        pass


@implementer(IVisit)
class Agreeable:
    """Says yes in one call, and to the end of content when the commit has returned."""

    known = None

    def __init__(self) -> None:
        self.commit: Deferred[Reply] = Deferred()

    def answer(self, question: Question) -> Any:
        kind = type(question)
        if kind is ContentEnded:
            self.commit = Deferred()
            return self.committed()
        return answers.SEND_CONTENT if kind is Data else answers.NOTHING_DONE

    async def committed(self) -> Reply:
        return await self.commit

    def take(self, content: Content) -> None:
        pass

    def lost(self) -> None:
        pass


class Carriage(Passage):
    """A message that is followed by another one, so many times."""

    def __init__(self, connection: Connection, commands: bytes, left: int, ahead: Carriage | None = None) -> None:
        self.over = False
        self.connection, self.commands, self.left = connection, commands, left
        self.settlements: list[object] = [] if ahead is None else ahead.settlements

    def content(self) -> bytes:
        return b"Subject: hello\r\n\r\nhello\r\n.\r\n"

    def sent(self) -> None:
        if self.left:
            self.connection.propose(self.commands, Carriage(self.connection, self.commands, self.left - 1, self))

    def settled(self, facts: tuple[Fact, ...]) -> None:
        self.settlements.append(facts)


class CallsTests(SynchronousTestCase):
    """The hundredth message on a connection, after all that is made once was made."""

    def setUp(self) -> None:
        self.clock = ReactorClock(Clock(), lambda: 1.7e9)
        self.cable = Cable()

    def test_a_message_is_accepted_in_few_calls(self) -> None:
        visit, limits, profile = Agreeable(), Limits(), Profile("mx.test")

        def admit(arrival: Arrival) -> tuple[ServerSession, Agreeable]:
            return ServerSession(profile, SessionLimits(messages=None)), visit

        factory = SmtpServerFactory(Doorway(admit, Admission(limits, [], self.clock), limits, self.clock))
        server = factory.buildProtocol(IPv4Address("TCP", "192.0.2.9", 4711))
        assert server is not None
        server.makeConnection(self.cable)
        server.dataReceived(b"EHLO c\r\n")

        def message() -> None:
            server.dataReceived(b"MAIL FROM:<a@b.example>\r\n")
            server.dataReceived(b"RCPT TO:<c@d.example>\r\n")
            server.dataReceived(b"DATA\r\n")
            server.dataReceived(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
            visit.commit.callback(answers.NOTHING_DONE)

        for _ in range(3):
            message()
        before = self.cable.writes
        self.assertLessEqual(calls_of(message), 104)
        self.assertEqual(self.cable.writes - before, 4)

    def test_a_message_is_carried_in_few_calls(self) -> None:
        opened: list[Any] = []
        dialer = Dialer(cast(Any, None), self.clock, "relay.example.org")
        connection = Connection(Peer("mx.example.net", "192.0.2.9"), dialer, told=opened.append)
        connection.makeConnection(self.cable)
        connection.dataReceived(b"220 mx.example.net\r\n")
        connection.dataReceived(b"250-mx.example.net\r\n250 PIPELINING\r\n")
        self.assertEqual(opened, [connection])
        terms = connection.session.terms
        commands = plainly(terms.plain, terms, "a@b.example", 100, "c@d.example")
        first = Carriage(connection, commands, 5)

        def message() -> None:
            connection.dataReceived(b"250 kept\r\n250 ok\r\n250 ok\r\n354 go ahead\r\n")

        connection.propose(commands, first)
        connection.dataReceived(b"250 ok\r\n250 ok\r\n354 go ahead\r\n")
        for _ in range(3):
            message()
        before = self.cable.writes
        self.assertLessEqual(calls_of(message), 23)
        self.assertEqual((self.cable.writes - before, len(first.settlements)), (1, 4))

    def test_so_is_one_for_which_somebody_waits(self) -> None:
        opened: list[Any] = []
        dialer = Dialer(cast(Any, None), self.clock, "relay.example.org")
        connection = Connection(Peer("mx.example.net", "192.0.2.9"), dialer, told=opened.append)
        connection.makeConnection(self.cable)
        connection.dataReceived(b"220 mx.example.net\r\n")
        connection.dataReceived(b"250-mx.example.net\r\n250 PIPELINING\r\n")
        self.assertEqual(opened, [connection])
        transaction = Transaction(Address.parse("a@b.example"), (Address.parse("c@d.example"),), 100)
        settled: list[Any] = []

        def message() -> None:
            connection.carry(transaction, iter([b"Subject: hello\r\n\r\nhello\r\n.\r\n"])).addCallback(settled.append)
            connection.dataReceived(b"250 ok\r\n250 ok\r\n354 go ahead\r\n")
            connection.dataReceived(b"250 kept\r\n")

        for _ in range(3):
            message()
        before = self.cable.writes
        self.assertLessEqual(calls_of(message), 66)
        self.assertEqual((self.cable.writes - before, len(settled)), (2, 4))
