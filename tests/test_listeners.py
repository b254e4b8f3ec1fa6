"""What listeners offer, and to whom: the assembled relay over an internet in memory, with real TLS."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.config.limits import Limits
from relay.interfaces import CredentialsUnavailable, ICredentials
from relay.mail.envelope import ByMode
from relay.net.channel_binding import channel_bindings
from relay.net.tls_client import PeerTls
from relay.net.tls_server import ServerTls, Terms
from relay.smtp.scram import ScramKeys
from relay.testing.internet import FakeTransport
from relay.testing.world import MailWorld
from tests.test_tls import TlsTestCase, advance, issue, octets

HERE = "mx.test"
MX, SUBMISSION, SUBMISSIONS, LMTP, FRONT = range(5)
CONFIGURATION = """
trusted = ["127.0.0.0/8"]
[auth]
passwords = "users"
mechanisms = ["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"]
[[listener]]
name = "mx"
address = "192.0.2.25:25"
tls = "offer"
also = ["BINARYMIME"]
xclient = ["198.51.100.0/24"]
[[listener]]
name = "submission"
address = "192.0.2.25:587"
protocol = "submission"
tls = "require"
verify = "authenticated"
expand = true
[[listener]]
name = "submissions"
address = "192.0.2.25:465"
protocol = "submission"
tls = "implicit"
proxy = ["198.51.100.0/24"]
[[listener]]
name = "lmtp"
address = "192.0.2.25:24"
protocol = "lmtp"
[[listener]]
name = "front"
address = "192.0.2.25:2525"
greeting_delay = "6s"
[[policy]]
name = "aliases"
use = "alias"
[policy.aliases]
"team@here.test" = ["ann@here.test", "bob@here.test"]
[[policy]]
name = "mailboxes"
use = "mailbox"
domains = ["here.test"]
users = ["ann", "bob"]
directory = "mail"
[[policy]]
name = "outbound"
use = "forward"
when = { authenticated = true }
"""


@implementer(ICredentials)
class People:
    """Users and passwords in memory; every question can be made to wait, or to fail."""

    secret = bytes(32)

    def __init__(self, passwords: Mapping[str, str], *, scram: bool = False) -> None:
        self._passwords = dict(passwords)
        self.scram = scram
        self.trouble: Exception | None = None
        self.waiting: Deferred[None] | None = None

    async def check_password(self, user: str, password: str) -> str | None:
        if self.waiting is not None:
            await self.waiting
        if self.trouble is not None:
            raise self.trouble
        return user if self._passwords.get(user) == password else None

    async def scram_keys(self, user: str) -> ScramKeys | None:
        known = self._passwords.get(user)
        return None if known is None else ScramKeys.of(known, b"salt" * 4, 4096)


class Client(Protocol):
    """A client by hand."""

    transport: FakeTransport

    def __init__(self) -> None:
        self.octets = b""
        self.lost: Failure | None = None

    def dataReceived(self, data: bytes) -> None:
        self.octets += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost = reason


class _Calls(ClientFactory[Client]):
    noisy = False

    def __init__(self, client: Client) -> None:
        self.client = client

    def buildProtocol(self, addr: object) -> Client:
        return self.client


def plain(user: str, password: str) -> str:
    return base64.b64encode(f"\0{user}\0{password}".encode()).decode()


class ListenerCase(TlsTestCase):
    configuration = CONFIGURATION

    def setUp(self) -> None:
        super().setUp()
        self.people = People({"ann": "secret"})
        self.world = MailWorld(self.configuration, tls=self.tls_of, credentials=self.people)
        for listener in self.world.relay.listeners:
            address = listener.settings.address
            self.world.internet.add(address.host, listener.factory, address.port)  # type: ignore[union-attr]

    def tls_of(self, name: str) -> ServerTls:
        return self.listener(HERE, terms=Terms())

    def connect(self, listener: int, source: str = "192.0.2.77") -> Client:
        client = Client()
        address: Any = self.world.relay.listeners[listener].settings.address
        self.world.internet.connectTCP(address.host, address.port, _Calls(client), bindAddress=(source, 0))
        self.world.settle()
        return client

    def say(self, client: Client, *lines: str) -> list[str]:
        """Send these lines in one piece, and return the lines of what is heard."""
        client.octets = b""
        client.transport.write(b"".join(line.encode() + b"\r\n" for line in lines))
        self.world.settle()
        return client.octets.decode().splitlines()

    def codes(self, client: Client, *lines: str) -> list[str]:
        return [line[:3] for line in self.say(client, *lines) if line[3:4] != "-"]

    def shake(self, client: Client, peer: PeerTls | None = None) -> PeerTls:
        peer = peer or self.tls("verify").toward(HERE)
        client.octets = b""
        client.transport.startTLS(peer)
        self.world.settle()
        return peer

    def secured(self, listener: int = MX, source: str = "192.0.2.77") -> Client:
        """A client that has said STARTTLS and EHLO."""
        client = self.connect(listener, source)
        self.say(client, "EHLO c")
        self.assertEqual(self.codes(client, "STARTTLS"), ["220"])
        self.shake(client)
        self.say(client, "EHLO c")
        return client

    def authenticated(self, listener: int = SUBMISSION) -> Client:
        client = self.secured(listener)
        self.assertEqual(self.codes(client, f"AUTH PLAIN {plain('ann', 'secret')}"), ["235"])
        return client


class StartTlsTests(ListenerCase):
    def test_what_is_said_behind_the_handshake_is_a_new_session(self) -> None:
        client = self.connect(MX)
        self.assertEqual(self.codes(client, "EHLO first.test"), ["250"])
        self.assertEqual(self.codes(client, "STARTTLS"), ["220"])
        peer = self.shake(client)
        self.assertTrue(peer.handshake().verified)
        self.assertEqual(client.octets, b"")  # nobody is greeted twice
        self.assertEqual(self.say(client, "MAIL FROM:<>"), ["503 5.5.1 Say HELO or EHLO first"])
        lines = self.say(client, "EHLO second.test")
        self.assertNotIn("250-STARTTLS", lines)
        self.assertIn("250-REQUIRETLS", lines)
        self.assertIn("250-AUTH PLAIN LOGIN", lines)

    def test_in_clear_neither_auth_nor_requiretls_is_offered(self) -> None:
        lines = self.say(self.connect(MX), "EHLO c.test")
        self.assertIn("250-STARTTLS", lines)
        self.assertFalse([line for line in lines if "AUTH" in line or "REQUIRETLS" in line])

    def test_what_came_with_starttls_is_never_obeyed(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c.test")
        self.assertEqual(self.codes(client, "STARTTLS", "MAIL FROM:<eve@evil.test>"), ["421"])
        self.assertIsNotNone(client.lost)

    def test_it_is_said_once(self) -> None:
        client = self.secured()
        self.assertEqual(self.codes(client, "STARTTLS"), ["503"])

    def test_the_trace_field_says_how_it_was_encrypted(self) -> None:
        client = self.secured()
        self.say(client, "MAIL FROM:<a@b.test>", "RCPT TO:<ann@here.test>", "DATA")
        self.assertEqual(self.codes(client, "Subject: x", "", "x", "."), ["250"])
        ((mail,),) = self.world.mailboxes.values()
        self.assertIn(b"with ESMTPS id", mail.octets)
        self.assertIn(b"(using TLSv1.3 with cipher TLS_AES_", mail.octets)

    def test_a_client_that_does_not_shake_hands_is_let_go(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c.test")
        self.say(client, "STARTTLS")
        self.world.pass_time(29)
        self.assertIsNone(client.lost)
        self.world.pass_time(2)
        self.assertIsNotNone(client.lost)
        self.assertEqual(len(self.world.relay.listeners[MX].factory.connections), 0)

    def test_one_who_speaks_something_else_too(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c.test")
        self.say(client, "STARTTLS")
        self.say(client, "GET / HTTP/1.0", "")
        self.assertIsNotNone(client.lost)
        self.assertNotIn(b"250", client.octets)
        self.assertEqual(len(self.world.relay.listeners[MX].factory.connections), 0)

    def test_behind_the_handshake_a_client_has_as_long_as_any(self) -> None:
        client = self.secured()
        client.octets = b""
        self.world.pass_time(299)
        self.assertIsNone(client.lost)
        self.world.pass_time(2)
        self.assertEqual(client.octets[:3], b"421")
        other = self.connect(MX)
        self.say(other, "EHLO c")
        self.say(other, "STARTTLS")
        self.shake(other)
        self.world.pass_time(299)
        self.assertIsNone(other.lost)

    def test_errors_are_counted_on(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c.test", *["NONSENSE"] * 8)
        self.say(client, "STARTTLS")
        self.shake(client)
        self.say(client, "EHLO c.test")
        for _ in range(11):
            self.say(client, "NONSENSE")
            self.world.pass_time(1)
        self.assertIsNone(client.lost)
        self.say(client, "NONSENSE")
        self.world.pass_time(1)
        self.assertIn(b"421", client.octets)

    def test_a_relay_that_stops_does_not_wait_for_a_handshake(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c.test")
        self.say(client, "STARTTLS")
        factory = self.world.relay.listeners[MX].factory
        stopped = Deferred.fromCoroutine(factory.stop(5))
        self.world.settle()
        self.successResultOf(stopped)
        self.assertIsNotNone(client.lost)

    def test_where_tls_is_required_nothing_is_done_before(self) -> None:
        client = self.connect(SUBMISSION)
        self.say(client, "EHLO c.test")
        for command in ("MAIL FROM:<a@b.test>", "AUTH PLAIN AGEAYQ==", "VRFY ann", "RSET", "HELP"):
            self.assertEqual(self.say(client, command), ["530 5.7.0 Say STARTTLS first"])
        self.assertEqual(self.codes(client, "NOOP", "EHLO again.test", "QUIT"), ["250", "250", "221"])


class ImplicitTlsTests(ListenerCase):
    def test_it_begins_with_the_handshake(self) -> None:
        client = self.connect(SUBMISSIONS)
        self.assertEqual(client.octets, b"")
        self.shake(client)
        self.assertTrue(client.octets.startswith(b"220 mx.test"))
        self.assertNotIn("250-STARTTLS", self.say(client, "EHLO c"))
        self.assertEqual(self.codes(client, "STARTTLS"), ["502"])

    def test_who_speaks_in_clear_hears_nothing(self) -> None:
        client = self.connect(SUBMISSIONS)
        self.say(client, "EHLO c")
        self.assertNotIn(b"2", client.octets[:1])
        self.assertIsNotNone(client.lost)

    def test_who_says_nothing_is_let_go(self) -> None:
        client = self.connect(SUBMISSIONS)
        self.world.pass_time(31)
        self.assertIsNotNone(client.lost)

    def test_a_proxy_introduces_its_client_before_the_handshake(self) -> None:
        client = self.connect(SUBMISSIONS, "198.51.100.9")
        connection = self.tls("verify").toward(HERE).clientConnectionForTLS(None)
        connection.set_connect_state()
        advance((connection, []))
        # The header and the first octets of the handshake in one piece.
        hello = connection.bio_read(65536)
        client.transport.write(b"PROXY TCP4 192.0.2.7 192.0.2.25 56324 465\r\n" + hello)
        self.world.settle()
        connection.bio_write(client.octets)
        connection.do_handshake()
        client.transport.write(connection.bio_read(65536))
        client.octets = b""
        self.world.settle()
        connection.bio_write(client.octets)
        self.assertTrue(connection.recv(65536).startswith(b"220 mx.test"))
        connection.send(b"EHLO c\r\n")
        client.octets = b""
        client.transport.write(connection.bio_read(65536))
        self.world.settle()
        connection.bio_write(client.octets)
        self.assertIn(b"[192.0.2.7]", connection.recv(65536))


class AuthTests(ListenerCase):
    def test_submission_wants_it_before_mail(self) -> None:
        client = self.secured(SUBMISSION)
        self.assertEqual(self.say(client, "MAIL FROM:<ann@here.test>"), ["530 5.7.0 Authentication required"])
        self.assertEqual(self.codes(client, f"AUTH PLAIN {plain('ann', 'secret')}"), ["235"])
        self.assertEqual(self.codes(client, "MAIL FROM:<ann@here.test>", "RCPT TO:<x@example.org>"), ["250", "250"])

    def test_login_asks_for_the_user_and_then_for_the_password(self) -> None:
        client = self.secured(SUBMISSION)
        self.assertEqual(self.say(client, "AUTH LOGIN"), ["334 VXNlcm5hbWU6"])
        self.assertEqual(self.say(client, base64.b64encode(b"ann").decode()), ["334 UGFzc3dvcmQ6"])
        self.assertEqual(self.codes(client, base64.b64encode(b"secret").decode()), ["235"])

    def test_an_empty_challenge_keeps_its_space(self) -> None:
        client = self.secured(SUBMISSION)
        self.say(client, "AUTH PLAIN")
        self.assertEqual(client.octets, b"334 \r\n")
        self.assertEqual(self.codes(client, plain("ann", "secret")), ["235"])

    def test_whom_policies_see_is_whom_it_has_proved(self) -> None:
        client = self.secured(SUBMISSION)
        self.say(client, f"AUTH PLAIN {plain('ann', 'secret')}")
        client_of = self.world.log.events
        self.assertIn("authenticated", [event.what for event in client_of])

    def test_it_is_done_once_and_not_amid_a_transaction(self) -> None:
        client = self.secured(MX)
        self.assertEqual(self.codes(client, "MAIL FROM:<a@b.test>", "AUTH LOGIN", "RSET"), ["250", "503", "250"])
        self.assertEqual(self.codes(client, f"AUTH PLAIN {plain('ann', 'secret')}", "AUTH LOGIN"), ["235", "503"])

    def test_what_is_not_offered_is_unknown(self) -> None:
        client = self.secured(SUBMISSION)
        self.assertEqual(self.codes(client, "AUTH CRAM-MD5", "AUTH EXTERNAL ="), ["504", "504"])

    def test_a_client_may_think_better_of_it(self) -> None:
        client = self.secured(SUBMISSION)
        for _ in range(5):  # which is no failure
            self.assertEqual(self.codes(client, "AUTH LOGIN", "*"), ["334", "501"])
        self.assertEqual(self.codes(client, f"AUTH PLAIN {plain('ann', 'secret')}"), ["235"])

    def test_what_is_no_base64_is_no_response(self) -> None:
        client = self.secured(SUBMISSION)
        self.assertEqual(self.codes(client, "AUTH LOGIN", "not base64!"), ["334", "501"])
        self.assertEqual(self.codes(client, "AUTH PLAIN x", "NOOP"), ["501", "250"])
        self.assertEqual(self.codes(client, "AUTH LOGIN", "A" * 13000, "NOOP"), ["334", "500", "250"])

    def test_three_failures_end_the_session(self) -> None:
        client = self.secured(SUBMISSION)
        wrong = f"AUTH PLAIN {plain('ann', 'wrong')}"
        self.assertEqual(self.codes(client, wrong, wrong, wrong), ["535", "535", "421"])
        self.assertIsNotNone(client.lost)

    def test_an_address_that_fails_too_often_has_to_wait(self) -> None:
        wrong = f"AUTH PLAIN {plain('ann', 'wrong')}"
        for _ in range(5):
            self.codes(self.secured(SUBMISSION), wrong, wrong)
        right = f"AUTH PLAIN {plain('ann', 'secret')}"
        self.assertEqual(self.codes(self.secured(SUBMISSION), right), ["421"])
        self.assertEqual(self.codes(self.secured(SUBMISSION, "192.0.2.78"), right), ["235"])
        self.world.pass_time(601)
        self.assertEqual(self.codes(self.secured(SUBMISSION), right), ["235"])

    def test_when_nobody_can_say_it_is_no_failure(self) -> None:
        client = self.secured(SUBMISSION)
        right = f"AUTH PLAIN {plain('ann', 'secret')}"
        for trouble in (CredentialsUnavailable("the file is gone"), RuntimeError("a mistake")):
            self.people.trouble = trouble
            for _ in range(3):
                self.assertEqual(self.codes(client, right), ["454"])
        self.people.trouble = None
        self.assertEqual(self.codes(client, right), ["235"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 3)

    def test_who_leaves_before_the_answer_has_failed(self) -> None:
        self.people.waiting = Deferred()
        for _ in range(10):
            client = self.secured(SUBMISSION)
            self.say(client, f"AUTH PLAIN {plain('ann', 'guess')}")
            client.transport.abortConnection()
            self.world.settle()
        self.people.waiting = None
        self.assertEqual(self.codes(self.secured(SUBMISSION), f"AUTH PLAIN {plain('ann', 'secret')}"), ["421"])

    def test_a_source_of_users_that_names_nobody_has_let_nobody_in(self) -> None:
        async def nobody(user: str, password: str) -> str | None:
            return ""

        self.people.check_password = nobody  # type: ignore[method-assign]
        self.assertEqual(self.codes(self.secured(SUBMISSION), f"AUTH PLAIN {plain('ann', 'x')}"), ["535"])

    def test_a_response_is_never_taken_for_a_command(self) -> None:
        client = self.secured(SUBMISSION)
        self.assertEqual(self.codes(client, "AUTH PLAIN", "QUIT", "NOOP"), ["334", "501", "250"])
        self.assertIsNone(client.lost)


class ScramTests(ListenerCase):
    def setUp(self) -> None:
        super().setUp()
        self.people.scram = True

    def exchange(self, client: Client, mechanism: str, flag: bytes, binding: bytes) -> list[str]:
        """RFC 5802 section 5, by hand."""
        bare = b"n=ann,r=abcdef"
        header = flag + b",,"
        (challenge,) = self.say(client, f"AUTH {mechanism} {base64.b64encode(header + bare).decode()}")
        server_first = base64.b64decode(challenge[4:])
        fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
        salted = hashlib.pbkdf2_hmac("sha256", b"secret", base64.b64decode(fields[b"s"]), int(fields[b"i"]))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        unproved = b"c=" + base64.b64encode(header + binding) + b",r=" + fields[b"r"]
        signature = hmac.digest(
            hashlib.sha256(client_key).digest(), bare + b"," + server_first + b"," + unproved, "sha256"
        )
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        (verdict,) = self.say(client, base64.b64encode(unproved + b",p=" + base64.b64encode(proof)).decode())
        if not verdict.startswith("334"):
            return [verdict[:3]]
        return self.codes(client, "")

    def test_neither_side_says_the_password(self) -> None:
        client = self.secured(SUBMISSION)
        self.assertIn("250-AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN", self.say(client, "EHLO c"))
        self.assertEqual(self.exchange(client, "SCRAM-SHA-256", b"n", b""), ["235"])

    def test_a_proof_can_be_bound_to_the_channel(self) -> None:
        client = self.secured(SUBMISSION)
        handle: SSL.Connection = client.transport.getHandle()
        bindings = channel_bindings(handle, handle.get_peer_certificate(as_cryptography=True))
        for name in ("tls-exporter", "tls-server-end-point"):
            with self.subTest(name):
                client = self.secured(SUBMISSION)
                handle = client.transport.getHandle()
                bindings = channel_bindings(handle, handle.get_peer_certificate(as_cryptography=True))
                flag = f"p={name}".encode()
                self.assertEqual(self.exchange(client, "SCRAM-SHA-256-PLUS", flag, bindings[name]), ["235"])

    def test_what_no_program_sends_is_refused_before_it_costs_anything(self) -> None:
        began = time.process_time()
        for name in ("\ufdfa" * 2800, "n" * 256):
            client = self.secured(SUBMISSION)
            first = base64.b64encode(f"n,,n={name},r=abc".encode()).decode()
            self.assertEqual(self.codes(client, "AUTH SCRAM-SHA-256", first), ["334", "535"])
            self.assertEqual(self.codes(client, f"AUTH PLAIN {plain('ann', 'x' * 1025)}"), ["535"])
        self.assertLess(time.process_time() - began, 0.5)

    def test_a_nonce_is_not_longer_than_our_answer_can_be(self) -> None:
        client = self.secured(SUBMISSION)
        first = base64.b64encode(b"n,,n=ann,r=" + b"x" * 201).decode()
        self.assertEqual(self.codes(client, f"AUTH SCRAM-SHA-256 {first}"), ["501"])
        first = base64.b64encode(b"n,,n=ann,r=" + b"x" * 200).decode()
        self.assertEqual(self.codes(client, f"AUTH SCRAM-SHA-256 {first}", "*"), ["334", "501"])

    def test_one_of_another_channel_is_worth_nothing(self) -> None:
        other = self.secured(SUBMISSION).transport.getHandle()
        client = self.secured(SUBMISSION)
        binding = channel_bindings(other, None)["tls-exporter"]
        self.assertEqual(self.exchange(client, "SCRAM-SHA-256-PLUS", b"p=tls-exporter", binding), ["535"])


class CertificateTests(ListenerCase):
    def tls_of(self, name: str) -> ServerTls:
        return self.listener(HERE, terms=Terms(request_client_certificate=self.authority))

    def test_a_certificate_says_who_somebody_is(self) -> None:
        leaf = issue("ann@here.test", common_name="ann")
        client = self.connect(SUBMISSION)
        self.say(client, "EHLO c")
        self.say(client, "STARTTLS")
        peer = self.tls("verify").toward(HERE)
        context: SSL.Context = peer._context
        path = str(self.file("client.pem", octets(leaf)))
        context.use_certificate_chain_file(path)
        context.use_privatekey_file(path)
        self.shake(client, peer)
        self.assertIn(
            "250-AUTH EXTERNAL SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN".replace(
                "SCRAM-SHA-256-PLUS SCRAM-SHA-256 ", ""
            ),
            self.say(client, "EHLO c"),
        )
        self.assertEqual(self.codes(client, f"AUTH EXTERNAL {base64.b64encode(b'bob').decode()}"), ["535"])
        self.assertEqual(self.codes(client, "AUTH EXTERNAL ="), ["235"])

    def certified(self, leaf: Any, source: str = "192.0.2.77", *, introducing: str = "") -> Client:
        client = self.connect(MX, source)
        self.say(client, "EHLO c")
        self.say(client, "STARTTLS")
        peer = self.tls("verify").toward(HERE)
        context: SSL.Context = peer._context
        path = str(self.file("client.pem", octets(leaf)))
        context.use_certificate_chain_file(path)
        context.use_privatekey_file(path)
        self.shake(client, peer)
        if introducing:
            self.assertEqual(self.codes(client, "EHLO c", introducing), ["250", "220"])
        return client

    def test_what_a_front_host_shows_says_nothing_of_its_client(self) -> None:
        front = issue("front@here.test", common_name="front")
        self.assertIn("EXTERNAL", str(self.say(self.certified(front, "198.51.100.9"), "EHLO c")))
        client = self.certified(front, "198.51.100.9", introducing="XCLIENT ADDR=203.0.113.66")
        self.assertNotIn("EXTERNAL", str(self.say(client, "EHLO c")))
        self.assertEqual(self.codes(client, "AUTH EXTERNAL ="), ["504"])

    def test_a_name_of_which_we_see_only_a_part_is_nobodys(self) -> None:
        for leaf in (issue("a.example", common_name="j\u00f6rg"), issue("a.example", common_name="j?rg")):
            self.assertNotIn("EXTERNAL", str(self.say(self.certified(leaf), "EHLO c")))

    def test_who_shows_none_is_served_and_has_to_say_more(self) -> None:
        client = self.secured(SUBMISSION)
        self.assertIn("250-AUTH PLAIN LOGIN", self.say(client, "EHLO c"))


class SubmissionTests(ListenerCase):
    def submit(self, *content: str) -> bytes:
        client = self.authenticated()
        self.say(client, "MAIL FROM:<ann@here.test>", "RCPT TO:<bob@here.test>", "DATA")
        self.assertEqual(self.codes(client, *content, "."), ["250"])
        ((mail,),) = self.world.mailboxes.values()
        return mail.octets

    def test_what_a_message_lacks_is_put_on_top_of_it(self) -> None:
        kept = self.submit("Subject: x", "", "x")
        head, _, rest = kept.partition(b"Subject: x\r\n")
        self.assertIn(b"with ESMTPSA id", head)
        self.assertRegex(head, rb"\r\nDate: [A-Z][a-z]{2}, .*\r\nMessage-ID: <[A-Z0-9]+@mx\.test>\r\n\Z")
        self.assertEqual(rest, b"\r\nx\r\n")

    def test_what_it_has_stays_alone(self) -> None:
        kept = self.submit("date : Mon, 1 Jan 2024 00:00:00 +0000", "MESSAGE-ID: <a@b>", "", "x")
        self.assertEqual((kept.lower().count(b"\r\ndate"), kept.lower().count(b"message-id")), (1, 1))

    def test_what_only_looks_like_it_does_not_count(self) -> None:
        kept = self.submit("Subject: x", "X-Date: y", " Date: z", "Message-ID-2: <a@b>", "", "Date: today")
        self.assertRegex(kept, rb"\r\nDate: [A-Z][a-z]{2}, .*\r\nMessage-ID: <")

    def test_text_without_a_header_gets_one(self) -> None:
        kept = self.submit("hello")
        self.assertRegex(kept, rb"Message-ID: <[^>]+>\r\n\r\nhello\r\n\Z")

    def test_relaying_mail_of_others_is_not_mended(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c", "MAIL FROM:<x@y.test>", "RCPT TO:<bob@here.test>")
        self.say(client, "DATA")
        self.assertEqual(self.codes(client, "Subject: x", "", "x", "."), ["250"])
        ((mail,),) = self.world.mailboxes.values()
        self.assertNotIn(b"Message-ID", mail.octets)

    def test_a_message_can_wait_for_its_time(self) -> None:
        client = self.authenticated()
        (offer,) = [line for line in self.say(client, "EHLO c") if "FUTURERELEASE" in line]
        self.assertRegex(offer, r"^250-FUTURERELEASE 604800 [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z$")
        self.assertEqual(self.codes(client, "MAIL FROM:<ann@here.test> HOLDFOR=604801"), ["501"])
        self.assertEqual(self.codes(client, "MAIL FROM:<> HOLDFOR=60"), ["501"])
        self.assertEqual(self.codes(client, "MAIL FROM:<ann@here.test> HOLDFOR=60 BY=59;R"), ["501"])
        self.say(client, "MAIL FROM:<ann@here.test> HOLDFOR=3600", "RCPT TO:<bob@here.test>", "DATA")
        id = self.say(client, "Subject: x", "", "x", ".")[0].rpartition(" ")[2]
        kept = self.successResultOf(Deferred.fromCoroutine(self.world.spool.look_up(id)))
        assert kept is not None
        self.assertEqual(kept[0].envelope.hold_for, 3600)
        self.world.pass_time(3590)
        self.assertEqual(len(self.world.mailboxes), 0)
        self.world.pass_time(20)
        self.assertEqual(len(self.world.mailboxes), 1)


class InquiryTests(ListenerCase):
    def test_who_is_authenticated_may_ask_who_is_here(self) -> None:
        client = self.authenticated()
        self.assertEqual(self.say(client, "VRFY ann@here.test"), ["250 2.1.5 <ann@here.test>"])
        self.assertEqual(self.codes(client, "VRFY <eve@here.test>", "VRFY who@elsewhere.test"), ["550", "252"])
        self.assertEqual(self.codes(client, "VRFY a b"), ["501"])

    def test_others_are_told_nothing(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c")
        self.assertEqual(self.codes(client, "VRFY ann@here.test", "VRFY eve@here.test"), ["252", "252"])
        self.assertEqual(self.codes(client, "EXPN team@here.test"), ["502"])

    def test_an_alias_is_expanded_for_them(self) -> None:
        client = self.authenticated()
        self.assertEqual(
            self.say(client, "EXPN team@here.test"), ["250-2.1.5 <ann@here.test>", "250 2.1.5 <bob@here.test>"]
        )
        self.assertEqual(self.codes(client, "EXPN ann@here.test", "EXPN eve@here.test"), ["550", "550"])

    def test_etrn_makes_waiting_mail_go(self) -> None:
        exchange = self.world.exchange("example.org", "192.0.2.88")
        self.world.internet.remove("192.0.2.88")
        client = self.authenticated()
        self.say(client, "MAIL FROM:<ann@here.test>", "RCPT TO:<x@example.org>", "DATA")
        self.say(client, "Subject: x", "", "x", ".")
        self.world.pass_time(1)
        self.world.internet.add("192.0.2.88", exchange)
        self.assertEqual(self.codes(client, "ETRN example.org"), ["550"])  # users have no say in our queue
        client = self.connect(MX, "127.0.0.1")
        self.say(client, "EHLO c")
        self.assertEqual(self.codes(client, "ETRN elsewhere.test", "ETRN @@"), ["251", "501"])
        self.assertEqual(len(exchange.messages), 0)
        self.assertEqual(self.say(client, "ETRN example.org")[0][:5], "253 2")
        self.world.pass_time(1)
        self.assertEqual(len(exchange.messages), 1)

    def test_strangers_do_not_run_our_queue(self) -> None:
        client = self.connect(MX)
        lines = self.say(client, "EHLO c")
        self.assertFalse([line for line in lines if "ETRN" in line])
        self.assertEqual(self.codes(client, "ETRN example.org"), ["550"])


class LmtpTests(ListenerCase):
    def test_each_recipient_has_its_reply(self) -> None:
        client = self.connect(LMTP)
        self.assertEqual(self.codes(client, "EHLO c", "HELO c", "LHLO c"), ["500", "500", "250"])
        self.say(client, "MAIL FROM:<a@b.test>", "RCPT TO:<ann@here.test>", "RCPT TO:<eve@here.test>")
        self.assertEqual(self.codes(client, "RCPT TO:<bob@here.test>", "DATA"), ["250", "354"])
        self.assertEqual(self.codes(client, "Subject: x", "", "x", ".", "NOOP"), ["250", "250", "250"])
        self.assertIn(b"with LMTP id", next(iter(self.world.mailboxes.values()))[0].octets)

    def test_also_when_the_content_is_refused(self) -> None:
        client = self.connect(LMTP)
        self.say(client, "LHLO c", "MAIL FROM:<a@b.test>", "RCPT TO:<ann@here.test>", "RCPT TO:<bob@here.test>", "DATA")
        self.assertEqual(self.codes(client, "Subject: x", "", "x\ry", ".", "NOOP"), ["550", "550", "250"])

    def test_and_by_bdat(self) -> None:
        client = self.connect(LMTP)
        self.say(client, "LHLO c", "MAIL FROM:<a@b.test>", "RCPT TO:<ann@here.test>", "RCPT TO:<bob@here.test>")
        client.octets = b""
        client.transport.write(b"BDAT 5\r\na: b\rBDAT 5 LAST\r\n\n\r\nx\rNOOP\r\n")
        self.world.settle()
        # The last line has no LF behind its CR, and that is said to each of the two.
        codes = [line[:3] for line in client.octets.decode().splitlines()]
        self.assertEqual(codes, ["250", "550", "550", "250"])


class XClientTests(ListenerCase):
    def test_a_host_that_is_trusted_for_it_speaks_for_its_clients(self) -> None:
        client = self.connect(MX, "198.51.100.9")
        self.assertIn("250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN", self.say(client, "EHLO front.test"))
        self.assertEqual(self.codes(client, "XCLIENT ADDR=203.0.113.5 PORT=4711 NAME=[UNAVAILABLE]"), ["220"])
        self.assertIn("[203.0.113.5]", self.say(client, "EHLO their.client.test")[0])

    def test_what_is_said_behind_it_is_the_clients(self) -> None:
        client = self.connect(MX, "198.51.100.9")
        self.say(client, "EHLO front.test")
        said = self.say(
            client, "XCLIENT ADDR=IPV6:2001:db8::5 LOGIN=bob", "EHLO c", "MAIL FROM:<>", "RCPT TO:<a@x.test>"
        )
        self.assertIn("[2001:db8::5]", said[1])
        self.assertEqual(said[-1][:3], "250")  # bob may send mail onward

    def test_it_is_a_strangers_session_whoever_the_host_is(self) -> None:
        client = self.connect(MX, "198.51.100.9")
        self.say(client, "EHLO front.test", "XCLIENT ADDR=203.0.113.5")
        self.assertEqual(self.codes(client, "EHLO c", "MAIL FROM:<>", "RCPT TO:<a@x.test>"), ["250", "250", "550"])
        self.assertEqual(self.codes(client, "RSET", "ETRN x.test"), ["250", "550"])

    def test_nobody_else_may(self) -> None:
        client = self.connect(MX)
        self.assertFalse([line for line in self.say(client, "EHLO c") if "XCLIENT" in line])
        self.assertEqual(self.codes(client, "XCLIENT ADDR=127.0.0.1"), ["550"])

    def test_what_is_no_value_is_refused(self) -> None:
        client = self.connect(MX, "198.51.100.9")
        self.say(client, "EHLO c")
        for wrong in ("ADDR=x", "ADDR", "PORT=99999", "FOO=1", "ADDR=1.2.3.4 ADDR=1.2.3.5", "HELO=a+20b", "PROTO=QMTP"):
            self.assertEqual(self.codes(client, f"XCLIENT {wrong}"), ["501"], wrong)

    def test_whom_it_speaks_for_cannot_become_somebody_else(self) -> None:
        client = self.connect(MX, "198.51.100.9")
        self.say(client, "EHLO front.test")
        lines = self.say(client, "XCLIENT ADDR=203.0.113.5", "EHLO evil.test")
        self.assertFalse([line for line in lines if "XCLIENT" in line])
        self.assertEqual(self.codes(client, "XCLIENT ADDR=127.0.0.1 LOGIN=ann"), ["550"])
        self.assertEqual(self.codes(client, "MAIL FROM:<>", "RCPT TO:<a@x.test>"), ["250", "550"])

    def test_nor_by_a_handshake_behind_which_nobody_would_know_of_it(self) -> None:
        client = self.connect(MX, "198.51.100.9")
        lines = self.say(client, "EHLO front.test", "XCLIENT ADDR=203.0.113.5", "EHLO c")
        self.assertEqual(len([line for line in lines if "STARTTLS" in line]), 1)  # the host's own
        self.assertEqual(self.codes(client, "STARTTLS"), ["550"])

    def test_an_address_is_one_in_whatever_form(self) -> None:
        for wrong in ("fe80::1%a(b)c", "fe80::1%+C3+A9", "IPV6:192.0.2.1", "IPV6:fe80::1%1"):
            client = self.connect(MX, "198.51.100.9")
            self.assertEqual(self.codes(client, "EHLO c", f"XCLIENT ADDR={wrong}"), ["250", "501"], wrong)
        self.say(client, "XCLIENT ADDR=::ffff:192.0.2.3")
        self.assertIn("[192.0.2.3]", self.say(client, "EHLO c")[0])


class FloodTests(ListenerCase):
    configuration = CONFIGURATION.replace('trusted = ["127.0.0.0/8"]', "trusted = []") + "[limits]\nconnections = 4\n"

    def test_nobody_is_kept_in_a_handshake_who_may_not_stay(self) -> None:
        clients = [self.connect(SUBMISSIONS, f"192.0.2.{30 + each}") for each in range(10)]
        self.assertEqual([client.lost is None for client in clients], [True] * 4 + [False] * 6)

    def test_nor_for_a_greeting(self) -> None:
        clients = [self.connect(FRONT, f"192.0.2.{30 + each}") for each in range(10)]
        self.assertEqual([client.octets[:3] for client in clients], [b""] * 4 + [b"421"] * 6)

    def test_nor_in_front_of_a_proxys_header(self) -> None:
        clients = [self.connect(SUBMISSIONS, "198.51.100.9") for each in range(10)]
        self.assertEqual([client.lost is None for client in clients], [True] * 4 + [False] * 6)
        for client in clients[:4]:
            client.transport.abortConnection()
        self.world.settle()
        self.assertEqual(self.connect(MX).octets[:3], b"220")

    def test_of_ipv6_a_network_counts_as_one(self) -> None:
        self.world.relay.admission._limits = Limits()
        clients = [self.connect(MX, f"2001:db8::{each:x}") for each in range(1, 61)]
        self.assertEqual(sum(client.octets.startswith(b"220") for client in clients), 50)
        self.assertEqual(self.connect(MX, "2001:db8:0:1::1").octets[:3], b"220")


class NewcomerTests(ListenerCase):
    def test_who_errs_before_it_has_said_its_name_is_logged_by_where_it_is(self) -> None:
        client = self.connect(MX, "192.0.2.77")
        self.assertEqual(self.codes(client, "NONSENSE"), ["500"])
        self.say(client, "EHLO c", "NONSENSE")
        seen = [(e.fields["client"], e.fields.get("helo", "")) for e in self.world.log.events if e.what == "refused"]
        self.assertEqual(seen, [("192.0.2.77", ""), ("192.0.2.77", "c")])


class PatientTests(ListenerCase):
    configuration = CONFIGURATION.replace('greeting_delay = "6s"', 'greeting_delay = "45s"')

    def test_a_long_delay_is_no_fault_of_ours(self) -> None:
        client = self.connect(FRONT)
        self.world.pass_time(44)
        self.assertEqual(client.octets, b"")
        self.world.pass_time(2)
        self.assertEqual(client.octets[:3], b"220")

    def test_who_answers_and_does_not_let_go_is_given_up(self) -> None:
        async def stubborn(user: str, password: str) -> str | None:
            for _ in range(100):
                try:
                    await Deferred()
                except Exception:  # that is the mistake
                    continue
            return None

        self.people.check_password = stubborn  # type: ignore[method-assign]
        client = self.secured(SUBMISSION)
        self.assertEqual(self.codes(client, f"AUTH PLAIN {plain('ann', 'secret')}"), [])
        self.world.pass_time(36)
        self.assertEqual(client.octets[:3], b"421")
        self.assertIsNotNone(client.lost)

    def test_an_answer_that_we_have_not_found_in_time_is_no_failure_of_the_clients(self) -> None:
        right = f"AUTH PLAIN {plain('ann', 'secret')}"
        for _ in range(12):
            self.people.waiting = Deferred()
            client = self.secured(SUBMISSION)
            self.say(client, right)
            self.world.pass_time(36)
            self.assertEqual(client.octets[:3], b"451")
            client.transport.abortConnection()
            self.world.settle()
        self.people.waiting = None
        self.assertEqual(self.codes(self.secured(SUBMISSION), right), ["235"])

    def test_answers_that_waited_come_slowly_too_after_many_errors(self) -> None:
        client = self.secured(SUBMISSION)
        self.say(client, *["NONSENSE"] * 11)
        self.world.pass_time(30)
        self.people.waiting = Deferred()
        self.assertEqual(self.codes(client, f"AUTH PLAIN {plain('ann', 'wrong')}"), [])
        self.people.waiting.callback(None)
        self.world.settle()
        self.assertEqual(client.octets, b"")
        self.world.pass_time(1)
        self.assertEqual(client.octets[:3], b"535")


class EarlyTalkerTests(ListenerCase):
    def test_who_does_not_wait_for_the_greeting_is_cut_off(self) -> None:
        client = self.connect(FRONT)
        self.assertEqual(client.octets, b"")
        self.assertEqual(self.codes(client, "EHLO spam.test"), [])
        self.world.pass_time(6)
        self.assertEqual(client.octets[:3], b"554")
        self.assertIsNotNone(client.lost)

    def test_who_waits_is_greeted(self) -> None:
        client = self.connect(FRONT)
        self.world.pass_time(6)
        self.assertEqual(client.octets[:3], b"220")

    def test_whom_we_trust_need_not_wait(self) -> None:
        self.assertEqual(self.connect(FRONT, "127.0.0.1").octets[:3], b"220")

    def test_content_before_354_is_refused(self) -> None:
        client = self.connect(MX)
        self.say(client, "EHLO c", "MAIL FROM:<a@b.test>", "RCPT TO:<ann@here.test>")
        self.assertEqual(self.codes(client, "DATA", "Subject: x", "", "x", "."), ["554"])
        self.assertIsNotNone(client.lost)
        self.assertEqual(len(self.world.mailboxes), 0)

    def test_people_and_our_own_hosts_are_forgiven(self) -> None:
        client = self.authenticated(SUBMISSION)
        self.say(client, "MAIL FROM:<ann@here.test>", "RCPT TO:<bob@here.test>")
        self.assertEqual(self.codes(client, "DATA", "Subject: x", "", "x", "."), ["354", "250"])


class EnvelopeTests(ListenerCase):
    def test_all_that_mail_and_rcpt_say_is_kept(self) -> None:
        self.world.exchange("example.org", "192.0.2.88")
        self.world.internet.remove("192.0.2.88")
        self.world.names.signed.add("")
        client = self.authenticated()
        self.assertEqual(
            self.codes(
                client,
                "MAIL FROM:<ann@here.test> SIZE=10 BODY=8BITMIME RET=HDRS ENVID=a+2Bb REQUIRETLS BY=3600;NT "
                "MT-PRIORITY=-3 AUTH=<>",
                "RCPT TO:<x@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;X+40example.org",
                "DATA",
            ),
            ["250", "250", "354"],
        )
        id = self.say(client, "Subject: x", "", "x", ".")[0].rpartition(" ")[2]
        kept = self.successResultOf(Deferred.fromCoroutine(self.world.spool.look_up(id)))
        assert kept is not None
        entry, (pending,) = kept
        envelope = entry.envelope
        self.assertEqual((envelope.returns.value, envelope.envid), ("HDRS", "a+2Bb"))  # type: ignore[union-attr]
        self.assertEqual((envelope.require_tls, envelope.priority), (True, -3))
        by = envelope.deliver_by
        assert by is not None
        self.assertEqual((by.mode, by.trace, by.until), (ByMode.NOTIFY, True, entry.arrived + 3600))
        self.assertEqual(envelope.client.user, "ann")
        assert envelope.client.tls is not None
        self.assertEqual(envelope.client.tls.protocol, "TLSv1.3")
        wishes = pending.recipient.wishes
        self.assertEqual({word.value for word in wishes.notify or ()}, {"SUCCESS", "DELAY"})
        self.assertEqual(wishes.orcpt, "rfc822;X+40example.org")
