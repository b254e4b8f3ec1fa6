"""Who may send what to whom, as a table that a person can read: what makes no difference is one row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from relay.policy.probing import Found, Matrix

_HEAD: Final = ("listener", "client", "user", "from", "to", "")
_TO: Final = 4
#: What is put together first: most seldom it makes a difference who sends.
_ORDER: Final = (3, 2, 1, 0, _TO)
#: A cell with more names in it than this counts the rest.
_NAMES: Final = 4

#: The names that stand in each column but the last.
_Row: TypeAlias = tuple[tuple[str, ...], ...]


def lines(matrix: Matrix) -> Iterator[str]:
    """The table, and what it does not say."""
    rows = [_row(each) for each in matrix.found]
    if not rows:
        return
    whole = [tuple(dict.fromkeys(row[column][0] for row, _ in rows)) for column in range(len(_HEAD) - 1)]
    cells = [_HEAD]
    for row, answer in _together(rows):
        said = [_cell(names, whole[column]) for column, names in enumerate(row)]
        cells.append((said[0], said[1], said[2], said[3], said[_TO], answer))
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD) - 1)]
    for line in cells:
        shown = [text.ljust(width) for text, width in zip(line, (*widths, 0), strict=True)]
        yield "  ".join(shown).rstrip()
    if any(found.unless for found in matrix.found):
        yield "(?) unknown: these policies ask others, and nobody is asked here. It is so unless they object."
    if matrix.left_out:
        yield f"There was no room for {matrix.left_out} more networks, senders or domains that policies name."


def _row(found: Found) -> tuple[_Row, str]:
    kind = found.kind
    names = (
        kind.listener.name,
        kind.client.text,
        "nobody" if kind.user is None else "a user",
        kind.sender.text,
        kind.recipient.text,
    )
    by = f" by {found.policy}" if found.policy else ""
    unless = f" (? {', '.join(found.unless)})" if found.unless else ""
    return tuple((name,) for name in names), f"{found.answer}{by}{unless}"


def _together(rows: Sequence[tuple[_Row, str]]) -> list[tuple[_Row, str]]:
    """Rows that differ in one column, and have one answer, become one."""
    current = list(rows)
    for column in _ORDER:
        merged: dict[tuple[_Row, str], dict[str, None]] = {}
        for row, answer in current:
            key = ((*row[:column], (), *row[column + 1 :]), answer)
            merged.setdefault(key, {}).update(dict.fromkeys(row[column]))
        current = [
            ((*row[:column], tuple(names), *row[column + 1 :]), answer) for (row, answer), names in merged.items()
        ]
    return current


def _cell(names: tuple[str, ...], whole: tuple[str, ...]) -> str:
    if len(whole) > 1 and set(names) == set(whole):
        return "any"
    more = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f" and {more} more" if more > 0 else "")
