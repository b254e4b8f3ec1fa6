"""What an operator does with a relay that runs: asks how it is, moves its mail log away, reads it."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import SystemTestCase, configuration, eventually
from tests.system.names import unused

pytestmark = pytest.mark.system

WAITS = """
[[policy]]
use = "forward"
next_hop = "127.0.0.2:{port}"
"""


class StatusTests(SystemTestCase):
    def test_it_says_how_many_messages_wait_and_who_is_connected(self) -> None:
        relay = self.started(configuration(policies=WAITS.format(port=unused("127.0.0.2"))))
        with Telnet(relay.address()) as client:
            id = queue_id(client.post("alice@example.org"))
            relay.event("delayed", id)
            said = relay.relayctl("status", "--socket", "control.sock", "--json")
            text = relay.relayctl("status", "--socket", "control.sock")
        self.assertEqual((said.returncode, said.stderr, text.returncode, text.stderr), (0, "", 0, ""))
        status = json.loads(said.stdout)
        self.assertEqual((status["hostname"], status["pid"], status["accepting"]), ("mx.test", relay.pid, True))
        [listener] = status["listeners"]
        self.assertEqual((listener["name"], listener["connections"]), ("local", 1))
        queue = status["queue"]
        self.assertEqual((queue["entries"], queue["waiting"], queue["active"], queue["corrupt"]), (1, 1, 0, 0))
        self.assertGreater(queue["oldest_age"], 0)
        lines = text.stdout.splitlines()
        self.assertIn("relay ", lines[0])
        self.assertIn("queue: 1 message; recipients: 1 waiting, 0 under way", text.stdout)
        self.assertRegex(lines[-1], r"^oldest message: \d+s old$")

    def test_without_a_relay_it_says_so_with_status_69(self) -> None:
        relay = self.started(configuration())
        relay.stop()
        for socket in ("control.sock", "nowhere.sock"):
            said = relay.relayctl("status", "--socket", socket)
            self.assertEqual((said.returncode, said.stdout), (os.EX_UNAVAILABLE, ""))
            self.assertIn(f"no relay answers at {socket}", said.stderr)
            self.assertNotIn("Traceback", said.stderr)

    def test_who_may_not_open_the_spool_may_not_open_the_control_socket(self) -> None:
        relay = self.started(configuration())
        self.assertEqual((relay.folder / "control.sock").stat().st_mode & 0o777, 0o600)
        self.assertEqual((relay.folder / "spool").stat().st_mode & 0o077, 0)


class SignalTests(SystemTestCase):
    def test_sighup_does_not_end_it_and_the_log_says_what_is_in_force(self) -> None:
        relay = self.started(configuration())
        relay.send_signal(signal.SIGHUP)
        relay.wait_for("relay.toml is in force as it is now")
        with Telnet(relay.address()) as client:
            client.post("jon@localhost")


class SizeTests(SystemTestCase):
    def test_memory_does_not_grow_with_the_size_of_a_message(self) -> None:
        relay = self.started(configuration())
        with Telnet(relay.address()) as client:
            relay.event("delivered", queue_id(client.post("jon@localhost")))
            before = peak(relay.pid)
            client.envelope("bob@client.test", "jon@localhost", "ann@localhost")
            client.say("DATA")
            client.send(b"Subject: large\r\n\r\n" + (b"." + b"x" * 997 + b"\r\n") * 24_000)
            id = queue_id(client.say("."))
        for recipient in "jon@localhost", "ann@localhost":
            relay.event("delivered", id, recipient=recipient)
        self.assertLess(peak(relay.pid) - before, 8 * 1024)
        [large] = [path for path in (relay.folder / "mail" / "ann" / "new").iterdir()]
        # Dots un-stuffed, and lines that end with LF.
        self.assertTrue(large.read_bytes().endswith(b"\n\n" + (b"x" * 997 + b"\n") * 24_000))


class MailLogTests(SystemTestCase):
    def test_a_mail_log_that_is_moved_away_is_opened_anew_on_sigusr1(self) -> None:
        text = configuration().replace('format = "json"', 'mail = "mail.log"')
        relay = self.started(text)
        log, old = relay.folder / "mail.log", relay.folder / "mail.log.1"
        with Telnet(relay.address()) as client:
            before = queue_id(client.post("jon@localhost"))
            appears(log, f"delivered.*{before}|{before}.*delivered")
            log.rename(old)
            relay.send_signal(signal.SIGUSR1)
            appears(log, "")
            after = queue_id(client.post("jon@localhost"))
            appears(log, f"delivered.*{after}|{after}.*delivered")
        relay.stop()
        self.assertNotIn(after, old.read_text())
        self.assertNotIn(before, log.read_text())
        self.assertIn("accepted", log.read_text())

    def test_it_tells_the_whole_life_of_a_message_and_why_others_were_refused(self) -> None:
        relay = self.started(configuration())
        with Telnet(relay.address()) as client:
            client.say("HELO client.test")
            client.say("MAIL FROM:<bob@client.test>")
            client.say("RCPT TO:<elvis@localhost>")
            client.say("RCPT TO:<jon@localhost>")
            id = queue_id(client.content())
        relay.event("delivered", id)
        refused = relay.event("refused", recipient="elvis@localhost")
        self.assertRegex(refused["reply"], r"^550 5\.1\.1 <elvis@localhost>: user unknown \[ref \w{6}\]$")
        accepted = relay.event("accepted", id)
        self.assertEqual((accepted["sender"], accepted["client"]), ("bob@client.test", "127.0.0.1"))


def peak(pid: int) -> int:
    """KiB of memory that a process has had at most."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1])


def appears(path: Path, pattern: str) -> None:
    """Return when a file is there and this is found in it."""
    eventually(lambda: path.exists() and re.search(pattern, path.read_text()) is not None)
