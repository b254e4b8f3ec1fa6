"""Where agents that write to disk do it: in a few threads of their own, never in the reactor's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from zope.interface import Interface, implementer

T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for this work any more, and what it had begun has been undone."""


class Stop:
    """Handed to work, which looks at it wherever it could still leave everything as it was."""

    __slots__ = ("_said",)

    def __init__(self) -> None:
        self._said = False

    def say(self) -> None:
        """Called from the reactor's thread."""
        self._said = True

    def check(self) -> None:
        """Called by the work: raises `Stopped` once `say` was called."""
        if self._said:
            raise Stopped


class IThreads(Interface):
    """Runs work that waits for a disk."""

    def run(work: Callable[[Stop], T]) -> Awaitable[T]:
        """
        What `work` returns or raises.

        Where the wait for it is cancelled it ends at once, while the work goes on until it next looks at its `Stop`.
        """


@implementer(IThreads)
class AtOnce:
    """Runs work where it stands: for tests, and for programs without a reactor."""

    async def run(self, work: Callable[[Stop], T]) -> T:
        return work(Stop())


@implementer(IThreads)
class Threads:
    """
    A small pool of threads beside the reactor's, which resolvers and others share.

    The more of them, the more syncs of the disk the kernel can put together. Threads are made when there is work.
    """

    def __init__(self, reactor: Any, most: int = 8, name: str = "mailboxes") -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        """
        Wait until what runs has ended, which is a matter of one sync if everyone has cancelled what they wait for.
        """
        self._pool.stop()

    def run(self, work: Callable[[Stop], T]) -> Deferred[T]:
        stop = Stop()
        deferred: Deferred[T] = Deferred(lambda _: stop.say())

        def unless_stopped() -> T:
            stop.check()
            return work(stop)

        def back(_succeeded: bool, result: Any) -> None:
            self._reactor.callFromThread(_answer, deferred, result)

        self._pool.callInThreadWithCallback(back, unless_stopped)
        return deferred


def _answer(deferred: Deferred[Any], result: Any) -> None:
    """`result` may be a `Failure`; it comes too late for a wait that was cancelled."""
    if not deferred.called:
        deferred.callback(result)
