"""What a healthy message costs a client's session, in calls: a bound for the way that nearly all mail takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.address import Address
from relay.mail.outcome import Carried, Peer
from relay.smtp.client import ClientSession
from relay.smtp.transaction import Proceed, Settled, Transaction
from tests.calls import calls_of
from tests.smtp.proposing import propose

PEER = Peer("mx.example.net", "192.0.2.9")
SENDER, JON, ANN = (Address.parse(name) for name in ("bob@example.org", "jon@example.net", "ann@example.net"))
ONE = Transaction(SENDER, (JON,), size=1024)
EHLO = (b"mx.example.net", b"PIPELINING", b"SIZE 10240000", b"8BITMIME", b"DSN", b"SMTPUTF8", b"ENHANCEDSTATUSCODES")
MESSAGES = 100


class CallTests(SynchronousTestCase):
    """A hundred messages on one connection, to a server that is as most are."""

    def setUp(self) -> None:
        self.session = session = ClientSession("relay.example.org", PEER)
        session.connected()
        session.receive_data(b"220 mx.example.net ESMTP\r\n")
        last = len(EHLO) - 1
        session.receive_data(
            b"".join(b"250%c%s\r\n" % (b" "[0] if at == last else b"-"[0], word) for at, word in enumerate(EHLO))
        )
        while session.next_event() is not None:
            pass
        session.data_to_send()
        self.sent = 0

    def carry(self, transaction: Transaction | None) -> None:
        """One message, as an adapter carries it; each is taken under a name of its own. `None`: it is as most are."""
        session, count = self.session, 1
        if transaction is None:
            propose(session, SENDER, JON, 1024)
        else:
            count = len(transaction.recipients)
            session.begin(transaction)
        session.data_to_send()
        session.receive_data(
            b"250 2.1.0 Ok\r\n" + b"250 2.1.5 Ok\r\n" * count + b"354 End data with <CR><LF>.<CR><LF>\r\n"
        )
        proceed = session.next_event()
        session.content_sent()
        self.sent += 1
        session.receive_data(b"250 2.0.0 Ok: queued as %X\r\n" % self.sent)
        settled = session.next_event()
        assert type(proceed) is Proceed
        assert type(settled) is Settled
        assert type(settled.facts[-1]) is Carried

    def calls(self, carry: Callable[[], object]) -> float:
        carry()

        def messages() -> None:
            for _ in range(MESSAGES):
                carry()

        by_name: Counter[str] = Counter()
        calls = calls_of(messages, by_name=by_name) / MESSAGES
        self.named = "\n".join(f"{times / MESSAGES:6.1f} {name}" for name, times in by_name.most_common(40))
        return calls

    def test_a_message_costs_a_session_few_calls(self) -> None:
        calls = self.calls(lambda: self.carry(ONE))
        self.assertLessEqual(calls, 41, self.named)

    def test_most_messages_cost_it_less(self) -> None:
        calls = self.calls(lambda: self.carry(None))
        self.assertLessEqual(calls, 28, self.named)

    def test_each_further_recipient_costs_less_than_a_message(self) -> None:
        few, many = (evolve(ONE, recipients=(JON, ANN) * times) for times in (1, 25))
        calls = (self.calls(lambda: self.carry(many)) - self.calls(lambda: self.carry(few))) / 48
        self.assertLessEqual(calls, 11, self.named)
