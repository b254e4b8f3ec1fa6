"""Waiting for an answer that may never come."""

from __future__ import annotations

from math import ceil
from typing import Generic, TypeAlias, TypeVar

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from relay.interfaces import IClock
from relay.net.clock import cancel

T = TypeVar("T")


def in_seconds(left: float) -> str:
    """How long a client is to wait before it comes again, in words: `1 second`, `300 seconds`."""
    seconds = ceil(left)
    return "1 second" if seconds == 1 else f"{seconds} seconds"


@frozen
class Came(Generic[T]):
    """The answer."""

    answer: T


@frozen
class Raised:
    """An exception instead of one."""

    failure: Failure


@frozen
class Late:
    """Nothing, in all that time."""

    seconds: float


Waited: TypeAlias = Came[T] | Raised | Late


def wait(clock: IClock, seconds: float, awaited: Deferred[T]) -> Deferred[Waited[T]]:
    """
    What comes of `awaited` within `seconds`. The `Deferred` that is returned only fails if it is cancelled.

    Whoever is late is cancelled and not waited for any longer, whether it heeds that or not; what it
    says afterwards means nothing. Since an exception comes back as a value, a `CancelledError` of our own
    is never mistaken for one that `awaited` failed with by itself.
    """

    def give_up() -> None:
        waited.callback(Late(seconds))
        awaited.cancel()

    def came(answer: T | Failure) -> None:
        if not waited.called:
            cancel(deadline)
            waited.callback(Raised(answer) if isinstance(answer, Failure) else Came(answer))

    def cancelled(waited: Deferred[Waited[T]]) -> None:
        cancel(deadline)
        waited.errback(CancelledError())
        awaited.cancel()

    waited: Deferred[Waited[T]] = Deferred(cancelled)
    deadline = clock.callLater(seconds, give_up)
    awaited.addBoth(came)
    return waited
