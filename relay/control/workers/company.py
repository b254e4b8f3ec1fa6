"""
What any worker can say, and what all of them are to do.

A worker that hangs is no reason to keep an operator waiting for what another one knows as well: the next one is asked
soon, beside it, and who has answered lately is asked first. Who is asked still has all the time that its answer takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import define
from twisted.internet.defer import Deferred

from relay.control.api import Asked, Refused
from relay.control.workers.asking import NOT_NOW, Heard, Worker, answer_of, sorted_out
from relay.interfaces import IClock
from relay.net.clock import cancel

#: Seconds until somebody else is asked, too.
SOON: Final = 2.0
#: So many are waited for, one after the other, before all the others are told.
_LEADERS: Final = 3


@define(eq=False)
class Company:
    """Asks workers of which any would do, and tells all of them."""

    clock: IClock
    #: The number of who has answered last.
    _lately: int | None = None

    async def ask_any(
        self, workers: Sequence[Worker], path: str, asked: Asked, *, act: bool = False
    ) -> Mapping[str, Any]:
        """The first answer that comes. Raises `Refused` if it is no, or nobody answers."""
        todo, said = self._ordered(workers), _Said(self.clock)
        try:
            while todo or said.awaited:
                if todo:
                    said.ask(todo.pop(0), path, asked, act=act)
                await said.wait(SOON if todo else None)
                for index, answer in said.answers.items():
                    if not isinstance(answer, Refused):
                        self._lately = index
                        return answer
                    if answer.status < NOT_NOW:
                        raise answer
        finally:
            said.enough()
        raise sorted_out(said.answers).refusal()

    async def tell_all(self, workers: Sequence[Worker], path: str, asked: Asked) -> Heard:
        """
        Have each of them do this. One is told before the others, and notes it in the mail log, which is one for all;
        the others are told at the same time, and soon, whether it has answered or not.
        """
        todo, said = self._ordered(workers), _Said(self.clock)
        try:
            while todo and not said.done and len(said.awaited) < _LEADERS:
                first = todo.pop(0)
                said.ask(first, path, asked, act=True)
                await said.wait(SOON, first)
            if said.done:
                self._lately = said.done[0]
            for worker in todo:
                said.ask(worker, path, asked, act=True, aside=bool(said.done))
            while said.awaited:
                await said.wait(None)
        finally:
            said.enough()
        return sorted_out({worker.index: said.answers[worker.index] for worker in workers})

    def _ordered(self, workers: Sequence[Worker]) -> list[Worker]:
        return sorted(workers, key=lambda worker: worker.index != self._lately)


class _Said:
    """What was asked, and what has been said so far, by the workers' numbers."""

    def __init__(self, clock: IClock) -> None:
        self._clock = clock
        self._asked: dict[int, Deferred[None]] = {}
        self.answers: dict[int, Mapping[str, Any] | Refused] = {}

    @property
    def awaited(self) -> list[int]:
        return [index for index in self._asked if index not in self.answers]

    @property
    def done(self) -> list[int]:
        """Who has not refused."""
        return [index for index, answer in self.answers.items() if not isinstance(answer, Refused)]

    def ask(self, worker: Worker, path: str, asked: Asked, *, act: bool, aside: bool = False) -> None:
        async def answered() -> None:
            self.answers[worker.index] = await answer_of(worker, path, asked, asked.words, act, aside)

        self._asked[worker.index] = Deferred.fromCoroutine(answered())

    async def wait(self, seconds: float | None, worker: Worker | None = None) -> None:
        """Until one of those who are awaited (or this one) has answered, or so many seconds are over."""
        awaited = [index for index in self.awaited if worker is None or index == worker.index]
        if not awaited:
            return
        enough: Deferred[None] = Deferred()

        def tell(result: Any = None) -> Any:
            if not enough.called:
                enough.callback(None)
            return result

        timer = None if seconds is None else self._clock.callLater(seconds, tell)
        for index in awaited:
            self._asked[index].addBoth(tell)
        try:
            await enough
        finally:
            cancel(timer)

    def enough(self) -> None:
        """Nobody waits any more."""
        for index in self.awaited:
            self._asked[index].addErrback(lambda _: None)
            self._asked[index].cancel()
