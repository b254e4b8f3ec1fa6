"""
What attackers do to be somebody: STARTTLS, AUTH, XCLIENT, PROXY, and talking out of turn.

Each test is an attack on the relay as a whole, and fails if the defence is taken out. Which line of the list of attacks
has which test is said in `tests/test_attacks.py`.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from relay.interfaces import CredentialsUnavailable
from relay.mail.event import shape_of
from relay.net.logline import json_lines, text_lines
from relay.testing.world import MailWorld
from tests.stage import FRIEND, PASSWORDS, STRANGER, Client, StagedWorld, Users
from tests.test_attacks import AttackCase, codes
from tests.test_tls import TlsTestCase

CONFIGURATION = """
hostname = "mx.here.test"

[auth]
passwords = "users"

[limits]
connections = 40
connections_per_minute = 1000

[[listener]]
name    = "world"
address = "192.0.2.1:25"
tls     = "offer"
xclient = ["192.0.2.200/32"]

[[listener]]
name           = "slow"
address        = "192.0.2.1:26"
greeting_delay = "2s"

[[listener]]
name     = "submission"
address  = "192.0.2.1:587"
protocol = "submission"
tls      = "require"

[[listener]]
name     = "submissions"
address  = "192.0.2.1:465"
protocol = "submission"
tls      = "implicit"

[[listener]]
name    = "proxied"
address = "192.0.2.1:27"
proxy   = ["192.0.2.200/32"]

[[policy]]
use = "mailbox"
domains = ["here.test"]
users = ["jon", "ann"]
directory = "mail"

[[policy]]
use = "forward"
when = { authenticated = true }

[[policy]]
use = "forward"
when = { client = ["127.0.0.0/8"] }
"""
INTRODUCER = "192.0.2.200"
LETTER = b"MAIL FROM:<eve@evil.test>\r\nRCPT TO:<bob@far.test>\r\nDATA\r\n"
#: Of a stranger whom nobody relays for.
NOT_RELAYED = [250, 550, 503]


def base64(text: str) -> str:
    return b64encode(text.encode()).decode()


def plain(user: str, password: str, authzid: str = "") -> str:
    return base64(f"{authzid}\0{user}\0{password}")


ANN = plain("ann", PASSWORDS["ann"])


class IdentityCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = StagedWorld(CONFIGURATION)

    def meet(self, listener: str = "world", client: str = STRANGER, hello: str = "EHLO evil.test") -> Client:
        met = self.world.meet(client, listener)
        if hello:
            self.assertEqual(met.codes(hello), [250])
        return met

    def encrypted(self, listener: str = "world", client: str = STRANGER) -> Client:
        """A client that has said EHLO behind a handshake."""
        met = self.meet(listener, client)
        if listener != "submissions":
            self.assertEqual(met.codes("STARTTLS"), [220])
            met.handshake()
            self.assertEqual(met.codes("EHLO evil.test"), [250])
        return met

    def answer(self, client: Client, octets: bytes) -> list[int]:
        client.send(octets)
        self.world.settle()
        return codes(client.replies())

    def is_nobody(self, client: Client) -> None:
        """Nobody relays for it."""
        self.assertEqual(self.answer(client, b"RSET\r\nEHLO again\r\n" + LETTER)[-3:], NOT_RELAYED)
        self.assertEqual(self.world.log.named("authenticated"), [])

    def nothing_came_of_it(self) -> None:
        self.world.pass_time(6 * 24 * 3600)
        self.assertEqual((dict(self.world.mailboxes), self.world.internet.attempts), ({}, []))


class StartTlsTests(IdentityCase):
    """Octets behind STARTTLS close the connection; a new session after the handshake; nothing learned survives."""

    def test_nothing_that_was_said_behind_starttls_is_ever_looked_at(self) -> None:
        for injected in (b"NOOP\r\n", b"EHLO evil\r\n" + LETTER, b"\r\n", b"x", b"\x16\x03\x01"):
            for head, tail in ((b"STARTTLS\r\n" + injected, b""), (b"STARTTL", b"S\r\n" + injected)):
                client = self.meet()
                client.send(head)
                client.send(tail)
                self.assertEqual(codes(client.replies()), [421], injected)
                self.assertTrue(client.closed)
                self.assertFalse(client.wire.shaking)
                self.assertEqual(self.answer(client, b"EHLO evil\r\n" + LETTER), [])
        self.nothing_came_of_it()

    def test_nothing_that_was_said_in_clear_is_known_behind_the_handshake(self) -> None:
        client = self.meet(hello="EHLO evil.test")
        self.assertEqual(self.answer(client, LETTER.replace(b"bob@far", b"jon@here")[:-6] + b"RSET\r\n"), [250] * 3)
        self.assertEqual(client.codes("STARTTLS"), [220])
        client.handshake()
        # Neither that it had a name, nor a transaction.
        self.assertEqual(client.codes("RCPT TO:<jon@here.test>", "MAIL FROM:<a@b.test> SIZE=1"), [503, 503])
        self.assertEqual(client.codes("HELO good.test", "MAIL FROM:<a@b.test>", "RCPT TO:<jon@here.test>"), [250] * 3)
        self.assertEqual(client.codes("DATA"), [354])
        self.assertEqual(self.answer(client, b"a: b\r\n\r\n.\r\n"), [250])
        [[mail]] = self.world.mailboxes.values()
        self.assertIn(b"Received: from good.test (", mail.octets)
        self.assertNotIn(b"evil", mail.octets)

    def test_a_handshake_wipes_out_no_errors(self) -> None:
        client = self.meet()
        for _ in range(19):
            client.say("NONSENSE")
            self.world.pass_time(1.1)
        client.replies()
        self.assertEqual(client.codes("STARTTLS"), [220])
        client.handshake()
        client.say("NONSENSE")
        self.world.pass_time(1.1)
        client.replies()
        self.assertEqual(codes(client.heard)[-1], 421)
        self.assertTrue(client.closed)

    def test_where_tls_is_required_nothing_is_done_before_it(self) -> None:
        client = self.meet("submission")
        self.assertEqual(
            client.codes("MAIL FROM:<a@b.test>", "RCPT TO:<jon@here.test>", "DATA", "RSET", "HELP", "VRFY jon"),
            [530] * 6,
        )
        # Chunks are swallowed all the same.
        evil = b"MAIL FROM:<evil@b.test>\r\n"
        self.assertEqual(self.answer(client, b"BDAT %d LAST\r\n" % len(evil) + evil), [503])
        self.nothing_came_of_it()

    def test_a_transaction_does_not_begin_in_clear_and_end_behind_a_handshake(self) -> None:
        client = self.meet()
        for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<jon@here.test>"):
            self.assertEqual(client.codes(line), [250])
            self.assertEqual(client.codes("STARTTLS"), [503])
        self.assertFalse(client.wire.shaking)


class Caller(Protocol):
    """Says what it is told to, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


class RealTlsTests(TlsTestCase):
    """The same with real TLS: what is said in clear behind the 220 is no part of any session."""

    def test_what_is_said_in_clear_behind_220_breaks_the_handshake(self) -> None:
        world = StagedWorld(CONFIGURATION, tls={"world": self.listener("mx.here.test")})
        world.internet.add("192.0.2.1", world.relay.listeners[0].factory)
        for injected in (b"EHLO evil.test\r\n" + LETTER, b"\r\n", b"x" * 100):
            caller = Caller()
            factory = ClientFactory.forProtocol(lambda caller=caller: caller)
            world.internet.connectTCP("192.0.2.1", 25, factory)
            world.settle()
            for octets in (b"EHLO c\r\n", b"STARTTLS\r\n"):
                caller.transport.write(octets)
                world.settle()
            self.assertTrue(caller.heard.endswith(b"220 2.0.0 Ready to start TLS\r\n"))
            before = len(caller.heard)
            caller.transport.write(injected)
            world.settle()
            caller.transport.write(b"NOOP\r\nNOOP\r\n")
            world.pass_time(31)
            self.assertTrue(caller.lost, injected)
            # An alert of TLS at most, and no reply.
            self.assertNotIn(b"\r\n", caller.heard[before:])
        self.assertEqual([event.what for event in world.log.events], [])

    def test_who_does_not_shake_hands_is_not_waited_for(self) -> None:
        world = StagedWorld(CONFIGURATION)
        client = world.meet()
        client.codes("EHLO c", "STARTTLS")
        world.pass_time(29)
        self.assertFalse(client.wire.aborted)
        world.pass_time(2)
        self.assertTrue(client.wire.aborted)


class AuthTests(IdentityCase):
    """AUTH: not in clear; strict base64; `*` cancels; authzid empty or equal; 12288 octets; three failures close."""

    def test_no_password_is_asked_for_or_looked_at_in_clear(self) -> None:
        for listener, client, refusal in (
            ("world", STRANGER, 538),
            ("world", FRIEND, 538),
            ("submission", STRANGER, 530),
            ("slow", FRIEND, 502),
        ):
            met = self.world.meet(client, listener)
            self.world.pass_time(2)
            met.replies()
            offers = met.offers()
            self.assertNotIn("AUTH", offers)
            for line in (f"AUTH PLAIN {ANN}", "AUTH PLAIN", "AUTH LOGIN", "AUTH SCRAM-SHA-256", "AUTH EXTERNAL ="):
                self.assertEqual(met.codes(line), [refusal], line)
            # What was refused was not the beginning of anything.
            self.assertEqual(met.codes(ANN), [500])
        self.assertEqual(self.world.users.asked, 0)
        self.is_nobody(self.meet())

    def test_base64_is_strict(self) -> None:
        bad = (
            ANN.rstrip("="),
            ANN + "=",
            ANN[:-2] + "x=",
            f"{ANN[:8]} {ANN[8:]}",
            ANN + "AAAA",
            ANN[:-1],
            "=" + ANN,
            ANN.replace("A", "-"),
            ANN.replace("A", "\u00c4"),
            "==",
            "====",
            f"{ANN}*",
        )
        for wrong in bad:
            client = self.encrypted("submissions")
            self.assertEqual(client.codes(f"AUTH PLAIN {wrong}")[0], 501, wrong)
            self.assertEqual(client.codes("AUTH PLAIN", wrong), [334, 501], wrong)
            self.assertEqual(client.codes("MAIL FROM:<ann@here.test>"), [530])
            client.hang_up()
        self.assertEqual((self.world.users.asked, self.world.log.named("authenticated")), (0, []))

    def test_who_cancels_has_proved_nothing_and_nothing_is_left_of_it(self) -> None:
        client = self.encrypted("submissions")
        self.assertEqual(client.codes("AUTH LOGIN", base64("ann"), "*"), [334, 334, 501])
        # The password alone does not end what was cancelled.
        self.assertEqual(client.codes(base64("pencil"), "MAIL FROM:<>"), [500, 530])
        self.assertEqual(client.codes("AUTH LOGIN", base64("pencil"), "*"), [334, 334, 501])
        self.assertEqual(self.world.users.asked, 0)

    def test_nobody_acts_as_somebody_else(self) -> None:
        for authzid in ("bob", "root", "ann ", " ann", "ANN", "ann@here.test", "\u00aa\u00aa"):
            client = self.encrypted("submissions", client=f"198.51.100.{len(authzid)}")
            self.assertEqual(client.codes(f"AUTH PLAIN {plain('ann', 'pencil', authzid)}"), [535], authzid)
            self.assertEqual(client.codes("MAIL FROM:<>"), [530])
        self.assertEqual(self.world.users.asked, 0)
        client = self.encrypted("submissions")
        self.assertEqual(client.codes(f"AUTH PLAIN {plain('ann', 'pencil', 'ann')}"), [235])

    def test_a_response_has_a_bound(self) -> None:
        client = self.encrypted("submissions")
        client.codes("AUTH PLAIN")
        for _ in range(200):
            client.send(b"QUFB" * 1000)
            self.assertLess(client.server._session.buffered, 12288)
        self.assertEqual(codes(client.replies()), [500])
        client.send(b"\r\n")
        self.assertEqual(client.codes("MAIL FROM:<>"), [530])
        self.assertEqual(client.codes("AUTH PLAIN", "A" * 12284), [334, 501])
        self.assertEqual(client.codes("AUTH PLAIN", "A" * 12290, "NOOP"), [334, 500, 250])

    def test_three_failures_close_however_they_fail(self) -> None:
        for tries in (
            [f"AUTH PLAIN {plain('ann', 'x')}"] * 4,
            [f"AUTH PLAIN {plain('nobody', 'x')}"] * 4,
            [f"AUTH PLAIN {plain('ann', 'pencil', 'bob')}"] * 4,
            ["AUTH PLAIN AAAA"] * 4,
        ):
            self.world = StagedWorld(CONFIGURATION)
            client = self.encrypted("submissions")
            said = client.codes(*tries, f"AUTH PLAIN {ANN}")
            self.assertEqual((len(said), said[-1]), (3, 421), tries)
            self.assertTrue(client.closed)
            self.assertEqual(self.world.log.named("authenticated"), [])

    def test_ten_failures_from_an_address_are_enough_for_it_but_not_for_others(self) -> None:
        for number in range(10):
            client = self.encrypted("submissions")
            if number % 2:
                client.codes(f"AUTH PLAIN {plain('ann', str(number))}")
            else:
                # Who leaves amid an exchange has perhaps seen what he wanted to see.
                client.codes("AUTH LOGIN", base64("ann"))
            client.hang_up()
        # Nor does it help to know one password.
        self.assertEqual(self.encrypted("submissions").codes(f"AUTH PLAIN {ANN}"), [421])
        self.assertEqual(self.encrypted("submissions", "203.0.113.7").codes(f"AUTH PLAIN {ANN}"), [235])
        self.world.pass_time(601)
        self.assertEqual(self.encrypted("submissions").codes(f"AUTH PLAIN {ANN}"), [235])

    def test_who_tries_many_at_once_has_no_more_tries(self) -> None:
        self.world.users.waiting = Deferred()
        clients = [self.encrypted("submissions") for _ in range(15)]
        said = [client.codes(f"AUTH PLAIN {plain('ann', 'x')}") for client in clients]
        self.assertEqual(said, [[]] * 10 + [[421]] * 5)
        self.assertEqual(self.world.users.asked, 10)

    def test_where_nobody_knows_nobody_is_let_in(self) -> None:
        for problem in (CredentialsUnavailable("the file is gone"), ZeroDivisionError("pencil"), KeyError("ann")):
            self.world.users.problem = problem
            for line in (f"AUTH PLAIN {ANN}", f"AUTH SCRAM-SHA-256 {base64('n,,n=ann,r=abc')}"):
                client = self.encrypted("submissions")
                self.assertEqual(client.codes(line, "MAIL FROM:<ann@here.test>"), [454, 530])
        self.flushLoggedErrors()

    def test_what_is_pipelined_behind_auth_waits_for_its_verdict(self) -> None:
        self.world.users.waiting = waiting = Deferred()
        client = self.encrypted("submissions")
        self.assertEqual(client.codes(f"AUTH PLAIN {plain('ann', 'wrong')}", "MAIL FROM:<ann@here.test>"), [])
        waiting.callback(None)
        self.assertEqual(codes(client.replies()), [535, 530])

    def test_a_command_amid_an_exchange_is_a_bad_response(self) -> None:
        client = self.encrypted("submissions")
        for line in ("QUIT now", "RSET now", "MAIL FROM:<a@b.test>", "EHLO c.test", "STARTTLS"):
            self.assertEqual(client.codes("AUTH PLAIN", line), [334, 501], line)
        self.assertFalse(client.closed)

    def test_who_has_proved_who_it_is_does_not_become_another(self) -> None:
        client = self.encrypted("submissions")
        self.assertEqual(client.codes(f"AUTH PLAIN {ANN}"), [235])
        for line in (f"AUTH PLAIN {plain('bob', PASSWORDS['bob'])}", "AUTH LOGIN", "AUTH CRAM-MD5"):
            self.assertEqual(client.codes(line), [503])
        # Nor does EHLO, or RSET, wash it off.
        self.assertEqual(client.codes("RSET", "EHLO d", "MAIL FROM:<ann@here.test>"), [250] * 3)
        [told] = self.world.log.named("authenticated")
        self.assertEqual(told["user"], "ann")

    def test_no_secret_reaches_a_log(self) -> None:
        events: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(events.append)
        self.addCleanup(globalLogPublisher.removeObserver, events.append)
        secret = "hunter2hunter2"
        self.world = StagedWorld(CONFIGURATION, Users({"ann": secret}))
        for lines in (
            [f"AUTH PLAIN {plain('ann', secret)}"],
            [f"AUTH PLAIN {plain('ann', secret)}", f"AUTH PLAIN {plain('ann', secret)}"],
            ["AUTH LOGIN", base64("ann"), base64(secret)],
            [f"AUTH PLAIN {plain('bob', secret)}"],
            [f"AUTH PLAIN {plain('bob', secret)}x"],
            [f"AUTH PLAIN x {plain('bob', secret)}"],
            [f"AUTH PLAIN {secret}"],
            [f"AUTH {secret}"],
            [f"AUTH PLAIN {base64(secret)}"],
            ["AUTH PLAIN", secret],
            ["AUTH PLAIN", "\0" + secret],
        ):
            self.encrypted("submissions").codes(*lines)
        self.meet().codes(f"AUTH PLAIN {plain('ann', secret)}")
        self.world.users.problem = ZeroDivisionError("broken")
        self.encrypted("submissions", "203.0.113.7").codes(f"AUTH PLAIN {plain('ann', secret)}")
        self.flushLoggedErrors()
        shown = "".join(f"{event.what} {event.fields}" for event in self.world.log.events)
        shown += "".join(f"{event} {event.get('log_failure', '')!r}" for event in events)
        self.assertIn("ann", shown)
        for form in (secret, base64(secret), plain("ann", secret), plain("bob", secret), secret.upper()):
            self.assertNotIn(form, shown)

    def test_no_name_that_somebody_claims_is_another_line_or_field_of_the_log(self) -> None:
        wicked = ("a\r\nb", 'x" user=root', "x\x1b[2J", "x\u2028y", "x\u202ey", "\u0000".join("ab"), "a\x85b", "\\")
        for number, name in enumerate(wicked):
            client = self.encrypted("submissions", f"203.0.113.{number + 1}")
            client.codes("AUTH LOGIN", base64(name), base64("x"), f"AUTH PLAIN {plain(name, 'x')}")
            client.codes(f"AUTH SCRAM-SHA-256 {base64(f'n,,n={name},r=abc')}")
        self.check_log(self.world.log.events)

    def check_log(self, events: Iterable[Any]) -> None:
        text, as_json = text_lines(), json_lines()
        seen = 0
        for what, fields in events:
            told = 0.0, shape_of(what, fields), tuple(fields.values())
            line, record = text(*told), as_json(*told)
            seen += 1
            for one in (line, record):
                self.assertEqual(one.count("\n"), 1)
                self.assertTrue(one[:-1].isprintable(), one)
            self.assertEqual(list(json.loads(record)), ["time", "event", *fields])
            # A field's name stands behind a blank that is in no quotes.
            bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line)
            self.assertEqual(re.findall(r" ([a-z_]+)=", bare), list(fields))
        self.assertGreater(seen, 0)


class IntroductionTests(IdentityCase):
    """XCLIENT and PROXY are believed from networks that are trusted with them, and from nobody else."""

    def test_nobody_else_says_who_its_client_is(self) -> None:
        for client in (STRANGER, FRIEND, "192.0.2.199", "192.0.2.201"):
            met = self.meet(client=client)
            self.assertNotIn("XCLIENT", met.offers())
            for line in ("XCLIENT ADDR=127.0.0.1", "XCLIENT LOGIN=ann", "xclient name=a addr=127.0.0.1 login=ann"):
                self.assertEqual(met.codes(line), [550])
            self.assertIn(f"[{client}]", met.say("HELO c")[0])
        self.is_nobody(self.meet())
        self.assertEqual(self.meet("submissions").codes("XCLIENT LOGIN=ann"), [502])

    def test_whoever_was_introduced_introduces_nobody(self) -> None:
        """What a host passes on of its client must not make that one somebody else."""
        for said in ("ADDR=198.51.100.77", "LOGIN=ann", "ADDR=[UNAVAILABLE]", "NAME=a ADDR=198.51.100.77 LOGIN=bob"):
            met = self.meet(client=INTRODUCER)
            self.assertEqual(met.codes(f"XCLIENT {said}"), [220])
            self.assertNotIn("XCLIENT", met.offers())
            self.assertEqual(met.codes("XCLIENT ADDR=127.0.0.1", "XCLIENT LOGIN=ann"), [550, 550])

    def test_nothing_is_left_of_what_the_host_has_said_for_itself(self) -> None:
        met = self.meet(client=INTRODUCER)
        self.assertEqual(self.answer(met, LETTER.replace(b"bob@far", b"jon@here")[:-6] + b"RSET\r\n"), [250] * 3)
        self.assertEqual(met.codes("XCLIENT ADDR=198.51.100.77"), [220])
        self.assertEqual(met.codes("RCPT TO:<jon@here.test>", "MAIL FROM:<> SIZE=1"), [503, 503])
        self.is_nobody(met)

    def test_a_client_of_whom_no_address_is_known_is_not_the_host_that_speaks_for_it(self) -> None:
        self.trust_the_introducer()
        for nobody in ("[UNAVAILABLE]", "[TEMPUNAVAIL]", "[unavailable]"):
            met = self.meet(client=FRIEND)
            self.assertEqual(met.codes("MAIL FROM:<>", "RCPT TO:<bob@far.test>", "RSET"), [250] * 3)
            self.assertEqual(met.codes(f"XCLIENT ADDR={nobody}"), [220])
            self.is_nobody(met)

    def test_nor_does_a_client_become_that_host_by_a_handshake(self) -> None:
        self.trust_the_introducer()
        met = self.meet(client=FRIEND)
        self.assertEqual(met.codes("XCLIENT ADDR=198.51.100.77", "EHLO evil.test"), [220, 250])
        self.assertNotIn("STARTTLS", met.offers())
        if met.codes("STARTTLS") == [220]:
            met.handshake()
            self.assertEqual(met.codes("EHLO evil.test"), [250])
        self.assertEqual(met.codes("XCLIENT LOGIN=ann"), [550])
        self.is_nobody(met)

    def trust_the_introducer(self) -> None:
        """The host that speaks for others may send mail itself: a proxy on this machine."""
        self.world = StagedWorld(CONFIGURATION.replace('"192.0.2.200/32"', '"127.0.0.1/32"'))

    def test_no_attribute_ends_our_field_or_a_line_of_the_log(self) -> None:
        for attribute in (
            *("HELO=a+0D+0AX:y", "NAME=a+0Ab", "LOGIN=a+0D+0Ab", "LOGIN=+1B[2J", "LOGIN=a+E2+80+A8b", "LOGIN=a+C2+85b"),
            *(
                "HELO=a+20b",
                "HELO=+C3+B6",
                "HELO=",
                "LOGIN=",
                f"HELO={'x' * 256}",
                "HELO=+",
                "HELO=a+0",
                "ADDR=1.2.3.4+00",
            ),
        ):
            self.assertEqual(self.meet(client=INTRODUCER).codes(f"XCLIENT {attribute}"), [501], attribute)
        for name in ('a"b', "(x)", "x;y", "a,b", "a\\b", "<x>"):
            met = self.meet(client=INTRODUCER)
            self.assertEqual(met.codes(f"XCLIENT ADDR=198.51.100.7 HELO={name} LOGIN={name}"), [220])
            self.assertEqual(met.codes("HELO c", "MAIL FROM:<>", "RCPT TO:<jon@here.test>", "DATA"), [250] * 3 + [354])
            self.answer(met, b"a: b\r\n\r\n.\r\n")
        for mails in self.world.mailboxes.values():
            for mail in mails:
                self.assertEqual(mail.octets.count(b"\nReceived: from c ([198.51.100.7])\r\n\tby mx.here.test "), 1)

    def test_a_proxys_line_from_anybody_else_is_no_command(self) -> None:
        for header in (
            b"PROXY TCP4 127.0.0.1 192.0.2.1 40000 25\r\n",
            b"PROXY UNKNOWN\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\xc0\0\x02\x01\x9c\x40\0\x19",
        ):
            met = self.world.meet(STRANGER, "proxied")
            met.send(header)
            met.send(b"EHLO c\r\n" + LETTER)
            for line in met.replies():
                self.assertNotIn("127.0.0.1", line)
                self.assertNotEqual(line[:3], "354")
            met.hang_up()
        self.nothing_came_of_it()

    def test_a_proxy_that_says_nothing_of_its_client_is_no_client(self) -> None:
        [factory] = [each.factory for each in self.world.relay.listeners if each.settings.name == "proxied"]
        for octets in (
            b"EHLO c\r\n" + LETTER,
            b"PROXY TCP4 127.0.0.1\r\n",
            b"PROXY TCP4 127.0.0.1 1.2.3.4 5 6\n",
            b"\n",
        ):
            wire = StringTransport(peerAddress=IPv4Address("TCP", INTRODUCER, 4711))
            protocol = factory.buildProtocol(wire.getPeer())
            assert protocol is not None
            protocol.makeConnection(wire)  # type: ignore[no-untyped-call]
            protocol.dataReceived(octets)
            self.assertEqual((wire.value(), wire.disconnected), (b"", True), octets)

    def test_whom_a_proxy_introduces_is_held_to_what_strangers_are(self) -> None:
        [factory] = [each.factory for each in self.world.relay.listeners if each.settings.name == "proxied"]
        wire = StringTransport(peerAddress=IPv4Address("TCP", INTRODUCER, 4711))
        protocol: Any = factory.buildProtocol(wire.getPeer())
        protocol.makeConnection(wire)
        wire.protocol = protocol  # type: ignore[attr-defined]
        protocol.dataReceived(b"PROXY TCP4 198.51.100.7 192.0.2.1 40000 25\r\n")
        wire.protocol.dataReceived(b"EHLO c\r\n" + LETTER)  # type: ignore[attr-defined]
        self.assertIn(b"Hello c [198.51.100.7]", wire.value())
        self.assertEqual(codes(wire.value().decode().splitlines())[-3:], NOT_RELAYED)


class EarlyTalkerTests(IdentityCase):
    """Strangers who talk before the banner, or send content before 354: 554 and close."""

    def test_who_does_not_wait_for_the_banner_is_not_served(self) -> None:
        for octets in (b"EHLO c\r\n", b"x", b"EHLO c\r\nMAIL FROM:<a@b.test>\r\n", b"GET / HTTP/1.0\r\n"):
            client = self.meet("slow", hello="")
            client.send(octets)
            self.world.pass_time(2)
            self.assertEqual((codes(client.replies()), client.closed), ([554], True), octets)
        client = self.meet("slow", hello="")
        self.world.pass_time(2)
        self.assertEqual(codes(client.replies()), [220])

    def test_who_sends_content_that_nobody_has_asked_for_is_not_served(self) -> None:
        letter = LETTER.replace(b"bob@far", b"jon@here")
        for content in (b"x", b"Subject: x\r\n\r\nx\r\n.\r\n", b"\r\n.\r\n", b"RSET\r\n"):
            client = self.meet()
            self.assertEqual(self.answer(client, letter + content), [250, 250, 554])
            self.assertTrue(client.closed)
        self.nothing_came_of_it()
        # Our own people may.
        self.assertEqual(self.answer(self.meet(client=FRIEND), letter + b"\r\n.\r\n"), [250, 250, 354, 250])

    def test_nor_who_sends_it_while_the_disk_is_waited_for(self) -> None:
        configuration = CONFIGURATION.replace("[limits]", "[limits]\nwaiting_commits = 1")
        world = self.world = StagedWorld(configuration)
        world.spool.hold()
        letter = LETTER.replace(b"bob@far", b"jon@here")
        first, second = self.meet(), self.meet()
        self.answer(first, letter)
        self.assertEqual(self.answer(first, b"a: b\r\n\r\n.\r\n"), [])
        self.assertEqual(self.answer(second, letter), [250, 250])
        second.send(b"a: early\r\n\r\n.\r\n")
        world.spool.release()
        world.settle()
        self.assertEqual((codes(second.replies()), second.closed), ([554], True))
        world.pass_time(10)
        [[mail]] = world.mailboxes.values()
        self.assertNotIn(b"early", mail.octets)


class StressTests(IdentityCase):
    """Three quarters of the connections: strangers have less patience to hope for, and our own people as much."""

    def setUp(self) -> None:
        super().setUp()
        self.crowd = [self.meet(client=f"203.0.113.{number + 1}") for number in range(30)]

    def test_errors(self) -> None:
        client = self.meet()
        said = client.codes(*["NONSENSE"] * 20)
        self.assertEqual(said, [500] * 4 + [421])
        self.assertTrue(client.closed)
        said = self.meet(client=FRIEND).codes(*["NONSENSE"] * 9)
        self.assertEqual(said, [500] * 9)

    def test_commands_that_bring_no_mail(self) -> None:
        client = self.meet()
        said = client.codes(*["NOOP"] * 20)
        self.assertEqual(said, [250] * 9 + [421])
        self.assertEqual(self.meet(client=FRIEND).codes(*["NOOP"] * 200), [250] * 200)

    def test_silence(self) -> None:
        client = self.meet()
        self.world.pass_time(29)
        self.assertFalse(client.closed)
        self.world.pass_time(2)
        self.assertEqual((codes(client.replies()), client.closed), ([421], True))

    def test_when_the_crowd_has_gone_all_is_as_before(self) -> None:
        for each in self.crowd:
            each.hang_up()
        self.assertEqual(self.meet().codes(*["NOOP"] * 20), [250] * 20)


class WishesTests(AttackCase):
    """ORCPT and ENVID are somebody's words: they end nothing in a notice, and no field of ours."""

    ORCPTS = (
        *("rfc822;a+22b", "rfc822;+C2+85Bcc:+20x", "rfc822;+E2+80+AE", "rfc822;+E2+80+A8Bcc:x", "rfc822;+FF+FE"),
        *("x-evil;a+3B+20b", "rfc822;" + "x" * 493, "rfc822;a+28b", "rfc822;+3D?utf-8?q?+3D0ABcc?+3D"),
        *(
            "utf-8;\\x{0D}\\x{0A}Bcc:x",
            "utf-8;\\x{85}",
            "utf-8;j\u00f6rg@far.test",
            "utf-8;\u202e",
        ),
    )
    REFUSED = (
        "utf-8;\u0085Bcc:x",
        "utf-8;\u2028Bcc:x",
        "utf-8;\u2029x",
        "rfc822;a+0D+0ABcc:x",
        "rfc822;a+0ABcc",
        "rfc822;+00",
        "rfc822;+1B[2J",
        "rfc822;a+7F",
        "r f;x",
        "evil",
    )
    ENVIDS = ("x+22+20y", "+3Cx+3E", "--+3D_notice", "x" * 100)
    BAD_ENVIDS = ("a+0D+0ABcc:x", "a+0Ab", "+1B[2J", "+7F", "+C3+B6", "+C2+85", "a=b", "+0a", "x" * 101)

    def test_what_could_end_a_line_is_refused(self) -> None:
        for orcpt in self.REFUSED:
            conversation = self.connect(self.anybody())
            said = self.answer(conversation, f"MAIL FROM:<a@b>\r\nRCPT TO:<jon@here.test> ORCPT={orcpt}\r\n".encode())
            self.assertEqual(said, [250, 501], orcpt)
        for envid in self.BAD_ENVIDS:
            conversation = self.connect(self.anybody())
            self.assertEqual(self.answer(conversation, f"MAIL FROM:<a@b> ENVID={envid}\r\n".encode()), [501], envid)

    def test_what_is_taken_ends_nothing_in_a_notice_or_in_a_mailbox(self) -> None:
        for number, orcpt in enumerate(self.ORCPTS):
            for nobody in ("nobody@down.test", "jon@here.test"):
                world = self.world = MailWorld(self.configuration())
                envid = self.ENVIDS[number % len(self.ENVIDS)]
                conversation = self.connect("127.0.0.1", hello="EHLO c")
                lines = (
                    f"MAIL FROM:<ann@here.test> ENVID={envid} RET=FULL SMTPUTF8",
                    f"RCPT TO:<{nobody}> ORCPT={orcpt} NOTIFY=SUCCESS,FAILURE,DELAY",
                )
                octets = "".join(line + "\r\n" for line in lines).encode() + b"DATA\r\n"
                self.assertEqual(self.answer(conversation, octets), [250, 250, 354], orcpt)
                self.assertEqual(self.answer(conversation, b"Subject: x\r\n\r\nHi!\r\n.\r\n"), [250])
                world.pass_time(6 * 24 * 3600)
                boxes = self.boxes()
                for mail in (mail for mails in boxes.values() for mail in mails):
                    self.check_mail(mail, orcpt)
                if nobody != "jon@here.test":
                    self.assertGreaterEqual(len(boxes["ann"]), 1)

    def check_mail(self, octets: bytes, orcpt: str) -> None:
        self.assertNotIn(b"\nBcc", octets.replace(b"\r", b"\n"), orcpt)
        text = octets.decode("utf-8")
        for character in text:
            self.assertTrue(character in "\r\n\t" or character.isprintable(), (orcpt, character))
        self.assertNotIn("\u2028", text)

    def configuration(self) -> str:
        return (
            'hostname = "mx.here.test"\n[[listener]]\naddress = "192.0.2.1:25"\n'
            '[[policy]]\nuse = "mailbox"\ndomains = ["here.test"]\nusers = ["jon", "ann"]\ndirectory = "mail"\n'
            '[[policy]]\nuse = "forward"\n'
        )
