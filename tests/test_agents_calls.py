"""What a healthy message costs the agent that carries it onward, in calls, on a connection that was kept."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.agents.pool import Keeping, Pool
from relay.agents.smtp import SmtpTransmitter
from relay.interfaces import IPlace, ITraveller
from relay.mail.envelope import Form
from relay.mail.outcome import Carried, Fact, Peer
from relay.mail.routing import NextHop
from relay.net.client import Connection, Dialer, Passage, Sent, Told
from relay.net.clock import ReactorClock
from relay.net.tls_client import PeerTls
from relay.smtp.features import Features
from relay.smtp.parameters import Terms
from relay.smtp.transaction import PLAINLY, Approach, Transaction
from relay.testing.internet import FakeInternet
from tests.calls import calls_of
from tests.test_agents_smtp import HEAD, JON, PEER, consignment, kept

MESSAGES = 100
CARRIED = Carried(onward=True, by=str(PEER), text="250 Ok")
OFFERED = Features.offered(("mx.example.net", "PIPELINING", "SIZE 10240000", "8BITMIME", "DSN"))
HOP = NextHop(PEER.address, mx=False, tls="none")


class Prompt(Connection):
    """A connection to a host that answers before it was asked: what is left is what the agent does."""

    #: How much of each message was sent, if it was in one piece.
    sent: list[int]

    def carry(
        self, transaction: Transaction, content: Iterator[bytes], sent: Sent | None = None
    ) -> Deferred[tuple[Fact, ...]]:
        return succeed((CARRIED,) * len(transaction.recipients))

    def propose(self, commands: bytes, passage: Passage) -> None:
        content = passage.content()
        self.sent.append(len(content) if type(content) is bytes else -1)
        passage.sent()
        passage.over = True
        passage.settled((CARRIED,))


@implementer(ITraveller)
class Alone:
    """Has a connection of its own, and nobody follows."""

    own = True

    def follow(self, ahead: IPlace) -> bool:
        return True

    async def wait(self) -> None:
        """It need not."""

    def leave(self) -> None:
        """Nobody wants its place."""

    def sent(self) -> None:
        """Nobody follows."""

    def arrived(self) -> None:
        """And that is all."""


class Nearby(Dialer):
    """Reaches such a host at once."""

    dialled: list[Prompt]

    def dial(self, peer: Peer, told: Told, approach: Approach = PLAINLY, tls: PeerTls | None = None) -> Prompt:
        connection = Prompt(peer, self, approach, tls)
        connection.features = OFFERED
        connection.session.terms = Terms(OFFERED)
        connection.session.can_begin = True
        connection.sent = []
        self.dialled.append(connection)
        told(connection)
        return connection


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        reactor = Clock()
        clock = ReactorClock(reactor, calendar=lambda: 0.0)
        self.dialer = Nearby(FakeInternet(reactor), clock, "relay.example.org")
        object.__setattr__(self.dialer, "dialled", [])
        self.pool = Pool(clock, Keeping(transactions=10 * MESSAGES))
        self.transmitter = SmtpTransmitter(self.dialer, pool=self.pool)

    def test_a_message_on_a_kept_connection_costs_few_calls_and_is_one_piece(self) -> None:
        content = kept(b"Subject: hello\r\n\r\n" + b"hello\r\n" * 150, Form.WIRE)
        sent = evolve(consignment(content, [JON]), next_hop=HOP)

        place = Alone()

        def messages() -> None:
            for _ in range(MESSAGES):
                self.transmitter.set_off(sent, PEER, place)

        with contextlib.suppress(StopIteration):
            self.transmitter.transmit(sent, PEER).send(None)
        messages()
        by_name: Counter[str] = Counter()
        calls = calls_of(messages, by_name=by_name) / MESSAGES
        (connection,) = self.dialer.dialled
        self.assertEqual(connection.sent, [len(HEAD + content.octets[0])] * 2 * MESSAGES)
        named = "\n".join(f"{times / MESSAGES:6.1f} {name}" for name, times in by_name.most_common(40))
        self.assertLessEqual(calls, 41, named)
