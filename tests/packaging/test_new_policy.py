"""What `relayctl new-policy` writes, installed beside the relay; and what the relay brings for pytest."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from twisted.trial.unittest import SynchronousTestCase

from tests.packaging import environments
from tests.packaging.environments import REPOSITORY, Environment, Ran

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not in a clone of the repository"),
]

CONFIGURATION = """\
hostname = "mx.example.org"
[[listener]]
address = "127.0.0.1:2525"
[[policy]]
use = "{name}"
{option}
[[policy]]
use = "discard"
"""

INVARIANT = """
from pathlib import Path
from relay.testing.invariants import check_no_open_relay

def test_we_are_no_open_relay():
    check_no_open_relay('[[listener]]\\naddress = "[::]:25"\\n[[policy]]\\nuse = "discard"\\n', examples=5)
"""


def setUpModule() -> None:
    environments.begin()


@cache
def with_pytest() -> Environment:
    """The relay from its wheel, with what its extra `testing` names."""
    environment = Environment.make("authors")
    environments.gather([Requirement("pytest"), Requirement("hypothesis")], environment.packages)
    environment.install(environments.wheel())
    return environment


class NewPolicyTests(SynchronousTestCase):
    def pytest(self, folder: Path) -> Ran:
        return with_pytest().run("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)

    def test_in_each_phase_it_passes_its_tests_and_is_found_by_its_name(self) -> None:
        environment = with_pytest()
        for phase, option, said in (
            ("connection", 'clients = ["192.0.2.0/24"]', "554 "),
            ("sender", 'senders = ["ann@sender.example"]', "550 5.7.1 not wanted here"),
            ("recipient", 'recipients = ["jon@example.org"]', "550 5.7.1 not wanted here"),
            ("content", 'words = ["lottery"]', "550 5.7.1 not wanted here"),
        ):
            name = f"my-{phase}"
            folder = environments.workshop / f"relay-{name}"
            wrote = environment.run("relayctl", "new-policy", name, "--phase", phase, cwd=environments.workshop)
            self.assertEqual(wrote.status, 0, wrote.stderr)
            environment.install(folder)
            ran = self.pytest(folder)
            self.assertEqual(ran.status, 0, ran.stdout + ran.stderr)
            self.assertIn("9 passed", ran.stdout)
            (folder / "relay.toml").write_text(CONFIGURATION.format(name=name, option=option))
            (folder / "message").write_text("Subject: You have won the lottery\n\nHi!\n")
            self.assertEqual(environment.run("relayctl", "check", "relay.toml", cwd=folder).status, 0)
            words = ["jon@example.org", "--from", "ann@sender.example", "--client", "192.0.2.1"]
            explained = environment.run(
                "relayctl", "explain", "-c", "relay.toml", "--json", "--message", "message", *words, cwd=folder
            )
            self.assertEqual(explained.status, 1, explained.stdout + explained.stderr)
            told = json.loads(explained.stdout)
            self.assertTrue(told["reply"].startswith(said), told)
            self.assertEqual(told["policy"], name)

    def test_pytest_finds_the_fixture_and_the_invariants_their_hypothesis(self) -> None:
        folder = environments.workshop / "a site"
        folder.mkdir()
        (folder / "test_site.py").write_text(
            INVARIANT + "\ndef test_it_is_there(relay_server):\n    assert relay_server.port\n"
        )
        ran = self.pytest(folder)
        self.assertIn("2 passed", ran.stdout, ran.stdout + ran.stderr)
