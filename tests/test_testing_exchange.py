"""What a `FakeExchange` can be made to offer: TLS, AUTH, chunks, DSN, limits, LMTP; and how strict it is about it."""

from __future__ import annotations

import base64
from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure

from relay.net.channel_binding import channel_bindings
from relay.smtp.sasl_client import Exchange, Login, Password, Response, Token
from relay.testing.internet import FakeInternet, FakeTransport
from relay.testing.peers import OFFERS, Babble, Drop, FakeExchange, Fault, Message, Reset, Say, Slow, Stall
from tests.test_tls import TlsTestCase

ADDRESS = "192.0.2.9"
MX = "mx.example.org"
USERS = {"ann": "tulip"}


class Client(Protocol):
    transport: FakeTransport

    def __init__(self) -> None:
        self.heard = b""
        self.ended: str | None = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = reason.type.__name__


class Clients(ClientFactory[Client]):
    def __init__(self) -> None:
        self.client = Client()

    def buildProtocol(self, addr: IAddress | None) -> Client:
        return self.client


class ExchangeTestCase(TlsTestCase):
    def offer(self, *offers: str, **options: Any) -> FakeExchange:
        """An exchange that offers this beside the usual, and a connection to it."""
        self.exchange = FakeExchange("mx", offers=(*OFFERS, *offers), clock=self.time, **options)
        self.connect()
        return self.exchange

    def connect(self) -> Client:
        internet, factory = FakeInternet(self.time), Clients()
        internet.add(ADDRESS, self.exchange)
        internet.connectTCP(ADDRESS, 25, factory)
        self.time.advance(0)
        self.client = factory.client
        return self.client

    def say(self, *lines: str | bytes) -> list[int]:
        """Say each when the one before was answered. Returns the codes of all replies to them."""
        self.client.heard = b""
        for line in lines:
            self.client.transport.write(line if isinstance(line, bytes) else line.encode() + b"\r\n")
            self.time.advance(0)
        return [int(reply[:3]) for reply in self.client.heard.splitlines() if reply[3:4] != b"-"]

    def start_tls(self, exchange: FakeExchange) -> None:
        self.assertEqual(self.say("EHLO me", "STARTTLS"), [250, 220])
        self.client.transport.startTLS(self.tls("verify").toward(MX))
        self.time.advance(0)

    def message(self) -> Message:
        self.assertEqual(self.exchange.complaints, [])
        [message] = self.exchange.messages
        return message

    def complains(self, *lines: str | bytes) -> str:
        """What there is to be said about it, which is one thing."""
        self.exchange.complaints.clear()
        self.connect()
        self.say(*lines)
        [complaint] = self.exchange.complaints
        return complaint


class TlsTests(ExchangeTestCase):
    def test_it_goes_on_in_tls_and_a_message_says_that_it_came_so(self) -> None:
        exchange = self.offer("REQUIRETLS", tls=self.listener(MX))
        self.start_tls(exchange)
        self.assertEqual(len(exchange.handshakes), 1)
        self.assertEqual(
            self.say("EHLO me", "MAIL FROM:<a@x> REQUIRETLS", "RCPT TO:<b@y>", "DATA", "hi\r\n."),
            [250, 250, 250, 354, 250],
        )
        message = self.message()
        self.assertTrue(message.tls)
        self.assertEqual((message.parameters, message.by_bdat, message.user), (("REQUIRETLS",), False, None))

    def test_starttls_is_offered_outside_and_requiretls_inside(self) -> None:
        exchange = self.offer("REQUIRETLS", tls=self.listener(MX))
        self.say("EHLO me")
        self.assertIn(b"STARTTLS", self.client.heard)
        self.assertNotIn(b"REQUIRETLS", self.client.heard)
        self.start_tls(exchange)
        self.say("EHLO me")
        self.assertNotIn(b"STARTTLS", self.client.heard)
        self.assertIn(b"REQUIRETLS", self.client.heard)

    def test_tls_may_begin_with_the_connection(self) -> None:
        self.offer(tls=self.listener(MX), implicit=True)
        self.assertEqual(self.client.heard, b"")
        self.client.transport.startTLS(self.tls("verify").toward(MX))
        self.time.advance(0)
        self.assertEqual(self.client.heard, b"220 mx ESMTP\r\n")

    def test_what_was_known_before_is_forgotten(self) -> None:
        exchange = self.offer(tls=self.listener(MX))
        self.start_tls(exchange)
        self.assertEqual(self.say("MAIL FROM:<a@x>"), [503])
        self.assertEqual(exchange.complaints, ["out of order: 'MAIL FROM:<a@x>'"])

    def test_what_is_said_ahead_of_tls_is_a_complaint_and_never_heard(self) -> None:
        self.offer(tls=self.listener(MX))
        self.assertIn("STAR", self.complains("EHLO me", b"STARTTLS\r\nRSET\r\n"))
        self.assertEqual(self.exchange.transcript[-1], ("S", b"220 2.0.0 Go ahead\r\n"))

    def test_starttls_is_a_complaint_where_it_is_not_offered(self) -> None:
        self.offer()
        self.assertIn("STARTTLS", self.complains("EHLO me", "STARTTLS"))

    def test_it_can_be_offered_in_vain(self) -> None:
        exchange = self.offer("STARTTLS")
        self.assertEqual(self.say("EHLO me", "STARTTLS"), [250, 454])
        self.assertEqual(exchange.complaints, [])

    def test_the_handshake_can_go_wrong(self) -> None:
        faults: list[tuple[Fault, bytes, str | None]] = [
            (Drop(), b"", "ConnectionDone"),
            (Reset(), b"", "ConnectionLost"),
            (Stall(), b"", None),
            (Babble(b"500 what?\r\n"), b"500 what?\r\n", None),
        ]
        for fault, heard, ended in faults:
            self.offer(tls=self.listener(MX)).at("HANDSHAKE", fault)
            self.say("EHLO me", "STARTTLS")
            self.assertEqual(self.client.ended, ended)
            # A reset forgets what was not sent yet.
            said = b"" if ended == "ConnectionLost" else b"220 2.0.0 Go ahead\r\n"
            self.assertTrue(self.client.heard.endswith(said + heard))


class AuthTests(ExchangeTestCase):
    def verdict(self, login: Login, mechanism: str, *, bind: bool = False) -> int:
        """What is said in the end to our own client's side of AUTH, in TLS."""
        exchange = self.offer(tls=self.listener(MX), users=USERS, mechanisms=[mechanism], auth_required=True)
        self.start_tls(exchange)
        self.say("EHLO me")
        handle = self.client.transport.getHandle()
        peer = handle.get_peer_certificate(as_cryptography=True)
        proof = Exchange.begin([mechanism], login, lambda: "nonce", channel_bindings(handle, peer) if bind else None)
        assert proof is not None
        [code] = self.say(proof.command() + b"\r\n")
        while code == 334:
            challenge = base64.b64decode(self.client.heard[4:])
            step = proof.respond(challenge)
            assert isinstance(step, Response), step
            [code] = self.say(base64.b64encode(step.octets) + b"\r\n")
        self.assertEqual(exchange.complaints, [])
        self.assertTrue(code != 235 or proof.believes)
        return code

    def test_who_knows_the_password_is_known_from_then_on(self) -> None:
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            self.assertEqual(self.verdict(Password("ann", "tulip"), mechanism), 235)
            self.assertEqual(
                self.say("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", "hi\r\n."), [250, 250, 354, 250], mechanism
            )
            self.assertEqual(self.message().user, "ann")

    def test_by_scram_plus_the_channel_is_proved_too(self) -> None:
        self.assertEqual(self.verdict(Password("ann", "tulip"), "SCRAM-SHA-256-PLUS", bind=True), 235)

    def test_who_is_bound_to_another_channel_is_found_out(self) -> None:
        exchange = self.offer(tls=self.listener(MX), users=USERS, mechanisms=["SCRAM-SHA-256-PLUS"])
        self.start_tls(exchange)
        self.say("EHLO me")
        password, elsewhere = Password("ann", "tulip"), {"tls-exporter": b"x" * 32}
        proof = Exchange.begin(["SCRAM-SHA-256-PLUS"], password, lambda: "nonce", elsewhere)
        assert proof is not None
        self.say(proof.command() + b"\r\n")
        step = proof.respond(base64.b64decode(self.client.heard[4:]))
        assert isinstance(step, Response), step
        self.assertEqual(self.say(base64.b64encode(step.octets) + b"\r\n"), [501])
        self.assertEqual(exchange.complaints, ["AUTH: a channel binding that is not this channel's"])

    def test_by_xoauth2_the_password_is_a_token(self) -> None:
        self.assertEqual(self.verdict(Token("ann", "tulip"), "XOAUTH2"), 235)
        self.assertEqual(self.verdict(Token("ann", "rose"), "XOAUTH2"), 535)

    def test_who_does_not_is_not(self) -> None:
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
            for login in Password("ann", "rose"), Password("bob", "tulip"):
                self.assertEqual(self.verdict(login, mechanism), 535, mechanism)
                self.assertEqual(self.say("MAIL FROM:<a@x>"), [530])

    def test_auth_is_offered_in_tls_only_if_there_is_any(self) -> None:
        exchange = self.offer(tls=self.listener(MX), users=USERS)
        self.say("EHLO me")
        self.assertNotIn(b"AUTH", self.client.heard)
        self.start_tls(exchange)
        self.say("EHLO me")
        self.assertIn(b"AUTH PLAIN LOGIN SCRAM-SHA-256\r\n", self.client.heard)

    def test_a_client_may_give_up(self) -> None:
        exchange = self.offer(users=USERS)
        self.assertEqual(self.say("EHLO me", "AUTH SCRAM-SHA-256", "*", "NOOP"), [250, 334, 501, 500])
        self.assertEqual(exchange.complaints, ["an unknown command: 'NOOP'"])

    def test_a_challenge_can_be_nonsense(self) -> None:
        self.offer(users=USERS).at("CHALLENGE", Say("334 !!!"))
        self.assertEqual(self.say("EHLO me", "AUTH SCRAM-SHA-256", "*"), [250, 334, 501])

    def test_what_no_client_may_do_is_a_complaint(self) -> None:
        self.offer(users=USERS, mechanisms=["PLAIN", "LOGIN", "SCRAM-SHA-256"])
        clear = base64.b64encode(b"\0ann\0tulip").decode()
        hello = base64.b64encode(b"p=tls-exporter,,n=ann,r=x").decode()
        for about, said in (
            ("clear text", ["EHLO me", f"AUTH PLAIN {clear}"]),
            ("XOAUTH2", ["EHLO me", "AUTH XOAUTH2"]),
            ("malformed", ["EHLO me", "AUTH"]),
            ("malformed", ["EHLO me", "AUTH PLAIN !"]),
            ("initial response", ["EHLO me", "AUTH LOGIN YW5u"]),
            ("out of order", ["EHLO me", "MAIL FROM:<a@x>", "AUTH SCRAM-SHA-256"]),
            ("no base64", ["EHLO me", "AUTH SCRAM-SHA-256", "a,b"]),
            ("not 3 parts", ["EHLO me", "AUTH SCRAM-SHA-256", "YWFh"]),
            ("p=", ["EHLO me", f"AUTH SCRAM-SHA-256 {hello}"]),
            ("said more", ["EHLO me", "AUTH SCRAM-SHA-256\r\n*"]),
        ):
            self.assertIn(about, self.complains(*said), said)


class ChunkTests(ExchangeTestCase):
    ENVELOPE = ("EHLO me", "MAIL FROM:<a@x>", "RCPT TO:<b@y>")

    def test_content_comes_in_chunks_as_it_is(self) -> None:
        self.offer("CHUNKING")
        codes = self.say(*self.ENVELOPE, b"BDAT 5\r\n.\r\n\r\n", b"BDAT 4 LAST\r\na\r\n.")
        self.assertEqual(codes, [250, 250, 250, 250, 250])
        self.assertEqual((self.message().content, self.message().by_bdat), (b".\r\n\r\na\r\n.", True))

    def test_chunks_may_be_cut_anywhere_and_pipelined(self) -> None:
        for piece in range(1, 90):
            exchange = FakeExchange(offers=("PIPELINING", "CHUNKING"))
            internet, factory = FakeInternet(self.time, cut=lambda waiting, most=piece: min(waiting, most)), Clients()
            internet.add(ADDRESS, exchange)
            internet.connectTCP(ADDRESS, 25, factory)
            self.exchange, self.client = exchange, factory.client
            self.time.advance(0)
            self.say("EHLO me")
            self.say(b"MAIL FROM:<a@x>\r\nRCPT TO:<b@y>\r\nBDAT 3\r\na\r\nBDAT 0\r\nBDAT 3 LAST\r\nb\r\nRSET\r\n")
            self.assertEqual(self.message().content, b"a\r\nb\r\n")
            self.assertEqual(self.client.heard.count(b"\r\n"), 6)

    def test_an_empty_last_chunk_ends_it(self) -> None:
        self.offer("CHUNKING")
        self.assertEqual(self.say(*self.ENVELOPE, b"BDAT 3\r\na\r\n", "BDAT 0 LAST")[-2:], [250, 250])
        self.assertEqual(self.message().content, b"a\r\n")

    def test_a_chunk_that_is_refused_ends_the_transaction(self) -> None:
        exchange = self.offer("CHUNKING").at("BDAT", Say("452 4.3.1 full"), number=1)
        self.assertEqual(self.say(*self.ENVELOPE, b"BDAT 3\r\na\r\n", b"BDAT 3 LAST\r\nb\r\n")[-2:], [452, 503])
        self.assertEqual((exchange.messages, exchange.unpromised, exchange.complaints), ([], [], []))

    def test_the_octets_of_a_chunk_are_read_whoever_is_there_to_have_them(self) -> None:
        self.offer("CHUNKING").at("RCPT", Say("550 5.1.1 no"))
        self.assertEqual(self.say(*self.ENVELOPE, b"BDAT 6 LAST\r\nRSET\r\n", "RSET")[-3:], [550, 503, 250])

    def test_what_no_client_may_do_is_a_complaint(self) -> None:
        self.offer("CHUNKING", "BINARYMIME")
        binary = ("EHLO me", "MAIL FROM:<a@x> BODY=BINARYMIME", "RCPT TO:<b@y>")
        for about, said in (
            ("malformed", [*self.ENVELOPE, "BDAT"]),
            ("malformed", [*self.ENVELOPE, "BDAT -1"]),
            ("only BDAT", [*self.ENVELOPE, b"BDAT 1\r\na", "DATA"]),
            ("only BDAT", [*binary, "DATA"]),
            ("alone", [*self.ENVELOPE, b"BDAT 1 LAST\r\n\n"]),
        ):
            self.assertIn(about, self.complains(*said), said)
        self.exchange.offers = OFFERS
        self.assertIn("not offered", self.complains(*self.ENVELOPE, "BDAT 0"))
        self.assertIn("BINARYMIME", self.complains(*binary[:2]))

    def test_what_is_binary_may_hold_anything(self) -> None:
        self.offer("CHUNKING", "BINARYMIME")
        self.say("EHLO me", "MAIL FROM:<a@x> BODY=BINARYMIME", "RCPT TO:<b@y>", b"BDAT 4 LAST\r\n\0\r\n\n")
        self.assertEqual(self.message().content, b"\0\r\n\n")


class ParameterTests(ExchangeTestCase):
    def test_what_a_sender_wishes_is_kept_for_each_recipient(self) -> None:
        self.offer("DSN")
        self.say(
            "EHLO me",
            "MAIL FROM:<a@x> RET=HDRS ENVID=QQ+2B1",
            "RCPT TO:<b@y> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+3Dc@y",
            "RCPT TO:<c@y> NOTIFY=NEVER",
            "RCPT TO:<d@y>",
            "DATA",
            ".",
        )
        message = self.message()
        self.assertEqual(message.parameters, ("RET=HDRS", "ENVID=QQ+2B1"))
        self.assertEqual(message.recipients, ("b@y", "c@y", "d@y"))
        self.assertEqual(
            message.recipient_parameters, (("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;b+3Dc@y"), ("NOTIFY=NEVER",), ())
        )

    def test_a_recipient_in_utf8_has_been_one_before(self) -> None:
        self.offer("DSN")
        self.say("EHLO me", "MAIL FROM:<a@x> SMTPUTF8", "RCPT TO:<ä@y> ORCPT=utf-8;ä@y", "DATA", ".")
        self.assertEqual(self.message().recipient_parameters, (("ORCPT=utf-8;ä@y",),))

    def test_what_is_malformed_or_was_not_offered_is_a_complaint(self) -> None:
        offers = (*OFFERS, "DSN", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE 1 2")
        self.exchange = FakeExchange(offers=offers)
        mail, rcpt = "MAIL FROM:<a@x>", "RCPT TO:<b@y>"
        for command in (
            f"{mail} RET=ALL",
            f"{mail} RET",
            f"{mail} RET=FULL RET=FULL",
            f"{mail} ENVID=a+b",
            f"{mail} ENVID={'x' * 101}",
            f"{mail} BODY=16BIT",
            f"{mail} SMTPUTF8=yes",
            f"{mail} NOTIFY=NEVER",
            f"{mail} REQUIRETLS",
            f"{mail} BY=soon",
            f"{mail} MT-PRIORITY=10",
            f"{mail} HOLDFOR=0",
            f"{rcpt} NOTIFY=NEVER,SUCCESS",
            f"{rcpt} NOTIFY=SUCCESS,SUCCESS",
            f"{rcpt} NOTIFY=success",
            f"{rcpt} ORCPT=b@y",
            f"{rcpt} ORCPT=rfc822;a b",
            f"{rcpt} ORCPT=utf-8;ä@y",
            f"{rcpt} RET=FULL",
        ):
            before = ["EHLO me", mail] if command.startswith(rcpt) else ["EHLO me"]
            self.complains(*before, command)

    def test_what_is_well_formed_is_none(self) -> None:
        self.offer("DSN", "DELIVERBY", "MT-PRIORITY", "FUTURERELEASE 1 2")
        self.say("EHLO me")
        for parameters in ("BY=-120;RT MT-PRIORITY=-9", "BY=120;N", "HOLDFOR=60", "HOLDUNTIL=2030-01-01T00:00:00Z"):
            self.assertEqual(self.say(f"MAIL FROM:<> {parameters}", "RSET"), [250, 250], parameters)
        self.assertEqual(self.exchange.complaints, [])

    def test_limits_are_to_be_kept(self) -> None:
        self.exchange = FakeExchange(offers=(*OFFERS, "LIMITS MAILMAX=2 RCPTMAX=2 RCPTDOMAINMAX=1"))
        one = ["MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RSET"]
        self.assertIn("message 3", self.complains("EHLO me", *one * 3))
        self.assertEqual(self.client.ended, "ConnectionDone")
        self.assertIn("recipient 3", self.complains("EHLO me", one[0], one[1], one[1], one[1]))
        self.assertIn("another domain", self.complains("EHLO me", one[0], one[1], "RCPT TO:<b@z>"))
        self.exchange.complaints.clear()
        self.connect()
        self.say("EHLO me", *one * 2)
        self.assertEqual(self.exchange.complaints, [])


class LmtpTests(ExchangeTestCase):
    ENVELOPE = ("LHLO me", "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>", "RCPT TO:<d@y>", "DATA")

    def test_each_recipient_has_an_answer(self) -> None:
        self.offer(lmtp=True)
        self.assertEqual(self.say(*self.ENVELOPE, "hi\r\n.")[-3:], [250, 250, 250])
        self.assertEqual(self.message().recipients, ("b@y", "c@y", "d@y"))

    def test_what_is_not_promised_to_all_is_a_message_for_some(self) -> None:
        exchange = self.offer("DSN", lmtp=True).at("END", Say("452 4.2.2 full"), about="c@y")
        self.say("LHLO me", "MAIL FROM:<a@x>", "RCPT TO:<b@y> NOTIFY=NEVER", "RCPT TO:<c@y>", "RCPT TO:<d@y>", "DATA")
        self.assertEqual(self.say("hi\r\n."), [250, 452, 250])
        self.assertEqual(self.message().recipients, ("b@y", "d@y"))
        self.assertEqual(self.message().recipient_parameters, (("NOTIFY=NEVER",), ()))
        self.assertEqual([each.recipients for each in exchange.unpromised], [("c@y",)])

    def test_it_may_break_off_in_the_midst_of_its_answers(self) -> None:
        exchange = self.offer(lmtp=True).at("END", Drop(), number=2)
        self.assertEqual(self.say(*self.ENVELOPE, "hi\r\n.")[-1], 250)
        self.assertEqual(self.message().recipients, ("b@y",))
        self.assertEqual([each.recipients for each in exchange.unpromised], [("c@y", "d@y")])
        self.assertEqual(self.client.ended, "ConnectionDone")

    def test_it_may_be_slow_with_one_of_them(self) -> None:
        self.offer(lmtp=True).at("END", Slow(60), number=2)
        self.say(*self.ENVELOPE)
        self.assertEqual(self.say("hi\r\n.", "RSET"), [250])
        self.time.advance(60)
        self.assertEqual(self.client.heard.count(b"\r\n"), 4)

    def test_chunks_are_answered_so_too(self) -> None:
        self.offer("CHUNKING", lmtp=True)
        self.assertEqual(self.say(*self.ENVELOPE[:-1], b"BDAT 2\r\nhi", b"BDAT 2 LAST\r\n\r\n")[-4:], [250] * 4)
        self.assertEqual(self.message().content, b"hi\r\n")

    def test_who_speaks_lmtp_does_not_speak_smtp(self) -> None:
        self.offer(lmtp=True)
        self.assertIn("EHLO", self.complains("EHLO me"))
        self.offer()
        self.assertIn("LHLO", self.complains("LHLO me"))

    def test_there_is_no_answer_for_nobody(self) -> None:
        self.offer(lmtp=True).at("RCPT", Say("550 5.1.1 no"))
        self.assertEqual(self.say(*self.ENVELOPE)[-1], 503)
