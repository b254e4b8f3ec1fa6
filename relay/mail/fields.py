"""
The fields of a header section, as octets: told apart, counted, searched; never parsed further, never written anew.

A message was written by a stranger, and a policy that looks at it may change it only by whole fields: by octets that
are put before it or left out of it. What is kept stays as it came, or signatures over it (DKIM) would break.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Final

from attrs import field, frozen

from relay.mail.encoded_words import decoded

#: How many fields are told apart; what comes behind them is one more, without a name. Reception refuses messages long
#: before that (`header_fields` in `[limits]`).
MOST_FIELDS: Final = 10_000

#: How many octets of a field's body become its text. Encoded words take several octets for a character.
MOST_TEXT: Final = 16 * 1024

#: RFC 5322 section 2.2: a field's name; section 4.5.8: old mail has white space before the colon.
_NAME: Final = re.compile(rb"([!-9;-~]+)[ \t]*:")
#: Where a line begins that is not the continuation of the one before.
_BEGINNING: Final = re.compile(rb"\r\n(?![ \t])")
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")


@frozen
class Field:
    """One field: all of its lines, with their CRLF."""

    octets: bytes
    #: In lower case; b"" for lines that are no field at all.
    name: bytes = field(init=False)

    @name.default
    def _named(self) -> bytes:
        found = _NAME.match(self.octets)
        return found[1].lower() if found else b""

    @property
    def body(self) -> bytes:
        """What follows the colon, unfolded (RFC 5322 section 2.2.3), without white space around it."""
        _, _, body = self.octets.partition(b":")
        return _FOLD.sub(b"", body).strip(b" \t\r\n")

    @cached_property
    def text(self) -> str:
        """
        The body for people, or to be compared with what people have written: encoded words are decoded (RFC 2047). Of a
        body with more than `MOST_TEXT` octets, its beginning.

        Never raises: what cannot be decoded stands as it is, octets that are no UTF-8 as replacement characters.
        """
        return decoded(self.body[:MOST_TEXT])


class Fields:
    """
    A header section, whole, in the order in which its fields stand. Made once and never changed.

    Its fields are told apart when somebody asks for the first of them: many a policy never does. That takes time in
    proportion to the octets, and never raises for what stands in them.
    """

    __slots__ = ("_all", "_by_name", "section")

    def __init__(self, section: bytes, fields: Iterable[Field] | None = None) -> None:
        """`section` in plain form, with or without the empty line that ends it; `fields` if they are known."""
        #: The octets, without the empty line.
        self.section = section[:-2] if section == b"\r\n" or section.endswith(b"\r\n\r\n") else section
        # Where several threads ask first, each finds the same.
        self._all: tuple[Field, ...] | None = None if fields is None else tuple(fields)
        self._by_name: dict[bytes, list[Field]] | None = None

    @property
    def all(self) -> tuple[Field, ...]:
        """Each of them, the topmost first."""
        if self._all is None:
            self._all = tuple(_split(self.section))
        return self._all

    def _named(self, name: str) -> Sequence[Field]:
        known = self._by_name
        if known is None:
            known = {}
            for each in self.all:
                known.setdefault(each.name, []).append(each)
            self._by_name = known
        return known.get(name.lower().encode("ascii", "replace"), ())

    @classmethod
    def of(cls, fields: Iterable[Field]) -> Fields:
        """A header section of these fields."""
        fields = tuple(fields)
        return cls(b"".join(each.octets for each in fields), fields)

    def named(self, name: str) -> tuple[Field, ...]:
        """All fields of this name, in whatever letter case, the topmost first."""
        return tuple(self._named(name))

    def first(self, name: str) -> Field | None:
        """The topmost field of this name."""
        found = self._named(name)
        return found[0] if found else None

    def __contains__(self, name: str) -> bool:
        return self.first(name) is not None

    def __iter__(self) -> Iterator[Field]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)


#: Of a message of which nothing is known yet.
NO_FIELDS: Final = Fields(b"")


def _split(section: bytes) -> Iterator[Field]:
    at = 0
    for count, found in enumerate(_BEGINNING.finditer(section), 1):
        end = found.end()
        if end >= len(section) or count >= MOST_FIELDS:
            break
        yield Field(section[at:end])
        at = end
    if at < len(section):
        yield Field(section[at:])
