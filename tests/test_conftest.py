from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

SKIPPED = """
import unittest
import pytest

@pytest.mark.skip(reason="swaks is not here")
def test_by_a_mark(): pass

def test_in_its_midst(): pytest.skip("dovecot is not here")

class TrialsWay(unittest.TestCase):
    def test_by_raising(self): raise unittest.SkipTest("postfix is not here")

@pytest.mark.xfail(reason="known", strict=True)
def test_that_is_known_to_fail(): assert False

def test_that_runs(): pass
"""
SKIPPED_WHOLE = "import pytest\npytest.skip('unbound is not here', allow_module_level=True)\n"


class SkipTests(SynchronousTestCase):
    def run_suite(self, ci: str) -> tuple[int, str]:
        """Run a small suite under our conftest; its exit status and what it printed."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        shutil.copy(Path(__file__).with_name("conftest.py"), folder)
        (folder / "test_one.py").write_text(SKIPPED)
        (folder / "test_two.py").write_text(SKIPPED_WHOLE)
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "--continue-on-collection-errors"],
            cwd=folder,
            env={**os.environ, "CI": ci},
            capture_output=True,
            text=True,
            check=False,
        )
        return ran.returncode, ran.stdout

    def test_in_ci_every_kind_of_skip_is_a_failure_that_says_what_is_missing(self) -> None:
        status, said = self.run_suite("true")
        self.assertEqual(status, 1, said)
        for peer in "swaks", "dovecot", "postfix", "unbound":
            self.assertIn(f"{peer} is not here", said)
        self.assertIn("2 failed, 1 passed, 1 xfailed, 2 errors", said)

    def test_elsewhere_a_skip_is_a_skip(self) -> None:
        status, said = self.run_suite("")
        self.assertEqual(status, 0, said)
        self.assertIn("1 passed, 4 skipped, 1 xfailed", said)
