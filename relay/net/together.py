"""Waiting for many at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from relay.net.waiting import start

T = TypeVar("T")


async def together(questions: Iterable[Awaitable[T]]) -> list[T]:
    """
    What they come to, in their order. All of them begin before the first is waited for.

    If one raises, or whoever waits here is cancelled, so are the others, and what they say then means nothing.
    """
    begun: list[T | Deferred[T]] = []
    try:
        for question in questions:
            answer: T | Deferred[T] = start(question)
            begun.append(answer)
        return [await each if isinstance(each, Deferred) else each for each in begun]
    except BaseException:
        for each in begun:
            if isinstance(each, Deferred):
                each.addErrback(_unheard)
                each.cancel()
        raise


def _unheard(failure: Failure) -> None:
    pass
