"""From the greeting to the first transaction: what is said, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from relay.mail.outcome import Answered, Breakage, Broke, Fact, Peer, Phase, TlsTrouble, Unauthenticated, Unencrypted
from relay.mail.reply import Reply
from relay.smtp.client import ClientSession
from relay.smtp.deadlines import Deadlines
from relay.smtp.sasl_client import Password, Token
from relay.smtp.transaction import Approach, Over, Ready, StartTls, TurnedAway

PEER = Peer("mx.example.net", "192.0.2.9")
GREETING = b"220 mx ESMTP\r\n"
GO_AHEAD = b"220 2.0.0 Go ahead\r\n"
BYE = b"221 Bye\r\n"
MAY, ENCRYPT, VERIFY = (Approach(tls=level) for level in ("may", "encrypt", "verify"))
ANN = Password("ann", "pencil")


def offering(*keywords: str) -> bytes:
    lines = ["mx", *keywords]
    return "".join(f"250{'-' if at < len(lines) else ' '}{line}\r\n" for at, line in enumerate(lines, 1)).encode()


CLEAR = offering("STARTTLS", "PIPELINING", "AUTH PLAIN", "SIZE 5")


def login(who: Password | Token = ANN) -> Approach:
    return Approach(tls="verify", login=who, nonce=lambda: "fyko+d2lbbFgONRv9qkxdawL")


def whole(octets: bytes) -> list[bytes]:
    return [octets]


def singly(octets: bytes) -> list[bytes]:
    return [octets[index : index + 1] for index in range(len(octets))]


@frozen
class Opened:
    """What came of it."""

    ready: Ready | None
    fact: Fact | None
    said: list[bytes]
    politely: bool | None
    #: How many handshakes there were.
    handshakes: int


def opening(
    approach: Approach, *script: bytes, verified: bool = True, cut: Callable[[bytes], Iterable[bytes]] = whole
) -> Opened:
    """Each of the script answers the next thing that is said; behind it the connection is lost."""
    session = ClientSession("relay.test", PEER, approach=approach)
    ready, fact, politely, handshakes, said = None, None, None, 0, []

    def turn() -> None:
        nonlocal ready, fact, politely, handshakes
        while (event := session.next_event()) is not None:
            match event:
                case StartTls():
                    handshakes += 1
                    session.secured("TLSv1.3", verified=verified)
                case Ready():
                    ready = event
                    session.quit()
                case TurnedAway():
                    fact = event.fact
                case Over():
                    politely = event.politely
        octets = session.data_to_send()
        if octets:
            said.append(octets)

    session.connected()
    for octets in script:
        for piece in cut(octets):
            session.receive_data(piece)
        turn()
    session.break_off(Breakage.LOST)
    turn()
    return Opened(ready, fact, said, politely, handshakes)


class StartTlsTests(SynchronousTestCase):
    def test_what_was_learned_in_clear_is_forgotten(self) -> None:
        for cut in (whole, singly):
            for approach in (MAY, ENCRYPT, VERIFY):
                opened = opening(approach, GREETING, CLEAR, GO_AHEAD, offering("SIZE 7"), BYE, cut=cut)
                assert opened.ready is not None
                self.assertEqual(opened.ready.features.keywords, {"SIZE": "7"})
                self.assertEqual(
                    opened.said, [b"EHLO relay.test\r\n", b"STARTTLS\r\n", b"EHLO relay.test\r\n", b"QUIT\r\n"]
                )

    def test_a_server_that_falls_back_to_helo_in_tls_offers_nothing(self) -> None:
        opened = opening(ENCRYPT, GREETING, CLEAR, GO_AHEAD, b"502 What\r\n", b"250 mx\r\n", BYE)
        assert opened.ready is not None
        self.assertEqual(opened.ready.features.keywords, {})
        self.assertEqual(opened.handshakes, 1)

    def test_an_offer_of_starttls_in_tls_is_nothing_new(self) -> None:
        self.assertEqual(opening(ENCRYPT, GREETING, CLEAR, GO_AHEAD, CLEAR, BYE).handshakes, 1)

    def test_where_it_is_not_offered_or_is_refused(self) -> None:
        for script, fact in (
            ((offering("SIZE 7"),), Unencrypted(TlsTrouble.NOT_OFFERED, PEER)),
            ((b"502 What\r\n", b"250 mx\r\n"), Unencrypted(TlsTrouble.NOT_OFFERED, PEER)),
            ((CLEAR, b"454 4.7.0 No\r\n"), Unencrypted(TlsTrouble.REFUSED, PEER, "454 4.7.0 No")),
            ((CLEAR, b"501 No\r\n"), Unencrypted(TlsTrouble.REFUSED, PEER, "501 No")),
        ):
            for approach in (ENCRYPT, VERIFY):
                opened = opening(approach, GREETING, *script, BYE)
                self.assertEqual((opened.ready, opened.fact), (None, fact))
                self.assertEqual((opened.said[-1], opened.politely), (b"QUIT\r\n", True))
            opened = opening(MAY, GREETING, *script, BYE)
            self.assertIsNone(opened.fact)
            self.assertIsNotNone(opened.ready)

    def test_a_go_ahead_that_is_none(self) -> None:
        for reply in (b"354 Go on\r\n", b"220 Go\n", b"22\r\n"):
            opened = opening(MAY, GREETING, CLEAR, reply)
            assert isinstance(opened.fact, Broke)
            self.assertEqual((opened.fact.breakage, opened.handshakes), (Breakage.NONSENSE, 0))
        opened = opening(MAY, GREETING, CLEAR, b"421 Closing\r\n")
        self.assertEqual(opened.fact, Answered(Reply.of(421, None, "Closing"), Phase.STARTTLS, PEER))

    def test_nothing_behind_the_220_is_heard_however_little_it_is(self) -> None:
        for behind in (b"2", b"250 injected\r\n", b"250-a\r\n", b"\r\n", b"\x16\x03\x01"):
            opened = opening(VERIFY, GREETING, CLEAR, GO_AHEAD + behind, CLEAR)
            assert isinstance(opened.fact, Broke)
            self.assertEqual((opened.fact.breakage, opened.fact.phase), (Breakage.NONSENSE, Phase.STARTTLS))
            self.assertEqual((opened.handshakes, opened.politely), (0, False))
            self.assertEqual(opened.said[-1], b"STARTTLS\r\n")

    def test_a_handshake_that_does_not_come_to_an_end(self) -> None:
        for breakage in (Breakage.LOST, Breakage.TIMEOUT):
            session = ClientSession("relay.test", PEER, Deadlines(greeting=17), VERIFY)
            session.connected()
            for octets in (GREETING, CLEAR, GO_AHEAD):
                session.receive_data(octets)
            self.assertEqual((session.phase, session.deadline), (Phase.STARTTLS, 17))
            session.break_off(breakage, "no shared cipher")
            self.assertEqual(
                [session.next_event() for _ in range(2)],
                [TurnedAway(Unencrypted(TlsTrouble.FAILED, PEER, "no shared cipher")), Over(False)],
            )

    def test_what_comes_in_clear_while_tls_shakes_hands_is_nonsense(self) -> None:
        for octets in (b"250 mx\r\n", b"2"):
            session = ClientSession("relay.test", PEER, approach=VERIFY)
            session.connected()
            for heard in (GREETING, CLEAR, GO_AHEAD):
                session.receive_data(heard)
            session.receive_data(octets)
            event = [session.next_event(), session.next_event()][0]
            assert isinstance(event, TurnedAway)
            self.assertIsInstance(event.fact, Broke)
            self.assertRaises(RuntimeError, session.secured, "TLSv1.3", verified=True)

    def test_nothing_is_said_in_clear_amid_a_handshake_not_even_quit(self) -> None:
        session = ClientSession("relay.test", PEER, approach=VERIFY)
        session.connected()
        for octets in (GREETING, CLEAR, GO_AHEAD):
            session.receive_data(octets)
        session.data_to_send()
        session.quit()
        self.assertEqual((session.over, session.data_to_send()), (True, b""))

    def test_a_handshake_that_nobody_asked_for_is_our_own_fault(self) -> None:
        session = ClientSession("relay.test", PEER, approach=VERIFY)
        self.assertRaises(RuntimeError, session.secured, "TLSv1.3", verified=True)


class AuthTests(SynchronousTestCase):
    def open(self, *script: bytes, approach: Approach | None = None, auth: str = "PLAIN", **more: Any) -> Opened:
        """In TLS, where these mechanisms are offered."""
        return opening(
            approach or login(), GREETING, CLEAR, GO_AHEAD, offering(f"AUTH {auth}", "PIPELINING"), *script, **more
        )

    def test_who_we_are_is_said_in_tls_and_the_offer_in_clear_means_nothing(self) -> None:
        opened = self.open(b"235 2.7.0 Welcome\r\n", BYE)
        self.assertIsNotNone(opened.ready)
        self.assertEqual(opened.said[3:], [b"AUTH PLAIN AGFubgBwZW5jaWw=\r\n", b"QUIT\r\n"])

    def test_by_login_where_there_is_nothing_else(self) -> None:
        opened = self.open(b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 Welcome\r\n", BYE, auth="LOGIN")
        self.assertIsNotNone(opened.ready)
        self.assertEqual(opened.said[3:6], [b"AUTH LOGIN\r\n", b"YW5u\r\n", b"cGVuY2ls\r\n"])

    def test_nobody_is_told_anything_who_was_not_verified(self) -> None:
        opened = self.open(BYE, verified=False)
        self.assertIsInstance(opened.fact, Unencrypted)
        self.assertEqual(opened.said[3:], [b"QUIT\r\n"])
        for level in ("none", "may"):
            opened = opening(Approach(tls=level, login=ANN, nonce=str), GREETING, offering("AUTH PLAIN"), BYE)
            self.assertIsInstance(opened.fact, Unauthenticated)
            self.assertEqual(opened.said[1:], [b"QUIT\r\n"])

    def test_a_refusal_is_an_answer(self) -> None:
        for code in (454, 530, 534, 535, 500):
            opened = self.open(f"{code} no\r\n".encode(), BYE)
            self.assertEqual(opened.fact, Answered(Reply.of(code, None, "no"), Phase.AUTH, PEER))
            self.assertEqual((opened.said[-1], opened.politely), (b"QUIT\r\n", True))

    def test_where_there_is_no_common_mechanism(self) -> None:
        for offered in ("CRAM-MD5", ""):
            opened = self.open(BYE, auth=offered)
            self.assertIsInstance(opened.fact, Unauthenticated)
        opened = self.open(BYE, auth="PLAIN LOGIN", approach=login(Token("ann", "t")))
        self.assertEqual(opened.fact, Unauthenticated(PEER, "no way to log in: the server offers PLAIN LOGIN"))

    def test_a_welcome_that_comes_too_early_is_not_believed(self) -> None:
        for auth, script in (
            ("LOGIN", [b"235 Welcome\r\n"]),
            ("LOGIN", [b"334 \r\n", b"235 Welcome\r\n"]),
            ("SCRAM-SHA-256", [b"235 Welcome\r\n"]),
        ):
            opened = self.open(*script, BYE, auth=auth)
            self.assertIsInstance(opened.fact, Unauthenticated)
            self.assertIsNone(opened.ready)

    def test_after_a_challenge_too_many_we_give_it_up_and_believe_no_welcome(self) -> None:
        for last in (b"501 Cancelled\r\n", b"235 Welcome\r\n", b"454 What\r\n"):
            opened = self.open(b"334 \r\n", last, BYE)
            self.assertEqual(opened.said[4], b"*\r\n")
            self.assertIsInstance(opened.fact, Unauthenticated)
            self.assertIsNone(opened.ready)
        opened = self.open(b"334 \r\n", b"334 \r\n")
        assert isinstance(opened.fact, Broke)
        self.assertEqual((opened.fact.breakage, opened.fact.phase), (Breakage.NONSENSE, Phase.AUTH))

    def test_a_challenge_that_is_no_base64_is_nothing_that_scram_goes_on_with(self) -> None:
        for challenge in (b"334 !!!\r\n", b"334\r\n", b"334-a\r\n334 b\r\n", b"334 " + b"A" * 20_000 + b"\r\n"):
            opened = self.open(challenge, b"501 Cancelled\r\n", BYE, auth="SCRAM-SHA-256")
            self.assertEqual(opened.said[4], b"*\r\n", challenge[:20])
            self.assertIsInstance(opened.fact, Unauthenticated)

    def test_octet_by_octet_it_is_the_same(self) -> None:
        script: Sequence[bytes] = [b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n", b"235 Welcome\r\n", BYE]
        self.assertEqual(self.open(*script, auth="LOGIN"), self.open(*script, auth="LOGIN", cut=singly))

    def test_no_password_is_shown(self) -> None:
        self.assertNotIn("pencil", repr(login()))


class LmtpTests(SynchronousTestCase):
    def test_lhlo_is_said_and_nothing_older(self) -> None:
        opened = opening(Approach(lmtp=True), GREETING, offering("PIPELINING"), BYE)
        self.assertEqual(opened.said, [b"LHLO relay.test\r\n", b"QUIT\r\n"])
        opened = opening(Approach(lmtp=True), GREETING, b"500 What\r\n", BYE)
        self.assertEqual(opened.said, [b"LHLO relay.test\r\n", b"QUIT\r\n"])
        self.assertEqual(opened.fact, Answered(Reply.of(500, None, "What"), Phase.HELLO, PEER))


class WithoutTests(SynchronousTestCase):
    def test_what_we_are_to_do_without_is_not_there(self) -> None:
        approach = Approach(without=frozenset({"CHUNKING", "DSN"}))
        opened = opening(approach, GREETING, offering("CHUNKING", "SIZE 5", "dsn"), BYE)
        assert opened.ready is not None
        self.assertEqual(opened.ready.features.keywords, {"SIZE": "5"})
