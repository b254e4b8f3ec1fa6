"""Where the relay differs from what one may expect, on purpose (docs/QUIRKS.md)."""

from __future__ import annotations

from relay.testing.peers import FakeExchange, Say
from tests.test_rfc5321 import CONFIGURATION, DAY, HELLO, LISTENER, STRANGER, HouseCase, MailWorld


class ServerQuirks(HouseCase):
    def test_vrfy_never_tells_anything(self) -> None:
        conversation = self.world.connect(STRANGER)
        said = {conversation.say(f"VRFY {name}")[-1] for name in ("jon@here.test", "elvis@here.test", "x@far.test")}
        self.assertEqual([line[:9] for line in said], ["252 2.5.0"])

    def test_after_helo_there_are_no_parameters(self) -> None:
        conversation = self.greeted(hello="HELO c")
        self.assertEqual(conversation.say("MAIL FROM:<a@b.test> SIZE=1")[-1][:3], "555")

    def test_a_client_that_only_resets_is_sent_away(self) -> None:
        conversation = self.greeted()
        heard = [conversation.say("RSET")[-1][:3] for _ in range(100)]
        self.assertEqual((heard[0], heard[-2], heard[-1]), ("250", "250", "421"))
        self.assertTrue(conversation.closed)

    def test_content_of_twice_the_limit_is_not_waited_for(self) -> None:
        self.world = MailWorld(
            '[limits]\nmessage = "64 KiB"\n' + CONFIGURATION.removeprefix('hostname = "mx.here.test"')
        )
        conversation = self.transaction("jon@here.test")
        conversation.send((b"x" * 70 + b"\r\n") * 2000)
        self.assertEqual(conversation.replies()[-1][:9], "421 4.3.4")
        self.assertTrue(conversation.closed)
        self.nothing_is_left()

    def test_a_relay_without_mailboxes_has_no_postmaster(self) -> None:
        self.world = MailWorld('hostname = "mx.here.test"\n' + LISTENER)
        conversation = self.greeted()
        conversation.say("MAIL FROM:<a@b.test>")
        self.assertEqual(conversation.say("RCPT TO:<postmaster>")[-1][:3], "550")

    def test_our_421_does_not_name_us(self) -> None:
        self.assertEqual(self.greeted().say("GET / HTTP/1.1")[-1].split()[2], "This")


class ContentQuirks(HouseCase):
    def carried(self, content: bytes, sender: str = "ann@here.test", recipient: str = "bob@far.test") -> FakeExchange:
        mx = self.world.exchange("far.test", "192.0.2.25")
        self.world.send(sender, recipient, content)
        self.world.settle()
        return mx

    def passed_on(self, content: bytes) -> bytes:
        """What the next host got, our own field excluded."""
        mx = self.carried(content)
        [message] = mx.messages
        self.assertEqual(mx.complaints, [])
        head, _, rest = message.content.partition(b" +0000\r\n")
        self.assertTrue(head.startswith(b"Received: "))
        return rest

    def test_nul_and_other_control_characters_are_passed_on(self) -> None:
        content = b"Subject: x\0y\r\n\r\n" + bytes(sorted(set(range(32)) - {10, 13})) + b"\x7f\r\n"
        self.assertEqual(self.passed_on(content), content)

    def test_octets_above_127_that_nobody_declared_are_passed_on(self) -> None:
        content = b"Subject: x\r\n\r\n\xe4\xff\r\n"
        self.assertEqual(self.passed_on(content), content)

    def test_lines_that_are_longer_than_998_octets_are_passed_on(self) -> None:
        content = b"Subject: x\r\n\r\n" + b"y" * 60_000 + b"\r\n"
        self.assertEqual(self.passed_on(content), content)

    def test_text_without_a_header_section_gets_an_empty_line_before_it(self) -> None:
        self.assertEqual(self.passed_on(b"just some text\r\n"), b"\r\njust some text\r\n")

    def test_a_return_path_that_came_along_stays_below_ours(self) -> None:
        self.world.send("ann@here.test", "jon@here.test", b"Return-Path: <old@far.test>\r\n" + HELLO)
        self.world.settle()
        [octets] = self.boxes()["jon"]
        self.assertEqual(octets.count(b"Return-Path: <"), 2)
        self.assertTrue(octets.startswith(b"Return-Path: <ann@here.test>\r\n"))

    def test_addresses_go_on_in_their_canonical_form(self) -> None:
        mx = self.world.exchange("xn--bcher-kva.test", "192.0.2.25")
        conversation = self.greeted("127.0.0.1")
        for line in ('MAIL FROM:<"ann"@HERE.test> SMTPUTF8', "RCPT TO:<bob@Bücher.test>", "DATA"):
            conversation.say(line)
        conversation.send(HELLO + b".\r\n")
        self.world.settle()
        [message] = mx.messages
        self.assertEqual((message.reverse_path, message.recipients), ("ann@here.test", ("bob@xn--bcher-kva.test",)))
        self.assertNotIn("SMTPUTF8", message.parameters)

    def test_only_the_header_section_is_looked_at_for_smtputf8(self) -> None:
        mx = self.world.exchange("far.test", "192.0.2.25")
        mx.offers = ("8BITMIME",)
        inner = b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nSubject: \xc3\xb6\r\n\r\n--b--\r\n'
        for content in (inner, b"Subject: \xc3\xb6\r\n\r\n"):
            conversation = self.greeted("127.0.0.1")
            for line in ("MAIL FROM:<ann@here.test> BODY=8BITMIME SMTPUTF8", "RCPT TO:<bob@far.test>", "DATA"):
                conversation.say(line)
            conversation.send(content + b".\r\n")
        self.world.settle()
        self.assertEqual(len(mx.messages), 1)


class ClientQuirks(HouseCase):
    def test_a_server_that_refuses_ehlo_for_whatever_reason_is_told_helo(self) -> None:
        mx = self.world.exchange("far.test", "192.0.2.25").at("EHLO", Say("550 5.7.1 not from you"))
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.assertEqual(len(mx.messages), 1)

    def test_a_server_that_refuses_to_talk_is_asked_again_later(self) -> None:
        mx = self.world.exchange("far.test", "192.0.2.25").at("GREETING", Say("554 no service"), times=3)
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        self.assertEqual(self.boxes(), {})
        self.world.pass_time(3600)
        self.assertEqual(len(mx.messages), 1)

    def test_the_first_retry_comes_after_five_minutes(self) -> None:
        mx = self.world.exchange("far.test", "192.0.2.25").at("RCPT", Say("450 4.2.1 busy"), times=1)
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.pass_time(6 * 60 + 1)
        self.assertEqual(len(mx.messages), 1)

    def test_nobody_is_told_of_an_automatic_reply_that_failed(self) -> None:
        self.world.exchange("far.test", "192.0.2.25").at("RCPT", Say("550 5.1.1 unknown"))
        self.world.send("ann@here.test", "bob@far.test", b"Auto-Submitted: auto-replied\r\n" + HELLO)
        self.world.pass_time(DAY)
        self.assertEqual(self.boxes(), {})
        self.assertIn("unnoticed", [what for what, _ in self.world.log.events])

    def test_a_notice_has_the_header_of_the_message_and_never_its_text(self) -> None:
        self.world.exchange("far.test", "192.0.2.25").at("RCPT", Say("550 5.1.1 unknown"))
        self.world.send("ann@here.test", "bob@far.test", HELLO)
        self.world.settle()
        [notice] = self.boxes()["ann"]
        self.assertIn(b"Subject: hello", notice)
        self.assertNotIn(b"Hi!", notice)
