"""The audit itself, with the real twistd: once on a relay that forgets, which it has to notice."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.system.harness import REPOSITORY

pytestmark = pytest.mark.system


class AuditTests(SynchronousTestCase):
    def audit(self, rounds: int, *arguments: str) -> tuple[int, str]:
        folder = tempfile.TemporaryDirectory(prefix="relay-")
        self.addCleanup(folder.cleanup)
        ran = subprocess.run(
            [
                sys.executable,
                "-m",
                "tests.faults",
                f"--rounds={rounds}",
                "--at-calls=0",
                "--errors=0",
                "--seed=1",
                *arguments,
            ],
            cwd=REPOSITORY,
            env={**os.environ, "TMPDIR": folder.name},
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        self.assertNotIn("Traceback", ran.stderr)
        return ran.returncode, ran.stdout

    def test_a_relay_whose_spool_forgets_does_not_pass(self) -> None:
        # In the second round the sink is killed first: what is for it waits in the spool when the relay is.
        status, said = self.audit(2, "--engine=memory")
        self.assertEqual(status, 1, said)
        self.assertRegex(said, r"(?m)^lost +[1-9]")
        self.assertRegex(said, r"(?m)^LOST: m\d+ for \S+ was acknowledged$")
        self.assertIn("\nFAILED in ", said)

    def test_a_relay_that_keeps_what_it_promised_passes_and_its_counts_are_printed(self) -> None:
        status, said = self.audit(1)
        self.assertEqual(status, 0, said)
        for name in "lost", "refused-but-delivered", "corrupt":
            self.assertRegex(said, rf"(?m)^{name} +0$")
        self.assertRegex(said, r"(?m)^ +acknowledged +[1-9]")
        self.assertIn("\npassed in ", said)
