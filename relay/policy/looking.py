"""
What a policy looks at while it thinks: DNS answers, tables, its store, other servers.

What is noted belongs to the question that the policy has been put, however many are under way at the same time.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, NamedTuple

#: How many looks of one question are kept, and how long a text is.
MOST: Final = 50
_LENGTH: Final = 200


class Look(NamedTuple):
    """One look at the outside world, in words for people."""

    #: `dns`, `table`, `store`, `http`.
    where: str
    #: What was looked for, and what came of it.
    what: str
    found: str


#: What is looked at for the question that is being thought about, here and now, is added to this. It goes along with a
#: coroutine that waits.
LOOKS: ContextVar[list[Look] | None] = ContextVar("relay.policy.looks", default=None)


def note(where: str, what: str, found: str) -> None:
    """A policy, or what it uses, has looked there."""
    looks = LOOKS.get()
    if looks is not None and len(looks) < MOST:
        looks.append(Look(where, what[:_LENGTH], found[:_LENGTH]))
