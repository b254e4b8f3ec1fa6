"""
The world as a policy that blocks is handed it: what others await it gets, and its thread waits for that.

All of it is asked in the reactor's thread, where it belongs, whichever thread wants to know: stores, tables and
resolvers need not know that there are threads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar, copy_context
from queue import Empty, SimpleQueue
from threading import get_ident
from typing import Any, Final, TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.interfaces import HttpAnswer, IClock, IStore, ITable, World
from relay.mail.answer import Answer
from relay.net.threads import Stop
from relay.net.waiting import start

T = TypeVar("T")

#: Of the question that this thread thinks about.
stop_of_question: Final[ContextVar[Stop | None]] = ContextVar("relay.policy.stop", default=None)


class Crossing:
    """From any thread to the reactor's, and back with what came of it there."""

    def __init__(self, reactor: Any, patience: float) -> None:
        """
        To be made in the reactor's thread. `reactor` is an `IReactorFromThreads`, or `None` where there are no other
        threads. Nobody waits for longer than `patience` seconds.
        """
        self._reactor = reactor
        self._patience = patience
        self._home = get_ident()

    def __call__(self, do: Callable[[], T | Awaitable[T]]) -> T:
        """
        What `do` gives, or awaits; or raises.

        Raises `Stopped` if nobody waits for the answer to the question any more, `TimeoutError` if the reactor says
        nothing, and `RuntimeError` in the reactor's own thread (a constructor's, say) where it would have to wait.
        """
        if self._reactor is None or get_ident() == self._home:
            return _at_once(do)
        stop = stop_of_question.get()
        if stop is not None:
            stop.check()
        came: SimpleQueue[T | Failure] = SimpleQueue()
        # What is looked at meanwhile belongs to the question.
        self._reactor.callFromThread(copy_context().run, _begin, do, stop, came)
        try:
            result = came.get(timeout=self._patience)
        except Empty:
            raise TimeoutError(f"the reactor has said nothing for {self._patience:g} seconds") from None
        if stop is not None:
            stop.check()
        if isinstance(result, Failure):
            result.raiseException()
        return result


def _at_once(do: Callable[[], T | Awaitable[T]]) -> T:
    answer = start(do())
    if isinstance(answer, Deferred):
        answer.addErrback(lambda _: None)
        answer.cancel()
        raise RuntimeError("that takes time, and the reactor cannot wait for it: ask it when you are asked")
    return answer


def _begin(do: Callable[[], Any], stop: Stop | None, came: SimpleQueue[Any]) -> None:
    """In the reactor's thread."""
    try:
        if stop is not None:
            stop.check()
        answer = start(do())
    except Exception:
        came.put(Failure())
        return
    if isinstance(answer, Deferred):
        answer.addBoth(came.put)
        if stop is not None:
            stop.waits_for(answer)
    else:
        came.put(answer)


def blocking(world: World, cross: Crossing) -> World:
    """The same world for any thread: its `resolver.look_up` and `http.request` return their answers."""
    resolver: Any = _Resolver(world.resolver, cross)
    http: Any = _Http(world.http, cross)
    return evolve(
        world,
        clock=_Clock(world.clock),
        resolver=resolver,
        store=_Store(world.store, cross),
        http=http,
        table=lambda name: _Table(cross(lambda: world.table(name)), cross),
    )


@implementer(IClock)
class _Clock:
    def __init__(self, clock: IClock) -> None:
        self.seconds = clock.seconds
        self.now = clock.now
        self.calendar = clock.calendar

    def callLater(self, delay: float, callable: Any, *args: object, **kw: object) -> Any:
        raise RuntimeError("a policy that blocks has no timers: it may sleep")


class _Resolver:
    def __init__(self, resolver: Any, cross: Crossing) -> None:
        self._resolver = resolver
        self._cross = cross

    def look_up(self, name: str, kind: str) -> Answer:
        answer: Answer = self._cross(lambda: self._resolver.look_up(name, kind))
        return answer


class _Http:
    def __init__(self, http: Any, cross: Crossing) -> None:
        self._http = http
        self._cross = cross

    def request(self, method: str, url: str, **more: Any) -> HttpAnswer:
        answer: HttpAnswer = self._cross(lambda: self._http.request(method, url, **more))
        return answer


@implementer(IStore)
class _Store:
    def __init__(self, store: Any, cross: Crossing) -> None:
        self._store = store
        self._cross = cross

    def get(self, key: str) -> str | None:
        value: str | None = self._cross(lambda: self._store.get(key))
        return value

    def put(self, key: str, value: str, lifetime: float) -> None:
        self._cross(lambda: self._store.put(key, value, lifetime))

    def forget(self, key: str) -> None:
        self._cross(lambda: self._store.forget(key))

    def items(self, prefix: str = "", most: int = 1000) -> Sequence[tuple[str, str]]:
        return self._cross(lambda: self._store.items(prefix, most))

    def scoped(self, name: str) -> IStore:
        return _Store(self._cross(lambda: self._store.scoped(name)), self._cross)


@implementer(ITable)
class _Table:
    def __init__(self, table: Any, cross: Crossing) -> None:
        self._table = table
        self._cross = cross

    def get(self, key: str) -> str | None:
        value: str | None = self._cross(lambda: self._table.get(key))
        return value

    def checked(self, check: Callable[[str, str], object]) -> ITable:
        return _Table(self._cross(lambda: self._table.checked(check)), self._cross)


def pieces(blocks: Callable[[], Iterator[bytes]], cross: Crossing) -> Callable[[], Iterator[bytes]]:
    """A message's `blocks`, read in the reactor's thread and handed to another, piece by piece."""

    def again() -> Iterator[bytes]:
        reading = cross(blocks)
        while (piece := cross(lambda: next(reading, None))) is not None:
            yield piece

    return again
