"""What a message costs from its MAIL to the answer of the next hop is no more than the committed baseline says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.core_path import Cost, excess

BEFORE = {"3.11": {"calls": {"smtp": 100.0, "spool": 60.0}, "instructions": {"smtp": 3000.0, "spool": 1000.0}}}


def cost(smtp: float = 100.0, spool: float = 60.0, instructions: float = 3000.0, **more: float) -> Cost:
    return Cost({"smtp": smtp, "spool": spool, **more}, {"smtp": instructions, "spool": 1000.0})


class BaselineTests(SynchronousTestCase):
    def test_a_message_costs_no_more_than_it_did(self) -> None:
        """
        If it has to: `python -m tests.core_path --renew`, and say why in the commit.

        In a process of its own, since pytest writes our assertions anew, and then they cost more.
        """
        ran = subprocess.run(
            [sys.executable, "-m", "tests.core_path"],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual((ran.returncode, ran.stderr), (0, ""), ran.stdout)

    def test_the_same_or_less_is_no_excess(self) -> None:
        self.assertEqual(excess(cost(), BEFORE, "3.11"), [])
        self.assertEqual(excess(cost(smtp=50.0, instructions=100.0), BEFORE, "3.11"), [])

    def test_two_per_cent_may_be_chance_and_more_may_not(self) -> None:
        self.assertEqual(excess(cost(smtp=102.9), BEFORE, "3.11"), [])
        self.assertEqual(excess(cost(smtp=103.1), BEFORE, "3.11"), ["smtp: 103.1 calls a message, where it was 100.0"])
        self.assertEqual(
            excess(cost(instructions=3100.0), BEFORE, "3.11"),
            [
                "smtp: 3100.0 instructions a message, where it was 3000.0",
                "all: 4100.0 instructions a message, where it was 4000.0",
            ],
        )

    def test_a_little_everywhere_is_seen_too(self) -> None:
        found = excess(cost(smtp=102.5, spool=62.0), BEFORE, "3.11")
        self.assertEqual(found, ["all: 164.5 calls a message, where it was 160.0"])

    def test_a_part_that_did_not_exist_has_to_be_paid_for(self) -> None:
        self.assertEqual(
            excess(cost(smtp=98.0, novelty=2.0), BEFORE, "3.11"), ["novelty: 2.0 calls a message, where it was 0.0"]
        )

    def test_on_another_python_all_calls_together_are_compared(self) -> None:
        self.assertEqual(excess(cost(smtp=110.0, instructions=9999.0), BEFORE, "3.99"), [])
        self.assertEqual(
            excess(cost(smtp=140.0), BEFORE, "3.99"),
            ["200 calls a message, and the baseline of another Python has 160"],
        )
