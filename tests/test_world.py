"""The house as a whole, in the world in memory: a message goes in, and where it went is seen."""

from __future__ import annotations

import email
from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from relay.config.listeners import Keyword
from relay.interfaces import OutcomeUnknown
from relay.mail.outcome import Unwritten
from relay.smtp.extensions import ALL
from relay.testing.peers import Drop, Say
from relay.testing.world import MailWorld

CONFIGURATION = """
hostname = "mx.test"

[[listener]]
name = "local"
address = "127.0.0.1:2525"

[[policy]]
use = "alias"
[policy.aliases]
"team@here.test" = ["jon@here.test", "ann@here.test", "far@example.org"]
"old@here.test" = ["gone@here.test", "jon@here.test"]

[[policy]]
use = "mailbox"
domains = ["here.test"]
users = ["jon", "ann"]
directory = "mail"

[[policy]]
use = "forward"
when = { client = ["127.0.0.0/8"] }
"""
HELLO = b"Subject: hello\r\n\r\n.hidden\r\n..\r\nHi!\r\n"
DAY = 24 * 3600.0


class WorldTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = MailWorld(CONFIGURATION)

    def queued(self) -> int:
        return len(self.world._shelf.entries)

    def test_mail_for_a_mailbox_is_in_it_with_trace_on_top_and_not_an_octet_changed(self) -> None:
        id = self.world.send("bob@example.org", "jon@here.test", HELLO, client="192.0.2.9")
        self.world.settle()
        [mail] = self.world.mailboxes["/world/mail/jon"]
        lines = mail.octets.split(b"\r\n")
        self.assertEqual(lines[0], b"Return-Path: <bob@example.org>")
        self.assertEqual(lines[1], b"Received: from client.test ([192.0.2.9])")
        self.assertEqual(lines[2], f"\tby mx.test (relay) with ESMTP id {id}".encode())
        self.assertEqual(lines[3], b"\tfor <jon@here.test>;")
        self.assertTrue(mail.octets.endswith(b"\r\n" + HELLO))
        self.assertEqual(self.queued(), 0)

    def test_mail_goes_onward_by_mx_and_not_an_octet_changed(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25")
        self.world.send("jon@here.test", ["bob@example.org", "eve@example.org"], HELLO)
        self.world.settle()
        [message] = mx.messages
        self.assertEqual(message.reverse_path, "jon@here.test")
        self.assertEqual(message.recipients, ("bob@example.org", "eve@example.org"))
        self.assertTrue(message.content.endswith(b"\r\n" + HELLO))
        self.assertTrue(message.content.startswith(b"Received: from client.test ([127.0.0.1])\r\n"))
        self.assertNotIn(b"eve@example.org", message.content)
        self.assertEqual(self.queued(), 0)

    def chunked(self, *chunks: bytes) -> list[str]:
        conversation = self.world.connect()
        for line in ("EHLO c", "MAIL FROM:<jon@here.test>", "RCPT TO:<bob@example.org>"):
            conversation.say(line)
        for at, chunk in enumerate(chunks):
            conversation.send(b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if at == len(chunks) - 1 else b"") + chunk)
        self.world.settle()
        return conversation.replies()

    def test_content_in_chunks_goes_onward_stuffed_and_not_an_octet_changed(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25")
        for chunks in ((HELLO,), tuple(HELLO[at : at + 1] for at in range(len(HELLO))), (HELLO, b"")):
            mx.messages.clear()
            self.assertEqual({line[:3] for line in self.chunked(*chunks)}, {"250"})
            [message] = mx.messages
            self.assertTrue(message.content.endswith(b"\r\n" + HELLO))
            self.assertEqual(mx.complaints, [])

    def test_a_message_of_no_octets_may_come_in_a_chunk_of_none(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25")
        self.chunked(b"")
        self.assertTrue(mx.messages[0].content.startswith(b"Received: "))

    def test_chunks_for_which_there_is_no_room_are_refused_and_forgotten(self) -> None:
        conversation = self.world.connect()
        for line in ("EHLO c", "MAIL FROM:<jon@here.test>", "RCPT TO:<jon@here.test>"):
            conversation.say(line)
        self.world.spool.free = -1
        conversation.send(b"BDAT 3\r\nx\r\nBDAT 3 LAST\r\nx\r\n")
        self.assertEqual([line[:3] for line in conversation.replies()], ["452", "503"])
        self.world.spool.free = 1 << 30
        conversation.send(b"MAIL FROM:<jon@here.test>\r\nRCPT TO:<jon@here.test>\r\nBDAT 3 LAST\r\nx\r\n")
        self.assertEqual(conversation.replies()[-1][:3], "250")
        self.assertEqual(self.queued(), 0)

    def test_room_that_comes_too_late_does_not_save_half_a_message(self) -> None:
        conversation = self.world.connect()
        for line in ("EHLO c", "MAIL FROM:<bob@example.org>", "RCPT TO:<jon@here.test>"):
            conversation.say(line)
        self.world.spool.free = -1
        conversation.send(b"BDAT 39 LAST\r\nSubject: x\r\n\r\nFIRST HALF\r\n")
        self.world.spool.free = 1 << 30
        conversation.send(b"second half\r\n")
        self.world.settle()
        self.assertEqual(conversation.replies()[-1][:3], "452")
        self.assertEqual((self.queued(), dict(self.world.mailboxes)), (0, {}))

    def test_a_message_that_was_kept_though_nobody_knew_is_delivered(self) -> None:
        self.world.spool.fail_next(OutcomeUnknown("who knows"), kept=True)
        conversation = self.world.connect()
        conversation.send(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\nx\r\n.\r\n")
        self.assertEqual(conversation.replies()[-1][:3], "354")
        self.flushLoggedErrors(OutcomeUnknown)
        self.world.pass_time(3600)
        self.assertEqual(len(self.world.mailboxes["/world/mail/jon"]), 1)
        self.assertEqual(self.queued(), 0)

    def test_chunks_wait_for_their_turn_at_the_spool(self) -> None:
        world = MailWorld("[limits]\nwaiting_commits = 1\n" + CONFIGURATION.replace('hostname = "mx.test"', ""))
        world.spool.hold()
        for _ in range(4):
            conversation = world.connect()
            conversation.send(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nBDAT 3 LAST\r\nx\r\n")
        self.assertEqual(world.spool.release(), 1)
        world.settle()
        self.assertEqual(len(world.mailboxes["/world/mail/jon"]), 4)

    def test_who_was_let_in_and_hangs_up_does_not_keep_the_others_out(self) -> None:
        world = MailWorld("[limits]\nwaiting_commits = 1\n" + CONFIGURATION.replace('hostname = "mx.test"', ""))
        world.spool.hold()
        clients = [world.connect() for _ in range(4)]
        for conversation in clients:
            conversation.send(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\n")
            conversation.replies()
            if conversation is clients[0]:
                conversation.send(b"x\r\n.\r\n")
        world.spool.release()
        clients[1].hang_up()
        self.assertEqual([each.replies()[-1][:3] for each in clients[2:]], ["354", "354"])

    def test_a_thousand_recipients_of_one_mailbox_share_a_copy(self) -> None:
        self.world.send("bob@example.org", [f"jon+{number}@here.test" for number in range(1000)], HELLO)
        self.world.settle()
        self.assertEqual(self.world.local.consignments, 1)

    def test_a_listener_offers_what_it_is_told_to(self) -> None:
        # The others are for those who have asked for them by a setting of their own.
        asked_for = {"BINARYMIME", "STARTTLS", "EXPN", "XCLIENT"}
        self.assertEqual({extension.keyword for extension in ALL} - asked_for, set(get_args(Keyword)))
        usual = [line[4:].partition(" ")[0] for line in self.world.connect().say("EHLO c")[1:]]
        self.assertIn("PIPELINING", usual)
        for keyword in get_args(Keyword):
            world = MailWorld(CONFIGURATION.replace("[[policy]]", f'without = ["{keyword}"]\n[[policy]]', 1))
            offered = [line[4:].partition(" ")[0] for line in world.connect().say("EHLO c")[1:]]
            self.assertEqual(offered, [other for other in usual if other != keyword])
        world = MailWorld(CONFIGURATION.replace("[[policy]]", 'without = ["SMTPUTF8", "CHUNKING"]\n[[policy]]', 1))
        conversation = world.connect()
        conversation.say("EHLO c")
        self.assertEqual(conversation.say("MAIL FROM:<a@b.test> SMTPUTF8")[-1][:3], "555")
        self.assertEqual(conversation.say("BDAT 3 LAST")[-1][:3], "421")

    def test_a_sick_host_is_passed_over(self) -> None:
        sick = self.world.exchange("example.org", "192.0.2.25", preference=10).at("MAIL", Say("451 4.3.0 not today"))
        well = self.world.exchange("example.org", "192.0.2.26", preference=20)
        self.world.send("jon@here.test", "bob@example.org", HELLO)
        self.world.settle()
        self.assertEqual((sick.messages, len(well.messages)), ([], 1))

    def test_a_domain_that_is_down_for_a_day_gets_its_mail_after_all(self) -> None:
        self.world.names["example.org"] = {"MX": [(10, "mx.example.org")]}
        self.world.names["mx.example.org"] = {"A": ["192.0.2.25"]}
        self.world.send("jon@here.test", "bob@example.org", HELLO)
        self.world.pass_time(DAY)
        self.assertEqual(self.queued(), 1)
        attempts = len(self.world.internet.attempts)
        self.assertGreater(attempts, 8)
        self.assertLess(attempts, 14)
        mx = self.world.exchange("example.org", "192.0.2.25", name="mx.example.org")
        self.world.pass_time(5 * 3600)
        self.assertEqual(len(mx.messages), 1)
        self.assertEqual(self.queued(), 0)

    def test_a_domain_that_is_down_for_good_makes_one_notice(self) -> None:
        self.world.names["example.org"] = {"MX": [(10, "mx.example.org")]}
        self.world.names["mx.example.org"] = {"A": ["192.0.2.25"]}
        self.world.send("jon@here.test", "bob@example.org", HELLO)
        self.world.pass_time(4.9 * DAY)
        self.assertEqual(self.world.mailboxes["/world/mail/jon"], [])
        self.world.pass_time(0.2 * DAY)
        [mail] = self.world.mailboxes["/world/mail/jon"]
        notice = email.message_from_bytes(mail.octets)
        self.assertEqual(notice["Return-Path"], "<>")
        self.assertEqual(notice.get_content_type(), "multipart/report")
        self.assertIn(b"bob@example.org", mail.octets)
        self.assertEqual(self.queued(), 0)
        self.world.pass_time(10 * DAY)
        self.assertEqual(len(self.world.mailboxes["/world/mail/jon"]), 1)

    def test_nobody_is_told_where_the_reverse_path_is_null(self) -> None:
        self.world.exchange("example.org", "192.0.2.25").at("RCPT", Say("550 5.1.1 no such user"))
        self.world.send("", "bob@example.org", HELLO)
        self.world.pass_time(DAY)
        self.assertEqual(dict(self.world.mailboxes), {})
        self.assertEqual(self.queued(), 0)

    def test_a_stranger_whose_mail_fails_later_is_told_by_mail(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25")
        self.world.local.facts = [Unwritten("jon", "no such directory", "ENOENT", permanent=True)]
        self.world.send("bob@example.org", "jon@here.test", HELLO, client="192.0.2.9")
        self.world.settle()
        [notice] = mx.messages
        self.assertEqual((notice.reverse_path, notice.recipients), ("", ("bob@example.org",)))

    def test_an_alias_is_several_copies_and_one_that_fails_is_told(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25")
        self.world.send("bob@example.org", "team@here.test", HELLO)
        self.world.settle()
        self.assertEqual(len(self.world.mailboxes["/world/mail/jon"]), 1)
        self.assertEqual(len(self.world.mailboxes["/world/mail/ann"]), 1)
        self.assertEqual([message.recipients for message in mx.messages], [("far@example.org",)])

    def test_a_member_of_an_alias_that_is_gone_is_told_to_the_sender_and_the_others_get_it(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25")
        self.world.send("bob@example.org", "old@here.test", HELLO)
        self.world.settle()
        self.assertEqual(len(self.world.mailboxes["/world/mail/jon"]), 1)
        [notice] = mx.messages
        self.assertIn(b"5.1.1", notice.content)

    def test_what_was_promised_survives_a_crash(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25").at("DATA", Drop(), times=1)
        self.world.send("jon@here.test", "bob@example.org", HELLO)
        self.world.crash()
        self.world.pass_time(600)
        self.assertEqual(len(mx.messages), 1)
        self.assertEqual(self.queued(), 0)

    def test_a_peer_that_drops_before_its_reply_gets_one_duplicate_at_most(self) -> None:
        mx = self.world.exchange("example.org", "192.0.2.25").at("END", Drop(), times=1)
        self.world.send("jon@here.test", "bob@example.org", HELLO)
        self.world.pass_time(DAY)
        self.assertEqual((len(mx.unpromised), len(mx.messages)), (1, 1))

    def test_a_slow_destination_does_not_hold_up_another(self) -> None:
        self.world.names["slow.test"] = {"MX": [(10, "mx.slow.test")]}
        self.world.names["mx.slow.test"] = {"A": ["192.0.2.66"]}
        self.world.internet.silence("192.0.2.66")
        mx = self.world.exchange("example.org", "192.0.2.25")
        for number in range(300):
            self.world.send("jon@here.test", f"u{number}@slow.test", HELLO)
        self.world.send("jon@here.test", "bob@example.org", HELLO)
        self.world.settle()
        self.assertEqual(len(mx.messages), 1)

    def test_a_recipient_named_twice_gets_one_copy(self) -> None:
        self.world.send("bob@example.org", ["jon@here.test", "jon@here.test"], HELLO)
        self.world.settle()
        self.assertEqual(len(self.world.mailboxes["/world/mail/jon"]), 1)

    def test_a_message_that_has_been_everywhere_is_refused(self) -> None:
        for hops, code in ((100, "250"), (101, "554")):
            conversation = self.world.connect()
            for line in ("EHLO c", "MAIL FROM:<a@b.test>", "RCPT TO:<jon@here.test>", "DATA"):
                conversation.say(line)
            conversation.send(b"Received: from a by b; date\r\n" * hops)
            self.assertEqual(conversation.say("\r\nbody\r\n.")[-1][:3], code)

    def test_every_line_of_the_mail_log_has_the_queue_id(self) -> None:
        self.world.exchange("example.org", "192.0.2.25")
        id = self.world.send("jon@here.test", ["bob@example.org", "ann@here.test"], HELLO)
        self.world.settle()
        told = [(what, fields.get("id")) for what, fields in self.world.log.events]
        self.assertEqual(sorted(told), sorted([("accepted", id), ("delivered", id), ("relayed", id)]))

    def test_when_the_disk_is_slow_clients_keep_their_content(self) -> None:
        world = MailWorld("[limits]\nwaiting_commits = 2\n" + CONFIGURATION.replace('hostname = "mx.test"', ""))
        world.spool.hold()
        waiting = [world.connect() for _ in range(3)]
        heard = []
        for conversation in waiting:
            conversation.send(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\n")
            heard.append(conversation.replies()[-1][:3])
            conversation.send(b"x\r\n.\r\n")
        self.assertEqual(heard, ["354", "354", "250"])
        third = waiting[2]
        self.assertEqual(third.replies(), [])
        world.spool.release()
        self.assertEqual([line[:3] for line in third.replies()], ["354", "250"])

    def test_a_client_that_gives_up_waiting_gives_its_turn_up(self) -> None:
        world = MailWorld("[limits]\nwaiting_commits = 1\n" + CONFIGURATION.replace('hostname = "mx.test"', ""))
        world.spool.hold()
        first, second, third = (world.connect() for _ in range(3))
        for conversation in (first, second, third):
            conversation.send(b"EHLO c\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\n")
            conversation.replies()
            if conversation is first:
                conversation.send(b"x\r\n.\r\n")
        second.hang_up()
        world.spool.release()
        self.assertEqual(third.replies()[-1][:3], "354")
