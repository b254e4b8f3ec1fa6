"""Where the documentation points to a file or a page of ours, it is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]*)?\)")
#: A path of ours in backticks: `relay/smtp/server.py`, `docs/RFC.md`, `tests/faults/`.
_PATH = re.compile(r"`((?:relay|tests|docs|etc|examples|bench|newsfragments)/[A-Za-z0-9_./-]+)(?:::[^`]*)?`")


def broken(text: str, page: Path) -> Iterator[str]:
    for target, _ in _LINK.findall(text):
        if ":" not in target and not (page.parent / target).exists():
            yield f"{page.relative_to(ROOT)}: there is no page {target}"
    for target in _PATH.findall(text):
        if not (ROOT / target).exists():
            yield f"{page.relative_to(ROOT)}: there is no file {target}"


class LinkTests(SynchronousTestCase):
    def test_no_page_points_to_what_is_not_there(self) -> None:
        self.assertEqual([problem for page in PAGES for problem in broken(page.read_text(), page)], [])

    def test_what_is_not_there_is_found(self) -> None:
        text = "[a](RFC.md) [b](SOUP.md#salt) [c](https://example.org/soup) `relay/soup.py` `tests/soup.py::T::test_t` `soup`"
        self.assertEqual(
            list(broken(text, ROOT / "docs/page.md")),
            [
                f"docs/page.md: there is no {what}"
                for what in ("page SOUP.md", "file relay/soup.py", "file tests/soup.py")
            ],
        )
