"""`etc/relay.service`, asked of systemd itself."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

UNIT = Path(__file__).parents[2] / "etc" / "relay.service"

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not here")


class UnitTests(SynchronousTestCase):
    def analyze(self, verb: str, *words: str) -> tuple[int, str]:
        """Ask about the unit as it would be where the relay is installed."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        unit = folder / "relay.service"
        unit.write_text(re.sub(r"/opt/relay/bin/relay\w*", "/bin/true", UNIT.read_text()))
        ran = subprocess.run(
            ["systemd-analyze", verb, *words, str(unit)], capture_output=True, text=True, timeout=60, check=False
        )
        return ran.returncode, ran.stderr

    def test_systemd_understands_every_line(self) -> None:
        # An unknown key is only a warning to it, so it has to be silent as well.
        self.assertEqual(self.analyze("verify"), (0, ""))

    def test_it_leaves_the_relay_few_rights(self) -> None:
        # In tenths on systemd's scale of exposure, where 100 is a service that may do anything.
        status, said = self.analyze("security", "--offline=yes", "--threshold=20")
        self.assertEqual(status, 0, said)

    def test_a_wrong_configuration_is_not_tried_again(self) -> None:
        self.assertIn("\nRestartPreventExitStatus=78\n", UNIT.read_text())
