"""Where work is done that waits for a disk, or blocks otherwise: in a few threads of its own, not in the reactor's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool
from zope.interface import Attribute, Interface, implementer

T = TypeVar("T")


class Stopped(Exception):
    """Nobody waits for this work any more, and what it had begun has been undone."""


class Stop:
    """Handed to work, which looks at it wherever it could still leave everything as it was."""

    __slots__ = ("_said", "_waits_for")

    def __init__(self) -> None:
        self._said = False
        self._waits_for: Deferred[Any] | None = None

    def say(self) -> None:
        """Called from the reactor's thread."""
        self._said = True
        if self._waits_for is not None:
            self._waits_for.cancel()

    def waits_for(self, deferred: Deferred[Any]) -> None:
        """The work, which is not to stop yet, waits for this: `say` cancels it. Called from the reactor's thread."""
        self._waits_for = deferred

    def check(self) -> None:
        """Called by the work: raises `Stopped` once `say` was called."""
        if self._said:
            raise Stopped


class IThreads(Interface):
    """Runs work that blocks."""

    unfinished = Attribute("How much work has been handed over that has not come to its end.")

    def run(work: Callable[[Stop], T]) -> Awaitable[T]:
        """
        What `work` returns or raises.

        Where the wait for it is cancelled it ends at once, while the work goes on until it next looks at its `Stop`.
        """


@implementer(IThreads)
class AtOnce:
    """Runs work where it stands: for tests, and for programs without a reactor."""

    unfinished = 0

    async def run(self, work: Callable[[Stop], T]) -> T:
        return work(Stop())


@implementer(IThreads)
class Threads:
    """
    A small pool of threads beside the reactor's, which resolvers and others share.

    The more of them, the more syncs of the disk the kernel can put together. Threads are made when there is work.
    """

    def __init__(self, reactor: Any, most: int = 8, name: str = "mailboxes", *, waited_for: bool = True) -> None:
        """`waited_for`: the process does not end before what runs has; without it, it ends in the middle of that."""
        self._reactor = reactor
        self._pool = ThreadPool(0, most, name)
        if not waited_for:
            self._pool.threadFactory = partial(Thread, daemon=True)  # type: ignore[assignment]
        self.unfinished = 0
        self._most = most
        #: No thread is kept that has nothing to do.
        self._sparing = False

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        """
        Wait until what runs has ended, which is a matter of one sync if everyone has cancelled what they wait for.
        """
        self._pool.stop()

    def let_go(self) -> None:
        """End each thread as soon as it has nothing to do, and wait for none. Nothing more is run."""
        self._pool.adjustPoolsize(0, 0)

    def spare(self) -> None:
        """From now on no thread is kept when there is no work. What comes all the same has one while it lasts."""
        self._sparing = True
        self._end_idle()

    def _end_idle(self) -> None:
        if not self.unfinished:
            # Those that are about to be idle, too.
            self._pool.adjustPoolsize(0, 0)
            self._pool.adjustPoolsize(0, self._most)

    def run(self, work: Callable[[Stop], T]) -> Deferred[T]:
        stop = Stop()
        deferred: Deferred[T] = Deferred(lambda _: stop.say())

        def unless_stopped() -> T:
            stop.check()
            return work(stop)

        def back(_succeeded: bool, result: Any) -> None:
            self._reactor.callFromThread(self._ended, deferred, result)

        self.unfinished += 1
        self._pool.callInThreadWithCallback(back, unless_stopped)
        return deferred

    def _ended(self, deferred: Deferred[Any], result: Any) -> None:
        """`result` may be a `Failure`; it comes too late for a wait that was cancelled."""
        self.unfinished -= 1
        if self._sparing:
            self._end_idle()
        if not deferred.called:
            deferred.callback(result)
