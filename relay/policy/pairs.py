"""Files with a key and a value in each line, as text: Postfix's two columns, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeAlias

from relay.policy.names import fold as folded

#: The number of the line where it begins, a key, and its value.
Pair: TypeAlias = tuple[int, str, str]


class WrongLine(ValueError):
    """A line of a file makes no sense. Lines count from 1."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.text = text


def columns(lines: Iterable[str]) -> Iterator[Pair]:
    """
    A key, blanks, and the rest of the line is its value, empty if there is none (postmap(1), TABLE FORMAT).

    Blank lines mean nothing, nor do those whose first character but blanks is a `#`. A line that begins with a blank
    goes on with the one before it. A key with blanks in it stands in double quotes, where a backslash takes the next
    character as it is. Raises `WrongLine`.
    """
    at, logical = 0, ""
    for number, line in enumerate(lines, 1):
        first = line[0]
        if first == "#" or first.isspace():
            text = line.strip()
            if not text or text[0] == "#":
                continue
            if not logical:
                raise WrongLine(number, "it begins with a blank, and there is nothing before it to go on with")
            logical = f"{logical.rstrip()} {text}"
            continue
        if logical:
            # What `_split` does with nearly all of them: of a million lines, each call is one too many.
            parts = logical.split(None, 1)
            if len(parts) == 2 and logical[0] != '"':
                yield at, parts[0], parts[1].rstrip()
            else:
                yield at, *_split(at, logical)
        at, logical = number, line
    if logical:
        yield at, *_split(at, logical)


def _split(number: int, line: str) -> tuple[str, str]:
    if line[0] == '"':
        return _quoted(number, line)
    parts = line.split(None, 1)
    return parts[0], parts[1].rstrip() if len(parts) == 2 else ""


def _quoted(number: int, line: str) -> tuple[str, str]:
    key: list[str] = []
    rest = iter(line[1:])
    for character in rest:
        if character == '"':
            return "".join(key), "".join(rest).strip()
        key.append(next(rest, "") if character == "\\" else character)
    raise WrongLine(number, "a double quote begins its key, and none ends it")


def separated(lines: Iterable[str], *, header: bool) -> Iterator[Pair]:
    """Two columns with a comma between them (RFC 4180), or one. `header`: the first line is none of them."""
    reader = csv.reader(lines, strict=True)
    number = 1
    try:
        if header:
            next(reader, None)
            number = reader.line_num + 1
        for row in reader:
            if len(row) == 2:
                yield number, row[0].strip(), row[1].strip()
            elif len(row) == 1:
                yield number, row[0].strip(), ""
            elif row:
                raise WrongLine(number, f"it has {len(row)} columns, and should have two: a key and its value")
            number = reader.line_num + 1
    except csv.Error as error:
        raise WrongLine(number, f"it is not CSV: {error}") from None


#: What a value has to stand: raises `ValueError`.
Check: TypeAlias = Callable[[str, str], object]
#: Entries that one value may share with others, so that a million of `OK` is one in memory.
_SHARED: Final = 10_000


def table_of(pairs: Iterable[Pair], *, fold: bool, checks: Iterable[Check] = ()) -> dict[str, str]:
    """The values by key. Raises `WrongLine` where a key is there twice with two values, or a check says no."""
    table: dict[str, str] = {}
    shared: dict[str, str] = {}
    for number, key, value in pairs:
        if fold:
            key = key.lower() if key.isascii() else folded(key)
        if len(shared) < _SHARED:
            value = shared.setdefault(value, value)
        else:
            value = shared.get(value, value)
        other = table.setdefault(key, value)
        if other != value:
            raise WrongLine(number, f"{key!r} is there twice, with {other!r} and {value!r}")
        if not key:
            raise WrongLine(number, "its key is empty")
        for check in checks:
            try:
                check(key, value)
            except ValueError as error:
                raise WrongLine(number, str(error)) from None
    return table
