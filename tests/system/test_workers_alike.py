"""What several workers promise together, and know together: whichever of them a client meets, it is one relay."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.system.clients import Telnet
from tests.system.harness import MAILBOXES, RelayProcess, SystemTestCase, configuration, eventually

pytestmark = pytest.mark.system

STRANGER = "127.0.0.2"
TWO = "[process]\nworkers = 2\n"
#: What the death of a worker looks like in the log.
DEATH = "Worker . has ended by signal 9"
OFTEN = "[limits]\nconnections_per_minute = 1000000\n"


class AlikeTests(SystemTestCase):
    def begin(self, policies: str, tables: str = "") -> RelayProcess:
        """A relay that trusts nobody."""
        relay = self.started(configuration(top="trusted = []", tables=TWO + tables, policies=policies + MAILBOXES))
        relay.expected += [DEATH]
        self.ask(relay)
        return relay

    def ask(self, relay: RelayProcess) -> None:
        """Ask all workers who they are. When it returns, each has said what it has had to say before."""
        said = relay.relayctl("status", "--socket", "control.sock", "--json")
        self.pids = [each["pid"] for each in json.loads(said.stdout)["workers"]]

    def kill(self, relay: RelayProcess, worker: int) -> None:
        """There is another one in its place when this returns."""
        mark = relay.mark
        os.kill(self.pids[worker], signal.SIGKILL)
        relay.wait_for(f"Worker {worker} serves again", mark)
        self.ask(relay)

    @contextmanager
    def only(self, worker: int) -> Iterator[None]:
        """The others take nobody in, nor do anything else."""
        others = [pid for index, pid in enumerate(self.pids) if index != worker]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def say(self, relay: RelayProcess, worker: int, sender: str) -> str:
        """What a worker answers to a recipient."""
        with self.only(worker), Telnet(relay.address(), source=STRANGER) as client:
            return client.envelope(sender, "jon@localhost")[-1]

    def test_an_address_has_so_many_connections_at_both_together_and_none_at_a_dead_one(self) -> None:
        relay = self.begin("", "[limits]\nconnections_per_address = 4\nconnections_per_minute = 9\n")
        clients: list[Telnet] = []
        for worker in 0, 1:
            with self.only(worker):
                clients += [Telnet(relay.address(), source=STRANGER) for _ in range(2)]
        too_many = "421 4.7.0 Too many connections from your address, please try again later"
        for worker in 0, 1:
            with self.only(worker):
                self.assertEqual(Telnet(relay.address(), source=STRANGER).greeting, too_many)
                self.assertEqual(Telnet(relay.address(), source="127.0.0.3").greeting[:3], "220")
        self.kill(relay, 1)
        self.assertEqual([client.reply() for client in clients[2:]], ["", ""])
        with self.only(1):
            clients += [Telnet(relay.address(), source=STRANGER) for _ in range(2)]
            self.assertEqual([client.greeting[:3] for client in clients[4:]], ["220", "220"])
            self.assertEqual(Telnet(relay.address(), source=STRANGER).greeting, too_many)
        for client in clients:
            client.close()

    def test_who_was_asked_to_come_again_may_come_to_another_worker(self) -> None:
        relay = self.begin('[[policy]]\nuse = "greylist"\ndelay = "1s"\n', OFTEN + "[suppression]\nkeep = true\n")
        added = relay.relayctl("suppress", "add", "--socket", "control.sock.1", "eve@example.com")
        self.assertEqual(added.returncode, 0, added.stderr)
        for sender in "ann@example.com", "bob@example.net":
            self.assertRegex(self.say(relay, 0, sender), "^450 4.7.1 .*greylisted")
        eventually(lambda: self.say(relay, 0, "bob@example.net").startswith("250"))
        self.ask(relay)
        # So her time is over, too.
        self.assertRegex(self.say(relay, 1, "ann@example.com"), "^250")
        self.assertRegex(self.say(relay, 1, "bob@example.net"), "^250")
        self.assertRegex(self.say(relay, 1, "new@example.com"), "^450 4.7.1 .*greylisted")
        # And who is suppressed at one of them is at all.
        self.assertIn("eve@example.com", relay.relayctl("suppress", "list", "--socket", "control.sock.0").stdout)

    def test_a_rate_is_that_of_both_together_and_a_new_worker_knows_what_was_counted(self) -> None:
        limit = 'use = "rate-limit"\nrate = "3/1d"\nby = ["sender-domain"]\ncount = "recipients"\n'
        relay = self.begin(f"[[policy]]\n{limit}")
        for _ in range(3):
            self.assertRegex(self.say(relay, 0, "ann@example.com"), "^250")
        refused = "^450 4.7.1 .*too many"
        self.assertRegex(self.say(relay, 0, "ann@example.com"), refused)
        self.ask(relay)
        self.assertRegex(self.say(relay, 1, "ann@example.com"), refused)
        for dead in 1, 0:
            self.kill(relay, dead)
            self.assertRegex(self.say(relay, dead, "ann@example.com"), refused)
            self.assertRegex(self.say(relay, dead, "ann@other.example"), "^250")
