"""What is worked out once for all messages of a client is worked out anew when more is known of it."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from relay.history.memory import MemoryHistory
from relay.net.waiting import start
from relay.testing.policy import NOON
from tests.stage import Client, StagedWorld, Users

CONFIGURATION = """\
[auth]
passwords = "passwords"
[[listener]]
name = "mx"
address = "127.0.0.1:2525"
tls = "offer"
[[policy]]
name = "a-look-first"
use = "quarantine"
when = { authenticated = true, recipient = ["bob@here.test"] }
[[policy]]
name = "another-look"
use = "quarantine"
when = { recipient = ["kim@here.test"] }
[[policy]]
name = "own"
use = "mailbox"
when = { authenticated = true, recipient = ["ann@here.test"] }
domains = ["here.test"]
users = ["ann"]
directory = "mail"
[[policy]]
name = "all"
use = "mailbox"
when = { recipient = ["bob@here.test", "eve@here.test", "kim@here.test"] }
domains = ["here.test"]
users = ["bob", "eve", "kim"]
directory = "mail"
"""


class ClientTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.history = MemoryHistory(lambda: NOON)
        self.world = StagedWorld(CONFIGURATION, Users({"ann@here.test": "secret"}), history=self.history)
        self.client: Client = self.world.meet()
        self.client.say("EHLO client.test")
        self.client.say("STARTTLS")
        self.client.handshake()
        self.client.say("EHLO client.test")

    def log_in(self) -> None:
        self.client.say("AUTH PLAIN AGFubkBoZXJlLnRlc3QAc2VjcmV0")
        self.world.settle()
        self.client.replies()

    def send(self, *recipients: str, parameters: str = "") -> list[int]:
        codes = self.client.codes(
            f"MAIL FROM:<eve@far.test>{parameters}", *(f"RCPT TO:<{recipient}@here.test>" for recipient in recipients)
        )
        self.client.say("DATA")
        self.client.send(b"Subject: hello\r\n\r\nhi\r\n.\r\n")
        self.world.settle()
        self.client.replies()
        return codes

    def received(self, box: str) -> list[str]:
        return [mail.octets.decode() for mail in self.world.mailboxes.get(f"/world/mail/{box}", ())]

    def test_conditions_about_the_client_are_asked_again_when_it_has_logged_in(self) -> None:
        self.assertEqual(
            self.client.codes("MAIL FROM:<eve@far.test>", "RCPT TO:<ann@here.test>", "RSET"), [250, 550, 250]
        )
        self.log_in()
        self.assertEqual(self.send("ann"), [250, 250])
        self.assertEqual(len(self.received("ann")), 1)

    def test_so_are_those_of_policies_about_content(self) -> None:
        self.send("bob")
        self.assertEqual(len(self.received("bob")), 1)
        self.log_in()
        self.assertEqual(self.send("bob"), [250, 250])
        self.assertEqual(len(self.received("bob")), 1, "it is held")

    def test_the_trace_field_says_what_is_known_at_each_message(self) -> None:
        self.send("eve")
        self.client.say("EHLO other.test")
        self.send("eve")
        self.send("eve", parameters=" SMTPUTF8")
        self.log_in()
        self.send("eve")
        self.send("eve", parameters=" SMTPUTF8")
        self.client.say("HELO other.test")
        self.send("eve")
        told = [re.findall(r"from (\S+) .* with (\S+) id", text, re.DOTALL)[0] for text in self.received("eve")]
        self.assertEqual(
            told,
            [
                ("client.test", "ESMTPS"),
                ("other.test", "ESMTPS"),
                ("other.test", "UTF8SMTPS"),
                ("other.test", "ESMTPSA"),
                ("other.test", "UTF8SMTPSA"),
                ("other.test", "ESMTPSA"),
            ],
        )

    def test_an_account_has_nothing_of_recipients_that_were_not_accepted(self) -> None:
        self.assertEqual(self.send("nobody", "eve", "ann", "kim"), [250, 550, 250, 550, 452])
        accounts = start(self.history.why("eve@here.test")).accounts
        (account,) = [each.explanation for each in accounts if each.explanation.reply.startswith("250")]
        self.assertEqual({step.recipient for step in account.steps if step.phase == "recipient"}, {"eve@here.test"})
        (refused,) = [
            each.explanation
            for each in start(self.history.why("ann@here.test")).accounts
            if not each.explanation.reply.startswith("250")
        ]
        self.assertEqual({step.recipient for step in refused.steps}, {"eve@here.test", "ann@here.test"})
