"""Reading the configuration again: by a signal, by `relayctl reload`, under load, and in vain."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from tests.system.clients import Telnet, queue_id
from tests.system.harness import MAILBOXES, PATIENCE, RelayProcess, SystemTestCase, configuration

pytestmark = pytest.mark.system

#: How long clients are served while the configuration is read again and again.
SECONDS = float(os.environ.get("RELAY_RELOAD_SECONDS", "10"))
#: A policy of a third party, with a mistake that its author mends later.
PLUGIN = """
from zope.interface import implementer
from relay.interfaces import IRoutingPolicy
from relay.mail.reply import Reply
from relay.mail.routing import Reject


@implementer(IRoutingPolicy)
class No:
    def __init__(self, options, world):
        pass

    def route(self, inquiry):
        return Reject(Reply.of(550, "5.7.1", "no"), "first")
"""


class ReloadTests(SystemTestCase):
    def setUp(self) -> None:
        self.running = self.relay(configuration())

    def rewrite(self, text: str) -> None:
        self.running.configuration.write_text(text)

    def reload(self, status: int = 0) -> tuple[str, str]:
        said = self.running.relayctl("reload", "--socket", "control.sock")
        self.assertEqual(said.returncode, status, said.stdout + said.stderr)
        return said.stdout, said.stderr

    def answer(self, recipient: str) -> str:
        with Telnet(self.running.address()) as client:
            return client.envelope("bob@client.test", recipient)[0]

    def test_what_begins_has_the_new_one_and_a_session_ends_with_the_one_it_began_with(self) -> None:
        self.running.start()
        with Telnet(self.running.address()) as client:
            self.rewrite(configuration(top='greeting = "is new"', policies=MAILBOXES.replace('"jon"', '"eve"')))
            said, _ = self.reload()
            self.assertRegex(said, r"^in force now: [0-9a-f]{12}\n$")
            self.assertNotIn("is new", client.greeting)
            client.post("jon@localhost")
        with Telnet(self.running.address()) as client:
            self.assertIn("is new", client.greeting)
            self.assertTrue(client.envelope("bob@client.test", "jon@localhost")[0].startswith("550 5.1.1"))
        with Telnet(self.running.address()) as client:
            self.running.event("delivered", queue_id(client.post("eve@localhost")))

    def test_sighup_is_the_same_and_the_status_tells_which_is_in_force(self) -> None:
        self.running.start()
        before = self.running.relayctl("status", "--socket", "control.sock").stdout
        self.assertRegex(before, r"configuration: relay\.toml as [0-9a-f]{12}, in force for \d+s\n")
        self.rewrite(configuration(policies=MAILBOXES.replace('"jon"', '"eve"')))
        self.running.send_signal(signal.SIGHUP)
        digest = self.running.wait_for(r"relay\.toml is in force as it is now \(([0-9a-f]{12})\)")[1]
        self.assertNotIn(digest, before)
        self.assertIn(digest, self.running.relayctl("status", "--socket", "control.sock").stdout)
        self.assertTrue(self.answer("eve@localhost").startswith("250"))

    def test_a_wrong_one_changes_nothing_and_is_said_line_by_line(self) -> None:
        self.running.expected += ["relay.toml:.*unknown key", "was not reloaded"]
        self.running.start()
        self.rewrite(configuration(policies=MAILBOXES.replace("users", "usrs") + "nonsense = 1\n"))
        said, problems = self.reload(1)
        self.assertEqual(said, "")
        lines = problems.splitlines()
        self.assertRegex(lines[0], r"^relay\.toml:\d+: policy\.1\.usrs: unknown key, did you mean 'users'\?$")
        self.assertRegex(lines[1], r"^relay\.toml:\d+: policy\.1\.nonsense: unknown key")
        self.assertRegex(lines[2], "^not reloaded, all goes on as it was: ")
        self.running.wait_for(r"policy\.1\.usrs: unknown key")
        self.assertTrue(self.answer("jon@localhost").startswith("250"))

    def test_what_takes_a_restart_is_named_and_nothing_else_of_the_file_counts(self) -> None:
        self.running.expected += ["takes a restart", "was not reloaded"]
        self.running.start()
        changed = configuration(policies=MAILBOXES.replace('"jon"', '"eve"'), spool='path = "other"')
        self.rewrite(changed.replace('name = "local"', 'name = "front"'))
        _, problems = self.reload(1)
        self.assertIn("spool.path: has changed, and that takes a restart", problems)
        self.assertIn("listener.1: 'front' is new, and that takes a restart", problems)
        self.assertIn("listener: 'local' is not there any more", problems)
        self.assertTrue(self.answer("jon@localhost").startswith("250"))

    def test_code_of_a_plugin_is_not_imported_again_and_that_is_said(self) -> None:
        module = self.running.folder / "site_policies.py"
        module.write_text(PLUGIN)
        text = configuration(policies='[[policy]]\nname = "no"\nuse = "site_policies:No"\n')
        self.rewrite(text)
        self.running.start()
        self.assertEqual(self.reload()[1], "")
        module.write_text(PLUGIN.replace('"no")', '"never")'))
        _, warnings = self.reload()
        self.assertRegex(warnings, r"^warning: the code of 'site_policies' has changed \(/.*\), and a reload does not")
        self.assertTrue(self.answer("jon@localhost").startswith("550 5.7.1 no"))

    def test_a_certificate_for_another_name_and_a_limit_count_for_who_comes_next(self) -> None:
        self.running.start()
        self.rewrite(configuration(tables="[limits]\nrecipients = 123\n"))
        self.reload()
        with Telnet(self.running.address()) as client:
            self.assertIn("RCPTMAX=123", client.say("EHLO client.test"))


class Customer(threading.Thread):
    """Sends one message after the other, several in each session, and counts what was promised."""

    def __init__(self, relay: RelayProcess, until: float) -> None:
        super().__init__(daemon=True)
        self._relay = relay
        self._until = until
        self.promised: list[str] = []
        self.failed: list[str] = []

    def run(self) -> None:
        try:
            while time.monotonic() < self._until:
                with Telnet(self._relay.address()) as client:
                    for _ in range(20):
                        self.promised.append(queue_id(client.post("jon@localhost")))
                    client.quit()
        except (AssertionError, OSError) as problem:
            self.failed.append(repr(problem))


class LoadTests(SystemTestCase):
    def test_under_load_and_a_reload_each_second_no_session_fails_and_nothing_is_lost(self) -> None:
        text = configuration(tables="[limits]\nmessages = 1000\n")
        relay = self.started(text)
        until = time.monotonic() + SECONDS
        customers = [Customer(relay, until) for _ in range(4)]
        for customer in customers:
            customer.start()
        reloads = 0
        while time.monotonic() < until:
            began = time.monotonic()
            reloads += 1
            relay.configuration.write_text(f"# {reloads}\n{text}")
            said = relay.relayctl("reload", "--socket", "control.sock")
            self.assertEqual(said.returncode, 0, said.stderr)
            threading.Event().wait(max(0.0, 1 - (time.monotonic() - began)))
        for customer in customers:
            customer.join(PATIENCE)
        self.assertEqual([customer.failed for customer in customers], [[]] * 4)
        promised = [id for customer in customers for id in customer.promised]
        self.assertGreater(reloads, 2)
        relay.stop()
        relay.start()
        self.assertEqual(len(_delivered(relay, len(promised))), len(promised))


def _delivered(relay: RelayProcess, expected: int) -> list[Path]:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [path for folder in ("new", "cur") for path in (relay.folder / "mail/jon" / folder).glob("*")]
        if len(found) >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
