"""
Our client against our own server, over an internet in memory and with real TLS: each extension by both of its sides.

What a message has to go with it is looked at twice: in the spool of the relay that has taken it, and, since that relay
is a client again, at a strict exchange behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from relay.agents.smtp import SmtpTransmitter
from relay.config.logins import LoginSettings
from relay.interfaces import Consignment, Report
from relay.mail.address import Address
from relay.mail.dsn import Notify, Return, Wishes
from relay.mail.envelope import Body, ByMode, DeliverBy, Form
from relay.mail.outcome import Answered, Carried, Fact, Peer, Phase, Unencrypted
from relay.mail.routing import NextHop
from relay.net.client import Dialer
from relay.net.logins import Logins
from relay.net.tls_peers import TlsPeers
from relay.testing.internet import whole
from relay.testing.peers import OFFERS, FakeExchange, Message
from relay.testing.world import MailWorld
from tests.stage import Users
from tests.test_agents_smtp import ANN, HEAD, JON, consignment, contents, kept
from tests.test_tls import TlsTestCase, issue, octets

MX = "mx.test"
ADDRESS = "192.0.2.9"
MX_PORT, CLEAR_PORT, SUBMISSION_PORT, LMTP_PORT = 25, 26, 587, 24
EVERYTHING = (*OFFERS, "CHUNKING", "BINARYMIME", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY")

CONFIGURATION = """
hostname = "mx.test"
trusted = ["192.0.2.1"]

[auth]
passwords = "users"

[delivery.tls]
authorities = "AUTHORITY"

[[listener]]
name = "mx"
address = "192.0.2.9:25"
tls = "offer"
also = ["BINARYMIME"]

[[listener]]
name = "clear"
address = "192.0.2.9:26"

[[listener]]
name = "submission"
address = "192.0.2.9:587"
protocol = "submission"
tls = "require"

[[listener]]
name = "lmtp"
address = "192.0.2.9:24"
protocol = "lmtp"

[[policy]]
use = "reject"
when = { recipient = ["nobody@example.net"] }

[[policy]]
use = "forward"
when = { recipient = ["example.net"] }
tls = "may"
"""


class BothSidesTestCase(TlsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.meet(CONFIGURATION)

    def meet(self, configuration: str) -> None:
        """A relay of this configuration, an exchange behind it, and a client of ours before it."""
        listener = self.certificates(self.file("mx.pem", octets(issue(MX)))).for_listener()
        self.world = MailWorld(
            configuration.replace("AUTHORITY", str(self.authority)), tls=lambda name: listener, credentials=Users()
        )
        for each in self.world.relay.listeners:
            address: Any = each.settings.address
            self.world.internet.add(address.host, each.factory, address.port)
        self.behind: FakeExchange = self.world.exchange("example.net", "198.51.100.7", offers=EVERYTHING)
        login = LoginSettings(name="us", user="ann", password="pencil")
        dialer = Dialer(self.world.internet, self.world.time, "client.test")
        self.transmitter = SmtpTransmitter(dialer, TlsPeers(self.world.time, self.authority), Logins([login]))

    def begin(self, sent: Consignment, port: int, **how: Any) -> Deferred[Sequence[Report]]:
        hop, peer = NextHop(MX, port, mx=False, **how), Peer(MX, ADDRESS, port, assured=True)
        reports = Deferred.fromCoroutine(self.transmitter.transmit(evolve(sent, next_hop=hop), peer))
        self.world.settle()
        return reports

    def transmit(self, sent: Consignment, port: int = MX_PORT, **how: Any) -> list[Fact]:
        facts = [report.fact for report in self.successResultOf(self.begin(sent, port, **how))]
        self.assertEqual(self.behind.complaints, [])
        return facts

    def through(self, sent: Consignment, port: int = MX_PORT, **how: Any) -> Message:
        """It has come through both relays: what the exchange behind them has of it."""
        facts = self.transmit(sent, port, **how)
        self.assertEqual([type(fact) for fact in facts], [Carried] * len(facts), facts)
        self.assertTrue(self.behind.messages, self.world.log.events)
        return self.behind.messages[-1]

    def wishing(self, *wishes: Wishes, recipients: Sequence[Address] = (JON, ANN), **envelope: Any) -> Consignment:
        sent = consignment(recipients=recipients)
        given = [*wishes, *[Wishes()] * len(recipients)]
        named = tuple(evolve(each, wishes=wish) for each, wish in zip(sent.recipients, given, strict=False))
        entry = evolve(sent.entry, envelope=evolve(sent.entry.envelope, **envelope))
        return evolve(sent, recipients=named, entry=entry)


class BothSidesTests(BothSidesTestCase):
    def test_starttls_at_each_level(self) -> None:
        for level, end in (("may", "GCM_SHA384"), ("encrypt", "GCM_SHA384"), ("verify", ":verified")):
            (fact, _) = self.transmit(consignment(), tls=level)
            assert isinstance(fact, Carried)
            self.assertTrue(fact.tls.endswith(end), fact.tls)
        self.assertIn(b"with ESMTPS", self.behind.messages[-1].content)

    def test_where_starttls_is_not_offered(self) -> None:
        self.assertIsInstance(self.transmit(consignment(), CLEAR_PORT, tls="may")[0], Carried)
        self.assertIsInstance(self.transmit(consignment(), CLEAR_PORT, tls="encrypt")[0], Unencrypted)
        self.assertIn(b"with ESMTP ", self.behind.messages[-1].content)

    def test_the_way_that_a_policy_chose_is_the_way_that_is_gone(self) -> None:
        for level, encrypted in (("none", False), ("may", True), ("encrypt", True)):
            self.meet(CONFIGURATION.replace('tls = "may"', f'tls = "{level}"\nwithout = ["CHUNKING"]'))
            certificate = self.file("behind.pem", octets(issue(self.behind.name)))
            self.behind.tls = self.certificates(certificate).for_listener()
            message = self.through(consignment())
            self.assertEqual((message.tls, message.by_bdat), (encrypted, False))

    def test_auth_by_each_mechanism(self) -> None:
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            self.meet(CONFIGURATION.replace("[auth]", f'[auth]\nmechanisms = ["{mechanism}"]'))
            message = self.through(consignment(), SUBMISSION_PORT, tls="verify", login="us")
            self.assertIn(b"with ESMTPSA", message.content, mechanism)

    def test_nobody_relays_by_submission_without_a_login(self) -> None:
        (fact, _) = self.transmit(consignment(), SUBMISSION_PORT, tls="verify")
        assert isinstance(fact, Answered)
        self.assertEqual((fact.reply.code, fact.phase), (530, Phase.MAIL))

    def test_a_wrong_password_is_an_answer_to_auth(self) -> None:
        login = LoginSettings(name="us", user="ann", password="rubber")
        self.transmitter = evolve(self.transmitter, logins=Logins([login]))
        (fact, _) = self.transmit(consignment(), SUBMISSION_PORT, tls="verify", login="us")
        assert isinstance(fact, Answered)
        self.assertEqual((fact.reply.code, fact.phase), (535, Phase.AUTH))

    def test_dsn(self) -> None:
        message = self.through(
            self.wishing(
                Wishes(frozenset({Notify.SUCCESS, Notify.FAILURE}), "rfc822;jon+2B@example.org"),
                Wishes(frozenset({Notify.NEVER})),
                returns=Return.FULL,
                envid="x+3Dy",
            )
        )
        self.assertLessEqual({"RET=FULL", "ENVID=x+3Dy"}, set(message.parameters))
        self.assertEqual(
            message.recipient_parameters,
            (
                ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;jon+2B@example.org"),
                ("NOTIFY=NEVER", "ORCPT=rfc822;ann@example.net"),
            ),
        )

    def test_precedence_and_time(self) -> None:
        until = DeliverBy(self.world.time.now() + 300, ByMode.NOTIFY, trace=True)
        message = self.through(self.wishing(priority=4, deliver_by=until))
        self.assertLessEqual({"MT-PRIORITY=4", "BY=300;NT"}, set(message.parameters))

    def test_requiretls(self) -> None:
        listener = self.certificates(self.file("behind.pem", octets(issue(self.behind.name)))).for_listener()
        self.behind.tls = listener
        self.world.names.signed.add("example.net")
        message = self.through(self.wishing(require_tls=True), tls="may")
        self.assertTrue(message.tls)
        self.assertIn("REQUIRETLS", message.parameters)

    def test_requiretls_where_nobody_has_validated_whose_exchanger_it_is(self) -> None:
        listener = self.certificates(self.file("behind.pem", octets(issue(self.behind.name)))).for_listener()
        self.behind.tls = listener
        for signed in [], [self.behind.name]:
            self.world.names.signed = set(signed)
            facts = self.transmit(self.wishing(require_tls=True), tls="may")
            self.assertEqual([type(fact) for fact in facts], [Carried] * 2)
            self.assertEqual(self.behind.messages, [])
            self.assertEqual([event["status"] for event in self.world.log.named("failed")[-2:]], ["5.7.30"] * 2)

    def test_smtputf8(self) -> None:
        jörg = Address.parse("jörg@example.net")
        message = self.through(self.wishing(recipients=[jörg], smtputf8=True))
        self.assertEqual(message.recipients, ("jörg@example.net",))

    def test_a_refused_recipient_does_not_hold_up_the_others(self) -> None:
        nobody = Address.parse("nobody@example.net")
        for how in ({}, {"without": ["CHUNKING"]}, {"without": ["PIPELINING"]}):
            answered, carried = self.transmit(consignment(recipients=[nobody, ANN]), **how)
            assert isinstance(answered, Answered)
            self.assertEqual(answered.phase, Phase.RCPT)
            self.assertIsInstance(carried, Carried)

    def test_binarymime(self) -> None:
        binary = b"Subject: x\r\n\r\n\0\n\r\xff.\r\n.\r\n" + b"x" * 70_000
        message = self.through(consignment(kept(binary), body=Body.BINARY))
        self.assertTrue(message.content.endswith(HEAD + binary))
        self.assertIn("BODY=BINARYMIME", message.parameters)

    def test_a_large_message_in_chunks(self) -> None:
        plain = b"Subject: x\r\n\r\n" + b".x\r\n" * 250_000
        for how in ({}, {"without": ["CHUNKING"]}, {"without": ["PIPELINING"]}):
            content = kept(plain, Form.PLAIN, range(0, len(plain), 64 * 1024))
            message = self.through(consignment(content), **how)
            self.assertTrue(message.content.endswith(HEAD + plain))

    def test_a_message_larger_than_the_limit_stays_here(self) -> None:
        content = evolve(kept(b"x\r\n"), size=10**9)
        (fact, _) = self.transmit(consignment(content))
        self.assertEqual(type(fact).__name__, "Unsuitable")

    def test_more_recipients_than_the_server_takes(self) -> None:
        names = [Address(f"a{number}", "example.net") for number in range(1050)]
        facts = self.transmit(consignment(recipients=names))
        self.assertEqual({type(fact) for fact in facts}, {Carried})

    def test_lmtp(self) -> None:
        nobody = Address.parse("nobody@example.net")
        for how in ({}, {"without": ["CHUNKING"]}):
            refused, first, second = self.transmit(
                consignment(recipients=[nobody, JON, ANN]), LMTP_PORT, lmtp=True, **how
            )
            self.assertIsInstance(refused, Answered)
            for fact in (first, second):
                assert isinstance(fact, Carried)
                self.assertFalse(fact.onward)
        self.assertIn(b"with LMTP", self.behind.messages[-1].content)


class WireTests(BothSidesTestCase):
    @settings(max_examples=40, deadline=None)
    @given(
        contents,
        st.sampled_from(Form),
        st.lists(st.integers(0, 10**6), max_size=6),
        st.sampled_from([whole, lambda waiting: 1 + waiting // 3]),
        st.sampled_from([(), ("CHUNKING",), ("PIPELINING",), ("CHUNKING", "PIPELINING")]),
        st.sampled_from(["none", "may"]),
    )
    def test_what_comes_out_is_what_went_in(self, plain, form, at, cut, without, tls) -> None:  # type: ignore[no-untyped-def]
        self.world.internet.cut = cut
        self.behind.messages.clear()
        body = b"Subject: x\r\n\r\n" + plain.replace(b"\x00", b"")
        message = self.through(consignment(kept(body, form, at)), without=without, tls=tls)
        ended = body if body.endswith(b"\r\n") else body + b"\r\n"
        expected = body if message.by_bdat and form is Form.PLAIN and "CHUNKING" not in without else ended
        self.assertTrue(message.content.endswith(HEAD + expected), (message.content[-80:], expected))
