"""
docs/RFC.md and docs/QUIRKS.md: every file and test that they name exists, and no section of RFC 5321 is left out.

A row says `yes`, `partly: what is missing` or `no: why`, then the files that answer for it and the tests that show it,
each in backticks. Only a `no` may do without either.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
RFC, QUIRKS = ROOT / "docs/RFC.md", ROOT / "docs/QUIRKS.md"

#: How many sections each chapter and section of RFC 5321 has that says what a server or a client does.
_DIVISIONS = (
    "2:4 2.2:3 2.3:11 3:9 3.5:4 3.6:3 3.7:5 3.9:2 4:5 4.1:5 4.1.1:11 4.2:5 4.3:2 "
    "4.5:5 4.5.3:2 4.5.3.1:10 4.5.3.2:7 4.5.4:2 5:2 6:4 7:9"
)
SECTIONS = {
    f"{above}.{number}"
    for above, count in (division.split(":") for division in _DIVISIONS.split())
    for number in range(1, int(count) + 1)
}

_HOLDS = re.compile(r"(yes|partly|no)(?:: (\S.*))?\Z")
_NUMBERS = re.compile(r"\b[2-7](?:\.[0-9]+)+\b")
_QUOTED = re.compile(r"`([^`]*)`")


@frozen
class Row:
    line: int
    #: The heading that its table stands under.
    heading: str
    columns: tuple[str, ...]
    cells: tuple[str, ...]

    def __getitem__(self, column: str) -> str:
        return dict(zip(self.columns, self.cells, strict=False)).get(column, "")


def rows(text: str) -> Iterator[Row]:
    """The rows of all tables of a Markdown page, without their headings and rules."""
    heading = ""
    columns: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("|"):
            columns = ()
            heading = line.lstrip("# ") if line.startswith("#") else heading
            continue
        cells = tuple(cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|"))
        if not columns:
            columns = cells
        elif set("".join(cells)) > {"-"} or not set("".join(cells)) <= set("- "):
            yield Row(number, heading, columns, cells)


def names(cell: str) -> list[str]:
    return _QUOTED.findall(cell)


def problems(text: str, files: Collection[str], tests: Collection[str]) -> Iterator[str]:
    """What is wrong with a page, where these files and tests exist."""
    seen: set[tuple[str, str]] = set()
    for row in rows(text):
        if len(row.cells) != len(row.columns) or not all(row[column] for column in row.columns[:2]):
            yield f"line {row.line}: {len(row.cells)} cells in a table of {len(row.columns)} columns, or an empty one"
            continue
        key = (row.heading, row.cells[0])
        if key in seen:
            yield f"line {row.line}: {row.cells[0]} stands there twice"
        seen.add(key)
        refused = False
        if "holds" in row.columns:
            holds = _HOLDS.match(row["holds"])
            if holds is None or (holds[1] == "yes") is (holds[2] is not None):
                yield f"line {row.line}: '{row['holds']}' is neither 'yes' nor 'partly: ...' nor 'no: ...'"
            refused = holds is not None and holds[1] == "no"
        for column, known in ("in", files), ("shown by", tests):
            if column not in row.columns and refused:
                continue
            named = names(row[column])
            if _QUOTED.sub("", row[column]).replace("<br>", "").strip():
                yield f"line {row.line}: '{column}' has words that are no names"
            if not named and not refused:
                yield f"line {row.line}: nothing is named {column}"
            for name in named:
                if name not in known:
                    yield f"line {row.line}: {name} does not exist"


def sections_left_out(text: str) -> set[str]:
    """The sections of RFC 5321 of which the page says nothing at all."""
    chapter = text.partition("## RFC 5321")[2].partition("\n## ")[0]
    told = {row["section"] for row in rows(chapter)}
    sentences = "\n".join(line for line in chapter.splitlines() if not line.startswith("|"))
    return SECTIONS - told - set(_NUMBERS.findall(sentences))


@cache
def existing() -> tuple[frozenset[str], frozenset[str]]:
    """The files of the tree, and the tests of all files that the two pages name, as pytest calls them."""
    named = {name for page in (RFC, QUIRKS) for row in rows(page.read_text()) for name in names(row["shown by"])}
    modules = sorted({name.partition("::")[0] for name in named if (ROOT / name.partition("::")[0]).is_file()})
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", *modules],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))},
        capture_output=True,
        text=True,
        timeout=100,
    )
    files = {
        str(path.relative_to(ROOT)) for folder in ("relay", "twisted", "etc") for path in (ROOT / folder).rglob("*")
    }
    return frozenset(files), frozenset(line for line in collected.stdout.splitlines() if "::" in line)


class PagesTests(SynchronousTestCase):
    def test_every_file_and_test_that_is_named_exists(self) -> None:
        for page in RFC, QUIRKS:
            self.assertEqual(list(problems(page.read_text(), *existing())), [], page.name)

    def test_no_section_of_rfc_5321_is_left_out(self) -> None:
        self.assertEqual(sections_left_out(RFC.read_text()), set())

    def test_every_section_that_is_named_is_one(self) -> None:
        chapter = RFC.read_text().partition("## RFC 5321")[2].partition("\n## ")[0]
        self.assertEqual({row["section"] for row in rows(chapter)} - SECTIONS, set())


GOOD = """
## RFC 5321
Words only: 2.2.
| section | it asks that | holds | in | shown by |
| --- | --- | --- | --- | --- |
| 2.1 | mail arrives | yes | `relay/a.py` | `tests/t.py::T::test_a`<br>`tests/t.py::T::test_b` |
| 2.3 | mail departs | partly: not yet | `relay/a.py` `relay/b.py` | `tests/t.py::T::test_a` |
| 2.4 | mail rests | no: never | | |
"""


class PageCheckTests(SynchronousTestCase):
    """That the tests above can fail."""

    def found(self, before: str = "", after: str = "") -> list[str]:
        self.assertIn(before, GOOD)
        page = GOOD.replace(before, after, 1)
        return list(problems(page, {"relay/a.py", "relay/b.py"}, {"tests/t.py::T::test_a", "tests/t.py::T::test_b"}))

    def test_a_page_that_is_right_has_no_problem(self) -> None:
        self.assertEqual(self.found(), [])
        self.assertEqual(SECTIONS - sections_left_out(GOOD), {"2.1", "2.2", "2.3", "2.4"})

    def test_each_mistake_is_found(self) -> None:
        for before, after, said in (
            ("relay/a.py", "relay/c.py", "line 6: relay/c.py does not exist"),
            ("test_b", "test_c", "line 6: tests/t.py::T::test_c does not exist"),
            ("`relay/a.py` `relay/b.py`", "", "line 7: nothing is named in"),
            ("| `tests/t.py::T::test_a` |\n| 2.4", "| |\n| 2.4", "line 7: nothing is named shown by"),
            ("| yes |", "| mostly |", "line 6: 'mostly' is neither 'yes' nor 'partly: ...' nor 'no: ...'"),
            ("| yes |", "| yes: of course |", "line 6: 'yes: of course' is neither"),
            ("partly: not yet", "partly", "line 7: 'partly' is neither"),
            ("no: never", "no", "line 8: 'no' is neither"),
            ("`relay/a.py` `relay/b.py`", "relay/a.py", "line 7: 'in' has words that are no names"),
            ("| mail arrives ", "", "line 6: 4 cells in a table of 5 columns"),
            ("mail arrives", "", "line 6: 5 cells in a table of 5 columns, or an empty one"),
            ("| 2.3 |", "| 2.1 |", "line 7: 2.1 stands there twice"),
        ):
            found = self.found(before, after)
            self.assertTrue(any(problem.startswith(said) for problem in found), f"{said}: {found}")

    def test_the_sections_are_those_of_the_rfc(self) -> None:
        for section in ("2.1", "2.3.11", "4.1.1.11", "4.5.3.1.10", "4.5.3.2.7", "4.5.4.1", "7.9"):
            self.assertIn(section, SECTIONS)
        for section in ("1.1", "2.5", "4.1.1.12", "4.4.1", "8.1"):
            self.assertNotIn(section, SECTIONS)
