"""Facts: what policies have found out and leave for those that are asked later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

#: How long a name and a value may be, in characters: facts are kept with the mail and shown to people.
NAME_LENGTH: Final = 64
VALUE_LENGTH: Final = 1024


class Facts(Mapping[str, str]):
    """
    Texts by name, such as `{"spf": "pass"}`. Never changed: whoever learns more makes new ones of it (`plus`).

    Two with the same texts are equal, in whatever order they were learned.
    """

    __slots__ = ("_hash", "_texts")

    def __init__(self, texts: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        """Raises `ValueError` for what is no text, has no name, or is too long."""
        self._texts = dict(texts)
        self._hash: int | None = None
        for name, value in self._texts.items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise ValueError(f"a fact is a text with a name, not {name!r}: {value!r}")
            if not 0 < len(name) <= NAME_LENGTH:
                raise ValueError(f"the name of a fact has from 1 to {NAME_LENGTH} characters, not {len(name)}")
            if len(value) > VALUE_LENGTH:
                raise ValueError(f"the fact {name!r} has more than {VALUE_LENGTH} characters")

    def plus(self, more: Mapping[str, str]) -> Facts:
        """These and those; where both know a name, what came later counts."""
        if not more:
            return self
        return Facts({**self._texts, **more})

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Facts):
            return self._texts == other._texts
        return NotImplemented

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._texts.items()))
        return self._hash

    def __repr__(self) -> str:
        return f"Facts({self._texts!r})"


#: Nothing is known beyond what the client and the envelope say.
NO_FACTS: Final = Facts()


def agreed(each: Iterable[Facts]) -> Facts:
    """What all of them know, and know alike."""
    known: Facts | None = None
    for facts in each:
        if known is None:
            known = facts
        elif known is not facts and known != facts:
            known = Facts({name: value for name, value in known.items() if facts.get(name) == value})
    return NO_FACTS if known is None else known


def facts(given: Mapping[str, str] | Facts) -> Facts:
    """What a policy says, as facts: a converter for the values that have some."""
    if isinstance(given, Facts):
        return given
    return Facts(given) if given else NO_FACTS
