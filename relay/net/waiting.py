"""Waiting, only where something waits: coroutines driven without a `Deferred` until one is needed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any, Generic, Self, TypeVar, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def start(answer: T | Awaitable[T]) -> T | Deferred[T]:
    """
    Run `answer` as far as it goes at once, and a coroutine from its first line on in a context of its own (PEP 567):
    it finds the variables that whoever starts it has set, and those that it sets itself are seen by nobody else.

    A value comes back as it is; so does the result of a coroutine that did not have to wait, whose exception
    is raised here. Only for one that waits is there a `Deferred`, with its result or its failure.
    """
    # The types of asynchronous things are abstract, and to ask `isinstance` about them is slow: so last, and seldom.
    if type(answer) is not CoroutineType:
        if isinstance(answer, Deferred):
            return settled(answer) if answer.called else answer
        if not hasattr(answer, "__await__"):
            return answer
    if type(answer) is CoroutineType or isinstance(answer, Coroutine):
        context = copy_context()
        try:
            awaited = context.run(answer.send, None)
        except StopIteration as done:
            return cast(T, done.value)
        return _Started(answer, awaited, context)
    return start(_await(cast(Awaitable[T], answer)))


def settled(deferred: Deferred[T]) -> T | Deferred[T]:
    """The result of a `Deferred` that has one already (or its exception, raised), else the `Deferred`."""
    if not deferred.called or deferred.paused:
        return deferred
    result = getattr(deferred, "result", None)
    if isinstance(result, Deferred):
        return deferred
    if isinstance(result, Failure):
        return start(_await(deferred))
    return cast(T, result)


async def _await(awaitable: Awaitable[T]) -> T:
    return await awaitable


class Coming(Generic[T]):
    """
    A result that comes later, for one who is called with it: what a `Deferred` does without a chain, at a fraction of
    its cost. Where each message waits for something, that is what counts.

    Who awaits it does so by a `Deferred` that is made for that.
    """

    #: What has come before anybody wanted to be called.
    early: tuple[T] | Failure | None = None
    #: Who is called with the result, and who with the failure that comes instead.
    _told: Callable[[T], object] | None = None
    _failed: Callable[[Failure], object] | None = None

    def addCallbacks(self, told: Callable[[T], object], failed: Callable[[Failure], object]) -> None:
        """
        Call one of these with what comes, or now with what has come. This is said once, and not to one that is awaited.

        It has the name of what is said to a `Deferred`, so that who waits for either says the same. But nothing becomes
        of what they return, and what they raise is raised to whom the result comes from.
        """
        self._told, self._failed = told, failed
        early = self.early
        if early is None:
            return
        if isinstance(early, Failure):
            failed(early)
        else:
            told(early[0])

    def now(self) -> T | Self:
        """What has come before anybody wanted to be called (or its exception, raised), or this, if nothing has."""
        early = self.early
        if early is None:
            return self
        if isinstance(early, Failure):
            early.raiseException()
        return early[0]

    def give(self, result: T) -> None:
        """It has come. Whoever makes it says this or `fail`, once."""
        told = self._told
        if told is None:
            self.early = (result,)
        else:
            told(result)

    def fail(self, failure: Failure) -> None:
        """It has failed."""
        failed = self._failed
        if failed is None:
            self.early = failure
        else:
            failed(failure)

    def cancel(self) -> None:
        """Nobody wants it any more. It fails for that, or comes as if nothing had been said."""
        if self.call_off():
            self.fail(Failure(CancelledError()))

    def call_off(self) -> bool:
        """Whether it does not come when nobody wants it."""
        return False

    def __await__(self) -> Generator[Any, Any, T]:
        waiting: _Waited[T] = _Waited()
        waiting.coming = self
        self.addCallbacks(waiting.callback, waiting.errback)
        try:
            return (yield from waiting)
        finally:
            # They know each other, and both would be left to the collector of garbage.
            waiting.coming = None


class _Waited(Deferred[T]):
    """Of what is `Coming`."""

    coming: Coming[T] | None = None

    def cancel(self) -> None:
        if self.coming is None or self.called:
            super().cancel()
        else:
            self.coming.cancel()


class _Started(Deferred[T]):
    """
    What a coroutine comes to that has run up to its first wait.

    This is what `Deferred.fromCoroutine` makes of one that has not begun, to whoever waits for it and to whoever is
    waited for, but in a third of the calls. To cancel it is to cancel what the coroutine waits for at that moment; what
    comes of that is the coroutine's to say.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T], awaited: Any, context: Context) -> None:
        Deferred.__init__(self)
        self._coroutine = coroutine
        #: In which it goes on, wherever it is told to.
        self._context = context
        self._awaited = awaited
        if isinstance(awaited, Deferred):
            awaited.addBoth(self._go_on)
        else:
            self._go_on(awaited)

    def cancel(self) -> None:
        if self.called:
            Deferred.cancel(self)
        else:
            self._awaited.cancel()

    def _go_on(self, came: Any) -> None:
        """What it has waited for has come; what is no `Deferred` is not waited for."""
        while True:
            try:
                if isinstance(came, Failure):
                    awaited = self._context.run(came.throwExceptionIntoGenerator, self._coroutine)
                else:
                    awaited = self._context.run(self._coroutine.send, came)
            except StopIteration as done:
                result = done.value
                break
            except BaseException:
                self.errback()
                return
            if isinstance(awaited, Deferred):
                self._awaited = awaited
                awaited.addBoth(self._go_on)
                return
            came = awaited
        # Not within `except`: what its callbacks raise would be said to have come of the StopIteration.
        self.callback(result)
