"""The relay's listeners in real TLS, in the world in memory."""

from __future__ import annotations

from typing import Any

from relay.net.tls_server import ServerTls
from relay.testing.caller import Caller
from relay.testing.world import MailWorld
from tests.test_tls import TlsTestCase

MX = "mx.example.org"
CONFIGURATION = """
hostname = "mx.example.org"

[[listener]]
name = "mx"
address = "127.0.0.1:25"
tls = "offer"

[[listener]]
name = "submission"
address = "127.0.0.1:465"
tls = "implicit"

[[policy]]
use = "mailbox"
domains = ["here.test"]
users = ["jon"]
directory = "mail"
"""


class CallerTests(TlsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.world = MailWorld(CONFIGURATION, tls=self.of_listener)

    def of_listener(self, name: str) -> ServerTls:
        return self.listener(MX)

    def peer(self) -> Any:
        return self.tls("verify").toward(MX)

    def deliver(self, caller: Caller) -> str:
        """What the message says of how it came."""
        caller.say("EHLO c.test")
        caller.send(b"MAIL FROM:<a@b.test>\r\nRCPT TO:<jon@here.test>\r\nDATA\r\n")
        caller.send(b"Subject: hi\r\n\r\n.\r\n")
        self.assertEqual(caller.replies()[-1][:3], "250")
        self.world.settle()
        [[mail]] = self.world.mailboxes.values()
        return mail.octets.decode()

    def test_a_listener_can_be_spoken_to_in_clear(self) -> None:
        caller = self.world.call()
        self.assertEqual(caller.greeting[0][:3], "220")
        self.assertIn(" with ESMTP id", self.deliver(caller))
        self.assertEqual(caller.say("QUIT")[0][:3], "221")
        self.assertTrue(caller.closed)

    def test_by_starttls_it_goes_on_in_tls(self) -> None:
        caller = self.world.call()
        caller.say("EHLO c.test")
        caller.start_tls(self.peer())
        self.assertTrue(caller.encrypted)
        self.assertIn(" with ESMTPS id", self.deliver(caller))
        self.assertEqual(caller.say("QUIT")[0][:3], "221")
        self.assertTrue(caller.closed)

    def test_tls_may_begin_with_the_connection(self) -> None:
        caller = self.world.call(listener=1, tls=self.peer())
        self.assertEqual((caller.encrypted, caller.greeting[0][:3]), (True, "220"))
        self.assertIn(" with ESMTPS id", self.deliver(caller))

    def test_one_who_hangs_up_is_gone(self) -> None:
        caller = self.world.call(listener=1, tls=self.peer())
        self.assertEqual(len(self.world.relay.listeners[1].factory.connections), 1)
        caller.hang_up()
        self.assertTrue(caller.closed)
        self.assertEqual(len(self.world.relay.listeners[1].factory.connections), 0)
