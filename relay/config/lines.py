"""
On which line of a TOML text each key stands.

`tomllib` says what a text means but not where it says so. This reads the text a second time, for the places
only. It is given nothing but texts that `tomllib` has accepted, so it takes for granted that they are well formed.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

#: The way to a value: keys of tables, and indices of arrays (and arrays of tables) counted from 0.
KeyPath: TypeAlias = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:\\.|[^"\\])*"|'[^']*'""")
#: A string of three quotes may end in up to two more, which belong to it (TOML 1.0, String).
_STRING = re.compile(r'''"""(?:\\.|[^\\])*?"{3,5}|\'\'\'.*?'{3,5}|"(?:\\.|[^"\\])*"|'[^']*\'''', re.DOTALL)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def spelled(path: KeyPath) -> str:
    """A path for the operator: entries of lists count from 1, and a key is quoted unless it is a bare one."""
    return ".".join(str(part + 1) if isinstance(part, int) else _spelled_key(part) for part in path)


def _spelled_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


class Lines:
    """The lines of one text's keys."""

    def __init__(self, lines: Mapping[KeyPath, int] = MappingProxyType({})) -> None:
        """Without any, everything stands on line 1."""
        self._lines = {(): 1, **lines}

    @classmethod
    def of(cls, text: str) -> Lines:
        """Read `text`, which `tomllib` has accepted."""
        reader = _Reader(text.replace("\r\n", "\n"))
        reader.read()
        return cls(reader.lines)

    def line(self, path: KeyPath) -> int:
        """
        The line where the key at `path` stands; for a table or an entry of an array, where that begins.

        What is not in the text (a key that is missing) has the line of the nearest thing around it that is.
        """
        while path not in self._lines:
            path = path[:-1]
        return self._lines[path]

    def renamed(self, rename: Callable[[str], str]) -> Lines:
        """The same lines where keys have got other names."""
        return Lines(
            {
                tuple(rename(part) if isinstance(part, str) else part for part in path): line
                for path, line in self._lines.items()
            }
        )


class _Reader:
    """Goes through a text once. Statements and values end where they end, so line ends mean nothing to it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_ends = [match.start() for match in re.finditer("\n", text)]
        #: How many `[[tables]]` there are so far at a path: the last one is where what follows belongs.
        self._tables: dict[KeyPath, int] = {}
        self.lines: dict[KeyPath, int] = {(): 1}

    def read(self) -> None:
        table: KeyPath = ()
        while self._next():
            if self._next() == "[":
                table = self._header()
            else:
                self._entry(table)

    def _header(self) -> KeyPath:
        """A `[table]` or `[[table]]`: the path of the table that begins here."""
        line = self._line()
        several = self._text.startswith("[[", self._at)
        self._at += 2 if several else 1
        *outer, last = self._key()
        self._next()
        self._at += 2 if several else 1
        path: KeyPath = ()
        for name in outer:
            path = self._last_table((*path, name))
            self.lines.setdefault(path, line)
        path = (*path, last)
        if several:
            self.lines.setdefault(path, line)
            self._tables[path] = self._tables.get(path, 0) + 1
            path = self._last_table(path)
        self.lines[path] = line  # also if a `[table.inner]` before it has had to do until now
        return path

    def _last_table(self, path: KeyPath) -> KeyPath:
        return (*path, self._tables[path] - 1) if path in self._tables else path

    def _entry(self, path: KeyPath) -> None:
        """A `key = value`, its key perhaps dotted."""
        line = self._line()
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._next()
        self._at += 1  # the `=`
        self._value(path)

    def _key(self) -> list[str]:
        names = []
        while True:
            self._next()
            written = self._skip(_KEY)
            names.append(_spelled_out(written) if written[0] in "\"'" else written)
            if self._next() != ".":
                return names
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._next():
            case "[":
                self._at += 1
                index = 0
                while self._next() != "]":
                    self.lines[(*path, index)] = self._line()
                    self._value((*path, index))
                    index += 1
                    self._comma()
                self._at += 1
            case "{":
                self._at += 1
                while self._next() != "}":
                    self._entry(path)
                    self._comma()
                self._at += 1
            case '"' | "'":
                self._skip(_STRING)
            case _:
                self._skip(_SCALAR)

    def _comma(self) -> None:
        if self._next() == ",":
            self._at += 1

    def _next(self) -> str:
        """The next character that means something, without taking it; empty at the end."""
        self._skip(_BLANK)
        return self._text[self._at : self._at + 1]

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, "the text is not TOML"
        self._at = match.end()
        return match.group()

    def _line(self) -> int:
        return bisect_right(self._line_ends, self._at) + 1


def _spelled_out(quoted: str) -> str:
    """What a quoted key says: TOML's escapes are `tomllib`'s business."""
    name: str = tomllib.loads(f"key = {quoted}")["key"]
    return name
