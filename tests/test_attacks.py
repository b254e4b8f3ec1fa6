"""
What attackers do: each test is an attack on the relay as a whole, and fails if the defence is taken out.

Where each line of the list of attacks that must come to nothing has its tests:

| attack | tests |
| --- | --- |
| smuggling by the end of content | `tests/smtp/test_smuggling.py`, a matrix of its own, in both directions |
| smuggling of commands | `CommandSmugglingTests` |
| STARTTLS: what was said in clear | `test_attacks_identity.StartTlsTests`, `RealTlsTests`; of our client: `test_both_sides` |
| AUTH: in clear, bad base64, `*`, as another, too long, guessing | `test_attacks_identity.AuthTests` |
| XCLIENT and PROXY from anybody | `test_attacks_identity.IntroductionTests`, `test_net_proxied` |
| open relay | `OpenRelayTests`, `EightBitTests` |
| injection: HELO, paths, parameters, headers, notices, logs | `InjectionTests`, `test_attacks_identity.WishesTests` |
| injection: shell, paths from local parts | `OpenRelayTests` |
| injection: SQL | `SqlTests` |
| state left behind; announced octets not swallowed | `StateTests`, `CommandSmugglingTests` |
| buffers without a bound, waits without a deadline | `LimitTests`; under stress: `test_attacks_identity.StressTests` |
| a plugin that raises, hangs or returns nonsense | `PluginTests` |
| early talkers | `test_attacks_identity.EarlyTalkerTests`; other protocols: `OtherProtocolTests` |
| loops | `LoopTests` |
| DNS that lies or fails | `NameTests` |
| replies of other servers | `OtherServerTests` |
| backscatter | `BackscatterTests` |
| secrets in logs | `test_attacks_identity.AuthTests` |
| control socket, keys that others can read, root | `test_local`, `test_tls_files`, `tests/system` |
"""

from __future__ import annotations

import email
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel, Field
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from relay.config.limits import Limits
from relay.interfaces import Enrol, IRoutingPolicy, World
from relay.mail.address import Address
from relay.mail.answer import Unanswered
from relay.mail.envelope import Envelope, Form
from relay.mail.event import shape_of
from relay.mail.header import SECTION_OCTETS
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import Forward, Inquiry
from relay.net.logline import json_lines, text_lines
from relay.net.waiting import start
from relay.testing.peers import Babble, Fault, Moment, Say, Stall
from relay.testing.world import Conversation, MailWorld, done
from tests.contracts.spool.shards import SqliteShard

LISTENERS = """
[[listener]]
name = "world"
address = "192.0.2.1:25"

[[listener]]
name = "home"
address = "127.0.0.1:2525"
newlines = "lenient"
"""
POLICIES = """
[[policy]]
use = "mailbox"
domains = ["here.test"]
users = ["jon", "ann"]
directory = "mail"

[[policy]]
use = "forward"
when = { client = ["127.0.0.0/8"] }
"""
CONFIGURATION = 'hostname = "mx.here.test"\n' + LISTENERS + POLICIES
#: Somebody for whom we do not relay, and somebody for whom we do.
STRANGER, FRIEND = "198.51.100.9", "127.0.0.1"
HELLO = b"Subject: hello\r\n\r\nHi!\r\n"
DAY = 24 * 3600.0
#: A line of the mail log in text, as docs/mail-log.md has it.
_VALUE = r'(?:"(?:[^"\\]|\\.)*"|[^ "]+)'
_LINE = re.compile(rf"[^ ]+ ([a-z_]+)((?: [a-z_]+={_VALUE})*)\n")
_NAME = re.compile(rf" ([a-z_]+)={_VALUE}")


def limited(limits: str, policies: str = POLICIES) -> str:
    return 'hostname = "mx.here.test"\n[limits]\n' + limits + "\n" + LISTENERS + policies


def codes(lines: Iterable[str]) -> list[int]:
    """One for each reply."""
    return [int(line[:3]) for line in lines if line[3:4] != "-"]


class AttackCase(SynchronousTestCase):
    """The relay, and whoever wants something of it."""

    def setUp(self) -> None:
        self.world = MailWorld(CONFIGURATION)
        self.strangers = 0

    def anybody(self) -> str:
        """The address of a stranger who was never here: one that comes too often is refused for that."""
        self.strangers += 1
        return f"198.51.{self.strangers // 250}.{self.strangers % 250 + 1}"

    def connect(self, client: str = STRANGER, hello: str = "EHLO evil.test") -> Conversation:
        conversation = self.world.connect(client)
        if hello:
            self.assertEqual(codes(conversation.say(hello)), [250])
        return conversation

    def transaction(self, *recipients: str, sender: str = "eve@evil.test", client: str = STRANGER) -> Conversation:
        """A client that has heard 354."""
        conversation = self.connect(client)
        for line in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{each}>" for each in recipients), "DATA"):
            self.assertIn(codes(conversation.say(line))[0], (250, 354), line)
        return conversation

    def answer(self, conversation: Conversation, octets: bytes) -> list[int]:
        """
        The codes of what is said to these octets, by the time everything has happened that happens now.

        What stands behind DATA is sent when that has been answered: a stranger who does not wait is cut off.
        """
        said: list[int] = []
        for piece in re.split(rb"(?<=DATA\r\n)", octets):
            conversation.send(piece)
            self.world.settle()
            said += codes(conversation.replies())
        return said

    def boxes(self) -> dict[str, list[bytes]]:
        """Who has got what."""
        return {path.rpartition("/")[2]: [mail.octets for mail in kept] for path, kept in self.world.mailboxes.items()}

    def queued(self) -> int:
        return len(self.world.spool.shelf.entries)

    def nothing_came_of_it(self) -> None:
        """Nobody has got anything, nobody will, and no host was even looked for."""
        self.world.pass_time(6 * DAY)
        self.assertEqual(self.boxes(), {})
        self.assertEqual(self.queued(), 0)
        self.assertEqual((self.world.names.asked, self.world.internet.attempts), ([], []))


class OpenRelayTests(AttackCase):
    """One strict parser, one canonical form, decision on the last domain; no source routes, %-hack, bang paths."""

    #: What has made one relay or another send mail to far.test.
    SHAPES = (
        b"<victim@far.test>",
        b"victim@far.test",
        b"<victim%far.test@here.test>",
        b"<victim%far.test@mx.here.test>",
        b"<victim%far.test>",
        b"<victim%far.test@>",
        b"<far.test!victim@here.test>",
        b"<far.test!victim>",
        b"<here.test!victim@far.test>",
        b"<@here.test:victim@far.test>",
        b"<@here.test,@mx.here.test:victim@far.test>",
        b"@here.test:victim@far.test",
        b"<victim@far.test@here.test>",
        b"<jon@here.test@far.test>",
        b'<"victim@far.test">',
        b'<"victim@far.test"@here.test>',
        b'<"victim%far.test"@here.test>',
        b'<"jon@here.test"@far.test>',
        b'<"jon@here.test>"@far.test>',
        b'<"jon"@here.test@far.test>',
        b'<jon@here.test"@far.test>',
        b"<jon@here.test>@far.test",
        b"<jon@here.test><victim@far.test>",
        b"<jon@here.test,victim@far.test>",
        b"<jon@here.test victim@far.test>",
        b"jon@here.test,victim@far.test",
        b"<victim@far.test(@here.test)>",
        b"<victim@far.test (jon@here.test)>",
        b"Jon <victim@far.test>",
        b"<victim@[192.0.2.1]>",
        b"<victim%far.test@[192.0.2.1]>",
        b"<jon@[127.0.0.1]>",
        b"<jon@[IPv6:::1]>",
        b"<jon@[IPv6:::ffff:192.0.2.1]>",
        b"<jon@192.0.2.1>",
        b"<victim@far.test.>",
        b"<jon@here.test.>",
        b"<jon@here.test..far.test>",
        b"<jon@localhost>",
        b"<postmaster@far.test>",
        b"<victim@far.test\0@here.test>",
        b"<jon@here.test\0.far.test>",
        b"<jon@here.test\t@far.test>",
        "<victim@far。test>".encode(),
        "<jon＠here.test@far.test>".encode(),
        b"<jon@here.test> ORCPT=rfc822;victim@far.test FORWARD=victim@far.test",
        b"<>",
        b"<@here.test:>",
        b"",
    )

    def test_no_shape_of_an_address_makes_us_relay_for_a_stranger(self) -> None:
        for shape in self.SHAPES:
            for sender in (b"<>", b"<eve@evil.test>", b"<jon@here.test>", b"<postmaster@mx.here.test>"):
                with self.subTest(f"{sender!r} {shape!r}"):
                    conversation = self.connect(self.anybody(), "EHLO mx.here.test")
                    said = self.answer(conversation, b"MAIL FROM:" + sender + b"\r\nRCPT TO:" + shape + b"\r\nDATA\r\n")
                    self.assertEqual((said[0], said[1] // 100, said[2:]), (250, 5, [503]))
        self.nothing_came_of_it()

    def test_a_source_route_is_neither_followed_nor_stripped(self) -> None:
        for client in (STRANGER, FRIEND):
            for path in (
                "<@here.test:victim@far.test>",
                "<@far.test:jon@here.test>",
                "@far.test,@here.test:jon@here.test",
            ):
                said = self.answer(self.connect(client), f"MAIL FROM:<>\r\nRCPT TO:{path}\r\nDATA\r\n".encode())
                self.assertEqual(said, [250, 501, 503], path)
                self.assertEqual(self.answer(self.connect(client), f"MAIL FROM:{path}\r\n".encode()), [501], path)
        self.nothing_came_of_it()

    def test_only_the_last_domain_says_where_mail_goes_for_a_friend_too(self) -> None:
        for shape in self.SHAPES:
            if shape.endswith((b"@here.test>", b"@mx.here.test>", b"[192.0.2.1]>", b"127.0.0.1]>", b"::1]>", b".1]>")):
                conversation = self.connect(FRIEND)
                said = self.answer(conversation, b"MAIL FROM:<>\r\nRCPT TO:" + shape + b"\r\nDATA\r\n.\r\n")
                self.assertIn(said[1] // 100, (2, 5), shape)
        self.world.pass_time(6 * DAY)
        self.assertFalse([name for name, _ in self.world.names.asked if "far" in name])
        self.assertEqual(self.world.internet.attempts, [])

    def test_what_is_quoted_stays_quoted_on_its_way(self) -> None:
        mx = self.world.exchange("far.test", "192.0.2.25")
        self.world.exchange("evil.test", "192.0.2.66")
        quoted = (
            '"v@evil.test"@far.test',
            "v%evil.test@far.test",
            "evil.test!v@far.test",
            '"v>"@far.test',
            '"a b"@far.test',
        )
        self.world.send("", quoted, HELLO)
        self.world.settle()
        self.assertEqual([recipient for message in mx.messages for recipient in message.recipients], list(quoted))
        self.assertEqual(mx.complaints, [])
        self.assertNotIn(("evil.test", "MX"), self.world.names.asked)

    def test_no_local_part_is_a_path_an_option_or_a_program(self) -> None:
        for local in (
            *("..", "../jon", "../../etc/passwd", "/etc/passwd", "./jon", "jon/../ann", "jon/new", "-oQ/tmp", "-f"),
            *(
                '"../jon"',
                '"|/bin/sh"',
                '"/dev/null"',
                '":include:/etc/passwd"',
                '"jon\\\0"',
                '"~jon"',
                "~jon",
                "$HOME",
            ),
            *('"jon\\/"', '""', '" jon"', "`id`", '"jon;id"', "{recipient}", "%(local)s"),
        ):
            conversation = self.connect()
            said = self.answer(conversation, f"MAIL FROM:<>\r\nRCPT TO:<{local}@here.test>\r\nDATA\r\n".encode())
            self.assertEqual((said[0], said[1] // 100, said[2:]), (250, 5, [503]), local)
        self.nothing_came_of_it()

    def test_what_follows_a_plus_is_no_path_either(self) -> None:
        self.world = MailWorld(CONFIGURATION.replace("users = ", 'detail = "+"\nusers = '))
        self.answer(self.transaction('"jon+../../ann"@here.test', "jon+/etc/passwd@here.test"), HELLO + b".\r\n")
        self.assertEqual(set(self.world.mailboxes), {"/world/mail/jon"})

    def test_to_know_our_names_is_not_to_be_trusted(self) -> None:
        for hello in ("EHLO mx.here.test", "EHLO localhost", "EHLO [127.0.0.1]", "HELO here.test", "EHLO [192.0.2.1]"):
            conversation = self.connect(hello=hello)
            said = self.answer(conversation, b"MAIL FROM:<jon@here.test>\r\nRCPT TO:<victim@far.test>\r\n")
            self.assertEqual(said, [250, 550])
        self.nothing_came_of_it()


class EightBitTests(AttackCase):
    """8-bit only with SMTPUTF8, and only valid UTF-8."""

    def test_a_local_part_that_is_not_ascii_needs_smtputf8(self) -> None:
        for line in ("MAIL FROM:<jön@evil.test>", "MAIL FROM:<jön@evil.test> BODY=8BITMIME"):
            self.assertEqual(codes(self.connect().say(line))[0] // 100, 5)
        conversation = self.connect()
        said = self.answer(conversation, "MAIL FROM:<>\r\nRCPT TO:<jön@here.test>\r\nDATA\r\n".encode())
        self.assertEqual(said[1:], [553, 503])
        # Nor can who says HELO ask for it.
        conversation = self.connect(hello="HELO evil.test")
        self.assertEqual(codes(conversation.say("MAIL FROM:<jön@evil.test> SMTPUTF8")), [555])

    def test_a_domain_that_is_not_ascii_needs_it_too(self) -> None:
        self.assertEqual(codes(self.connect().say("MAIL FROM:<jon@bücher.test>"))[0] // 100, 5)
        conversation = self.connect()
        said = self.answer(conversation, "MAIL FROM:<>\r\nRCPT TO:<jon@here。test>\r\n".encode())
        self.assertEqual(said[1] // 100, 5)

    def test_what_is_not_valid_utf8_is_nobody(self) -> None:
        for path in (
            b"j\xf6n",
            b"j\xc0\xb6n",
            b"j\xed\xa0\x80n",
            b"j\xf4\x90\x80\x80n",
            b"\xff",
            b"jon\xe2\x80",
            b"\x80",
        ):
            conversation = self.connect()
            said = self.answer(conversation, b"MAIL FROM:<" + path + b"@evil.test> SMTPUTF8\r\n")
            self.assertEqual(said, [501], path)
            said = self.answer(conversation, b"MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<" + path + b"@here.test>\r\n")
            self.assertEqual(said, [250, 501], path)

    def test_letters_that_cannot_be_seen_or_turn_the_line_round_are_no_letters(self) -> None:
        for character in "\u200b\u202e\u2028\u2029\u0085\u00a0\u00ad\ufeff\ufffe\ue000\u2066":
            conversation = self.connect()
            said = self.answer(conversation, f"MAIL FROM:<j{character}n@evil.test> SMTPUTF8\r\n".encode())
            self.assertEqual(said, [501], repr(character))


class CommandSmugglingTests(AttackCase):
    """Where a command ends nobody else decides."""

    #: What must not happen: a transaction that delivers.
    HIDDEN = b"MAIL FROM:<eve@evil.test>%sRCPT TO:<jon@here.test>%sDATA%sevil%s.%s"

    def hidden(self, newline: bytes) -> bytes:
        return self.HIDDEN.replace(b"%s", newline)

    def test_nothing_behind_a_bare_lf_is_executed(self) -> None:
        for first in (b"NOOP", b"MAIL FROM:<a@b.test>", b"HELP", b"GARBAGE", b""):
            conversation = self.connect()
            said = self.answer(conversation, first + b"\n" + self.hidden(b"\r\n"))
            self.assertEqual(said, [421])
            self.assertTrue(conversation.closed)
        self.nothing_came_of_it()

    def test_a_cr_alone_ends_no_command(self) -> None:
        for first in (b"NOOP ", b"VRFY x", b"HELP ", b"MAIL FROM:<a@b.test> ", b"EHLO c", b"GARBAGE"):
            conversation = self.connect()
            said = self.answer(conversation, first + b"\r" + self.hidden(b"\r") + b"\r\n")
            self.assertIn(said, ([501], [500]))
        self.nothing_came_of_it()

    def test_the_end_of_an_overlong_line_is_no_command(self) -> None:
        for length in (2048, 4096, 70_000):
            for cuts in ((), (2047,), (2048,), (2049,), (length - 1,)):
                conversation = self.connect()
                octets = b"NOOP ".ljust(length, b"x") + b"RSET\r\nHELP\r\n"
                for begin, end in zip((0, *cuts), (*cuts, len(octets)), strict=True):
                    conversation.send(octets[begin:end])
                self.assertEqual(codes(conversation.replies()), [500, 214], (length, cuts))

    def test_what_was_announced_by_bdat_is_content_even_if_it_is_refused(self) -> None:
        hidden = self.hidden(b"\r\n")
        for before, said in (
            (b"", [503]),
            (b"MAIL FROM:<>\r\n", [250, 503]),
            (b"MAIL FROM:<>\r\nRCPT TO:<nobody@here.test>\r\n", [250, 550, 503]),
            (b"MAIL FROM:<>\r\nRCPT TO:<jon@here.test>\r\nRSET\r\n", [250, 250, 250, 503]),
        ):
            for last in (b"", b" LAST"):
                conversation = self.connect()
                octets = before + b"BDAT %d" % len(hidden) + last + b"\r\n" + hidden + b"NOOP\r\n"
                self.assertEqual(self.answer(conversation, octets), [*said, 250])
        self.nothing_came_of_it()

    def test_where_nobody_knows_how_much_was_announced_nothing_more_is_read(self) -> None:
        for announced in (
            *(
                b"BDAT",
                b"BDAT ",
                b"BDAT -1",
                b"BDAT 0x10",
                b"BDAT 1e3",
                b"BDAT +5",
                b"BDAT 5 FIRST",
                b"BDAT 5 LAST LAST",
            ),
            *(
                b"BDAT " + b"9" * 16,
                b"BDAT " + b"9" * 15,
                b"BDAT \xef\xbc\x95",
                b"BDAT \xff",
                b"BDAT 5\0",
                b"BDAT\t5 LAST",
            ),
            *(b"BDAT 5\r", b"bdat".ljust(3000) + b"5 LAST", b"BDAT 5".ljust(2047), b" BDAT 5;LAST"),
        ):
            conversation = self.connect(self.anybody())
            conversation.say("MAIL FROM:<>")
            conversation.say("RCPT TO:<jon@here.test>")
            said = self.answer(conversation, announced + b"\r\n" + self.hidden(b"\r\n"))
            self.assertEqual(said, [421], announced)
            self.assertTrue(conversation.closed)
        # Who says HELO has not been offered it.
        conversation = self.connect(hello="HELO evil.test")
        said = self.answer(
            conversation, b"MAIL FROM:<>\r\nRCPT TO:<jon@here.test>\r\nBDAT 5\r\n" + self.hidden(b"\r\n")
        )
        self.assertEqual(said, [250, 250, 421])
        self.nothing_came_of_it()

    def test_content_of_a_transaction_that_was_refused_is_not_delivered(self) -> None:
        """A client that does not wait for 354 has its text read as commands, of which most are none."""
        conversation = self.connect()
        said = self.answer(
            conversation, b"MAIL FROM:<>\r\nRCPT TO:<victim@far.test>\r\nDATA\r\nSubject: x\r\n\r\nevil\r\n.\r\n"
        )
        self.assertEqual((said[:3], set(said[3:])), ([250, 550, 503], {500}))
        self.nothing_came_of_it()


class OtherProtocolTests(AttackCase):
    """`GET`, `POST`, `CONNECT`: 421. A browser, or a proxy, was made to speak to us."""

    def test_who_speaks_http_is_closed_before_anything_is_read_of_it(self) -> None:
        body = b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\nevil\r\n.\r\n"
        for request in (
            b"GET / HTTP/1.1",
            b"POST / HTTP/1.1",
            b"CONNECT mx.here.test:25 HTTP/1.1",
            b"put /x HTTP/1.0",
            b"HEAD /",
        ):
            for hello in ("", "EHLO c"):
                conversation = self.connect(hello=hello)
                said = self.answer(
                    conversation, request + b"\r\nHost: mx.here.test\r\nContent-Length: 80\r\n\r\n" + body
                )
                self.assertEqual(said, [421], request)
                self.assertTrue(conversation.closed)
        self.nothing_came_of_it()

    def test_a_tls_hello_a_proxy_line_and_noise_are_borne(self) -> None:
        for noise in (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
            b"PROXY TCP4 127.0.0.1 127.0.0.1 1 25\r\n",
            b"\r\n\r\n\0\r\nQUIT\nSIP\n",
            b"\x80\x2e\x01\x03\x01" * 500,
            b"SSH-2.0-x\r\n",
        ):
            conversation = self.connect(hello="")
            said = self.answer(conversation, noise)
            self.assertTrue(all(code >= 400 for code in said), said)
            # It is still we who answer, or nobody.
            conversation.send(b"\r\n")
            self.assertTrue(all(code >= 400 for code in codes(conversation.replies())))
        # A line like the one before it has made nobody a friend.
        self.nothing_came_of_it()


class InjectionTests(AttackCase):
    """Control characters end nothing; headers, notices and logs are built from what was checked."""

    #: All that could end a line somewhere, or move a terminal's cursor.
    CONTROLS = tuple(bytes((code,)) for code in (*range(10), *range(11, 32), 127))
    NAMES = ("a;b", "(comment)", "x)(y", "<a@b>", 'a"b', "a\\b", "a,b", "a" * 255, "[1.2.3.4])\\", "=?utf-8?q?=0A?=")

    def test_no_command_has_a_control_character(self) -> None:
        for control in self.CONTROLS:
            for line in (
                *(b"EHLO a%sb", b"HELO a%sb", b"MAIL FROM:<a%sb@c.test>", b'MAIL FROM:<"a%sb"@c.test>'),
                *(b"MAIL FROM:<a@b.test> SIZE=1%s1", b"MAIL FROM:<a@b.test>%sX", b"MAIL FROM:<a@b.test> X%s=1"),
                *(b"RCPT TO:<a%s@here.test>", b'RCPT TO:<"\\%s"@here.test>', b"VRFY a%sb", b"HELP %s.", b"NOOP %s."),
            ):
                conversation = self.connect(self.anybody())
                said = self.answer(conversation, line.replace(b"%s", control) + b"\r\nRSET\r\n")
                self.assertEqual(said, [501, 250], line.replace(b"%s", control))

    def test_no_name_that_a_client_gives_itself_ends_our_field(self) -> None:
        for name in self.NAMES:
            conversation = self.connect(hello=f"EHLO {name}")
            conversation.say("MAIL FROM:<eve@evil.test>")
            conversation.say("RCPT TO:<jon@here.test>")
            conversation.say("DATA")
            self.assertEqual(self.answer(conversation, HELLO + b".\r\n"), [250])
        self.assertEqual(len(self.boxes()["jon"]), len(self.NAMES))
        for octets in self.boxes()["jon"]:
            message = email.message_from_bytes(octets)
            self.assertEqual(message.keys(), ["Return-Path", "Received", "Subject"])
            lines = octets.partition(b"Subject:")[0].split(b"\r\n")
            self.assertRegex(lines[1], rb"\AReceived: from [^ ()<>\";,\\]+ \(\[198\.51\.100\.9\]\)\Z")
            self.assertRegex(lines[2], rb"\A\tby mx\.here\.test \(relay\) with ESMTP id [^ ]+\Z")
            self.assertEqual(lines[3], b"\tfor <jon@here.test>;")

    def test_a_name_is_one_word_of_ascii(self) -> None:
        for name in (b"a b", b"a (b) by c", b"a\xc3\xb6", b"a" * 256, b"a [1.2.3.4]"):
            conversation = self.connect(hello="")
            self.assertEqual(self.answer(conversation, b"EHLO " + name + b"\r\nMAIL FROM:<>\r\n"), [501, 503])

    def test_our_greeting_of_a_client_is_one_reply_whatever_its_name(self) -> None:
        for name in self.NAMES:
            [line] = self.world.connect(STRANGER).say(f"HELO {name}")
            self.assertRegex(line, r"\A250 [ -~]+\Z")

    def test_no_address_ends_return_path_or_our_field(self) -> None:
        for sender in (
            '"a>b"@evil.test',
            '"a\\\\b"@evil.test',
            '"a\\"b; (x)"@evil.test',
            '"Bcc: x"@evil.test',
            "a'b@[192.0.2.7]",
        ):
            world = self.world = MailWorld(CONFIGURATION)
            self.answer(self.transaction("jon@here.test", sender=sender), HELLO + b".\r\n")
            [octets] = self.boxes()["jon"]
            self.assertTrue(octets.startswith(f"Return-Path: <{sender}>\r\nReceived: from ".encode()), octets)
            self.assertEqual(email.message_from_bytes(octets).keys(), ["Return-Path", "Received", "Subject"])
            self.assertEqual(world.log.named("accepted")[0]["recipients"], 1)

    def test_what_another_server_says_ends_nothing_in_a_notice(self) -> None:
        for said in (
            "550-5.1.1 one\n550 5.1.1 two",
            "550 5.1.1 \x1b[2Jgone\x07",
            "550 5.1.1 x\x0b\x0cy\x85z",
            "550 5.1.1 --=_notice Content-Type: text/html",
            "550 5.1.1 Final-Recipient: rfc822; other@far.test",
        ):
            world = self.world = MailWorld(CONFIGURATION)
            world.exchange("far.test", "192.0.2.25").at("RCPT", Say(said))
            world.send("ann@here.test", "bob@far.test", b"Subject: =_notice\r\nX: --=_notice.1\r\n\r\nHi!\r\n")
            world.settle()
            [octets] = self.boxes()["ann"]
            self.assertNotIn(b"\x1b", octets)
            self.assertFalse([octet for octet in octets if octet < 32 and octet not in b"\r\n\t"])
            parts: Any = email.message_from_bytes(octets).get_payload()
            kinds = ["text/plain", "message/delivery-status", "text/rfc822-headers"]
            self.assertEqual([part.get_content_type() for part in parts], kinds)
            fields = parts[1].get_payload()[1]
            self.assertEqual(fields.get_all("Final-Recipient"), ["rfc822; bob@far.test"])
            self.assertEqual(fields.get_all("Action"), ["failed"])

    def test_nothing_that_anybody_says_is_another_line_or_field_of_the_mail_log(self) -> None:
        mx = self.world.exchange("far.test", "192.0.2.25").at("RCPT", Say('450 4.2.1 x" id=SPOOF\x1b\\\x85 sender=<>'))
        for sender in ('"x id=SPOOF\\" recipients=9"@evil.test', "a'b@evil.test"):
            conversation = self.connect(FRIEND, hello='EHLO x"id=SPOOF\\')
            conversation.say(f"MAIL FROM:<{sender}>")
            conversation.say("RCPT TO:<nobody@here.test>")
            conversation.say('RCPT TO:<"y id=SPOOF"@far.test>')
            conversation.say("DATA")
            self.answer(conversation, HELLO + b".\r\n")
            self.answer(conversation, b"GARBAGE id=SPOOF\x1b\r\nEHLO \xff\r\n")
        self.assertTrue(mx.connections)
        kinds = {event.what for event in self.world.log.events}
        self.assertLessEqual({"accepted", "refused", "delayed"}, kinds)
        text, as_json = text_lines(), json_lines()
        for what, fields in self.world.log.events:
            told = 0.0, shape_of(what, fields), tuple(fields.values())
            line = text(*told)
            self.assertEqual(line.count("\n"), 1)
            self.assertTrue(line[:-1].isprintable(), line)
            match = _LINE.fullmatch(line)
            assert match is not None, line
            self.assertEqual((match[1], _NAME.findall(match[2])), (what, list(fields)))
            line = as_json(*told)
            self.assertTrue(line[:-1].isprintable() and line.isascii(), line)
            self.assertEqual(list(json.loads(line)), ["time", "event", *fields])


class SqlTests(SynchronousTestCase):
    """SQL only with bound parameters: what is written in an address is kept, and executed by nobody."""

    WORDS = ("'; DROP TABLE entries; --", "' OR 1=1 --", '") OR (1=1', "%", "_", "\\", "?1", ":domain", "x'41'")

    def test_no_address_is_a_statement(self) -> None:
        shard = SqliteShard()
        self.addCleanup(shard.dispose)
        spool = shard.open()
        done(start(spool.recover()))
        addresses = [Address(words, "here.test") for words in self.WORDS]
        for address in addresses:
            draft = spool.begin(Form.WIRE)
            draft.write(b"x\r\n.\r\n")
            kept = Recipient(f"{draft.id}.0", address, address, Forward("here.test"), "here.test")
            entry = Entry(draft.id, shard.clock.now(), Envelope(address), b"")
            done(start(spool.commit([Enrol(entry, draft, (kept,), None)])))
        # Nor is what somebody says with ETRN.
        for words in (*self.WORDS, "here.test' OR '1'='1"):
            self.assertEqual(done(start(spool.hasten(words, True))), 0, words)
        claims = done(start(spool.claim(shard.clock.now() + DAY, 100, 60.0)))
        found = [
            (claim.entry.envelope.reverse_path, each.recipient.address) for claim in claims for each in claim.pending
        ]
        self.assertEqual(sorted(map(str, found)), sorted(str((address, address)) for address in addresses))


class StateTests(AttackCase):
    """One transaction object, replaced on RSET, EHLO, end, rejection and error: nothing of it is left behind."""

    #: What ends a transaction, and what it is answered with.
    ENDS = (
        (b"RSET\r\n", [250]),
        (b"EHLO again\r\n", [250]),
        (b"HELO again\r\n", [250]),
        (b"DATA\r\nbare\nlf\r\n.\r\n", [354, 550]),
        (b"DATA\r\n" + b"Received: x\r\n" * 101 + b"\r\n.\r\n", [354, 554]),
        (b"DATA\r\nfirst\r\n.\r\n", [354, 250]),
        (b"BDAT 4\r\none\nRSET\r\n", [550, 250]),
        (b"BDAT 6\r\nfirst\n", [550]),
        (b"BDAT 7\r\nfirst\r\nRSET\r\n", [250, 250]),
        (b"BDAT 7\r\nfirst\r\nEHLO again\r\n", [250, 250]),
        (b"BDAT 7 LAST\r\nfirst\r\n", [250]),
    )

    def test_nothing_is_left_of_a_transaction_that_has_ended(self) -> None:
        for end, said in self.ENDS:
            with self.subTest(end[:20]):
                self.world = MailWorld(CONFIGURATION)
                conversation = self.connect()
                opening = b"MAIL FROM:<first@evil.test> SMTPUTF8 BODY=8BITMIME\r\nRCPT TO:<jon@here.test>\r\n"
                self.assertEqual(self.answer(conversation, opening + end), [250, 250, *said])
                before = len(self.boxes().get("jon", []))
                # Neither its recipients nor its sender count any more.
                self.assertEqual(self.answer(conversation, b"DATA\r\nRCPT TO:<ann@here.test>\r\n"), [503, 503])
                # Nor what its client may say: that is asked for anew.
                self.assertEqual(self.answer(conversation, "MAIL FROM:<zwö@evil.test>\r\n".encode())[0] // 100, 5)
                second = (
                    b"MAIL FROM:<second@evil.test>\r\nRCPT TO:<ann@here.test>\r\nDATA\r\nx: y\r\n\r\nsecond\r\n.\r\n"
                )
                self.assertEqual(self.answer(conversation, second), [250, 250, 354, 250])
                [octets] = self.boxes()["ann"]
                self.assertTrue(octets.startswith(b"Return-Path: <second@evil.test>\r\n"))
                self.assertIn(b"\tfor <ann@here.test>;\r\n", octets)
                self.assertNotIn(b"first", octets)
                self.assertEqual(len(self.boxes().get("jon", [])), before)
                self.assertEqual(before, said[-1] == 250 and (b"DATA" in end or b"LAST" in end))

    def test_of_content_that_was_given_up_nothing_is_in_the_next_one(self) -> None:
        for end in (b"RSET\r\n", b"EHLO again\r\n", b"BDAT 1\r\n\nRSET\r\n"):
            self.world = MailWorld(CONFIGURATION)
            conversation = self.connect()
            opening = b"MAIL FROM:<first@evil.test>\r\nRCPT TO:<jon@here.test>\r\nBDAT 7\r\nfirst\r\n"
            self.answer(conversation, opening + end)
            second = b"MAIL FROM:<second@evil.test>\r\nRCPT TO:<ann@here.test>\r\nBDAT 8 LAST\r\nsecond\r\n"
            self.assertEqual(self.answer(conversation, second), [250, 250, 250])
            [octets] = self.boxes()["ann"]
            self.assertTrue(octets.endswith(b"+0000\r\n\r\nsecond\r\n"), octets)
            self.assertEqual(set(self.boxes()), {"ann"})

    def test_what_was_refused_changes_nothing(self) -> None:
        conversation = self.connect()
        self.answer(conversation, b"MAIL FROM:<eve@evil.test>\r\nRCPT TO:<ann@here.test>\r\n")
        refused = b"MAIL FROM:<other@evil.test>\r\nRCPT TO:<nobody@here.test>\r\nRCPT TO:<v@far.test>\r\nRCPT TO:<jon@here.test> X=1\r\n"
        self.assertEqual(self.answer(conversation, refused), [503, 550, 550, 555])
        self.assertEqual(self.answer(conversation, b"DATA\r\n" + HELLO + b".\r\n"), [354, 250])
        self.assertEqual(set(self.boxes()), {"ann"})
        self.assertTrue(self.boxes()["ann"][0].startswith(b"Return-Path: <eve@evil.test>\r\n"))

    def test_who_hangs_up_leaves_nothing(self) -> None:
        opening = b"MAIL FROM:<eve@evil.test>\r\nRCPT TO:<jon@here.test>\r\n"
        for octets in (
            opening,
            opening + b"DATA\r\n",
            opening + b"DATA\r\nx\r\n.",
            opening + b"BDAT 5 LAST\r\nabc",
            opening + b"BDAT 1\r\na",
        ):
            conversation = self.connect()
            conversation.send(octets)
            conversation.hang_up()
        self.nothing_came_of_it()

    def test_one_session_knows_nothing_of_another(self) -> None:
        first, second = self.connect(), self.connect()
        self.answer(first, b"MAIL FROM:<eve@evil.test>\r\nRCPT TO:<jon@here.test>\r\n")
        self.assertEqual(self.answer(second, b"DATA\r\nRCPT TO:<ann@here.test>\r\n"), [503, 503])


class LimitTests(AttackCase):
    """Every buffer has a bound, and every wait a deadline."""

    def test_the_limits_are_those_of_the_table(self) -> None:
        limits = Limits()
        table = {
            **dict(command_line=2048, content_line=64 << 10, recipients=1000, message=25 << 20, chunks=4096, hops=100),
            **dict(header=256 << 10, header_field=64 << 10, header_fields=2000, errors_slow=10, errors=20),
            **dict(idle=300, idle_stressed=30, progress=500, progress_window=60, content_time=1800, final_reply=300),
            **dict(idle_commands=100, messages=1000, connections=2000, connections_per_address=50),
            **dict(connections_per_minute=60, backlog=1024, policies_at_command=30),
            **dict(input_ahead=64 << 10, unread_replies=64 << 10, unread_time=60, memory=64 << 20, waiting_commits=200),
        }
        self.assertEqual({name: getattr(limits, name) for name in table}, table)
        self.assertEqual(SECTION_OCTETS, limits.header)

    def test_a_command_line(self) -> None:
        conversation = self.connect()
        self.assertEqual(self.answer(conversation, b"NOOP ".ljust(2046, b"x") + b"\r\n"), [250])
        self.assertEqual(self.answer(conversation, b"NOOP ".ljust(2047, b"x") + b"\r\n"), [500])
        self.assertEqual(self.answer(conversation, b"NOOP ".ljust(9999, b"x") + b"\r\n"), [421])
        self.assertTrue(conversation.closed)

    def test_a_line_that_never_ends_is_not_kept(self) -> None:
        conversation = self.connect()
        for _ in range(200):
            conversation.send(b"x" * 10_000)
            self.assertLess(conversation._server._session.buffered, 2048)

    def test_a_line_of_content(self) -> None:
        for length, code in ((64 << 10, 250), ((64 << 10) + 1, 554)):
            content = b"x: y\r\n\r\n" + b"x" * length + b"\r\n.\r\n"
            self.assertEqual(self.answer(self.transaction("jon@here.test"), content), [code])
            content = content[:-3]
            conversation = self.transaction("jon@here.test")
            conversation.say(".")
            conversation.say("MAIL FROM:<a@b.test>")
            conversation.say("RCPT TO:<jon@here.test>")
            self.assertEqual(self.answer(conversation, b"BDAT %d LAST\r\n" % len(content) + content), [code])
        self.assertEqual(len(self.boxes()["jon"]), 4)

    def test_a_local_part_a_domain_and_a_path(self) -> None:
        labels = ".".join(["d" * 60] * 3)
        for path, fits in (
            ("a" * 64 + "@b.test", True),
            ("a" * 65 + "@b.test", False),
            ('"' + "a" * 62 + '"@b.test', True),
            ('"' + "a" * 63 + '"@b.test', False),
            ("a@" + "b" * 63 + ".test", True),
            ("a@" + "b" * 64 + ".test", False),
            ("a" * 64 + "@" + labels + ".abcd", True),
            ("a" * 64 + "@" + labels + ".abcdef", True),
            ("a" * 64 + "@" + labels + ".abcdefg", False),
            ("a@" + ".".join(["d" * 60] * 5), False),
        ):
            self.assertEqual(codes(self.connect().say(f"MAIL FROM:<{path}>")), [250 if fits else 501], path)

    def test_recipients_of_a_transaction(self) -> None:
        conversation = self.connect()
        said = self.answer(conversation, b"MAIL FROM:<a@b.test>\r\n" + b"RCPT TO:<jon@here.test>\r\n" * 1002)
        self.assertEqual(said, [250] * 1001 + [452] * 2)
        self.world.pass_time(2)

    def test_a_message(self) -> None:
        self.world = MailWorld(limited('message = "64 KiB"'))
        conversation = self.connect()
        self.assertEqual(codes(conversation.say("MAIL FROM:<a@b.test> SIZE=65537")), [552])
        self.assertEqual(codes(conversation.say("MAIL FROM:<a@b.test> SIZE=99999999999999999999")), [552])
        line = b"x" * 62 + b"\r\n"
        for lines, code in ((1024, 250), (1025, 552), (2047, 552), (2100, 421)):
            content = b"a: b\r\n" + b"y" * 56 + b"\r\n" + line * (lines - 1)
            self.assertEqual(self.answer(self.transaction("jon@here.test"), content + b".\r\n"), [code], lines)
            # Whether it was declared or not, and by BDAT alike.
            conversation = self.connect()
            conversation.send(b"MAIL FROM:<a@b.test> SIZE=1\r\nRCPT TO:<jon@here.test>\r\n")
            conversation.send(b"BDAT %d LAST\r\n" % len(content) + content)
            self.assertEqual(codes(conversation.replies())[-1], code, lines)
        self.world.settle()
        self.assertEqual(len(self.boxes()["jon"]), 2)
        self.assertEqual(self.queued(), 0)

    def test_chunks_of_a_message(self) -> None:
        conversation = self.connect()
        conversation.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\n")
        conversation.send(b"BDAT 0\r\n" * 4097)
        said = codes(conversation.replies())
        self.assertEqual((len(said), said[-2], said[-1]), (4099, 250, 552))

    def test_a_header_section_its_fields_and_their_number(self) -> None:
        for header, code in (
            (b"a: b\r\n" * 2000, 250),
            (b"a: b\r\n" * 2001, 552),
            (b"a: " + (b"x" * 990 + b"\r\n ") * 65 + b"\r\n", 250),
            (b"a: " + (b"x" * 990 + b"\r\n ") * 66 + b"\r\n", 552),
            ((b"a: " + b"x" * 1000 + b"\r\n") * 260, 250),
            ((b"a: " + b"x" * 1000 + b"\r\n") * 262, 552),
        ):
            said = self.answer(self.transaction("jon@here.test"), header + b"\r\nHi!\r\n.\r\n")
            self.assertEqual(said, [code], (header[:10], len(header)))
        self.assertEqual(len(self.boxes()["jon"]), 3)

    def test_errors_of_a_session(self) -> None:
        conversation = self.connect()
        heard = []
        for _ in range(60):
            heard += codes(conversation.say("RCPT TO:<jon@here.test>"))
            self.world.pass_time(1)
        self.assertEqual(heard, [503] * 19 + [421])
        self.assertTrue(conversation.closed)

    def test_guessing_becomes_slow(self) -> None:
        conversation = self.connect()
        conversation.say("MAIL FROM:<>")
        said = self.answer(conversation, b"RCPT TO:<nobody@here.test>\r\n" * 15)
        self.assertEqual(said, [550] * 11)
        self.world.pass_time(3.5)
        self.assertEqual(codes(conversation.replies()), [550] * 3)

    def test_commands_that_bring_no_mail(self) -> None:
        for command in (b"NOOP", b"RSET", b"VRFY x", b"HELP", b"EHLO c"):
            said = self.answer(self.connect(), (command + b"\r\n") * 120)
            self.assertEqual((len(said), said[-1]), (100, 421), command)
            said = self.answer(self.connect(FRIEND), (command + b"\r\n") * 120)
            self.assertEqual((len(said), said[-1] // 100), (120, 2), command)

    def test_messages_of_a_connection(self) -> None:
        self.world = MailWorld(limited("messages = 3"))
        message = b"MAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\n.\r\n"
        said = self.answer(self.connect(), message * 4)
        self.assertEqual(said, [250, 250, 354, 250] * 3 + [421])

    def test_connections_of_an_address_in_a_minute_and_in_all(self) -> None:
        greeted = [self.world.connect(STRANGER) for _ in range(51)]
        self.assertEqual([codes(each.greeting)[0] for each in greeted], [220] * 50 + [421])
        for each in greeted:
            each.hang_up()
        greeted = [self.world.connect(STRANGER) for _ in range(11)]
        self.assertEqual([codes(each.greeting)[0] for each in greeted], [220] * 10 + [421])
        self.world.pass_time(61)
        self.assertEqual(codes(self.world.connect(STRANGER).greeting), [220])
        self.world = MailWorld(limited("connections = 20"))
        greeted = [self.world.connect(f"198.51.100.{number}") for number in range(21)]
        self.assertEqual([codes(each.greeting)[0] for each in greeted], [220] * 20 + [421])

    def test_who_is_too_many_may_only_quit(self) -> None:
        self.world = MailWorld(limited("connections_per_address = 1"))
        self.connect()
        refused = self.world.connect(STRANGER)
        self.assertEqual(codes(refused.greeting), [421])
        self.assertTrue(refused.closed)
        self.assertEqual(self.answer(refused, b"EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<jon@here.test>\r\n"), [])

    def test_silence(self) -> None:
        for octets in (b"", b"MAIL FROM:<a@b.test>\r\n", b"NOO"):
            conversation = self.connect()
            self.answer(conversation, octets)
            self.world.pass_time(299)
            self.assertFalse(conversation.closed)
            self.world.pass_time(2)
            self.assertEqual(codes(conversation.replies()), [421])
            self.assertTrue(conversation.closed)

    def test_an_octet_now_and_then_wins_no_time(self) -> None:
        conversation = self.connect()
        for _ in range(31):
            conversation.send(b"x")
            self.world.pass_time(10)
        self.assertEqual(codes(conversation.replies()), [421])
        # Nor does content for ever.
        conversation = self.transaction("jon@here.test")
        for _ in range(31 * 6):
            conversation.send(b"x" * 80 + b"\r\n")
            self.world.pass_time(10)
        self.assertEqual(codes(conversation.replies()), [421])
        self.nothing_came_of_it()

    def test_in_a_full_house_content_has_to_come(self) -> None:
        self.world = MailWorld(limited("connections = 4"))
        slow = self.transaction("jon@here.test")
        others = [self.connect(f"198.51.100.{number}") for number in range(2)]
        for _ in range(7):
            slow.send(b"x" * 498 + b"\r\n")
            self.world.pass_time(10)
        self.assertEqual(codes(slow.replies()), [421])
        self.assertEqual(len(others), 2)

    def test_what_is_sent_ahead_of_the_answer(self) -> None:
        self.world = MailWorld(limited("", WICKED.format(mood="hangs") + POLICIES))
        conversation = self.connect()
        conversation.send(b"MAIL FROM:<>\r\nRCPT TO:<jon@here.test>\r\n")
        conversation.send(b"NOOP\r\n" * 5000)
        self.assertEqual(conversation._transport.producerState, "producing")
        conversation.send(b"NOOP\r\n" * 8000)
        self.assertEqual(conversation._transport.producerState, "paused")

    def test_messages_that_wait_for_the_disk(self) -> None:
        self.world = MailWorld(limited("waiting_commits = 2"))
        self.world.spool.hold()
        for content in (b"DATA\r\nx\r\n.\r\n", b"BDAT 3 LAST\r\nx\r\n"):
            conversation = self.connect()
            said = self.answer(conversation, b"MAIL FROM:<>\r\nRCPT TO:<jon@here.test>\r\n" + content)
            self.assertLess(len(said), 4)
        third = self.connect()
        said = self.answer(third, b"MAIL FROM:<>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\n")
        self.assertEqual(said, [250, 250])
        self.world.spool.release()
        self.assertEqual(self.answer(third, b"x\r\n.\r\n"), [354, 250])

    def test_an_answer_that_we_cannot_give(self) -> None:
        """Neither 250 nor 451 would be true while a commit is under way: there is none, and the client comes again."""
        self.world.spool.hold()
        conversation = self.transaction("jon@here.test")
        self.assertEqual(self.answer(conversation, HELLO + b".\r\n"), [])
        self.world.pass_time(299)
        self.assertFalse(conversation._transport.disconnected)
        self.world.pass_time(2)
        self.assertEqual((conversation.replies(), conversation._transport.disconnected), ([], True))
        self.flushLoggedErrors()

    def test_replies_that_are_not_read(self) -> None:
        conversation = self.connect()
        conversation.replies()
        conversation._server.pauseProducing()  # as the transport does with 64 KiB of them
        conversation.send(b"HELP\r\n" * 50)
        self.assertEqual((conversation.replies(), conversation._transport.producerState), ([], "paused"))
        self.world.pass_time(59)
        self.assertFalse(conversation._transport.disconnected)
        self.world.pass_time(2)
        self.assertTrue(conversation._transport.disconnected)


class LoopTests(AttackCase):
    """More than 100 Received: 554 5.4.6. Our own address as MX is found by address, not by name."""

    def test_a_message_that_has_been_everywhere_is_refused_however_it_is_written(self) -> None:
        for field in (
            b"Received: from a by b\r\n",
            b"received:x\r\n",
            b"RECEIVED \t: x\r\n",
            b"Received:\r\n from a\r\n\tby b\r\n",
        ):
            for hops, code in ((100, 250), (101, 554)):
                said = self.answer(self.transaction("jon@here.test"), field * hops + b"\r\nx\r\n.\r\n")
                self.assertEqual(said, [code], field)
            # Other fields in between hide nothing.
            said = self.answer(self.transaction("jon@here.test"), (field + b"X: y\r\n z\r\n") * 101 + b"\r\n.\r\n")
            self.assertEqual(said, [554], field)
        self.assertEqual(len(self.boxes()["jon"]), 4)

    def test_a_domain_whose_exchanger_is_this_relay_is_a_loop_and_not_a_connection(self) -> None:
        for number, address in enumerate(("192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::c000:201", "2002:c000:201::1")):
            kind = "AAAA" if ":" in address else "A"
            self.world.names[f"loop{number}.test"] = {"MX": [(10, f"any.name{number}.test")]}
            self.world.names[f"any.name{number}.test"] = {kind: [address]}
            self.world.send("ann@here.test", f"bob@loop{number}.test", HELLO)
        self.world.send("ann@here.test", "bob@[192.0.2.1]", HELLO)
        self.world.settle()
        self.assertEqual(self.world.internet.attempts, [])
        self.assertEqual([fields["status"] for fields in self.world.log.named("failed")], ["5.4.6"] * 5)


class NameTests(AttackCase):
    """SERVFAIL, timeout and truncation are temporary. Null MX: 5.1.10. No loopback, private or own address."""

    def failed(self) -> list[object]:
        return [fields["status"] for fields in self.world.log.named("failed")]

    def test_a_domain_that_takes_no_mail_is_told_at_once_and_not_connected_to(self) -> None:
        self.world.names["far.test"] = {"MX": [(0, "")], "A": ["192.0.2.25"]}
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.assertEqual((self.failed(), self.world.internet.attempts, self.queued()), (["5.1.10"], [], 0))

    def test_where_the_name_servers_fail_no_other_record_is_taken_instead(self) -> None:
        self.world.internet.add("192.0.2.66")
        silence = Unanswered("SERVFAIL")
        self.world.names["one.test"] = {"MX": silence, "A": ["192.0.2.66"]}
        self.world.names["two.test"] = {"MX": [(10, "mx.two.test")], "A": ["192.0.2.66"]}
        self.world.names["mx.two.test"] = silence
        self.world.names["three.test"] = {"MX": [(10, f"mx{at}.three.test") for at in range(101)], "A": ["192.0.2.66"]}
        for name in ("one", "two", "three"):
            self.world.send("ann@here.test", f"bob@{name}.test", HELLO)
        self.world.pass_time(3600)
        self.assertEqual((self.failed(), self.world.internet.attempts, self.queued()), ([], [], 3))

    def test_nobodys_dns_leads_us_inside(self) -> None:
        inside = (
            *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
            *("0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1"),
            *("::1", "::", "fe80::1", "fc00::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"),
            *("64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:a00:1::", "::127.0.0.1"),
        )
        for number, address in enumerate(inside):
            kind = "AAAA" if ":" in address else "A"
            self.world.names[f"d{number}.test"] = {"MX": [(10, f"mx.d{number}.test")]}
            self.world.names[f"mx.d{number}.test"] = {kind: [address]}
            self.world.send("ann@here.test", f"bob@d{number}.test", HELLO)
            # The same without an MX record, and as an address literal.
            self.world.names[f"e{number}.test"] = {kind: [address]}
            self.world.send("ann@here.test", f"bob@e{number}.test", HELLO)
            literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
            self.world.send("ann@here.test", f"bob@{literal}", HELLO)
        self.world.pass_time(6 * DAY)
        self.assertEqual(self.world.internet.attempts, [])
        self.assertEqual((len(self.failed()), self.queued()), (3 * len(inside), 0))

    def test_an_exchanger_inside_does_not_hide_behind_one_that_is_down(self) -> None:
        self.world.names["far.test"] = {"MX": [(10, "down.test"), (20, "inside.test")]}
        self.world.names["down.test"] = {"A": ["192.0.2.25"]}
        self.world.names["inside.test"] = {"A": ["10.0.0.1", "192.0.2.26"], "AAAA": ["::1"]}
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.pass_time(DAY)
        self.assertEqual({host for host, _, _ in self.world.internet.attempts}, {"192.0.2.25", "192.0.2.26"})

    def test_an_address_may_change_between_two_attempts_and_is_judged_again(self) -> None:
        self.world.names["far.test"] = {"MX": [(10, "mx.far.test")]}
        self.world.names["mx.far.test"] = {"A": ["192.0.2.25"]}
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.world.names["mx.far.test"] = {"A": ["127.0.0.1"]}
        self.world.pass_time(DAY)
        self.assertEqual({host for host, _, _ in self.world.internet.attempts}, {"192.0.2.25"})

    def test_a_domain_with_many_addresses_takes_only_some_of_our_time(self) -> None:
        self.world.names["far.test"] = {"MX": [(10, f"mx{at}.far.test") for at in range(50)]}
        for at in range(50):
            self.world.names[f"mx{at}.far.test"] = {"A": [f"192.0.2.{at + 100}", f"198.51.100.{at + 100}"]}
            self.world.internet.silence(f"192.0.2.{at + 100}")
            self.world.internet.silence(f"198.51.100.{at + 100}")
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.pass_time(240)
        self.assertEqual(len(self.world.internet.attempts), 5)
        self.assertLessEqual(len(self.world.names.asked), 1 + 2 * 20)


class OtherServerTests(AttackCase):
    """Remote replies: bounded, exactly `[2-5][0-9][0-9][ -]`, a deadline for each command; else temporary."""

    MOMENTS: tuple[Moment, ...] = ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "END")

    def send_to(self, fault: Fault, moment: Moment) -> Any:
        self.world = MailWorld(CONFIGURATION)
        mx = self.world.exchange("far.test", "192.0.2.25").at(moment, fault)
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        return mx

    def check_delayed(self, mx: Any, name: object) -> None:
        """It is told neither carried nor failed, it waits, and the connection is closed."""
        self.assertEqual([event.what for event in self.world.log.events], ["accepted", "delayed"], name)
        self.assertEqual((self.queued(), mx.open), (1, 0), name)
        [told] = self.world.log.named("delayed")
        for value in told.values():
            self.assertLess(len(str(value)), 1000)
            self.assertTrue(str(value).isprintable())

    def test_what_is_no_reply_is_temporary_and_ends_the_conversation_at_once(self) -> None:
        for babble in (
            b"250" + b" x" * 100_000,
            b"x" * 200_000,
            b"250-x\r\n" * 101 + b"250 x\r\n",
            (b"250-" + b"x" * 996 + b"\r\n") * 70 + b"250 x\r\n",
            b"250 ok\n",
            b"250 ok\r\r\n",
            b"150 ok\r\n",
            b"600 ok\r\n",
            b"25O ok\r\n",
            b"250ok\r\n",
            b"250_ok\r\n",
            b" 250 ok\r\n",
            b"250-a\r\n550 b\r\n",
            b"+OK\r\n",
            b"\r\n",
            b"\xff\xfe2\x005\x000\x00\r\n",
        ):
            for moment in self.MOMENTS:
                mx = self.send_to(Babble(babble), moment)
                self.world.settle()
                self.check_delayed(mx, (babble[:20], moment))

    def test_a_reply_that_cannot_answer_what_we_said_is_no_reply(self) -> None:
        for moment in self.MOMENTS:
            mx = self.send_to(Babble(b"250 x\r\n" if moment == "DATA" else b"354 x\r\n"), moment)
            self.world.settle()
            self.check_delayed(mx, moment)

    def test_an_answer_to_a_question_that_we_have_not_asked_is_no_promise(self) -> None:
        mx = self.send_to(Say("354 go on\n250 2.0.0 taken already"), "DATA")
        self.world.settle()
        self.check_delayed(mx, "early")
        self.assertEqual(mx.messages, [])

    def test_who_says_nothing_is_left_after_a_while(self) -> None:
        for moment in self.MOMENTS:
            mx = self.send_to(Stall(), moment)
            self.world.pass_time(601)
            [told, *_] = self.world.log.named("delayed")
            self.assertIn("timed out", str(told))
            self.assertEqual(self.queued(), 1)
            self.assertLessEqual(mx.connections, 2)

    def test_a_long_reply_is_kept_in_part_and_shown_without_what_a_terminal_would_do(self) -> None:
        line = "550-5.1.1 \x1b[2J\x07\x85" + "x" * 900
        mx = self.send_to(Say("\n".join([line] * 60 + [line.replace("-", " ", 1)])), "RCPT")
        self.world.settle()
        [told] = self.world.log.named("failed")
        self.assertLess(len(str(told["diagnostic"])), 1000)
        [notice] = self.boxes()["ann"]
        self.assertLess(len(notice), 5000)
        self.assertNotIn(b"\x1b", notice)
        self.assertEqual(mx.messages, [])

    def test_we_say_nothing_that_a_server_has_made_us_say(self) -> None:
        offers = (
            "250-x",
            "250-SIZE 1\0",
            "250-X\x1b",
            "250-AUTH=LOGIN",
            "250-8BITMIME\t",
            "250-XCLIENT NAME",
            "250 \xff",
        )
        mx = self.world.exchange("far.test", "192.0.2.25").at("EHLO", Say("\n".join(offers)))
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.assertEqual((mx.complaints, len(mx.messages)), ([], 1))


#: Policies that other people have written.
WICKED = """
[[policy]]
use = "tests.test_attacks:Wicked"
mood = "{mood}"
"""


class WickedOptions(BaseModel, extra="forbid"):
    """What it does."""

    mood: str = Field(description="One of the moods.")


def _yields_for_ever() -> Iterator[object]:
    while True:
        yield None


async def _raises_later() -> object:
    await Deferred[None](lambda waiting: waiting.errback(ZeroDivisionError("cancelled")))
    return None


MOODS: dict[str, Callable[[], Any]] = {
    "raises": lambda: 1 // 0,
    "fails": lambda: getattr(Wicked, "{recipient}"),
    "hangs": lambda: Deferred(),
    "hangs and then raises": _raises_later,
    "says nothing": lambda: None,
    "says yes": lambda: True,
    "says 250": lambda: "250 2.1.5 Recipient ok",
    "says a type": lambda: Forward,
    "says a list": lambda: [Forward("evil.test")],
    "yields": _yields_for_ever,
}


@implementer(IRoutingPolicy)
class Wicked:
    """A plugin in one mood or another."""

    Options = WickedOptions

    def __init__(self, options: WickedOptions, world: World) -> None:
        self._mood = MOODS[options.mood]

    def route(self, inquiry: Inquiry) -> Any:
        return self._mood()


class PluginTests(AttackCase):
    """A plugin that raises, hangs or returns nonsense: 451. Never fail open."""

    def test_a_policy_that_fails_lets_nothing_pass(self) -> None:
        for mood in MOODS:
            for policies in (POLICIES, '[[policy]]\nuse = "discard"\n'):
                with self.subTest(mood):
                    self.world = MailWorld(
                        'hostname = "mx.here.test"\n' + LISTENERS + WICKED.format(mood=mood) + policies
                    )
                    conversation = self.connect(FRIEND)
                    conversation.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\nNOOP\r\n")
                    self.world.pass_time(11)
                    lines = conversation.replies()
                    self.assertEqual(codes(lines), [250, 451, 503, 250])
                    # Who asks hears nothing of how we are built.
                    self.assertEqual(lines[1], "451 4.3.0 Local error, please try again later")
                    self.assertEqual(self.world.log.named("accepted"), [])
                    self.nothing_came_of_it()
            self.flushLoggedErrors()


class BackscatterTests(AttackCase):
    """Recipients are checked at RCPT; no notice to the null reverse-path or for auto-submitted mail."""

    def refuse(self) -> Any:
        return self.world.exchange("far.test", "192.0.2.25").at("RCPT", Say("550 5.1.1 no such user"))

    def test_who_does_not_exist_is_refused_at_rcpt_and_nobody_is_written_to(self) -> None:
        victim = self.world.exchange("victim.test", "192.0.2.77")
        conversation = self.connect()
        said = self.answer(conversation, b"MAIL FROM:<eve@victim.test>\r\nRCPT TO:<nobody@here.test>\r\nDATA\r\n")
        self.assertEqual(said, [250, 550, 503])
        self.nothing_came_of_it()
        self.assertEqual(victim.connections, 0)

    def test_what_is_refused_at_the_end_of_content_is_told_to_the_client_and_to_nobody_else(self) -> None:
        for content in (b"bare\nlf\r\n.\r\n", b"Received: x\r\n" * 101 + b"\r\n.\r\n", b"x" * 70_000 + b"\r\n.\r\n"):
            conversation = self.transaction("jon@here.test", sender="eve@victim.test")
            self.assertEqual(self.answer(conversation, content)[0] // 100, 5)
        self.nothing_came_of_it()

    def test_nobody_is_told_of_what_nobody_sent(self) -> None:
        self.refuse()
        self.world.send("", "bob@far.test", HELLO)
        self.world.pass_time(6 * DAY)
        self.assertEqual((self.boxes(), self.queued()), ({}, 0))
        self.assertEqual({event.what for event in self.world.log.events}, {"accepted", "failed", "unnoticed"})

    def test_nobody_is_told_of_what_a_program_answered(self) -> None:
        self.refuse()
        for field in (
            b"Auto-Submitted: auto-replied",
            b"AUTO-SUBMITTED:Auto-Replied; x=y",
            b"Auto-Submitted:\r\n\tauto-replied",
        ):
            self.world.send("ann@here.test", "bob@far.test", b"From: x\r\n" + field + b"\r\n" + HELLO)
        self.world.pass_time(6 * DAY)
        self.assertEqual((self.boxes(), self.queued()), ({}, 0))
        self.assertEqual(len(self.world.log.named("unnoticed")), 3)

    def test_a_notice_comes_from_nobody_and_says_so_and_no_notice_follows_it(self) -> None:
        self.refuse()
        victim = self.world.exchange("victim.test", "192.0.2.77").at("END", Say("554 5.7.1 unwanted"))
        # Accepted by an operator who relays for this client: the sender may be forged all the same.
        self.world.send("eve@victim.test", "bob@far.test", b"Subject: buy\r\n\r\nhttp://evil.test/\r\n")
        self.world.pass_time(6 * DAY)
        [notice] = victim.unpromised
        self.assertEqual((notice.reverse_path, notice.recipients), ("", ("eve@victim.test",)))
        message = email.message_from_bytes(notice.content)
        self.assertEqual(message["Auto-Submitted"], "auto-replied")
        self.assertNotIn(b"http://evil.test/", notice.content)
        self.assertEqual((len(victim.unpromised), victim.messages, self.queued()), (1, [], 0))

    def test_a_notice_is_small_however_large_the_message_was(self) -> None:
        self.refuse()
        self.world.send("ann@here.test", "bob@far.test", b"a: b\r\n\r\n" + (b"x" * 998 + b"\r\n") * 1000)
        self.world.settle()
        [notice] = self.boxes()["ann"]
        self.assertLess(len(notice), 4000)

    def test_many_recipients_that_fail_are_one_notice(self) -> None:
        self.refuse()
        self.world.send("ann@here.test", [f"u{number}@far.test" for number in range(40)], HELLO)
        self.world.settle()
        self.assertEqual(len(self.boxes()["ann"]), 1)
