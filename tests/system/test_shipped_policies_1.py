"""Policies for strangers: their pages under twistd, with a DNS, and clients whom a proxy introduces."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

import pytest

from relay.testing.dns import Records
from tests.policy.pages import Case, configurations, names, page
from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, PATIENCE, Address, RelayProcess, SystemTestCase, configuration, eventually
from tests.system.names import DnsThread

pytestmark = pytest.mark.system

_LISTENER = re.compile(r"\[\[listener\]\]\n(?:.+\n)+")
#: What passes while a test runs is not what passes in an example.
_SECONDS = re.compile(r"\d+ seconds?")
#: The reference by which a refusal is asked about.
_REFERENCE = re.compile(r" \[ref \w+\]$")


class Introduced(Telnet):
    """A client that a proxy introduces (PROXY protocol): the relay meets it at this address of its own."""

    def __init__(self, address: Address, client: str) -> None:
        self._socket = socket.create_connection(address, PATIENCE)
        self._newline = b"\r\n"
        self._heard = b""
        family = "TCP6" if ":" in client else "TCP4"
        here = "2001:db8::25" if ":" in client else "192.0.2.25"
        self._socket.sendall(f"PROXY {family} {client} {here} 56324 25\r\n".encode())
        self.greeting = self.reply()


def heard(reply: str) -> str:
    """A reply without what differs from one time to the next."""
    return _SECONDS.sub("N seconds", _REFERENCE.sub("", reply))


def posted(client: Telnet, case: Case) -> str:
    """The first refusal that a client hears, or what it hears at the end."""
    helo = case.get("helo") or "client.example"
    size = f" SIZE={case['size']}" if case.get("size") else ""
    sender = (case.get("sender") or "ann@example.com").strip("<>")
    for line in (
        f"EHLO {helo}",
        *([f"XCLIENT ADDR=192.0.2.1 LOGIN={case['user']}", f"EHLO {helo}"] if case.get("user") else []),
        f"MAIL FROM:<{sender}>{size}",
        f"RCPT TO:<{case.get('recipient') or 'jon@example.org'}>",
        "DATA",
    ):
        reply = client.say(line)
        if reply[0] not in "23":
            return reply
    message = f"{case.get('header') or 'Subject: hello'}\r\n\r\n".encode()
    message += b"x" * max(3, int(case.get("octets") or 0) - len(message) - 2) + b"\r\n"
    client.send(message)
    return client.say(".")


class StrangersTestCase(SystemTestCase):
    """A relay to which a proxy introduces clients from anywhere, and the DNS that it asks."""

    def begin(self, policies: str, zone: Mapping[str, Records], *, dns: str = "") -> RelayProcess:
        """`dns`: a DNS server of somebody else's, in the place of one that knows `zone`."""
        if not dns:
            server = DnsThread(zone)
            self.addCleanup(server.close)
            dns = server.address
        text = configuration(
            listeners={"mx": "127.0.0.1:0", "front": "127.0.0.1:0"},
            newlines="strict",
            tables=f'[dns]\nservers = ["{dns}"]\n',
            policies=_LISTENER.sub("", policies),
        )
        text = text.replace('"mx.test"', '"mx.example.org"')
        text = text.replace('name = "mx"', 'name = "mx"\nproxy = ["127.0.0.0/8"]')
        return self.started(text.replace('name = "front"', 'name = "front"\nxclient = ["127.0.0.0/8"]'))

    def assert_page_is_right(self, use: str) -> None:
        text = page(use)
        for policies, cases in configurations(text):
            relay = self.begin(policies, names(text))
            for case in cases:
                if case.get("later"):
                    break  # nobody waits here
                self.assert_becomes(relay, case)
            relay.stop()

    def assert_becomes(self, relay: RelayProcess, case: Case) -> None:
        expected = case["what becomes of it"]
        if case.get("user"):
            client: Telnet = Telnet(relay.address("front"))
        else:
            client = Introduced(relay.address("mx"), case.get("client") or "192.0.2.1")
        with client:
            reply = posted(client, case) if client.greeting.startswith("220") else client.greeting
        if expected == "discarded":
            relay.event("discarded", queue_id(reply))
        else:
            self.assertEqual(heard(reply), _SECONDS.sub("N seconds", expected), case)


class PagesTests(StrangersTestCase):
    """What the pages say is what clients hear."""

    def test_rate_limit(self) -> None:
        self.assert_page_is_right("rate-limit")

    def test_greylist(self) -> None:
        self.assert_page_is_right("greylist")

    def test_size(self) -> None:
        self.assert_page_is_right("size")

    def test_sender_domain(self) -> None:
        self.assert_page_is_right("sender-domain")

    def test_client_names(self) -> None:
        self.assert_page_is_right("client-names")


class TimeTests(StrangersTestCase):
    """Beyond the pages: what passes when time does, and what is there after a restart."""

    def say(self, relay: RelayProcess, sender: str = "ann@example.com", client: str = "192.0.2.1") -> str:
        """What a client hears who sends a message to Jon."""
        with Introduced(relay.address("mx"), client) as session:
            return heard(posted(session, {"sender": sender, "recipient": "jon@localhost"}))

    def test_who_comes_again_in_time_is_known_from_then_on(self) -> None:
        options = 'use = "greylist"\ndelay = "1s"\nknown_after = 1\n'
        relay = self.begin(f"[[policy]]\n{options}{MAILBOXES}", {})
        refusal = "450 4.7.1 <jon@localhost>: greylisted, come again in N seconds"
        self.assertEqual(self.say(relay), refusal)
        relay.stop()
        relay.start()
        said: list[str] = []
        eventually(lambda: said.append(self.say(relay)) or said[-1].startswith("250"))  # type: ignore[func-returns-value]
        self.assertLessEqual(set(said[:-1]), {refusal})
        relay.event("delivered", queue_id(said[-1]))
        relay.stop()
        relay.start()
        self.assertEqual(self.say(relay, "new@example.com", "192.0.2.77")[:3], "250")
        self.assertEqual(self.say(relay, "new@example.com", "192.0.3.77"), refusal)

    def test_a_restart_begins_no_limit_anew(self) -> None:
        options = 'use = "rate-limit"\nrate = "2/1d"\nby = ["sender-domain"]\n'
        relay = self.begin(f"[[policy]]\n{options}{MAILBOXES}", {})
        self.assertEqual(self.say(relay)[:3], "250")
        self.assertEqual(self.say(relay, "bob@example.com", "2001:db8::1")[:3], "250")
        for _ in range(2):
            self.assertEqual(self.say(relay), "451 4.7.1 too many, come again in N seconds")
            self.assertEqual(self.say(relay, "ann@other.example")[:3], "250")
            relay.stop()
            relay.start()

    def test_a_client_that_connects_too_often_hears_it_instead_of_the_greeting(self) -> None:
        relay = self.begin('[[policy]]\nuse = "rate-limit"\nrate = "1/1h"\n' + MAILBOXES, {})
        self.assertEqual(self.say(relay, client="2001:db8::1")[:3], "250")
        with Introduced(relay.address("mx"), "2001:db8::2") as client:
            self.assertEqual(heard(client.greeting), "421 4.7.1 too many, come again in N seconds")
        refused = relay.event("refused", client="2001:db8::2")
        self.assertEqual(refused["because"], "more than 1/1h of 2001:db8::/64")

    def test_where_the_dns_is_silent_a_sender_may_come_again(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))
            options = 'use = "sender-domain"\npatience = "0.2s"\n'
            dns = "{}:{}".format(*silent.getsockname())
            relay = self.begin(f"[[policy]]\n{options}{MAILBOXES}", {}, dns=dns)
            reply = "451 4.4.3 the sender's domain example.com cannot be looked up now"
            self.assertEqual(self.say(relay), reply)
            relay.event("refused", because="example.com MX: no answer within 0.2 seconds")
            self.assertEqual(self.say(relay, "<>")[:3], "250")
