"""What docs/operating.md walks through: a queue of 10,000 with three sick destinations, put right with relayctl alone."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from relay.interfaces import Claim, Enrol, ISpool, Postpone
from relay.mail.address import Address
from relay.mail.envelope import Client, Envelope, Form
from relay.mail.outcome import Delayed
from relay.mail.queue import Entry, Recipient
from relay.mail.routing import Forward
from relay.mail.waiting import Reason
from relay.net.clock import ReactorClock
from relay.net.waiting import start
from relay.spool.sqlite import Limits, SqliteSpool
from tests.contracts.spool.shards import AtOnce
from tests.system.clients import Telnet, queue_id
from tests.system.harness import (
    BIN,
    MAILBOXES,
    PATIENCE,
    REPOSITORY,
    RelayProcess,
    SystemTestCase,
    configuration,
    eventually,
)
from tests.system.names import DnsThread, unused

pytestmark = pytest.mark.system

#: Where the partner's other host is, in a corner of the loopback network where nobody else listens.
BACKUP = "127.25.25.25"
DNS = """
[dns]
servers = ["{dns}"]
[delivery]
allow_private = ["127.0.0.0/8"]
"""
POLICIES = """
[[policy]]
use = "mailbox"
domains = ["mx.test"]
users = ["ann"]
directory = "mail"
[[policy]]
use = "forward"
port = 1
"""
ANN = Address("ann", "mx.test")
NEWS = Address("newsletter", "shop.example")


def morning() -> Iterator[tuple[Address, Address, Delayed, float]]:
    """Ten thousand letters: from whom, to whom, what each has met, and how many hours ago it came."""
    unwanted = Delayed(
        "4.7.1",
        "refused at MAIL",
        "421 4.7.1 Too much mail from you that nobody wants",
        "mx.freemail.example[127.25.25.1]:25",
    )
    refused = Delayed("4.4.1", "connection refused", "", "mx.partner.example[127.25.25.2]:25")
    silent = Delayed("4.4.1", "timed out while connecting", "", "mx.oldcorp.example[127.25.25.3]:25")
    later = Delayed("4.7.1", "refused at RCPT", "451 4.7.1 Greylisted, come again", "mx.example[127.25.25.4]:25")
    for number in range(6000):
        yield NEWS if number < 5800 else ANN, Address(f"u{number}", "freemail.example"), unwanted, 6
    for number in range(3000):
        yield ANN, Address(f"u{number}", "partner.example"), refused, 3
    for number in range(500):
        yield ANN, Address(f"u{number}", "oldcorp.example"), silent, 5
    for number in range(500):
        name = "boss" if number == 0 else f"u{number}"
        yield ANN, Address(name, f"d{number % 50:02}.example"), later, 2


def fill(path: Path) -> None:
    """The queue as it is after a bad night: each letter was tried once, and waits for an hour from now on."""
    clock = ReactorClock(Clock(), time.time)
    spool = SqliteSpool(path, clock, AtOnce(), AtOnce(), limits=Limits(reserve=0))
    now = clock.now()
    result(spool.recover())
    batch: list[tuple[Enrol, Delayed]] = []
    for sender, to, met, hours in morning():
        draft = spool.begin(Form.PLAIN)
        draft.write(b"Subject: hello\r\n\r\nHello.\r\n")
        envelope = Envelope(sender, client=Client("127.0.0.1", 40000, "client.test", listener="local"))
        entry = Entry(draft.id, now - hours * 3600, envelope, b"Received: by mx.test\r\n")
        one = Recipient(f"{draft.id}.0", to, to, Forward(to.domain), to.domain, "forward")
        batch.append((Enrol(entry, draft, (one,), 300.0), met))
        if len(batch) == 1000:
            put_off(spool, batch, now + 3600)
            batch = []
    put_off(spool, batch, now + 3600)
    result(spool.close())


def put_off(spool: ISpool, batch: list[tuple[Enrol, Delayed]], due: float) -> None:
    claims: tuple[Claim, ...] = result(spool.commit([enrol for enrol, _ in batch]))
    mets = [met for _, met in batch]
    result(
        spool.commit(
            [
                Postpone(claim, tuple((pending.recipient, due, met) for pending in claim.pending))
                for claim, met in zip(claims, mets, strict=True)
            ]
        )
    )


def result(waiting: Any) -> Any:
    return start(waiting)


def page_commands(page: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of the page's `console` blocks, each with what stands below it."""
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, *shown = piece.rstrip().splitlines()
            yield line, shown


def fits(said: list[str], shown: list[str]) -> bool:
    """Line by line, where `*` is anything; a line that is `*` alone is any number of lines."""
    if not shown:
        return not said
    if shown[0] == "*":
        return any(fits(said[at:], shown[1:]) for at in range(len(said) + 1))
    return bool(said) and fnmatch.fnmatchcase(_plain(said[0]), _plain(shown[0])) and fits(said[1:], shown[1:])


def _plain(line: str) -> str:
    """Blanks are one blank, and brackets mean nothing to `fnmatch`."""
    return " ".join(line.replace("[", "(").replace("]", ")").split())


#: What is said of a name that may be mistyped.
UNKNOWN = "though nothing is under way to it at this moment"


class OperatingTests(SystemTestCase):
    def setUp(self) -> None:
        greylisting = {f"d{number:02}.example": {"MX": [(10, "mx.example")]} for number in range(50)}
        self.dns = DnsThread(
            {"backup.example.net": {"A": [BACKUP]}, "mx.example": {"A": ["127.25.25.4"]}, **greylisting}
        )
        self.addCleanup(self.dns.close)

    def begun(self) -> RelayProcess:
        folder = self.folder()
        fill(folder / "spool")
        relay = self.relay(
            configuration(tables=DNS.format(dns=self.dns.address), policies=POLICIES),
            folder=folder,
        )
        relay.start()
        return relay

    def test_the_page_is_true(self) -> None:
        backup = self.started(
            configuration(
                listeners={"mx": f"{BACKUP}:2525"}, newlines="strict", policies='[[policy]]\nuse = "discard"\n'
            )
        )
        relay = self.begun()
        environ = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "RELAY_CONFIG": "relay.toml"}
        page = (REPOSITORY / "docs/operating.md").read_text()
        tried = 0
        for line, shown in page_commands(page):
            ran = subprocess.run(
                line, shell=True, cwd=relay.folder, env=environ, capture_output=True, text=True, timeout=PATIENCE
            )
            self.assertEqual((ran.returncode, ran.stderr), (0, ""), line)
            said = ran.stdout.splitlines()
            self.assertTrue(fits(said, shown), f"{line}\n{ran.stdout}")
            tried += 1
        self.assertGreater(tried, 10)
        # It is put right: the partner's mail leaves by the other host, and Ann hears of the mail that was given up.
        backup.wait_for("discarded")
        relay.event("failed", destination="refused")
        relay.event("noticed")
        eventually(lambda: any((relay.folder / "mail/ann/new").glob("*")))
        self.assertEqual(len(relay.said('"event": ?"deleted"')), 5800)
        self.assertEqual(len(relay.said('"event": ?"rerouted".*"operator"')), 3000)
        operators = {line.partition('"operator":"')[2].partition('"')[0] for line in relay.said('"deleted"')}
        self.assertNotIn("unknown", operators)
        self.assertEqual(len(operators), 1)

    def test_the_life_of_a_message_is_told_whatever_has_become_of_it(self) -> None:
        policies = MAILBOXES + f'[[policy]]\nuse = "forward"\nnext_hop = "127.0.0.2:{unused("127.0.0.2")}"\n'
        relay = self.started(configuration(tables=DNS.format(dns=self.dns.address), policies=policies))
        with Telnet(relay.address()) as client:
            here, there = queue_id(client.post("jon@localhost")), queue_id(client.post("bob@example.net"))
            client.say("MAIL FROM:<bob@client.test>")
            self.assertTrue(client.say("RCPT TO:<nobody@localhost>").startswith("550"))
        relay.event("delivered", here)
        relay.event("delayed", there)

        def told(text: str) -> str:
            ran = relay.relayctl("trace", text, "-c", "relay.toml")
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            return ran.stdout

        self.assertIn("jon@localhost was delivered.", told(here))
        self.assertIn(f"{here}\n", told("jon@localhost"))
        self.assertIn("bob@example.net is in the queue", told(there))
        self.assertIn("refused", told("nobody@localhost"))
        failed = relay.relayctl("queue", "fail", there, "-c", "relay.toml")
        self.assertEqual((failed.returncode, failed.stdout), (0, "1 recipient given up\n"))
        relay.event("failed", there)
        self.assertIn("bob@example.net has failed", told(there))
        unknown = relay.relayctl("trace", "stranger@example.net", "-c", "relay.toml")
        self.assertEqual(unknown.returncode, 1)
        self.assertIn("Nothing is known of stranger@example.net", unknown.stdout)

    def test_a_destination_that_is_paused_gets_nothing_until_it_is_resumed(self) -> None:
        port = unused("127.0.0.2")
        hop = f"[127.0.0.2]:{port}"
        policies = f'[[policy]]\nuse = "forward"\nnext_hop = "127.0.0.2:{port}"\n'
        relay = self.started(configuration(tables=DNS.format(dns=self.dns.address), policies=policies))
        paused = relay.relayctl("dest", "pause", hop, "-c", "relay.toml")
        self.assertEqual((paused.returncode, paused.stdout), (0, f"{hop} is paused, {UNKNOWN}\n"))
        relay.event("paused", destination=hop)
        with Telnet(relay.address()) as client:
            id = queue_id(client.post("bob@example.net"))

        def reason() -> str:
            [line] = relay.relayctl("queue", "list", id, "--json", "-c", "relay.toml").stdout.splitlines()
            [recipient] = json.loads(line)["recipients"]
            return str(recipient["why"])

        eventually(lambda: reason() == Reason.PAUSED.value)
        self.assertIn("an operator has paused", relay.relayctl("dest", "show", hop, "-c", "relay.toml").stdout)
        there = self.started(
            configuration(
                listeners={"mx": hop.replace("[", "").replace("]", "")}, policies='[[policy]]\nuse = "discard"'
            )
        )
        relay.relayctl("dest", "resume", hop, "-c", "relay.toml")
        relay.relayctl("queue", "retry", id, "-c", "relay.toml")
        relay.event("relayed", id)
        there.wait_for("discarded")

    def test_what_is_paused_stays_paused_over_kill_9_until_it_is_resumed(self) -> None:
        hop = f"[127.0.0.2]:{unused('127.0.0.2')}"
        policies = f'[[policy]]\nuse = "forward"\nnext_hop = "{hop.replace("[", "").replace("]", "")}"\n'
        relay = self.started(configuration(tables=DNS.format(dns=self.dns.address), policies=policies))

        def told(*words: str) -> str:
            ran = relay.relayctl(*words, "-c", "relay.toml")
            self.assertEqual((ran.returncode, ran.stderr), (0, ""))
            return ran.stdout

        told("dest", "pause", hop)
        told("dest", "pause", "other.example")
        told("dest", "resume", "other.example")
        relay.kill()
        relay.start()
        self.assertEqual(json.loads(told("status", "--json"))["paused"], [hop])
        relay.wait_for(re.escape(f"{hop} stays paused"), of_this_start=True)
        with Telnet(relay.address()) as client:
            id = queue_id(client.post("bob@example.net"))
        relay.event("delayed", id, because="the operator has paused the destination")
        told("dest", "resume", hop)
        relay.stop()
        relay.start()
        self.assertEqual(json.loads(told("status", "--json"))["paused"], [])

    def test_a_damaged_record_of_pauses_is_set_aside_and_mail_goes_on(self) -> None:
        relay = self.relay(configuration())
        (relay.folder / "spool").mkdir(mode=0o700)
        (relay.folder / "spool/paused.json").write_bytes(b'{"paused": ["a.exa')
        relay.expected.append("What an operator has paused cannot be read")
        relay.start()
        self.assertTrue((relay.folder / "spool/paused.json.damaged").exists())
        with Telnet(relay.address()) as client:
            relay.event("delivered", queue_id(client.post("jon@localhost")))

    def test_the_socket_is_for_the_relays_user_alone(self) -> None:
        relay = self.started(configuration())
        self.assertEqual((relay.folder / "control.sock").stat().st_mode & 0o777, 0o600)

    def test_what_is_held_stays_held_over_kill_9(self) -> None:
        relay = self.begun()
        held = relay.relayctl("queue", "hold", "--dest", "partner.example", "-c", "relay.toml")
        self.assertEqual((held.returncode, held.stdout), (0, "3000 recipients held\n"))
        relay.kill()
        relay.start()
        postfix = subprocess.run(
            [sys.executable, str(BIN / "relay-mailq"), "-C", "relay.toml"],
            cwd=relay.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        self.assertRegex(postfix.stdout.splitlines()[-1], r"^-- \d+ Kbytes in 10000 Requests\.$")
        self.assertEqual(sum("! " in line[14:18] for line in postfix.stdout.splitlines()), 3000)
        again = relay.relayctl("queue", "count", "--state", "held", "-c", "relay.toml")
        self.assertRegex(again.stdout, r"partner\.example +0 +0 +0 +3000 +3000\n")
        released = relay.relayctl("queue", "release", "--all", "-c", "relay.toml", "--dry-run")
        self.assertEqual(released.returncode, 0)
