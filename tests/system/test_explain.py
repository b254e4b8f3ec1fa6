"""`relayctl explain` and `relayctl why` against the running relay: what was predicted is what happens, and is told."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from relay.mail.explanation import Explanation
from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, REPOSITORY, SystemTestCase, configuration
from tests.system.names import DnsThread, unused

pytestmark = pytest.mark.system

GATE = """
from zope.interface import implementer
from relay.interfaces import IConnectionPolicy, IContentPolicy, IRoutingPolicy, ISenderPolicy
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Reject

@implementer(IConnectionPolicy, ISenderPolicy, IRoutingPolicy, IContentPolicy)
class Gate:
    wants = "headers"

    def __init__(self, options, world):
        self.world = world

    async def connect(self, inquiry):
        name = ".".join(reversed(inquiry.client.address.split("."))) + ".list.example"
        listed = await self.world.resolver.look_up(name, "A")
        if hasattr(listed, "records"):
            return Reject(Reply.of(554, "5.7.1", "you are on a list"), f"{name} is there")
        return ABSTAIN

    def sender(self, inquiry):
        if str(inquiry.reverse_path) == "spammer@x.example":
            return Reject(Reply.of(550, "5.7.1", "no mail from you"), "a spammer")
        return ABSTAIN

    def route(self, inquiry):
        key = f"{inquiry.client.address} {inquiry.recipient}"
        if inquiry.recipient.local == "kim" and self.world.store.get(key) is None:
            self.world.store.put(key, "seen", 3600)
            return Delay(Reply.of(450, "4.7.1", "come back later"), "never seen before")
        return ABSTAIN

    def examine(self, inquiry):
        subject = inquiry.fields.first("Subject")
        if subject is not None and b"lottery" in subject.body:
            return Reject(Reply.of(550, "5.7.1", "you have not won"), "a lottery")
        return ABSTAIN
"""
POLICIES = (
    """
[[policy]]
name = "gate"
use = "gate:Gate"
"""
    + MAILBOXES
)
OUTBOUND = """
[[policy]]
name = "outbound"
use = "forward"
port = {port}
when = {{ sender = ["here.example"] }}
"""
NAMES = {
    "5.0.0.127.list.example": {"A": ["127.0.0.2"]},
    "far.example": {"MX": [(10, "mx.far.example")]},
    "mx.far.example": {"A": ["127.0.0.3"]},
}
TABLES = """
[dns]
servers = ["{dns}"]
[delivery]
allow_private = ["127.0.0.0/8"]
"""
LETTER = "Subject: hello\nFrom: a@x.example\n\nHi.\n"
LOTTERY = "Subject: a lottery\nFrom: a@x.example\n\nYou have won.\n"


class ExplainTests(SystemTestCase):
    def setUp(self) -> None:
        super().setUp()
        dns = DnsThread(NAMES)
        self.addCleanup(dns.close)
        folder = self.folder()
        (folder / "gate.py").write_text(GATE)
        (folder / "letter").write_text(LETTER)
        (folder / "lottery").write_text(LOTTERY)
        self.port = unused("127.0.0.3")
        text = configuration(tables=TABLES.format(dns=dns.address), policies=POLICIES + OUTBOUND.format(port=self.port))
        self.running = self.relay(text, folder=folder)
        self.running.start()

    def explain(self, *arguments: str) -> Explanation:
        ran = self.running.relayctl("explain", *arguments, "--json")
        self.assertEqual(ran.stderr, "")
        explained = Explanation.from_json(json.loads(ran.stdout))
        self.assertEqual(ran.returncode, 0 if explained.reply.startswith("2") else 1)
        return explained

    def why(self, text: str) -> list[dict[str, Any]]:
        ran = self.running.relayctl("why", text, "--json", "--socket", "control.sock")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        accounts: list[dict[str, Any]] = json.loads(ran.stdout)["accounts"]
        return accounts

    def send(self, sender: str, recipient: str, content: str = LETTER, source: str = "127.0.0.1") -> str:
        """The reply that counts."""
        client = Telnet(self.running.address(), source=source)
        self.addCleanup(client.close)
        said = client.greeting
        for line in ("EHLO c.example", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"):
            if said[0] in "45":
                return said
            said = client.say(line)
        if said[0] in "45":
            return said
        client.send(content.replace("\n", "\r\n").encode() + b".\r\n")
        return client.reply()

    def mail(self, sender: str, recipient: str, file: str = "letter", source: str = "127.0.0.1") -> list[str]:
        words = ["--from", sender, "--client", source, "--helo", "c.example", "--message", file]
        return [recipient, *words, "--socket", "control.sock"]

    def test_what_was_predicted_is_what_happens_in_each_phase(self) -> None:
        for phase, mail in (
            ("connection", ("a@x.example", "jon@localhost", "letter", "127.0.0.5")),
            ("sender", ("spammer@x.example", "jon@localhost")),
            ("recipient", ("a@x.example", "kim@localhost")),
            ("recipient", ("a@x.example", "nobody@localhost")),
            ("recipient", ("a@x.example", "eve@far.example")),
            ("content", ("a@x.example", "jon@localhost", "lottery")),
            ("", ("a@x.example", "kim@localhost")),
            ("", ("ann@here.example", "eve@far.example")),
        ):
            predicted = self.explain(*self.mail(*mail))
            # Whoever asks twice has the same answer: nothing was learned from the question.
            self.assertTrue(self.explain(*self.mail(*mail)).same_as(predicted))
            sender, recipient, *more = mail
            content = LOTTERY if more[:1] == ["lottery"] else LETTER
            heard = self.send(sender, recipient, content, *more[1:])
            if phase:
                self.assertRegex(heard, r"^[45].* \[ref [0-9A-Z]{6}\]$")
                (account,) = self.why(heard[-7:-1])
                self.assertEqual(heard.removesuffix(f" [ref {account['ref']}]"), predicted.reply)
                self.assertEqual(predicted.steps[-1].phase, phase)
            else:
                (account,) = self.why(queue_id(heard))
            happened = Explanation.from_json(account["explanation"])
            self.assertTrue(happened.same_as(predicted), f"{happened}\n{predicted}")

    def test_it_reads_as_the_page_says(self) -> None:
        ran = self.running.relayctl("explain", *self.mail("ann@here.example", "eve@far.example"))
        self.assertEqual(ran.returncode, 0)
        for line in (
            "ann@here.example -> eve@far.example",
            "client 127.0.0.1, helo c.example, listener local",
            "connection",
            "                  dns 1.0.0.127.list.example A: no such name",
            "content",
            "reply      250 2.0.0 Ok: queued as (its queue id)",
            "           TLS: may, where it is offered",
            f"           mx.far.example[127.0.0.3]:{self.port}",
        ):
            self.assertIn(line, [each[: len(line)] for each in ran.stdout.splitlines()], ran.stdout)
        self.assertLess(max(map(len, ran.stdout.splitlines())), 80)

    def test_a_configuration_is_asked_without_a_relay_and_says_the_same(self) -> None:
        mail = self.mail("ann@here.example", "eve@far.example")[:-2]
        running = self.explain(*mail, "--socket", "control.sock")
        self.running.stop()
        offline = self.explain(*mail, "--config", "relay.toml")
        self.assertTrue(offline.same_as(running))
        self.assertEqual(offline.ways[0].hosts, running.ways[0].hosts)
        (self.running.folder / "new.toml").write_text(configuration(policies=MAILBOXES))
        ran = self.running.relayctl("explain", *mail, "--config", "new.toml")
        self.assertEqual((ran.returncode, ran.stderr), (1, ""))
        self.assertIn("reply      550 5.7.1 <eve@far.example>: relaying denied", ran.stdout)
        (self.running.folder / "bad.toml").write_text("nonsense = 1\n" + configuration(policies=MAILBOXES))
        ran = self.running.relayctl("explain", *mail, "--config", "bad.toml")
        self.assertEqual((ran.returncode, ran.stdout), (78, ""))
        self.assertIn("bad.toml:1: nonsense", ran.stderr)

    def test_the_page_is_true(self) -> None:
        """docs/explain.md, word for word."""
        page = (REPOSITORY / "docs/explain.md").read_text()
        [text] = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        mx = {"MX": [(10, "mx1.example.com"), (20, "mx2.example.com")]}
        dns = DnsThread(
            {"example.com": mx, "mx1.example.com": {"A": ["192.0.2.25"]}, "mx2.example.com": {"A": ["192.0.2.26"]}}
        )
        self.addCleanup(dns.close)
        ours = f'[control]\nsocket = "var/control.sock"\n[log]\nformat = "json"\n[dns]\nservers = ["{dns.address}"]\n'
        relay = self.started(text.replace(":2525", ":0") + ours)
        self.running = relay
        with Telnet(relay.address("mx")) as client:
            client.say("EHLO client.example")
            client.say("MAIL FROM:<jon@example.com>")
            heard = client.say("RCPT TO:<kim@example.org>")
        blocks = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
        self.assertEqual(len(blocks), 4)
        self.assertIn(f"`{heard[:-7]}7K3QX2]`", page)
        for line, shown in blocks:
            _, *words = line.replace("7K3QX2", heard[-7:-1]).split()
            ran = relay.relayctl(*words)
            self.assertEqual(ran.stderr, "")
            self.assertEqual(_lasting(ran.stdout.replace(heard[-7:-1], "7K3QX2")), _lasting(shown), line)

    def test_after_a_reload_it_is_the_new_configuration_that_is_asked(self) -> None:
        mail = ("eve@far.example", "--client", "127.0.0.1", "--socket", "control.sock")
        self.assertTrue(self.explain(*mail).reply.startswith("550"))
        file = self.running.configuration
        file.write_text(file.read_text().replace('when = { sender = ["here.example"] }', ""))
        ran = self.running.relayctl("reload", "--socket", "control.sock")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertTrue(self.explain(*mail).reply.startswith("250"))

    def test_why_is_known_after_a_restart(self) -> None:
        heard = self.send("spammer@x.example", "jon@localhost")
        self.running.stop()
        self.running.start()
        ran = self.running.relayctl("why", heard[-12:], "--socket", "control.sock")
        self.assertEqual((ran.returncode, ran.stderr), (0, ""))
        self.assertIn("because    a spammer", ran.stdout.splitlines())


def _lasting(text: str) -> str:
    """Without what is different each time."""
    text = re.sub(r" +[0-9.]+ ms$", " ms", text, flags=re.MULTILINE)
    return re.sub(r"^[-0-9]{10} [:0-9]{8}Z", "now", text, flags=re.MULTILINE)
