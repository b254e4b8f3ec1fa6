"""What docs/agents.md says in tables is what the code does."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests import agents_reference


class TablesTests(SynchronousTestCase):
    def test_every_parameter_and_every_status_stands_there(self) -> None:
        self.maxDiff = None
        self.assertEqual(
            agents_reference.tables_in(agents_reference.PAGE.read_text()),
            agents_reference.tables(),
            "python -m tests.agents_reference writes the tables anew",
        )
