"""
What a policy looks at while it thinks: DNS answers, tables, its store, other servers.

What is noted belongs to the question that the policy has been put, however many are under way at the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TypeVar

from attrs import frozen

T = TypeVar("T")

#: How many looks of one question are kept, and how long a text is.
MOST: Final = 50
_LENGTH: Final = 200


@frozen
class Look:
    """One look at the outside world, in words for people."""

    #: `dns`, `table`, `store`, `http`.
    where: str
    #: What was looked for, and what came of it.
    what: str
    found: str


#: Of the question that is being thought about, here and now. It goes along with a coroutine that waits.
_looks: ContextVar[list[Look] | None] = ContextVar("relay.policy.looks", default=None)


def noted(looks: list[Look], ask: Callable[[], T]) -> T:
    """
    What `ask` gives. All that is looked at by it, and by what it has started and nobody has waited for yet, is added to
    `looks`, up to a bound.
    """
    token = _looks.set(looks)
    try:
        return ask()
    finally:
        _looks.reset(token)


def note(where: str, what: str, found: str) -> None:
    """A policy, or what it uses, has looked there."""
    looks = _looks.get()
    if looks is not None and len(looks) < MOST:
        looks.append(Look(where, what[:_LENGTH], found[:_LENGTH]))
