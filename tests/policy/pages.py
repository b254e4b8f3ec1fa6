"""Pages of docs/policies as tests read them: configurations, and what each is said to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[2] / "docs"

Case = dict[str, str]

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: A file that a page shows.
_FILE = re.compile(r"^The file `([a-z.]+)`:\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What a page takes to be in the DNS.
_ZONE = re.compile(r"^In the DNS:\n\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)
_ROW = re.compile(r"^\|(.*)\|$", re.MULTILINE)


def page(use: str) -> str:
    """The page of a policy."""
    return (DOCS / "policies" / f"{use}.md").read_text()


def blocks(text: str, kind: str) -> list[str]:
    """All that stands in blocks of this kind."""
    return [block for found, block in _BLOCK.findall(text) if found == kind]


def files(text: str) -> dict[str, str]:
    """The files that it shows."""
    return dict(_FILE.findall(text))


def configurations(text: str) -> Iterator[tuple[str, list[Case]]]:
    """Each configuration, and what becomes of mail by it: a table speaks of the configuration above it."""
    found = [match for match in _BLOCK.finditer(text) if match[1] == "toml"]
    for here, there in zip_longest(found, found[1:]):
        yield here[2], _cases(text[here.end() : there.start() if there else None])


def _cases(text: str) -> list[Case]:
    """The rows of the tables that say what becomes of mail, by column."""
    found: list[Case] = []
    for table in _TABLE.findall(text):
        columns, _, *rows = [[cell.strip() for cell in row.split("|")] for row in _ROW.findall(table)]
        if columns[-1] == "what becomes of it":
            found += [dict(zip(columns, (cell.replace("`", "") for cell in row), strict=True)) for row in rows]
    return found


def names(text: str) -> dict[str, dict[str, list[Any]]]:
    """What stands in the DNS by this page: a name, a kind, and what follows."""
    found: dict[str, dict[str, list[Any]]] = {}
    for line in (line for zone in _ZONE.findall(text) for line in zone.splitlines()):
        name, kind, *value = line.split()
        record = (int(value[0]), value[1].removesuffix(".")) if kind == "MX" else " ".join(value)
        found.setdefault(name, {}).setdefault(kind, []).append(record)
    return found
