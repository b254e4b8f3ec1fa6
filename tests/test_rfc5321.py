"""What RFC 5321 and its extensions ask of a relay as a whole, where no test of a single module shows it (docs/RFC.md)."""

from __future__ import annotations

import email
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from relay.config.errors import ConfigurationError
from relay.config.load import load
from relay.config.settings import Settings
from relay.interfaces import SpoolError
from relay.policy.registry import option_model
from relay.testing.peers import FakeExchange, Say
from relay.testing.world import Conversation, MailWorld

LISTENER = """
[[listener]]
name = "world"
address = "192.0.2.1:25"
"""
CONFIGURATION = (
    'hostname = "mx.here.test"\n'
    + LISTENER
    + """
[[policy]]
use = "alias"
[policy.aliases]
"team@here.test" = ["jon@here.test", "far@far.test"]

[[policy]]
use = "mailbox"
domains = ["here.test"]
users = ["jon", "ann"]
directory = "mail"

[[policy]]
use = "forward"
when = { client = ["127.0.0.0/8"] }
"""
)
STRANGER = "198.51.100.9"
HELLO = b"Subject: hello\r\n\r\nHi!\r\n"
DAY = 24 * 3600.0


class HouseCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = MailWorld(CONFIGURATION)

    def boxes(self) -> dict[str, list[bytes]]:
        """Who has got what."""
        return {path.rpartition("/")[2]: [mail.octets for mail in kept] for path, kept in self.world.mailboxes.items()}

    def nothing_is_left(self) -> None:
        """Nobody has got anything, and nobody will."""
        self.world.pass_time(6 * DAY)
        self.assertEqual(self.boxes(), {})
        self.assertEqual(self.world.internet.attempts, [])
        self.assertEqual(self.world.spool.shelf.entries, {})

    def greeted(self, client: str = STRANGER, hello: str = "EHLO client.test") -> Conversation:
        conversation = self.world.connect(client)
        self.assertEqual(conversation.say(hello)[-1][:3], "250")
        return conversation

    def transaction(self, *recipients: str, sender: str = "<bob@far.test>", **kw: str) -> Conversation:
        """A client that has heard 354."""
        conversation = self.greeted(**kw)
        for line in (f"MAIL FROM:{sender}", *(f"RCPT TO:<{each}>" for each in recipients), "DATA"):
            self.assertIn(conversation.say(line)[-1][:3], ("250", "354"), line)
        return conversation


def text(lines: list[str]) -> str:
    return "\n".join(lines)


def read(configuration: str) -> Settings:
    return load(
        configuration,
        file="relay.toml",
        base=Path("/"),
        hostname="mx.test",
        user="ann",
        option_model=option_model,
    )


class SessionTests(HouseCase):
    def test_the_greeting_begins_with_our_name_and_then_says_what_the_operator_wants(self) -> None:
        self.assertEqual(self.world.connect().greeting, ["220 mx.here.test ESMTP relay"])
        world = MailWorld('greeting = "ESMTP Frog 1.0, no spam"\n' + CONFIGURATION)
        self.assertEqual(world.connect().greeting, ["220 mx.here.test ESMTP Frog 1.0, no spam"])

    def test_only_registered_keywords_are_offered_and_helo_offers_none(self) -> None:
        # https://www.iana.org/assignments/mail-parameters, as far as it may concern us
        registered = {
            *("8BITMIME", "SIZE", "PIPELINING", "ENHANCEDSTATUSCODES", "SMTPUTF8", "DSN", "STARTTLS", "AUTH", "HELP"),
            *("CHUNKING", "BINARYMIME", "DELIVERBY", "MT-PRIORITY", "REQUIRETLS", "LIMITS", "ETRN", "EXPN", "VRFY"),
            # Only a draft (docs/QUIRKS.md).
            "PRDR",
        }
        conversation = self.world.connect()
        _, *offers = conversation.say("EHLO c")
        self.assertLessEqual({offer[4:].partition(" ")[0] for offer in offers}, registered)
        self.assertEqual(len(conversation.say("HELO c")), 1)

    def test_what_is_offered_is_never_answered_as_an_unknown_command(self) -> None:
        conversation = self.world.connect()
        for offer in conversation.say("EHLO c")[1:]:
            keyword = offer[4:].partition(" ")[0]
            if keyword in ("PIPELINING", "ENHANCEDSTATUSCODES", "CHUNKING", "LIMITS"):
                continue
            command = {"HELP": "HELP", "VRFY": "VRFY jon", "ETRN": "ETRN here.test"}.get(keyword)
            if command is not None:
                self.assertIn(conversation.say(command)[-1][:3], ("214", "250", "251", "252"), keyword)
                continue
            parameter = {
                "SIZE": "SIZE=1",
                "8BITMIME": "BODY=8BITMIME",
                "SMTPUTF8": "SMTPUTF8",
                "DSN": "RET=HDRS ENVID=x",
                "DELIVERBY": "BY=3600;R",
                "MT-PRIORITY": "MT-PRIORITY=3",
                "PRDR": "PRDR",
            }[keyword]
            self.assertEqual(conversation.say(f"MAIL FROM:<a@b.test> {parameter}")[-1][:3], "250", keyword)
            conversation.say("RSET")

    def test_rset_noop_and_help_need_no_hello_and_disturb_no_transaction(self) -> None:
        conversation = self.world.connect()
        for line, code in (("NOOP", "250"), ("HELP", "214"), ("RSET", "250"), ("QUIT", "221")):
            self.assertEqual(conversation.say(line)[-1][:3], code)
        conversation = self.greeted()
        for line in ("MAIL FROM:<bob@far.test>", "NOOP", "HELP DATA", "VRFY jon", "RCPT TO:<jon@here.test>", "NOOP x"):
            self.assertEqual(conversation.say(line)[-1][0], "2", line)
        self.assertEqual(conversation.say("DATA")[-1][:3], "354")

    def test_a_name_that_is_not_the_clients_keeps_no_mail_out(self) -> None:
        for name in ("mx.here.test", "localhost", "[192.0.2.77]", "[IPv6:2001:db8::1]", "nonsense"):
            world = MailWorld(CONFIGURATION)
            conversation = world.connect(STRANGER)
            for line in (f"EHLO {name}", "MAIL FROM:<a@b.test>", "RCPT TO:<jon@here.test>", "DATA"):
                conversation.say(line)
            self.assertEqual(conversation.say(".")[-1][:3], "250", name)

    def test_a_hello_that_is_refused_moves_nothing(self) -> None:
        conversation = self.greeted()
        conversation.say("MAIL FROM:<a@b.test>")
        self.assertEqual(conversation.say("EHLO two names")[-1][:3], "501")
        self.assertEqual(conversation.say("RCPT TO:<jon@here.test>")[-1][:3], "250")

    def test_unknown_commands_are_borne_and_private_ones_are_unknown(self) -> None:
        conversation = self.greeted()
        for line in ("XFROG", "FROBNICATE now", "x-frog"):
            self.assertEqual(conversation.say(line), ["500 5.5.2 Command not recognized"])
        self.assertFalse(conversation.closed)

    def test_a_command_of_512_octets_is_understood(self) -> None:
        conversation = self.greeted()
        for line in ("NOOP " + "x" * 505, "RCPT TO:<jon@here.test>" + " " * 487):
            self.assertEqual(len(line), 510)
            self.assertIn(conversation.say(line)[-1][:3], ("250", "503"))

    def test_no_setting_goes_below_what_everybody_may_rely_on(self) -> None:
        for limit in ("command_line = 511", "content_line = 999", "recipients = 99", 'message = "63 KiB"'):
            with self.assertRaises(ConfigurationError):
                read(f"[limits]\n{limit}\n")

    def test_who_configures_nothing_is_patient_enough(self) -> None:
        default = read("")
        waits = default.delivery.timeouts
        for seconds, minutes in (
            *(
                (waits.greeting, 5),
                (waits.mail, 5),
                (waits.rcpt, 5),
                (waits.data, 2),
                (waits.block, 3),
                (waits.end, 10),
            ),
            *((default.limits.idle, 5), (default.delivery.retry.give_up, 4 * 24 * 60)),
        ):
            self.assertGreaterEqual(seconds, minutes * 60)


#: RFC 5321 section 4.3.2, for what is built, and what any command may be answered with.
ANYWHERE = {"421", "500", "501"}
REPLIES = {
    "EHLO": {"250", "504", "550"},
    "HELO": {"250", "504", "550"},
    "MAIL": {"250", "552", "451", "452", "550", "553", "503", "455", "555", "504"},
    "RCPT": {"250", "251", "550", "551", "552", "553", "450", "451", "452", "503", "455", "555"},
    "DATA": {"354", "503", "554", "450", "451", "452", "550"},
    ".": {"250", "552", "554", "451", "452", "450", "550"},
    "RSET": {"250"},
    # 503 before EHLO is ours: see docs/QUIRKS.md.
    "VRFY": {"250", "251", "252", "550", "551", "553", "502", "504", "503"},
    "EXPN": {"250", "252", "550", "502", "504"},
    "HELP": {"211", "214", "502", "504"},
    "NOOP": {"250"},
    "QUIT": {"221"},
    "FROG": set(),
}
LINES = st.sampled_from(
    [
        *("EHLO c", "EHLO", "HELO c", "MAIL FROM:<a@b.test>", "MAIL FROM:<>", "mail from: a@b.test SIZE=5"),
        *("MAIL FROM:<a@b.test> SIZE=99999999999", "MAIL FROM:<a@b.test> BODY=BINARYMIME", "MAIL FROM:<@x:a@b.test>"),
        *("MAIL FROM:<jön@b.test>", "RCPT TO:<jon@here.test>", "RCPT TO:<elvis@here.test>", "RCPT TO:<a@far.test>"),
        *("RCPT TO:<jon@here.test> NOTIFY=NEVER", "RCPT TO:<postmaster>", "RCPT TO:<>", "DATA", "DATA x", "RSET"),
        *("VRFY jon", "VRFY", "EXPN team", "HELP", "HELP mail", "HELP me", "NOOP", "NOOP x", "QUIT", "FROG", "FROG x"),
    ]
)


class ReplyTests(HouseCase):
    @settings(max_examples=60)
    @given(st.lists(LINES, max_size=25))
    def test_every_command_has_one_reply_of_those_that_its_row_allows(self, lines: list[str]) -> None:
        world = MailWorld(CONFIGURATION)
        conversation = world.connect(STRANGER)
        for line in lines:
            if conversation.closed:
                return
            verb = line[:4].upper()
            code = self.one_reply(self.said(world, conversation, line), verb)
            self.assertIn(code, REPLIES[verb] | ANYWHERE, line)
            if code == "354":
                self.assertIn(self.one_reply(self.said(world, conversation, "."), "."), REPLIES["."] | ANYWHERE)

    def said(self, world: MailWorld, conversation: Conversation, line: str) -> list[str]:
        """What is heard then, however slow answers have become by too many errors."""
        heard = conversation.say(line)
        world.pass_time(1.5)
        return heard + conversation.replies()

    def one_reply(self, heard: list[str], verb: str) -> str:
        """The code of the reply; that it is one, and that it has its status (RFC 2034 section 4)."""
        code = heard[0][:3]
        self.assertEqual([line[3:4] for line in heard], ["-"] * (len(heard) - 1) + [" "], heard)
        for line in heard:
            self.assertEqual(line[:3], code)
            has_status = re.match(rf"{code[0]}\.[0-9]{{1,3}}\.[0-9]{{1,3}} ", line[4:]) is not None
            self.assertEqual(has_status, code != "354" and not (verb in ("EHLO", "HELO") and code == "250"), line)
        return code


class EndOfContentTests(HouseCase):
    def refused(self, content: bytes, *, world: MailWorld | None = None) -> str:
        if world is not None:
            self.world = world
        conversation = self.transaction("jon@here.test", "ann@here.test")
        conversation.send(content)
        answer = conversation.replies()[-1]
        self.nothing_is_left()
        return answer[:3]

    def test_what_is_refused_at_the_end_of_content_is_never_delivered(self) -> None:
        small = MailWorld('[limits]\nmessage = "64 KiB"\n' + CONFIGURATION.removeprefix('hostname = "mx.here.test"'))
        self.assertEqual(self.refused(b"a\nb\r\n.\r\n"), "550")
        self.assertEqual(self.refused(b"x" * 70_000 + b"\r\n.\r\n"), "554")
        self.assertEqual(self.refused((b"x" * 70 + b"\r\n") * 1000 + b".\r\n", world=small), "552")
        self.assertEqual(self.refused(b"Received: a\r\n" * 101 + b"\r\n.\r\n"), "554")
        self.assertEqual(self.refused(b"X: " + (b"y" * 900 + b"\r\n ") * 80 + b"\r\n\r\n.\r\n"), "552")

    def test_what_could_not_be_kept_is_451_and_never_delivered(self) -> None:
        self.world.spool.fail_next(SpoolError("the disk is full"))
        self.assertEqual(self.refused(HELLO + b".\r\n"), "451")
        self.assertEqual(len(self.flushLoggedErrors(SpoolError)), 1)

    def test_without_its_end_content_does_not_exist(self) -> None:
        conversation = self.transaction("jon@here.test")
        conversation.send(HELLO + b"." + b"\r")
        conversation.hang_up()
        self.nothing_is_left()

    def test_a_transaction_that_ends_otherwise_delivers_nothing(self) -> None:
        for end in ("RSET", "EHLO again", "QUIT"):
            conversation = self.greeted()
            for line in ("MAIL FROM:<bob@far.test>", "RCPT TO:<jon@here.test>", end):
                self.assertEqual(conversation.say(line)[-1][0], "2")
            conversation.send(b"DATA\r\n" + HELLO + b".\r\n")
            self.assertNotIn("354", text(conversation.replies()))
        self.nothing_is_left()

    def test_who_hangs_up_after_250_has_sent_it(self) -> None:
        conversation = self.transaction("jon@here.test")
        conversation.send(HELLO + b".\r\n")
        conversation.hang_up()
        self.world.settle()
        self.assertEqual(len(self.boxes()["jon"]), 1)

    def test_the_next_transaction_has_nothing_of_the_last_one(self) -> None:
        conversation = self.transaction("jon@here.test")
        conversation.send(HELLO + b".\r\n")
        conversation.replies()
        self.assertEqual(conversation.say("RCPT TO:<ann@here.test>")[-1][:3], "503")
        for line in ("MAIL FROM:<eve@far.test>", "RCPT TO:<ann@here.test>", "DATA"):
            conversation.say(line)
        conversation.send(b"second\r\n.\r\n")
        self.world.settle()
        [jons], [anns] = self.boxes()["jon"], self.boxes()["ann"]
        self.assertIn(b"<bob@far.test>", jons)
        self.assertIn(b"<eve@far.test>", anns)
        self.assertNotIn(b"hello", anns)

    def test_a_message_may_be_larger_than_was_declared(self) -> None:
        conversation = self.transaction("jon@here.test", sender="<bob@far.test> SIZE=1")
        conversation.send(HELLO + b".\r\n")
        self.assertEqual(conversation.replies()[-1][:3], "250")

    def test_where_there_is_no_room_the_client_hears_452_before_it_sends(self) -> None:
        self.world.spool.free = 1000
        conversation = self.greeted()
        self.assertEqual(conversation.say("MAIL FROM:<a@b.test> SIZE=1001")[-1][:3], "452")
        self.assertEqual(conversation.say("MAIL FROM:<a@b.test> SIZE=900")[-1][:3], "250")
        conversation.say("RCPT TO:<jon@here.test>")
        self.world.spool.free = 800
        self.assertEqual(conversation.say("DATA")[-1][:3], "452")


#: RFC 5321 section 4.4, `Time-stamp-line`, unfolded, as far as ours may have it.
STAMP = re.compile(
    r"Received: from (?P<helo>[A-Za-z0-9.?_-]+|\[[0-9A-Fa-f.:IPv]+\]) \((?P<source>\[[0-9.]+\]|\[IPv6:[0-9a-f:]+\])\) "
    r"by mx\.here\.test \(relay\) with (?P<protocol>SMTP|ESMTP|UTF8SMTP) id (?P<id>[0-9A-Z]+)"
    r"(?: for <(?P<recipient>[^>]+)>)?; (?P<date>.*)\Z"
)


class TraceTests(HouseCase):
    def stamp(self, octets: bytes) -> dict[str, str | None]:
        """The parts of our `Received`, which stands below `Return-Path`."""
        _, _, rest = octets.partition(b"\r\nReceived:")
        line = re.sub(r"\r\n[ \t]+", " ", ("Received:" + rest.decode()))
        match = STAMP.match(line.partition("\r\n")[0])
        assert match is not None, line
        return match.groupdict()

    def received(self, *, sender: str = "<bob@far.test>", **kw: str) -> bytes:
        conversation = self.transaction("jon@here.test", sender=sender, **kw)
        conversation.send(HELLO + b".\r\n")
        self.assertEqual(conversation.replies()[-1][:3], "250")
        self.world.settle()
        return self.boxes()["jon"][-1]

    def test_the_trace_field_says_who_sent_it_from_where_and_how(self) -> None:
        stamp = self.stamp(self.received())
        self.assertEqual((stamp["helo"], stamp["source"]), ("client.test", f"[{STRANGER}]"))
        self.assertEqual((stamp["protocol"], stamp["recipient"]), ("ESMTP", "jon@here.test"))
        stamp = self.stamp(self.received(client="2001:db8::9", hello="HELO [192.0.2.7]"))
        self.assertEqual((stamp["helo"], stamp["source"]), ("[192.0.2.7]", "[IPv6:2001:db8::9]"))
        self.assertEqual(stamp["protocol"], "SMTP")
        self.assertEqual(self.stamp(self.received(sender="<jön@far.test> SMTPUTF8"))["protocol"], "UTF8SMTP")

    def test_its_date_has_four_digits_of_a_year_and_an_offset(self) -> None:
        date = self.stamp(self.received())["date"] or ""
        self.assertRegex(
            date, r"\A[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} [+-][0-9]{4}\Z"
        )
        self.assertAlmostEqual(parsedate_to_datetime(date).timestamp(), self.world.time.calendar(), delta=1)

    def test_nothing_that_a_client_calls_itself_can_end_the_field(self) -> None:
        for name in ("a(b", "a)b", "a;b", "<a>", 'a"b', "a\\b", "a,b"):
            stamp = self.stamp(self.received(hello=f"EHLO {name}"))
            self.assertRegex(stamp["helo"] or "", r"\A[ab?]+\Z")

    def test_ours_stands_on_top_and_those_before_it_are_left_as_they_are(self) -> None:
        earlier = (
            b"Received: from x by y\r\n\tid  Z ; nonsense\r\nreceived : old\r\nReturn-Path: <old@far.test>\r\n\r\n"
        )
        conversation = self.transaction("jon@here.test")
        conversation.send(earlier + b".\r\n")
        self.world.settle()
        [octets] = self.boxes()["jon"]
        self.assertTrue(octets.endswith(b"\r\n" + earlier))
        self.assertTrue(octets.startswith(b"Return-Path: <bob@far.test>\r\n"))
        self.assertEqual(octets.count(b"Received: from client.test"), 1)

    def test_one_of_several_recipients_does_not_learn_of_the_others(self) -> None:
        conversation = self.transaction("jon@here.test", "ann@here.test")
        conversation.send(HELLO + b".\r\n")
        self.world.settle()
        for name, other in (("jon", b"ann@"), ("ann", b"jon@")):
            [octets] = self.boxes()[name]
            self.assertNotIn(other, octets)
            self.assertIsNone(self.stamp(octets)["recipient"])

    def test_where_an_alias_leads_is_not_told(self) -> None:
        mx = self.world.exchange("far.test", "192.0.2.25")
        self.world.send("ann@here.test", "team@here.test", HELLO)
        self.world.settle()
        [octets], [message] = self.boxes()["jon"], mx.messages
        self.assertEqual(self.stamp(octets)["recipient"], "team@here.test")
        self.assertNotIn(b"jon@here.test", message.content)
        self.assertNotIn(b"far@far.test", octets)


class PostmasterTests(HouseCase):
    def test_a_stranger_may_always_write_to_postmaster(self) -> None:
        for number, address in enumerate(("postmaster", "Postmaster", "POSTMASTER@here.test", "postmaster@HERE.test")):
            conversation = self.transaction(address)
            conversation.send(HELLO + b".\r\n")
            self.world.settle()
            self.assertEqual(len(self.boxes()["postmaster"]), number + 1)


class OnwardTests(HouseCase):
    def far(self) -> FakeExchange:
        return self.world.exchange("far.test", "192.0.2.25")

    def notices(self) -> Iterator[str]:
        """The status of each failure that ann was told of."""
        for octets in self.boxes().get("ann", ()):
            notice = email.message_from_bytes(octets)
            if notice.get_content_type() == "multipart/report":
                yield from re.findall(r"^Status: (.*?)\r?$", notice.as_string(), re.MULTILINE)

    def test_the_envelope_but_for_the_alias_and_the_content_but_for_the_trace_stay_as_they_are(self) -> None:
        mx = self.far()
        self.world.send("bob@example.org", "team@here.test", HELLO)
        self.world.settle()
        [message] = mx.messages
        self.assertEqual((message.reverse_path, message.recipients), ("bob@example.org", ("far@far.test",)))
        head, _, rest = message.content.partition(b"Subject:")
        self.assertEqual(b"Subject:" + rest, HELLO)
        self.assertEqual(len(re.findall(rb"^[A-Za-z-]+:", head, re.MULTILINE)), 1)

    def test_letter_case_of_a_local_part_is_kept_and_its_quotes_are_not_lost(self) -> None:
        mx = self.far()
        self.world.send("Ann@here.test", ["Bob@FAR.test", '"bob the frog"@far.test'], HELLO)
        self.world.settle()
        [message] = mx.messages
        self.assertEqual(message.reverse_path, "Ann@here.test")
        self.assertEqual(message.recipients, ("Bob@far.test", '"bob the frog"@far.test'))

    def test_codes_that_nobody_knows_mean_what_their_first_digit_says(self) -> None:
        mx = (
            self.far()
            .at("MAIL", Say("259 why not"), times=1)
            .at("RCPT", Say("251 will forward to <x@far.test>"), times=1)
        )
        mx.at("END", Say("299 taken"), times=1)
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.assertEqual(len(mx.messages), 1)
        mx.at("RCPT", Say("599 never"), times=1)
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.assertEqual(list(self.notices()), ["5.0.0"])
        mx.at("RCPT", Say("499 not now"), times=1)
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.assertEqual(len(mx.messages), 1)
        self.world.pass_time(600)
        self.assertEqual(len(mx.messages), 2)

    def test_an_address_that_has_moved_is_told_to_the_sender_and_not_followed(self) -> None:
        mx = self.far().at("RCPT", Say("551 5.1.6 please try <new@far.test>"))
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.pass_time(DAY)
        self.assertEqual(list(self.notices()), ["5.1.6"])
        self.assertEqual(mx.messages, [])
        self.assertIn(
            b"please try <new@far.test>", self.boxes()["ann"][0].replace(b"\r\n\t", b" ").replace(b"\r\n      ", b" ")
        )

    def test_what_cannot_be_delivered_is_told_to_the_reverse_path_from_the_null_one(self) -> None:
        mx = self.world.exchange("sender.test", "192.0.2.26")
        self.far().at("END", Say("554 5.6.0 no"))
        self.world.send("bob@sender.test", "team@here.test", HELLO)
        self.world.settle()
        [notice] = mx.messages
        self.assertEqual((notice.reverse_path, notice.recipients), ("", ("bob@sender.test",)))
        self.assertEqual(mx.complaints, [])
        self.assertEqual(len(self.boxes()["jon"]), 1)

    def test_a_domain_that_does_not_exist_is_told_at_once(self) -> None:
        self.world.send("ann@here.test", "bob@nowhere.invalid", HELLO)
        self.world.settle()
        self.assertEqual(list(self.notices()), ["5.1.2"])

    def test_mail_to_ourselves_by_another_name_is_a_loop_and_not_a_connection(self) -> None:
        self.world.names["again.test"] = {"MX": [(10, "mx.again.test")]}
        self.world.names["mx.again.test"] = {"A": ["192.0.2.1"]}
        self.world.send("ann@here.test", "bob@again.test", HELLO)
        self.world.settle()
        self.assertEqual(list(self.notices()), ["5.4.6"])
        self.assertEqual(self.world.internet.attempts, [])
