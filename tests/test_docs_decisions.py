"""docs/decisions: each page has the same three parts, and the list has each page."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

FOLDER = Path(__file__).parent.parent / "docs/decisions"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
PARTS = ["Context", "Decision", "What would change our mind"]


class DecisionTests(SynchronousTestCase):
    def test_each_page_says_the_context_the_decision_and_what_would_change_our_mind(self) -> None:
        for page in PAGES:
            title, _, rest = page.read_text().partition("\n")
            self.assertTrue(title.startswith("# "), page.name)
            parts = re.split(r"^## (.*)$", rest, flags=re.MULTILINE)
            self.assertEqual(parts[1::2], PARTS, page.name)
            for text in parts[2::2]:
                self.assertGreater(len(text.split()), 15, page.name)

    def test_numbers_are_given_once_and_without_a_gap(self) -> None:
        self.assertEqual([page.name[:5] for page in PAGES], [f"{number:04}-" for number in range(1, len(PAGES) + 1)])

    def test_the_list_has_each_page(self) -> None:
        listed = re.findall(r"^\| \[([0-9]{4})\]\((\S+)\) \| \S", (FOLDER / "README.md").read_text(), re.MULTILINE)
        self.assertEqual(listed, [(page.name[:4], page.name) for page in PAGES])
