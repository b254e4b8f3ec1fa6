"""Notices in the world in memory: what a client wishes by MAIL and RCPT, and what the sender's host then gets."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from relay.testing.peers import Say
from relay.testing.world import MailWorld
from tests.test_notice import status_of
from tests.test_world import CONFIGURATION

HOUR, DAY = 3600.0, 86400.0


class NoticesWorldTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = MailWorld(CONFIGURATION)
        self.home = self.world.exchange("sender.test", "192.0.2.80")

    def send(self, mail: str, *rcpt: str, content: str = "Subject: hello\r\n\r\nHi!\r\n", client: str = "") -> None:
        conversation = self.world.connect(client or "127.0.0.1")
        for line in ("EHLO client.test", f"MAIL FROM:<eve@sender.test>{mail}", *(f"RCPT TO:{each}" for each in rcpt)):
            self.assertTrue(conversation.say(line)[-1].startswith("250"), (line, conversation.heard))
        conversation.say("DATA")
        conversation.send(content.encode() + b".\r\n")
        self.assertTrue(conversation.replies()[-1].startswith("250"))
        self.world.settle()

    def told(self) -> list[tuple[str, str]]:
        return [(one["Action"], one["Final-Recipient"]) for fields in self.fields() for one in fields[1:]]

    def fields(self) -> list[list[dict[str, str]]]:
        return [status_of(message.content) for message in self.home.messages]

    def test_who_asks_hears_that_mail_is_in_a_mailbox(self) -> None:
        self.send(
            " RET=HDRS ENVID=QQ+3D314", "<jon@here.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Jon+2Bx@elsewhere.test"
        )
        self.assertEqual(self.told(), [("delivered", "rfc822; jon@here.test")])
        ((message, recipient),) = self.fields()
        self.assertEqual(message["Original-Envelope-Id"], "QQ=314")
        self.assertEqual(recipient["Original-Recipient"], "rfc822;Jon+x@elsewhere.test")
        (notice,) = self.home.messages
        self.assertEqual((notice.reverse_path, notice.recipients), ("", ("eve@sender.test",)))

    def test_an_alias_of_several_is_expanded_and_its_members_are_not_told_of(self) -> None:
        far = self.world.exchange("example.org", "192.0.2.25", offers=("DSN",))
        self.send(" ENVID=x", "<team@here.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;team@here.test")
        self.assertEqual(self.told(), [("expanded", "rfc822; team@here.test")])
        said = b"".join(octets for who, octets in far.transcript if who == "C")
        self.assertIn(b"ENVID=x", said)
        self.assertIn(b"RCPT TO:<far@example.org> NOTIFY=FAILURE ORCPT=rfc822;team@here.test\r\n", said)
        for user in ("jon", "ann"):
            self.assertEqual(len(self.world.mailboxes[f"/world/mail/{user}"]), 1)

    def test_an_expansion_is_told_though_the_relay_crashes_before_it_is(self) -> None:
        self.home.at("DATA", Say("451 4.3.0 later"), times=1)
        self.send("", "<team@here.test> NOTIFY=SUCCESS")
        self.world.crash()
        self.world.pass_time(HOUR)
        self.assertEqual(self.told(), [("expanded", "rfc822; team@here.test")])

    def test_the_next_hop_tells_if_it_can_and_else_we_do(self) -> None:
        self.world.exchange("dsn.test", "192.0.2.26", offers=("DSN",))
        self.world.exchange("old.test", "192.0.2.27", offers=())
        self.send("", "<a@dsn.test> NOTIFY=SUCCESS", "<b@old.test> NOTIFY=SUCCESS", "<c@old.test>")
        self.assertEqual(self.told(), [("relayed", "rfc822; b@old.test")])

    def test_nobody_hears_of_what_nobody_wants_to_hear(self) -> None:
        self.world.exchange("example.org", "192.0.2.25").at("RCPT", Say("550 5.1.1 unknown"))
        self.send("", "<bob@example.org> NOTIFY=NEVER", "<ann@example.org> NOTIFY=DELAY", "<x@example.org>")
        self.world.pass_time(DAY)
        self.assertEqual(self.told(), [("failed", "rfc822; x@example.org")])

    def test_a_delay_is_told_to_who_asked(self) -> None:
        self.world.exchange("example.org", "192.0.2.25").at("RCPT", Say("450 4.2.0 later"))
        self.send("", "<bob@example.org> NOTIFY=DELAY", "<ann@example.org>")
        self.world.pass_time(3.9 * HOUR)
        self.assertEqual(self.told(), [])
        self.world.pass_time(DAY)
        self.assertEqual(self.told(), [("delayed", "rfc822; bob@example.org")])

    def test_all_of_the_message_comes_back_to_who_asked_for_it(self) -> None:
        self.world.exchange("example.org", "192.0.2.25").at("RCPT", Say("550 5.1.1 unknown"))
        for mail, returned in ((" RET=FULL", True), (" RET=HDRS", False), ("", False)):
            self.send(mail, "<bob@example.org>")
            self.assertEqual(b"\r\n\r\nHi!\r\n" in self.home.messages[-1].content, returned)

    def test_a_deadline_ends_the_attempts(self) -> None:
        peer = self.world.exchange("example.org", "192.0.2.25", offers=("DELIVERBY",))
        peer.at("RCPT", Say("450 4.2.0 later"))
        self.send(" BY=1000;R", "<bob@example.org>")
        self.world.pass_time(DAY)
        ((message, recipient),) = self.fields()
        self.assertEqual((recipient["Action"], recipient["Status"]), ("failed", "5.4.7"))
        self.assertIn("Deliver-By-Date", message)
        self.assertEqual(peer.connections, 3)
