"""What unbound says of senders' domains and clients' names is what becomes of their mail."""

from __future__ import annotations

from typing import ClassVar, Final

import pytest

from tests.interop.house import BOXES, InteropTestCase
from tests.interop.unbound import Unbound
from tests.system.harness import RelayProcess, configuration
from tests.system.test_shipped_policies_1 import Introduced, heard, posted

pytestmark = pytest.mark.interop

RECORDS: Final = [
    "good.test. 60 IN MX 10 mx.good.test.",
    "mx.good.test. 60 IN AAAA 2001:db8::25",
    "alias.test. 60 IN CNAME good.test.",
    "null.test. 60 IN MX 0 .",
    "inside.test. 60 IN A 10.0.0.1",
    'nothing.test. 60 IN TXT "no mail here"',
    "1.113.0.203.in-addr.arpa. 60 IN PTR mail.good.test.",
    "mail.good.test. 60 IN A 203.0.113.1",
    "2.113.0.203.in-addr.arpa. 60 IN PTR mail.good.test.",
    "3.113.0.203.in-addr.arpa. 60 IN PTR h3.dyn.good.test.",
    "h3.dyn.good.test. 60 IN A 203.0.113.3",
    f"5.2.{'0.' * 22}8.b.d.0.1.0.0.2.ip6.arpa. 60 IN PTR mx.good.test.",
]
POLICIES: Final = """
[[policy]]
use = "client-names"
rdns_missing = "reject"
rdns_unconfirmed = "reject"
rdns_generic = "delay"
generic = ["*.dyn.*"]
helo_unresolved = "reject"
[[policy]]
use = "sender-domain"
"""


class NamesTests(InteropTestCase):
    relay_process: ClassVar[RelayProcess]

    @classmethod
    def setUpClass(cls) -> None:
        unbound = Unbound.start(cls.shared_folder(), RECORDS)
        cls.addClassCleanup(unbound.stop)
        text = configuration(tables=f'[dns]\nservers = ["{unbound.address}"]\n', policies=POLICIES + BOXES)
        cls.relay_process = cls.share(text.replace('name = "local"', 'name = "local"\nproxy = ["127.0.0.0/8"]'))

    def said(self, client: str = "203.0.113.1", sender: str = "good.test", helo: str = "good.test") -> str:
        """What a client hears: the first refusal, or the end."""
        with Introduced(self.relay_process.address(), client) as session:
            if not session.greeting.startswith("220"):
                return heard(session.greeting)
            return heard(
                posted(session, {"sender": f"ann@{sender}", "helo": helo, "recipient": f"{sender[:4]}@localhost"})
            )

    def test_a_client_is_who_the_dns_says_in_both_directions(self) -> None:
        for client, reply in [
            ("203.0.113.1", "250"),
            ("2001:db8::25", "250"),
            ("203.0.113.2", "554 5.7.25 the name of your address in the DNS does not lead back to it"),
            ("203.0.113.3", "421 4.7.1 the name of your address in the DNS is not that of a mail server"),
            ("203.0.113.4", "554 5.7.25 your address has no name in the DNS"),
        ]:
            said = self.said(client)
            self.assertEqual(said[: len(reply)], reply, client)

    def test_a_name_that_is_said_with_helo_exists(self) -> None:
        for helo, code in [
            ("alias.test", "250"),
            ("mx.good.test", "250"),
            ("absent.test", "550"),
            ("nothing.test", "550"),
            ("mx.broken.test", "250"),
        ]:
            self.assertEqual(self.said(helo=helo)[:3], code, helo)

    def test_mail_can_be_sent_back_to_a_sender(self) -> None:
        for sender, reply in [
            ("good.test", "250"),
            ("alias.test", "250"),
            ("mx.good.test", "250"),
            ("null.test", "550 5.7.27 "),
            ("inside.test", "550 5.1.8 "),
            ("nothing.test", "550 5.1.8 "),
            ("absent.test", "550 5.1.8 "),
            ("broken.test", "451 4.4.3 "),
        ]:
            said = self.said(sender=sender)
            self.assertEqual(said[: len(reply)], reply, sender)
