"""Policies about content, and senders who have authenticated: they can be told of recipients who refuse."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from relay.mail.phases import Each
from relay.smtp.octets import wire
from tests.stage import Client, StagedWorld, Users
from tests.test_reception_policies import BOB, CONFIGURATION, LATER, MESSAGE, NO, Script

#: The policy about content holds for Bob alone.
FOR_BOB = 'when = { recipient = ["bob@here.test"] }'


class SubmissionTests(SynchronousTestCase):
    def setUp(self) -> None:
        Script.says = {}
        Script.asked = {}

    def world(self, *, mixed: str = "split", when: str = "") -> Any:
        configuration = CONFIGURATION.format(script="Everywhere", mixed=mixed, when=when)
        return StagedWorld(configuration, Users({"ann@here.test": "secret"}))

    def begin(self, world: Any, sender: str = "ann@here.test") -> Client:
        """Ann has said who she is, and begins to send a message."""
        client: Client = world.meet(listener="submission")
        client.say("EHLO client.test")
        client.say("STARTTLS")
        client.handshake()
        client.say("EHLO client.test")
        client.say("AUTH PLAIN AGFubkBoZXJlLnRlc3QAc2VjcmV0")
        world.settle()
        client.say(f"MAIL FROM:<{sender}>")
        return client

    def sent(self, world: Any, client: Client) -> list[str]:
        client.say("DATA")
        client.send(b"".join(wire([MESSAGE])))
        world.settle()
        return client.replies()

    def boxes(self, world: Any) -> dict[str, bytes]:
        return {folder.rsplit("/", 1)[-1]: mails[-1].octets for folder, mails in world.mailboxes.items()}

    def test_who_has_other_policies_about_content_comes_along_and_who_refuses_has_a_notice(self) -> None:
        Script.says["content"] = NO
        for mixed in ("split", "hold", "reject-all"):
            world = self.world(mixed=mixed, when=FOR_BOB)
            client = self.begin(world)
            for recipient in ("eve", "bob"):
                self.assertEqual(client.say(f"RCPT TO:<{recipient}@here.test>"), ["250 2.1.5 Recipient ok"])
            self.assertTrue(self.sent(world, client)[0].startswith("250 "), mixed)
            boxes = self.boxes(world)
            self.assertEqual(set(boxes), {"eve", "ann"})
            self.assertIn(b"we do not want that", boxes["ann"])

    def test_the_log_says_who_it_was_that_was_refused(self) -> None:
        """By a policy, and by the grammar: many come from one address."""
        world = self.world()
        client = self.begin(world)
        Script.says["content"] = NO
        client.say("RCPT TO:<bob@here.test>")
        self.sent(world, client)
        client.say("FOO")
        refused = world.log.named("refused")
        self.assertEqual([each.get("user") for each in refused], ["ann@here.test", "ann@here.test"])

    def test_without_an_address_it_cannot_be_told_and_hears_what_others_hear(self) -> None:
        world = self.world(when=FOR_BOB)
        client = self.begin(world, "")
        self.assertEqual(client.say("RCPT TO:<eve@here.test>"), ["250 2.1.5 Recipient ok"])
        self.assertEqual(client.say("RCPT TO:<bob@here.test>")[0][:9], "452 4.5.3")
        for mixed, code, boxes in (("split", "451", set()), ("hold", "250", {"eve"}), ("reject-all", "550", set())):
            Script.says["content"] = Each({BOB: NO})
            world = self.world(mixed=mixed)
            client = self.begin(world, "")
            client.say("RCPT TO:<eve@here.test>")
            client.say("RCPT TO:<bob@here.test>")
            self.assertEqual([line[:3] for line in self.sent(world, client)], [code], mixed)
            self.assertEqual(set(self.boxes(world)), boxes)

    def test_who_refuses_it_for_now_makes_the_client_come_again(self) -> None:
        Script.says["content"] = LATER
        world = self.world(when=FOR_BOB)
        client = self.begin(world)
        client.say("RCPT TO:<eve@here.test>")
        client.say("RCPT TO:<bob@here.test>")
        self.assertEqual([line[:3] for line in self.sent(world, client)], ["451"])
        self.assertEqual(self.boxes(world), {})
