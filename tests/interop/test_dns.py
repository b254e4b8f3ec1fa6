"""Where mail goes is looked up in the DNS of a real unbound, and each exchanger is at an address of its own."""

from __future__ import annotations

import smtplib
import socket
from typing import Any, ClassVar, Final

import pytest

from relay.mail.answer import Found
from relay.net.dnswire import Query, Question, Settled
from tests.interop.house import BOXES, IMPATIENT, InteropTestCase, arrived, logged
from tests.interop.mails import PLAIN, assert_same, in_maildir, without_trace
from tests.interop.sinks import Sink
from tests.interop.unbound import Unbound, common_free_port
from tests.system.harness import RelayProcess, configuration

pytestmark = pytest.mark.interop

#: All of 127.0.0.0/8 is this machine. Nobody listens at .9.
FIRST, SECOND, THIRD, ABSENT = "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"

#: 80 exchangers with long names: too many for a datagram, and no address but the last one's.
MANY: Final = [
    f"many.test. 60 IN MX {80 - number} exchanger-{number:02}.of-a-domain-that-has-more-of-them-than-it-needs.test."
    for number in range(80)
]

RECORDS: Final = [
    *(f"{name}.hosts.test. 60 IN A {host}" for name, host in (("one", FIRST), ("two", SECOND), ("three", THIRD))),
    f"absent.hosts.test. 60 IN A {ABSENT}",
    "ordered.test. 60 IN MX 30 three.hosts.test.",
    "ordered.test. 60 IN MX 10 two.hosts.test.",
    "ordered.test. 60 IN MX 20 one.hosts.test.",
    "next.test. 60 IN MX 10 absent.hosts.test.",
    "next.test. 60 IN MX 20 nowhere.hosts.test.",
    "next.test. 60 IN MX 30 three.hosts.test.",
    "equal.test. 60 IN MX 10 one.hosts.test.",
    "equal.test. 60 IN MX 10 two.hosts.test.",
    f"plain.test. 60 IN A {THIRD}",
    "alias.test. 60 IN CNAME ordered.test.",
    "null.test. 60 IN MX 0 .",
    'nothing.test. 60 IN TXT "no mail here"',
    f"broken.test. 60 IN A {THIRD}",  # and SERVFAIL for MX: whose is the mail?
    "half.test. 60 IN MX 10 mail.broken.test.",
    *MANY,
    f"exchanger-79.of-a-domain-that-has-more-of-them-than-it-needs.test. 60 IN A {SECOND}",
]

FORWARD: Final = '[[policy]]\nuse = "forward"\nwhen = {{ client = ["127.0.0.1"] }}\nport = {port}\n'
ALLOWED: Final = f'[delivery]\nallow_private = ["{FIRST}/32", "{SECOND}/32", "{THIRD}/32", "{ABSENT}/32"]\n'


class DnsTests(InteropTestCase):
    relay_process: ClassVar[RelayProcess]
    sinks: ClassVar[dict[str, Sink]]
    unbound: ClassVar[Unbound]

    @classmethod
    def setUpClass(cls) -> None:
        cls.unbound = Unbound.start(cls.shared_folder(), RECORDS)
        cls.addClassCleanup(cls.unbound.stop)
        port = common_free_port([FIRST, SECOND, THIRD, ABSENT])
        folder = cls.shared_folder()
        cls.sinks = {host: cls.shared_sink(folder / host, host=host, port=port) for host in (FIRST, SECOND, THIRD)}
        dns = f'[dns]\nservers = ["{cls.unbound.address}"]\n'
        cls.relay_process = cls.share(
            configuration(tables=dns + ALLOWED + IMPATIENT, policies=BOXES + FORWARD.format(port=port))
        )

    def send(self, domain: str, number: int = 0) -> str:
        """Send a message to somebody there. Its name, which is also its sender's."""
        name = f"{domain.replace('.', '-')}-{number}"
        octets = PLAIN["text"].replace(b"Subject: text", f"Subject: {name}".encode())
        with smtplib.SMTP(*self.relay_process.address(), local_hostname="client.test") as client:
            client.sendmail(f"{name}@localhost", [f"jon@{domain}"], octets)
        return name

    def wait(self, what: str, domain: str, count: int = 1) -> list[dict[str, Any]]:
        """Events of the mail log about somebody there, when there are so many."""

        def matches(event: dict[str, Any]) -> bool:
            return event["event"] == what and event.get("recipient") == f"jon@{domain}"

        return logged(self.relay_process, matches, f"{what} to {domain}", count)

    def places(self, name: str) -> list[str]:
        """The addresses of the exchangers that have this message."""
        subject = f"\r\nSubject: {name}\r\n".encode()
        return [host for host, sink in self.sinks.items() for octets in sink.messages if subject in octets]

    def place(self, domain: str) -> str:
        """The exchanger that gets a message, which is whole, and which nobody else gets."""
        name = self.send(domain)
        self.wait("relayed", domain)
        [place] = self.places(name)
        subject = f"Subject: {name}".encode()
        [octets] = [octets for octets in self.sinks[place].messages if subject in octets]
        assert_same(without_trace(octets), PLAIN["text"].replace(b"Subject: text", subject))
        return place

    def notice(self, domain: str) -> bytes:
        """What the sender is told of a message that goes nowhere."""
        name = self.send(domain)
        [octets] = arrived(self.relay_process.folder / "mail" / name)
        self.assertEqual(self.places(name), [])
        return octets

    def test_the_lowest_preference_is_the_first(self) -> None:
        self.assertEqual(self.place("ordered.test"), SECOND)

    def test_an_exchanger_that_is_down_or_unknown_is_passed_over(self) -> None:
        self.assertEqual(self.place("next.test"), THIRD)

    def test_equals_share_the_mail(self) -> None:
        names = [self.send("equal.test", number) for number in range(40)]
        self.wait("relayed", "equal.test", len(names))
        found = [place for name in names for place in self.places(name)]
        self.assertEqual(len(found), len(names))
        self.assertEqual(set(found), {FIRST, SECOND})  # by chance not, once in 2 ** 39

    def test_a_domain_without_exchangers_is_its_own(self) -> None:
        self.assertEqual(self.place("plain.test"), THIRD)

    def test_another_name_of_a_domain_leads_there(self) -> None:
        self.assertEqual(self.place("alias.test"), SECOND)

    def test_an_answer_that_is_too_large_for_a_datagram_comes_by_tcp(self) -> None:
        self.assertEqual(self.place("many.test"), SECOND)

    def test_a_domain_that_takes_no_mail_is_believed(self) -> None:
        self.assertIn(b"\nStatus: 5.1.10\n", self.notice("null.test"))

    def test_a_domain_that_does_not_exist(self) -> None:
        self.assertIn(b"\nStatus: 5.1.2\n", self.notice("nonexistent.test"))

    def test_a_domain_that_has_neither_exchanger_nor_address(self) -> None:
        self.assertIn(b"\nStatus: 5.4.4\n", self.notice("nothing.test"))

    def test_what_is_in_no_signed_zone_is_not_authentic(self) -> None:
        asked = Query(Question.about("ordered.test", "MX"), 4711, trusted=True)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sent:
            sent.settimeout(10)
            sent.connect(("127.0.0.1", self.unbound.port))
            sent.send(asked.octets)
            read = asked.read(sent.recv(4096))
        assert isinstance(read, Settled)
        assert isinstance(read.answer, Found)
        self.assertEqual((len(read.answer.records), read.answer.authentic), (3, False))

    def test_when_the_dns_cannot_say_mail_waits(self) -> None:
        for domain in "broken.test", "half.test":
            name = self.send(domain)
            event, _ = self.wait("delayed", domain, 2)[:2]  # and tried again
            self.assertEqual(event["status"], "4.4.3")
            self.assertEqual(in_maildir(self.relay_process.folder / "mail" / name), [])
            self.assertEqual(self.places(name), [])
