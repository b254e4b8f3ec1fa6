"""A consignment in portions (RFC 9422): what was promised by the first stands, whatever becomes of the next."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.interfaces import IContent, Interrupted
from relay.mail.address import Address
from relay.mail.envelope import Form
from relay.mail.outcome import Answered, Broke, Carried
from relay.testing.peers import OFFERS, Babble, Drop, FakeExchange, Say, Slow, Stall
from relay.testing.world import MailWorld
from tests.test_agents_smtp import MESSAGE, PEER, TransmitTestCase, consignment
from tests.test_notices_world import CONFIGURATION, NoticesWorldTests

ONE_BY_ONE = (*OFFERS, "LIMITS RCPTMAX=1")


class InterruptedTests(TransmitTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.exchange.offers = ONE_BY_ONE

    def turn(self, times: int = 20) -> None:
        for _ in range(times):
            self.clock.advance(0)

    def test_what_was_promised_before_it_was_cancelled_is_reported(self) -> None:
        self.exchange.at("END", Stall(), number=2)
        carrying = self.begin(consignment())
        self.turn()
        carrying.cancel()
        reports = self.failureResultOf(carrying, Interrupted).value.reports
        self.assertEqual([type(report.fact) for report in reports], [Carried])

    def test_and_before_the_content_could_not_be_read(self) -> None:
        @implementer(IContent)
        class Fading:
            form, size, reads = Form.PLAIN, len(MESSAGE), 0

            def blocks(self):  # type: ignore[no-untyped-def]
                self.reads += 1
                if self.reads > 1:
                    raise OSError(5, "EIO")
                yield MESSAGE

        carrying = self.begin(consignment(Fading()))
        self.turn()
        failure = self.failureResultOf(carrying, Interrupted)
        self.assertEqual([type(report.fact) for report in failure.value.reports], [Carried])
        self.assertIsInstance(failure.value.__cause__, OSError)

    def test_a_host_that_ends_the_first_one_is_not_met_for_each_of_the_others(self) -> None:
        many = [Address(f"u{number}", "example.net") for number in range(50)]
        for fault, kind in ((Say("421 4.3.2 busy"), Answered), (Drop(), Broke)):
            exchange = FakeExchange(offers=ONE_BY_ONE)
            self.internet.add(PEER.address, exchange)
            exchange.at("MAIL", fault)
            carrying = self.begin(consignment(recipients=many))
            self.turn(500)
            facts = [report.fact for report in self.successResultOf(carrying)]
            self.assertEqual(([type(fact) for fact in facts], exchange.connections), ([kind] * 50, 1))


class PromiseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = MailWorld(CONFIGURATION)
        self.home = self.world.exchange("sender.test", "192.0.2.80")

    send = NoticesWorldTests.send

    def copies(self, exchange: FakeExchange) -> Counter[str]:
        return Counter(recipient for message in exchange.messages for recipient in message.recipients)

    def test_nobody_gets_a_second_copy_because_the_relay_stopped(self) -> None:
        exchange = self.world.exchange("example.org", "192.0.2.25", offers=ONE_BY_ONE)
        exchange.at("END", Stall(), number=2, times=1)
        self.send("", "<a@example.org>", "<b@example.org>")
        self.world.relay.dispatcher.stop()
        self.world.pass_time(30)
        self.world.crash()
        self.world.pass_time(3600)
        self.assertEqual(self.copies(exchange), {"a@example.org": 1, "b@example.org": 1})

    def test_nor_because_an_attempt_took_too_long(self) -> None:
        exchange = self.world.exchange("example.org", "192.0.2.25", offers=ONE_BY_ONE)
        for moment, slowness in (("MAIL", 290), ("RCPT", 290), ("END", 590)):
            exchange.at(moment, Slow(slowness))
        self.send("", *(f"<u{number}@example.org>" for number in range(10)))
        self.world.pass_time(20 * 3600)
        self.assertEqual(self.copies(exchange), {f"u{number}@example.org": 1 for number in range(10)})

    def test_a_reply_that_came_before_its_command_is_no_promise(self) -> None:
        exchange = self.world.exchange("example.org", "192.0.2.25", offers=("CHUNKING",))
        exchange.at("RCPT", Babble(b"250 ok\r\n250 ok\r\n"), number=2)
        self.send("", "<a@example.org>", "<b@example.org>", "<c@example.org>")
        self.assertEqual([event.what for event in self.world.log.events if event.what == "relayed"], [])
        said = b"".join(octets for who, octets in exchange.transcript if who == "C")
        self.assertNotIn(b"BDAT", said)
