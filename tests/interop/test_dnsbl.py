"""Lists in the DNS of a real unbound: what `dnsbl` and `dnswl` make of its answers."""

from __future__ import annotations

from typing import ClassVar, Final

import pytest

from relay.policy.clients import plain
from relay.policy.list_answers import reversed_address
from tests.interop.house import InteropTestCase
from tests.interop.unbound import Unbound
from tests.system.clients import queue_id
from tests.system.harness import MAILBOXES, RelayProcess, configuration
from tests.system.test_shipped_policies_1 import Introduced, heard, posted

pytestmark = pytest.mark.interop


def listed(client: str, zone: str, *answers: str) -> list[str]:
    """Records of a list."""
    name = f"{reversed_address(plain(client))}.{zone}."
    return [f"{name} 60 IN A {answer}" for answer in answers]


#: `broken.test` is answered with SERVFAIL.
RECORDS: Final = [
    *listed("127.0.0.2", "bl.test", "127.0.0.2"),  # RFC 5782 section 5: what each list lists, for tests
    *listed("192.0.2.2", "bl.test", "127.0.0.2", "127.0.0.4"),
    f'{reversed_address(plain("192.0.2.2"))}.bl.test. 60 IN TXT "Spam, " "and more of it"',
    *listed("2001:db8::25", "bl.test", "127.0.0.3"),
    *listed("192.0.2.3", "bl.test", "127.0.0.10"),
    *listed("192.0.2.4", "bl.test", "127.255.255.254"),
    *listed("192.0.2.5", "bl.test", "198.51.100.80"),
    *listed("192.0.2.6", "wl.test", "127.0.0.1"),
    *listed("192.0.2.6", "bl.test", "127.0.0.2"),
    "spam.example.domains.test. 60 IN CNAME reason.domains.test.",
    "reason.domains.test. 60 IN A 127.0.1.2",
]
POLICIES: Final = """
[[policy]]
name = "good"
use = "dnswl"
[[policy.lists]]
zone = "wl.test"

[[policy]]
name = "bad"
use = "dnsbl"
[[policy.lists]]
zone = "bl.test"
answers = ["127.0.0.[2-9]"]
[[policy.lists]]
zone = "broken.test"

[[policy]]
name = "domains"
use = "dnsbl"
of = "sender"
fact = "dbl"
[[policy.lists]]
zone = "domains.test"
"""


class DnsblTests(InteropTestCase):
    relay_process: ClassVar[RelayProcess]

    @classmethod
    def setUpClass(cls) -> None:
        unbound = Unbound.start(cls.shared_folder(), RECORDS)
        cls.addClassCleanup(unbound.stop)
        text = configuration(tables=f'[dns]\nservers = ["{unbound.address}"]\n', policies=POLICIES + MAILBOXES)
        text = text.replace('name = "local"', 'name = "local"\nproxy = ["127.0.0.0/8"]').replace("lenient", "strict")
        cls.relay_process = cls.share(text)

    def hears(self, client: str, sender: str = "ann@mail.example") -> str:
        with Introduced(self.relay_process.address(), client) as session:
            if not session.greeting.startswith("220"):
                return heard(session.greeting)
            return heard(posted(session, {"sender": sender, "recipient": "jon@localhost"}))

    def test_who_is_listed_is_refused_with_what_the_list_says(self) -> None:
        self.assertEqual(self.hears("192.0.2.2"), "554 5.7.1 192.0.2.2 is listed by bl.test: Spam, and more of it")
        self.assertEqual(self.hears("2001:db8::25"), "554 5.7.1 2001:db8::25 is listed by bl.test")

    def test_who_is_not_or_for_what_does_not_count_may_send(self) -> None:
        for client in ("192.0.2.1", "192.0.2.3", "2001:db8::26"):
            self.relay_process.event("delivered", queue_id(self.hears(client)))
        self.relay_process.wait_for("The list broken.test has not answered")

    def test_errors_and_answers_of_somebody_else_list_nobody(self) -> None:
        for client in ("192.0.2.4", "192.0.2.5"):
            self.relay_process.event("delivered", queue_id(self.hears(client)))
        self.relay_process.wait_for(r"The list bl.test has answered (127\.255\.255\.254|198\.51\.100\.80), which is")

    def test_whom_another_list_speaks_for_is_not_asked_about(self) -> None:
        self.relay_process.event("delivered", queue_id(self.hears("192.0.2.6")))

    def test_clients_of_this_machine_are_in_no_list(self) -> None:
        self.relay_process.event("delivered", queue_id(self.hears("127.0.0.2")))

    def test_a_sender_whose_domain_is_listed_is_refused(self) -> None:
        reply = "550 5.7.1 the sender's domain spam.example is listed by domains.test"
        self.assertEqual(self.hears("192.0.2.1", "ann@spam.example"), reply)
        self.assertEqual(self.hears("192.0.2.1", "")[:3], "250")
