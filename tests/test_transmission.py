"""Our client against a strict exchange, by all that the exchange may offer: TLS, AUTH, chunks, DSN, limits, LMTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IConnector, IReactorUNIX
from twisted.internet.protocol import ClientFactory
from twisted.logger import Logger
from zope.interface import implementer

from relay.agents.smtp import SmtpTransmitter
from relay.config.logins import LoginSettings
from relay.interfaces import Consignment, Report
from relay.mail.address import Address
from relay.mail.dsn import Notify, Return, Wishes
from relay.mail.envelope import Body, ByMode, DeliverBy, Form
from relay.mail.outcome import (
    Answered,
    Breakage,
    Broke,
    Carried,
    Fact,
    Need,
    Peer,
    Phase,
    TlsTrouble,
    Unauthenticated,
    Unencrypted,
    Unsuitable,
)
from relay.mail.routing import NextHop
from relay.net.client import Dialer
from relay.net.logins import Logins
from relay.net.tls_peers import TlsPeers
from relay.smtp.features import Features
from relay.smtp.limits import portions
from relay.smtp.transaction import Approach
from relay.testing.internet import FakeInternet, whole
from relay.testing.peers import OFFERS, Babble, Drop, FakeExchange, Message, Reset, Say, Stall
from tests.test_agents_smtp import HEAD, MESSAGE, Kept, consignment, kept
from tests.test_tls import STRANGER, TlsTestCase, issue, octets

MX = "mx.example.net"
#: As the operator has named it.
PEER = Peer(MX, "192.0.2.9", assured=True)
LOGIN = LoginSettings(name="smarthost", user="ann", password="pencil")
EVERYTHING = (*OFFERS, "CHUNKING", "BINARYMIME", "DSN", "REQUIRETLS", "DELIVERBY", "MT-PRIORITY")


@implementer(IReactorUNIX)
class Sockets(FakeInternet):
    """An internet with one Unix socket, `/run/lmtp`, which leads to a host of it."""

    def connectUNIX(
        self, address: str, factory: ClientFactory[Any], timeout: float = 30, checkPID: bool = False
    ) -> IConnector:
        assert address == "/run/lmtp"
        return self.connectTCP(PEER.address, PEER.port, factory, timeout)

    def listenUNIX(self, *arguments: Any, **more: Any) -> Any:
        raise NotImplementedError


class TransmissionTestCase(TlsTestCase):
    """`exchange` is there; what it offers and who may log in is for the test to say."""

    def setUp(self) -> None:
        super().setUp()
        self.internet = Sockets(self.time)
        self.exchange = FakeExchange(MX, offers=EVERYTHING, clock=self.time)
        self.internet.add(PEER.address, self.exchange)
        self.tls_peers = TlsPeers(self.clock, self.authority)
        self.transmitter = self.make(LOGIN)

    def make(self, *logins: LoginSettings) -> SmtpTransmitter:
        def note(event: Any) -> None:
            self.logged.append(event["log_level"].name + ": " + event["log_format"].format(**event))

        dialer = Dialer(self.internet, self.clock, "relay.example.org")
        return SmtpTransmitter(dialer, self.tls_peers, Logins(logins), Logger(observer=note))

    def offer_tls(self, *names: str, by: Any = None) -> None:
        paths = [
            self.file(f"{number}.pem", octets(issue(name, **({} if by is None else {"by": by}))))
            for number, name in enumerate(names or (MX,))
        ]
        self.exchange.tls = self.certificates(*paths).for_listener()

    def begin(self, consignment: Consignment, hop: NextHop, peer: Peer = PEER) -> Deferred[Sequence[Report]]:
        sent = evolve(consignment, next_hop=hop)
        reports = Deferred.fromCoroutine(self.transmitter.transmit(sent, peer))
        self.run_on()
        return reports

    def run_on(self) -> None:
        for _ in range(4):
            self.time.advance(0)

    def transmit(self, consignment: Consignment, hop: NextHop | None = None, peer: Peer = PEER) -> list[Fact]:
        """The facts about the recipients, in their order."""
        reports = self.successResultOf(self.begin(consignment, hop or self.hop(), peer))
        self.assertEqual(tuple(report.recipient for report in reports), consignment.recipients)
        self.assertEqual(self.exchange.open, 0)
        self.assertEqual(self.exchange.complaints, [])
        return [report.fact for report in reports]

    def carried(self, consignment: Consignment, hop: NextHop | None = None) -> Message:
        """It was carried; what the exchange has of it."""
        facts = self.transmit(consignment, hop)
        self.assertEqual([type(fact) for fact in facts], [Carried] * len(facts), facts)
        return self.exchange.messages[-1]

    def hop(self, **how: Any) -> NextHop:
        return NextHop(MX, mx=how.pop("mx", False), **how)

    def said(self) -> bytes:
        return b"".join(octets for who, octets in self.exchange.transcript if who == "C")


class EncryptionTests(TransmissionTestCase):
    def test_a_host_that_offers_it_is_spoken_to_in_tls(self) -> None:
        self.offer_tls()
        for level, verified in (("may", ""), ("encrypt", ""), ("verify", ":verified")):
            (fact, _) = self.transmit(consignment(), self.hop(tls=level))
            assert isinstance(fact, Carried)
            self.assertEqual(fact.tls, f"TLSv1.3:TLS_AES_256_GCM_SHA384{verified}")
            self.assertTrue(self.exchange.messages[-1].tls)

    def test_nothing_of_the_mail_is_said_before_the_handshake(self) -> None:
        self.offer_tls()
        self.carried(consignment(), self.hop(tls="encrypt"))
        lines = self.said().split(b"\r\n")
        self.assertEqual(lines[:3], [b"EHLO relay.example.org", b"STARTTLS", b"EHLO relay.example.org"])

    def test_without_a_wish_for_it_nothing_is_said_of_it(self) -> None:
        self.offer_tls()
        (fact, _) = self.transmit(consignment(), self.hop(tls="none"))
        assert isinstance(fact, Carried)
        self.assertEqual(fact.tls, "")
        self.assertNotIn(b"STARTTLS", self.said())

    def test_a_host_that_does_not_offer_it_is_spoken_to_in_clear_or_not_at_all(self) -> None:
        self.assertFalse(self.carried(consignment(), self.hop(tls="may")).tls)
        for level in ("encrypt", "verify"):
            facts = self.transmit(consignment(), self.hop(tls=level))
            self.assertEqual(facts, [Unencrypted(TlsTrouble.NOT_OFFERED, PEER)] * 2)
        self.assertEqual(len(self.exchange.messages), 1)

    def test_a_host_of_helo_offers_nothing(self) -> None:
        self.exchange.extended = False
        self.assertFalse(self.carried(consignment(), self.hop(tls="may")).tls)
        self.assertEqual(
            self.transmit(consignment(), self.hop(tls="encrypt"))[0], Unencrypted(TlsTrouble.NOT_OFFERED, PEER)
        )

    def test_a_host_that_takes_its_offer_back_is_spoken_to_in_clear_or_not_at_all(self) -> None:
        self.offer_tls()
        for refusal in ("454 4.7.0 Not now", "500 5.5.1 What?"):
            self.exchange.at("STARTTLS", Say(refusal), times=2)
            self.assertFalse(self.carried(consignment(), self.hop(tls="may")).tls)
            (fact, _) = self.transmit(consignment(), self.hop(tls="encrypt"))
            self.assertEqual(fact, Unencrypted(TlsTrouble.REFUSED, PEER, refusal))
        self.assertEqual(len(self.exchange.messages), 2)

    def test_a_host_with_the_certificate_of_another_hears_nothing(self) -> None:
        self.offer_tls("other.example.net")
        (fact, _) = self.transmit(consignment(), self.hop(tls="verify"))
        assert isinstance(fact, Unencrypted)
        self.assertIs(fact.trouble, TlsTrouble.FAILED)
        self.assertEqual(fact.text, "its certificate is not for mx.example.net but for other.example.net")
        self.assertTrue(self.carried(consignment(), self.hop(tls="encrypt")).tls)

    def test_a_certificate_of_a_stranger_is_good_enough_where_nobody_looks(self) -> None:
        self.offer_tls(MX, by=STRANGER)
        (fact, _) = self.transmit(consignment(), self.hop(tls="verify"))
        assert isinstance(fact, Unencrypted)
        self.assertIn("not trusted", fact.text)
        self.assertTrue(self.carried(consignment(), self.hop(tls="may")).tls)

    def test_an_address_as_next_hop_has_to_stand_in_the_certificate(self) -> None:
        self.offer_tls("192.0.2.9")
        for name in ("192.0.2.9", "[192.0.2.9]"):
            (fact, _) = self.transmit(consignment(), self.hop(tls="verify"), Peer(name, "192.0.2.9"))
            self.assertIsInstance(fact, Carried)

    def test_where_the_handshake_fails_clear_text_is_tried_on_the_spot_and_tls_only_later(self) -> None:
        self.offer_tls()
        for trouble in (Drop(), Reset(), Babble(b"\x15\x03\x01\x00\x02\x02\x28")):
            with self.subTest(trouble=trouble):
                # One octet at a time, so that the 220 and what follows do not come in one piece.
                self.internet.cut = (lambda waiting: 1) if isinstance(trouble, Babble) else whole
                self.exchange.at("HANDSHAKE", trouble, times=1)
                before = self.exchange.connections
                reports = self.successResultOf(self.begin(consignment(), self.hop(tls="may")))
                self.assertIsInstance(reports[0].fact, Carried)
                self.assertFalse(self.exchange.messages[-1].tls)
                self.assertEqual(self.exchange.connections, before + 2)
                self.exchange.complaints.clear()  # of a handshake that it had no ears for
                self.assertFalse(self.carried(consignment(), self.hop(tls="may")).tls)
                self.assertEqual(self.exchange.connections, before + 3)
                self.time.advance(601)
                self.assertTrue(self.carried(consignment(), self.hop(tls="may")).tls)
                self.assertIn("TLS with mx.example.net[192.0.2.9]:25 fails", self.logged.pop())

    def test_a_handshake_that_stalls_has_a_deadline(self) -> None:
        self.offer_tls()
        self.exchange.at("HANDSHAKE", Stall(), times=1)
        reports = self.begin(consignment(), self.hop(tls="may"))
        self.time.advance(299)
        self.assertNoResult(reports)
        self.time.advance(1)
        self.run_on()
        self.assertIsInstance(self.successResultOf(reports)[0].fact, Carried)

    def test_cancelling_amid_a_handshake_closes_the_connection(self) -> None:
        self.offer_tls()
        self.exchange.at("HANDSHAKE", Stall(), times=1)
        reports = self.begin(consignment(), self.hop(tls="may"))
        reports.cancel()
        self.failureResultOf(reports, CancelledError)
        self.run_on()
        self.assertEqual((self.exchange.open, self.time.getDelayedCalls()), (0, []))

    def test_what_we_cannot_start_ourselves_is_a_handshake_that_fails(self) -> None:
        self.offer_tls()
        opened = self.transmitter.dialer.connect(PEER, Approach(tls="encrypt"))
        self.run_on()
        fact = self.successResultOf(opened)
        self.assertEqual(fact, Unencrypted(TlsTrouble.FAILED, PEER, "TLS could not be started"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.exchange.open, 0)

    def test_where_clear_text_is_not_permitted_a_handshake_that_fails_is_a_fact(self) -> None:
        self.offer_tls()
        self.exchange.at("HANDSHAKE", Drop())
        for level in ("encrypt", "verify"):
            (fact, _) = self.transmit(consignment(), self.hop(tls=level))
            assert isinstance(fact, Unencrypted)
            self.assertEqual((fact.trouble, fact.text), (TlsTrouble.FAILED, "the connection was lost"))
        self.assertEqual(self.exchange.messages, [])

    def test_a_server_that_refuses_our_side_of_the_handshake_has_made_it_fail(self) -> None:
        """TLS 1.3: ours is complete by then, and it goes away before it has answered EHLO."""
        self.offer_tls()
        self.exchange.at("EHLO", Drop(), number=2, times=2)
        (fact, _) = self.transmit(consignment(), self.hop(tls="encrypt"))
        assert isinstance(fact, Unencrypted)
        self.assertIs(fact.trouble, TlsTrouble.FAILED)
        self.assertFalse(self.carried(consignment(), self.hop(tls="may")).tls)

    def test_what_is_said_in_clear_behind_the_220_is_not_heard(self) -> None:
        self.offer_tls()
        for injected in ("250 2.0.0 injected", "250-PIPELINING\n250 AUTH PLAIN", "220 again"):
            self.exchange.at("STARTTLS", Say(f"220 Go ahead\n{injected}"), times=1)
            reports = self.begin(consignment(), self.hop(tls="encrypt"))
            fact = self.successResultOf(reports)[0].fact
            assert isinstance(fact, Broke), fact
            self.assertEqual((fact.breakage, fact.phase), (Breakage.NONSENSE, Phase.STARTTLS))
            self.assertEqual(self.exchange.open, 0)
        self.assertEqual(self.exchange.messages, [])

    def test_a_session_is_taken_up_by_the_next_connection(self) -> None:
        self.offer_tls()
        for _ in range(3):
            self.carried(consignment(), self.hop(tls="verify"))
        self.assertEqual(len(self.exchange.handshakes), 3)
        self.assertGreater(self.tls_peers.toward("verify", PEER)._sessions._count, 0)

    def test_a_connection_that_breaks_later_is_no_fault_of_tls(self) -> None:
        self.offer_tls()
        self.exchange.at("MAIL", Drop())
        for level in ("may", "verify"):
            self.assertEqual(
                self.transmit(consignment(), self.hop(tls=level))[0], Broke(Breakage.LOST, Phase.MAIL, PEER)
            )


class LoginTests(TransmissionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.offer_tls()
        self.exchange.users = {"ann": "pencil"}
        self.exchange.auth_required = True

    def login(self, **how: Any) -> NextHop:
        return self.hop(tls="verify", login="smarthost", **how)

    def test_a_smarthost_learns_who_we_are_by_each_mechanism(self) -> None:
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            self.exchange.mechanisms = (mechanism,)
            self.assertEqual(self.carried(consignment(), self.login()).user, "ann", mechanism)

    def test_the_strongest_mechanism_is_used(self) -> None:
        self.carried(consignment(), self.login())
        self.assertIn(b"AUTH SCRAM-SHA-256 ", self.said())
        self.assertNotIn(b"AUTH PLAIN", self.said())

    def test_we_do_not_vouch_for_who_has_written_it(self) -> None:
        self.assertIn("AUTH=<>", self.carried(consignment(), self.login()).parameters)

    def test_a_token_is_read_for_each_login(self) -> None:
        file = self.file("token", b"first\nsecond line\n")
        self.transmitter = self.make(LoginSettings(name="smarthost", user="ann", token_file=file))
        self.exchange.mechanisms = ("XOAUTH2",)
        for token in ("first", "second"):
            self.exchange.users = {"ann": token}
            file.write_bytes(token.encode() + b"\r\n")
            self.assertEqual(self.carried(consignment(), self.login()).user, "ann")

    def test_a_token_that_is_not_taken_any_more_delays(self) -> None:
        file = self.file("token", b"stale\n")
        self.transmitter = self.make(LoginSettings(name="smarthost", user="ann", token_file=file))
        self.exchange.mechanisms = ("XOAUTH2",)
        (fact, _) = self.transmit(consignment(), self.login())
        assert isinstance(fact, Answered)
        self.assertEqual((fact.reply.code, fact.phase), (535, Phase.AUTH))

    def test_a_password_that_is_not_taken_is_for_the_operator_to_mend(self) -> None:
        self.exchange.users = {"ann": "rubber"}
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            self.exchange.mechanisms = (mechanism,)
            (fact, _) = self.transmit(consignment(), self.login())
            assert isinstance(fact, Answered), (mechanism, fact)
            self.assertEqual((fact.reply.code, fact.phase), (535, Phase.AUTH))
            self.assertIn("critical: mx.example.net[192.0.2.9]:25 does not let us in: 535", self.logged.pop())

    def test_no_password_is_ever_logged(self) -> None:
        self.exchange.users = {"ann": "rubber"}
        self.exchange.mechanisms = ("PLAIN",)
        self.transmit(consignment(), self.login())
        self.assertNotIn("pencil", "".join(self.logged) + repr(LOGIN) + repr(self.transmitter))

    def test_a_server_without_a_mechanism_of_ours_is_told_nothing(self) -> None:
        self.exchange.mechanisms = ("CRAM-MD5", "XOAUTH2")
        (fact, _) = self.transmit(consignment(), self.login())
        self.assertEqual(fact, Unauthenticated(PEER, "no way to log in: the server offers CRAM-MD5 XOAUTH2"))
        self.assertNotIn(b"AUTH ", self.said())

    def test_a_host_that_is_not_who_it_should_be_is_told_no_password(self) -> None:
        self.exchange.mechanisms = ("PLAIN",)
        self.offer_tls("other.example.net")
        (fact, _) = self.transmit(consignment(), self.login())
        self.assertIsInstance(fact, Unencrypted)
        self.exchange.tls = None
        (fact, _) = self.transmit(consignment(), self.login())
        self.assertIsInstance(fact, Unencrypted)
        self.assertNotIn(b"AUTH", self.said())

    def test_a_login_that_is_gone_from_the_configuration_delays_and_is_said_aloud(self) -> None:
        self.transmitter = self.make()
        facts = self.transmit(consignment(), self.login())
        why = "there is no [[login]] called 'smarthost' in the configuration any more"
        self.assertEqual(facts, [Unauthenticated(PEER, why)] * 2)
        self.assertEqual(self.exchange.connections, 0)
        self.assertEqual(self.logged, [f"critical: Nothing can be carried to {PEER}: {why}"])

    def test_a_file_that_others_can_read_is_not_read(self) -> None:
        file = self.file("password", b"pencil\n", 0o644)
        self.transmitter = self.make(LoginSettings(name="smarthost", user="ann", password_file=file))
        (fact, _) = self.transmit(consignment(), self.login())
        assert isinstance(fact, Unauthenticated)
        self.assertEqual(fact.text, f"{file}: others may read or write it; say chmod 600 {file}")
        file.chmod(0o600)
        self.assertEqual(self.carried(consignment(), self.login()).user, "ann")

    def test_a_host_that_cannot_say_now_is_not_blamed_on_the_password(self) -> None:
        self.exchange.at("AUTH", Say("454 4.7.0 Later"), times=1)
        (fact, _) = self.transmit(consignment(), self.login())
        assert isinstance(fact, Answered)
        self.assertEqual((fact.reply.code, fact.phase), (454, Phase.AUTH))

    def test_a_verdict_before_all_was_said_is_not_believed(self) -> None:
        """Whoever does not know the password cannot have us send mail to it, be its certificate what it may."""
        self.exchange.at("CHALLENGE", Say("235 2.7.0 Welcome"))
        reports = self.begin(consignment(), self.login())
        fact = self.successResultOf(reports)[0].fact
        assert isinstance(fact, Unauthenticated)
        self.assertIn("before it could know", fact.text)
        self.assertEqual(self.exchange.messages, [])

    def test_challenges_without_end_come_to_one(self) -> None:
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            self.exchange.mechanisms = (mechanism,)
            self.exchange.at("AUTH", Say("334 Zm9vYmFy"))
            self.exchange.at("CHALLENGE", Say("334 Zm9vYmFy"))
            fact = self.successResultOf(self.begin(consignment(), self.login()))[0].fact
            self.assertIsInstance(fact, Unauthenticated | Broke, mechanism)
            self.assertEqual(self.exchange.open, 0)
        self.assertEqual(self.exchange.messages, [])


class ChunkTests(TransmissionTestCase):
    def test_content_that_is_kept_without_extra_dots_goes_in_chunks_where_they_are_offered(self) -> None:
        for form in Form:
            plain = b"Subject: x\r\n\r\n.dots\r\n..\r\n.\r\nend\r\n"
            message = self.carried(consignment(kept(plain, form, range(60))))
            self.assertEqual(message.by_bdat, form is Form.PLAIN)
            self.assertEqual(message.content, HEAD + plain)

    def test_a_last_line_without_an_end_stays_without(self) -> None:
        self.assertEqual(
            self.carried(consignment(kept(b"Subject: x\r\n\r\nend"))).content, HEAD + b"Subject: x\r\n\r\nend"
        )

    def test_the_operator_can_do_without(self) -> None:
        message = self.carried(consignment(), self.hop(without=["CHUNKING"]))
        self.assertFalse(message.by_bdat)
        self.assertEqual(message.content, HEAD + MESSAGE)

    def test_a_large_message_comes_in_many_chunks(self) -> None:
        plain = b"Subject: x\r\n\r\n" + b"x" * 70 * 1024 + b"\r\n" + b"y" * 950 * 1024 + b"\r\n"
        for offers in (EVERYTHING, tuple(offer for offer in EVERYTHING if offer != "PIPELINING")):
            self.exchange.offers = offers
            content = kept(plain, Form.PLAIN, range(0, len(plain), 64 * 1024))
            self.assertEqual(self.carried(consignment(content)).content, HEAD + plain)
        self.assertEqual(self.said().count(b"BDAT 2"), 8)

    def test_a_refused_chunk_is_the_end_of_the_message_and_not_of_the_connection(self) -> None:
        plain = b"x\r\n" * (1024 * 1024 // 3)
        for offers in (EVERYTHING, tuple(offer for offer in EVERYTHING if offer != "PIPELINING")):
            self.exchange.offers = offers
            self.exchange.at("BDAT", Say("552 5.3.4 Enough"), number=2, times=1)
            (fact, _) = self.transmit(consignment(kept(plain, Form.PLAIN, range(0, len(plain), 64 * 1024))))
            assert isinstance(fact, Answered)
            self.assertEqual((fact.reply.code, fact.phase), (552, Phase.CONTENT))
        self.assertIn(("C", b"QUIT\r\n"), self.exchange.transcript)
        self.assertEqual(self.exchange.messages, [])

    def test_what_is_left_of_a_refused_message_is_never_taken_for_the_next_one(self) -> None:
        self.exchange.offers = ("CHUNKING", "LIMITS RCPTMAX=1")
        self.exchange.at("BDAT", Say("552 5.3.4 Enough"), times=1)
        plain = b"x\r\n" * (1024 * 1024 // 3)
        content = kept(plain, Form.PLAIN, range(0, len(plain), 64 * 1024))
        answered, carried = self.transmit(consignment(content))
        self.assertIsInstance(answered, Answered)
        self.assertIsInstance(carried, Carried)
        self.assertEqual([message.content for message in self.exchange.messages], [HEAD + plain])

    def test_a_refused_last_chunk_is_the_answer_for_everybody(self) -> None:
        self.exchange.at("END", Say("554 5.7.1 Spam"))
        (fact, _) = self.transmit(consignment())
        assert isinstance(fact, Answered)
        self.assertEqual((fact.reply.code, fact.phase), (554, Phase.END))

    def test_a_connection_lost_amid_the_chunks_carries_nothing(self) -> None:
        plain = b"x\r\n" * (1024 * 1024 // 3)
        self.exchange.at("BDAT", Drop())
        (fact, _) = self.transmit(consignment(kept(plain, Form.PLAIN, range(0, len(plain), 64 * 1024))))
        assert isinstance(fact, Broke)
        self.assertEqual((fact.breakage, fact.phase), (Breakage.LOST, Phase.CONTENT))

    def test_no_content_is_sent_for_nobody(self) -> None:
        self.exchange.at("RCPT", Say("550 5.1.1 Unknown"))
        self.assertEqual([type(fact) for fact in self.transmit(consignment())], [Answered] * 2)
        self.assertNotIn(b"BDAT", self.said())

    def test_damaged_content_is_raised_and_nothing_of_it_is_a_message(self) -> None:
        for damaged in (
            Kept(Form.WIRE, (b"Subject: x\r\n",), 12),
            Kept(Form.WIRE, (b"a\r\n.\r\nMAIL FROM:<x@y>\r\n.\r\n",), 20),
            Kept(Form.PLAIN, (b"a\n.\nb\r\n",), 6),
        ):
            self.failureResultOf(self.begin(consignment(damaged), self.hop()), ValueError)
            self.run_on()
            self.assertEqual(self.exchange.open, 0)
        self.assertEqual(self.exchange.messages + self.exchange.unpromised, [])


class BinaryTests(TransmissionTestCase):
    BINARY = b"Subject: x\r\n\r\n\0\n\r\xff" + b"x" * 2000

    def test_binary_content_goes_where_it_is_offered_octet_by_octet(self) -> None:
        message = self.carried(consignment(kept(self.BINARY), body=Body.BINARY))
        self.assertEqual(message.content, HEAD + self.BINARY)
        self.assertIn("BODY=BINARYMIME", message.parameters)

    def test_binary_content_goes_nowhere_else(self) -> None:
        for hop in (self.hop(without=["CHUNKING"]), self.hop(without=["BINARYMIME"])):
            self.assertEqual(
                self.transmit(consignment(kept(self.BINARY), body=Body.BINARY), hop),
                [Unsuitable(Need.BINARY, PEER)] * 2,
            )

    def test_content_that_was_only_declared_to_be_binary_goes_as_what_it_is(self) -> None:
        hop = self.hop(without=["BINARYMIME"])
        for plain, body in (
            ("Subject: x\r\n\r\nü\r\n".encode(), ("BODY=8BITMIME",)),
            (b"Subject: x\r\n\r\n" + b"x" * 998 + b"\r\n", ("BODY=8BITMIME",)),
        ):
            for form in Form:
                message = self.carried(consignment(kept(plain, form, range(0, 3000, 7)), body=Body.BINARY), hop)
                self.assertEqual([each for each in message.parameters if each.startswith("BODY")], list(body))
        for plain in (b"x\n", b"x\r\r\n", b"x\0\r\n", b"x" * 999, b"x" * 999 + b"\r\n", b"\r\n" + b"x" * 5000):
            for form in Form:
                sent = consignment(kept(plain, form, range(0, 6000, 11)), body=Body.BINARY)
                self.assertEqual(self.transmit(sent, hop)[0], Unsuitable(Need.BINARY, PEER), plain[:20])


class WishTests(TransmissionTestCase):
    """DSN, DELIVERBY, MT-PRIORITY and REQUIRETLS."""

    def wishing(self, *wishes: Wishes, **envelope: Any) -> Consignment:
        sent = consignment()
        recipients = tuple(evolve(each, wishes=wish) for each, wish in zip(sent.recipients, wishes, strict=False))
        recipients += sent.recipients[len(recipients) :]
        entry = evolve(sent.entry, envelope=evolve(sent.entry.envelope, **envelope))
        return evolve(sent, recipients=recipients, entry=entry)

    def test_what_the_sender_wishes_is_passed_on(self) -> None:
        message = self.carried(
            self.wishing(
                Wishes(frozenset({Notify.SUCCESS, Notify.DELAY}), "rfc822;jon+2Bx@example.org"),
                Wishes(frozenset({Notify.NEVER})),
                returns=Return.HEADERS,
                envid="QQ+2B1",
            )
        )
        self.assertEqual(
            [each for each in message.parameters if not each.startswith("SIZE")], ["RET=HDRS", "ENVID=QQ+2B1"]
        )
        self.assertEqual(
            message.recipient_parameters,
            (
                ("NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;jon+2Bx@example.org"),
                ("NOTIFY=NEVER", "ORCPT=rfc822;ann@example.net"),
            ),
        )

    def test_an_alias_is_known_to_the_next_hop_by_the_name_that_the_sender_wrote(self) -> None:
        sent = consignment()
        recipients = tuple(evolve(each, original=Address.parse("a+b=c@example.org")) for each in sent.recipients)
        message = self.carried(evolve(sent, recipients=recipients))
        self.assertEqual(message.recipient_parameters, (("ORCPT=rfc822;a+2Bb+3Dc@example.org",),) * 2)

    def test_an_original_that_is_too_long_for_a_command_is_left_out(self) -> None:
        sent = consignment()
        long = Address("+" * 64, ".".join(["x" * 62] * 3))
        for name, count in ((long, 1), (Address("+" * 200, "x" * 200), 0)):
            recipients = tuple(evolve(each, original=name) for each in sent.recipients)
            message = self.carried(evolve(sent, recipients=recipients))
            self.assertEqual(len(message.recipient_parameters[0]), count)

    def test_who_has_taken_over_the_duty_of_telling_is_known(self) -> None:
        (fact, _) = self.transmit(self.wishing())
        assert isinstance(fact, Carried)
        self.assertTrue(fact.told)
        (fact, _) = self.transmit(self.wishing(Wishes(frozenset({Notify.SUCCESS}))), self.hop(without=["DSN"]))
        assert isinstance(fact, Carried)
        self.assertFalse(fact.told)
        self.assertEqual(self.exchange.messages[-1].recipient_parameters, ((), ()))

    def test_an_original_in_utf8_is_written_in_ascii(self) -> None:
        message = self.carried(self.wishing(Wishes(None, "utf-8;jörg@example.org"), Wishes(None, "utf-8;x")))
        self.assertEqual(message.recipient_parameters[0], ("ORCPT=utf-8;j\\x{F6}rg@example.org",))

    def test_precedence_is_passed_on(self) -> None:
        self.assertIn("MT-PRIORITY=-3", self.carried(self.wishing(priority=-3)).parameters)
        without = self.carried(self.wishing(priority=-3), self.hop(without=["MT-PRIORITY"]))
        self.assertNotIn("MT-PRIORITY=-3", without.parameters)

    def test_the_time_that_is_left_is_passed_on(self) -> None:
        now = self.clock.now()
        self.assertIn("BY=90;R", self.carried(self.wishing(deliver_by=DeliverBy(now + 90.5, ByMode.RETURN))).parameters)
        late = self.carried(self.wishing(deliver_by=DeliverBy(now - 7, ByMode.NOTIFY, trace=True)))
        self.assertIn("BY=-7;NT", late.parameters)

    def test_who_does_not_promise_to_return_it_in_time_is_not_given_it(self) -> None:
        now = self.clock.now()
        until = self.wishing(deliver_by=DeliverBy(now + 90, ByMode.RETURN))
        unsuitable = [Unsuitable(Need.DELIVER_BY, PEER)] * 2
        self.assertEqual(self.transmit(until, self.hop(without=["DELIVERBY"])), unsuitable)
        self.exchange.offers = ("DELIVERBY 100",)
        self.assertEqual(self.transmit(until), unsuitable)
        late = self.wishing(deliver_by=DeliverBy(now - 1, ByMode.RETURN))
        self.exchange.offers = ("DELIVERBY",)
        self.assertEqual(self.transmit(late), unsuitable)
        notify = self.wishing(deliver_by=DeliverBy(now + 90, ByMode.NOTIFY))
        self.assertEqual(self.carried(notify, self.hop(without=["DELIVERBY"])).parameters, ())

    def test_what_requires_tls_goes_to_who_is_known_and_promises_the_same(self) -> None:
        self.offer_tls()
        message = self.carried(self.wishing(require_tls=True), self.hop(tls="none"))
        self.assertTrue(message.tls)
        self.assertIn("REQUIRETLS", message.parameters)

    def test_what_requires_tls_goes_to_nobody_else(self) -> None:
        unsuitable = [Unsuitable(Need.REQUIRE_TLS, PEER)] * 2
        self.assertEqual(self.transmit(self.wishing(require_tls=True)), unsuitable)
        self.offer_tls()
        self.assertEqual(self.transmit(self.wishing(require_tls=True), self.hop(without=["REQUIRETLS"])), unsuitable)
        perhaps = evolve(PEER, assured=False)
        facts = self.transmit(self.wishing(require_tls=True), self.hop(mx=True), perhaps)
        self.assertEqual(facts, [Unsuitable(Need.REQUIRE_TLS, perhaps)] * 2)
        before = self.exchange.connections
        self.transmit(self.wishing(require_tls=True), self.hop(mx=True), perhaps)
        self.assertEqual(self.exchange.connections, before)  # nobody is asked who could not be believed
        self.offer_tls("other.example.net")
        (fact, _) = self.transmit(self.wishing(require_tls=True))
        self.assertIsInstance(fact, Unencrypted)
        self.exchange.at("HANDSHAKE", Drop(), times=1)
        (fact, _) = self.transmit(self.wishing(require_tls=True))
        self.assertIsInstance(fact, Unencrypted)
        self.assertEqual(self.exchange.messages, [])

    def test_a_notice_about_it_goes_as_mail_does(self) -> None:
        notice = self.wishing(require_tls=True, reverse_path=None)
        self.assertNotIn("REQUIRETLS", self.carried(notice).parameters)
        self.offer_tls("other.example.net")
        message = self.carried(notice)
        self.assertTrue(message.tls)
        self.assertIn("REQUIRETLS", message.parameters)


class LimitTests(TransmissionTestCase):
    def names(self, *domains: str) -> list[Address]:
        return [Address(f"a{at}", domain) for at, domain in enumerate(domains)]

    def received(self) -> list[list[str]]:
        return [list(message.recipients) for message in self.exchange.messages]

    def test_more_recipients_than_the_host_takes_come_in_several_transactions(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS RCPTMAX=2")
        facts = self.transmit(consignment(recipients=self.names(*["x"] * 5)))
        self.assertEqual([type(fact) for fact in facts], [Carried] * 5)
        self.assertEqual(self.received(), [["a0@x", "a1@x"], ["a2@x", "a3@x"], ["a4@x"]])
        self.assertEqual(self.exchange.connections, 1)

    def test_more_transactions_than_the_host_takes_come_in_several_connections(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS RCPTMAX=1 MAILMAX=2")
        facts = self.transmit(consignment(recipients=self.names(*["x"] * 5)))
        self.assertEqual([type(fact) for fact in facts], [Carried] * 5)
        self.assertEqual(self.exchange.connections, 3)

    def test_domains_are_not_mixed_more_than_the_host_wants(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS RCPTDOMAINMAX=1")
        self.transmit(consignment(recipients=self.names("x", "x", "y", "x")))
        self.assertEqual(self.received(), [["a0@x", "a1@x"], ["a2@y"], ["a3@x"]])

    def test_limits_that_make_no_sense_are_none(self) -> None:
        for malformed in (
            "LIMITS RCPTMAX=0 RCPTDOMAINMAX=1234567 RCPTMAX",
            "LIMITS RCPTMAX=-1",
            "LIMITS",
            "LIMITS x y=z",
        ):
            features = Features.offered(["mx", malformed])
            self.assertEqual(portions(["x", "y", "z"], features, str), [["x", "y", "z"]])
            self.assertEqual([features.limit(name) for name in ("RCPTMAX", "RCPTDOMAINMAX", "MAILMAX")], [None] * 3)

    def test_a_connection_that_breaks_in_the_second_transaction_leaves_the_first_one_carried(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS RCPTMAX=1")
        self.exchange.at("RCPT", Drop(), number=2)
        facts = self.transmit(consignment(recipients=self.names("x", "x", "x")))
        self.assertEqual([type(fact) for fact in facts], [Carried, Broke, Carried])

    def test_one_that_breaks_before_the_second_transaction_is_begun_is_followed_by_another(self) -> None:
        self.exchange.offers = (*OFFERS, "LIMITS RCPTMAX=1")
        self.exchange.at("MAIL", Drop(), number=2)
        facts = self.transmit(consignment(recipients=self.names("x", "x", "x")))
        self.assertEqual([type(fact) for fact in facts], [Carried] * 3)
        self.assertEqual((self.exchange.connections, len(self.exchange.messages)), (3, 3))


class LmtpTests(TransmissionTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.exchange.lmtp = True

    def lmtp(self, **how: Any) -> NextHop:
        return self.hop(lmtp=True, **how)

    def test_each_recipient_has_an_answer_of_its_own_behind_the_content(self) -> None:
        for hop in (self.lmtp(), self.lmtp(without=["CHUNKING"]), self.lmtp(without=["CHUNKING", "PIPELINING"])):
            self.exchange.at("END", Say("452 4.2.2 Full"), about="jon@", times=1)
            answered, carried = self.transmit(consignment(), hop)
            assert isinstance(answered, Answered)
            assert isinstance(carried, Carried)
            self.assertEqual((answered.reply.code, answered.phase), (452, Phase.COPY))
            self.assertEqual((carried.onward, carried.told), (False, False))
            self.assertEqual(self.exchange.messages[-1].recipients, ("ann@example.net",))
            self.assertEqual(self.exchange.messages[-1].hello, "relay.example.org")

    def test_who_was_refused_before_has_no_answer_behind(self) -> None:
        self.exchange.at("RCPT", Say("550 5.1.1 Unknown"), about="jon@")
        answered, carried = self.transmit(consignment(), self.lmtp())
        assert isinstance(answered, Answered)
        self.assertEqual(answered.phase, Phase.RCPT)
        self.assertIsInstance(carried, Carried)

    def test_nothing_of_dsn_is_said_to_who_delivers(self) -> None:
        self.assertEqual(self.carried(consignment(), self.lmtp()).recipient_parameters, ((), ()))

    def test_a_server_of_smtp_is_not_mistaken_for_one_of_lmtp(self) -> None:
        self.exchange.lmtp = False
        reports = self.begin(consignment(), self.lmtp())
        fact = self.successResultOf(reports)[0].fact
        assert isinstance(fact, Answered)
        self.assertEqual((fact.reply.code, fact.phase), (500, Phase.HELLO))
        self.assertNotIn(b"HELO", self.said().replace(b"LHLO", b""))

    def test_a_connection_that_breaks_between_the_answers_leaves_the_first_ones_as_they_are(self) -> None:
        self.exchange.at("END", Drop(), about="ann@")
        carried, broke = self.transmit(consignment(), self.lmtp())
        self.assertIsInstance(carried, Carried)
        self.assertEqual(broke, Broke(Breakage.LOST, Phase.END, PEER))

    def test_a_go_ahead_for_nobody_is_nonsense(self) -> None:
        self.exchange.at("RCPT", Say("550 5.1.1 Unknown"))
        self.exchange.at("DATA", Say("354 Go on"))
        facts = self.transmit(consignment(), self.lmtp(without=["CHUNKING"]))
        self.assertEqual([type(fact) for fact in facts], [Answered] * 2)

    def test_a_unix_socket_is_where_it_is(self) -> None:
        hop = NextHop("unix:/run/lmtp", mx=False, lmtp=True)
        peer = Peer("unix:/run/lmtp")
        self.offer_tls()
        (fact, _) = self.transmit(consignment(), hop, peer)
        assert isinstance(fact, Carried)
        self.assertEqual((fact.by, fact.tls), ("unix:/run/lmtp", ""))

    def test_at_a_unix_socket_nobody_listens_on_the_way(self) -> None:
        self.exchange.offers = OFFERS
        sent = consignment()
        entry = evolve(sent.entry, envelope=evolve(sent.entry.envelope, require_tls=True))
        hop = NextHop("unix:/run/lmtp", mx=False, lmtp=True)
        self.assertIsInstance(self.transmit(evolve(sent, entry=entry), hop, Peer("unix:/run/lmtp"))[0], Carried)

    def test_tls_and_a_login_are_for_lmtp_too(self) -> None:
        self.offer_tls()
        self.exchange.users = {"ann": "pencil"}
        message = self.carried(consignment(), self.lmtp(tls="verify", login="smarthost"))
        self.assertEqual((message.tls, message.user), (True, "ann"))


class WickedTests(TransmissionTestCase):
    """Whatever it does, and wherever, there is a fact for everybody, and nothing of it remains."""

    FAULTS = (
        Drop(),
        Reset(),
        Stall(),
        Babble(b"HTTP/1.1 400 Bad Request\r\n"),
        Babble(b"\xff" * 200),
        Babble(b"250" + b"x" * 70_000),
        Babble(b"250-x\r\n" * 101),
        Say("421 4.3.2 Closing"),
        Say("550 5.5.0 No"),
        Say("354 Go on"),
        Say("334 "),
        Say("200-more\n201 other"),
    )

    def setUp(self) -> None:
        super().setUp()
        self.offer_tls()
        self.exchange.users = {"ann": "pencil"}

    def hops(self, **how: Any) -> NextHop:
        return self.hop(tls="verify", login="smarthost", **how)

    def test_a_wicked_server(self) -> None:
        moments = ("GREETING", "EHLO", "STARTTLS", "HANDSHAKE", "AUTH", "CHALLENGE", "MAIL", "RCPT", "END", "QUIT")
        self.wicked(moments, self.hops())

    def test_a_wicked_mail_store(self) -> None:
        self.exchange.lmtp = True
        self.wicked(("GREETING", "LHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "END"), self.hops(lmtp=True))

    def test_a_wicked_server_without_chunks_or_pipelining(self) -> None:
        self.wicked(("MAIL", "RCPT", "DATA", "CONTENT", "END"), self.hops(without=["CHUNKING"]))
        self.wicked(("MAIL", "RCPT", "DATA", "CONTENT", "END"), self.hops(without=["CHUNKING", "PIPELINING"]))

    def test_a_server_that_is_wicked_amid_the_chunks(self) -> None:
        plain = b"x\r\n" * (700 * 1024 // 3)
        large = consignment(kept(plain, Form.PLAIN, range(0, len(plain), 64 * 1024)))
        self.wicked(("BDAT", "END"), self.hops(), large)
        self.wicked(("BDAT", "END"), self.hops(without=["PIPELINING"]), large)

    def wicked(self, moments: Sequence[Any], hop: NextHop, sent: Consignment | None = None) -> None:
        for moment in moments:
            for fault in self.FAULTS:
                with self.subTest(moment=moment, fault=fault):
                    self.exchange._plan.clear()
                    self.exchange.at(moment, fault)
                    waiting = self.begin(sent or consignment(), hop)
                    self.time.pump(
                        [300, 300, 100, 0, 0]
                    )  # half a reply, or half a handshake, may have to be waited for
                    reports = self.successResultOf(waiting)
                    self.assertEqual(len(reports), 2)
                    carried = [report for report in reports if isinstance(report.fact, Carried)]
                    promised = sum(len(message.recipients) for message in self.exchange.messages)
                    self.assertLessEqual(len(carried), promised)
                    self.exchange.messages.clear()
                    self.assertEqual((self.exchange.open, self.time.getDelayedCalls()), (0, []))
