"""Questions of which nothing is kept: who only wants to know is counted nowhere, and known nowhere afterwards."""

from __future__ import annotations

from collections.abc import Awaitable
from contextvars import ContextVar
from typing import Any, Final, TypeAlias, TypeVar

from twisted.internet.defer import Deferred

from relay.net.waiting import start

T = TypeVar("T")

#: By the part of a store, and the key: the value, or `None` for what was forgotten.
Written: TypeAlias = dict[tuple[object, str], str | None]

#: Where policies write what they want to keep, as long as the question lasts that is being thought about, here and now.
#: It goes along with a coroutine that waits. `None`: into their stores.
ASIDE: Final[ContextVar[Written | None]] = ContextVar("relay.policy.aside", default=None)


async def aside(question: Awaitable[T]) -> T:
    """What comes of it, and nothing else does."""
    token = ASIDE.set({})
    try:
        answer: Any = start(question)
    finally:
        ASIDE.reset(token)
    came: T = await answer if isinstance(answer, Deferred) else answer
    return came
