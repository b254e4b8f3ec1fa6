"""docs/testing.md: its tests are run, word for word, by pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from relay.testing import strategies
from relay.testing.server import RelayServer
from tests.policy.pages import DOCS, blocks

SITE = """
[[listener]]
address = "[::]:25"
[[policy]]
use = "mailbox"
domains = ["example.org"]
users = ["jon"]
format = "maildir"
directory = "mail"
"""


class TestingPageTests(SynchronousTestCase):
    def test_what_it_shows_passes(self) -> None:
        page = (DOCS / "testing.md").read_text()
        tests = blocks(page, "python")
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "relay.toml").write_text(SITE)
            for number, text in enumerate(tests):
                (Path(folder) / f"test_{number}.py").write_text(text)
            ran = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "relay.testing.pytest_plugin", "-p", "no:cacheprovider"],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(DOCS.parent)},
                capture_output=True,
                text=True,
                timeout=100,
            )
        count = page.count("\ndef test_")
        self.assertIn(f"{count} passed", ran.stdout, ran.stdout + ran.stderr)

    def test_all_that_it_names_is_there(self) -> None:
        page = (DOCS / "testing.md").read_text()
        for name in "host", "port", "ports", "messages", "log", "why":
            self.assertIn(f"`{name}", page)
            self.assertTrue(hasattr(RelayServer, name), name)
        for name in [
            "addresses",
            "domains",
            "reverse_paths",
            "clients",
            "inquiries",
            "messages",
            "dialogues",
            "sessions",
            "cuts",
            "dns_worlds",
        ]:
            self.assertIn(f"`{name}`", page)
            self.assertTrue(callable(getattr(strategies, name)))
