"""Waiting, only where something waits: coroutines driven without a `Deferred` until one is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Generator
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred

T = TypeVar("T")


def start(answer: T | Awaitable[T]) -> T | Deferred[T]:
    """
    Run `answer` as far as it goes at once.

    A value comes back as it is; so does the result of a coroutine that did not have to wait, whose exception
    is raised here. Only for one that waits is there a `Deferred`, with its result or its failure.
    """
    if isinstance(answer, Deferred):
        return settled(answer)
    if isinstance(answer, Coroutine):
        try:
            waiting = answer.send(None)
        except StopIteration as done:
            return cast(T, done.value)
        return Deferred.fromCoroutine(_rest(answer, waiting))
    if isinstance(answer, Awaitable):
        return start(_await(answer))
    return answer


def settled(deferred: Deferred[T]) -> T | Deferred[T]:
    """The result of a `Deferred` that has one already (or its exception, raised), else the `Deferred`."""
    if not deferred.called or deferred.paused or isinstance(getattr(deferred, "result", None), Deferred):
        return deferred
    return cast("T | Deferred[T]", start(_await(deferred)))


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _rest(coroutine: Coroutine[Any, Any, T], waiting: Any) -> T:
    return cast(T, await _Started(coroutine, waiting))


class _Started:
    """A coroutine that has run up to its first wait, as something that can be awaited from there on."""

    __slots__ = ("_coroutine", "_waiting")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], waiting: Any) -> None:
        self._coroutine = coroutine
        self._waiting = waiting

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, waiting = self._coroutine, self._waiting
        while True:
            try:
                try:
                    value = yield waiting
                except GeneratorExit:
                    coroutine.close()
                    raise
                except BaseException as problem:
                    waiting = coroutine.throw(problem)
                else:
                    waiting = coroutine.send(value)
            except StopIteration as done:
                return done.value
