"""
What a worker was not reached with, and is told when it answers again.

An operator who pauses a destination does so because mail must not go there: a worker that was being started at that
moment, or hung, must not carry it on for good. It is told all that it has missed, in the order in which it was said, so
that the last word of an operator is what counts.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relay.control.api import Asked, Refused
from relay.control.workers.asking import NOT_NOW, Heard, Workers, answer_of
from relay.interfaces import IClock

#: Seconds between two tries: one that is started again serves after about one.
AGAIN: Final = 1.0

#: A path, and what was said.
_Act: TypeAlias = tuple[str, Asked]


@define(eq=False)
class Owed:
    """Acts that some workers have missed. They are remembered as long as this process lives."""

    clock: IClock
    workers: Workers
    _acts: dict[int, list[_Act]] = field(factory=dict)
    _log: Logger = field(factory=lambda: Logger(namespace="relay.control"))

    def note(self, path: str, asked: Asked, heard: Heard) -> None:
        """All were told this. What nobody has done was not done, as the operator hears, and is not owed."""
        if not heard.said:
            return
        for index in heard.silent:
            self._owe(index, path, asked)
        for index in heard.said:
            # It comes behind what this one is still to be told, or it would be overruled by that.
            if index in self._acts:
                self._owe(index, path, asked)

    def _owe(self, index: int, path: str, asked: Asked) -> None:
        if index not in self._acts:
            self._acts[index] = []
            self.clock.callLater(AGAIN, self._try, index)
        acts = self._acts[index]
        # The first may be under way at this moment.
        acts[1:] = [each for each in acts[1:] if each[1].words != asked.words]
        acts.append((path, asked))

    def _try(self, index: int) -> None:
        Deferred.fromCoroutine(self._told(index)).addErrback(
            lambda failure: self._log.failure("A worker cannot be told what it has missed", failure)
        )

    async def _told(self, index: int) -> None:
        acts = self._acts[index]
        # A retired one may have gone for good.
        worker = next((each for each in self.workers() if each.index == index), None)
        while acts and worker is not None:
            path, asked = acts[0]
            answer = await answer_of(worker, path, asked, asked.words, act=True, aside=True)
            if isinstance(answer, Refused) and answer.status >= NOT_NOW:
                self.clock.callLater(AGAIN, self._try, index)
                return
            del acts[0]
        del self._acts[index]
        if worker is not None:
            self._log.info("Worker {worker} has been told what it had missed of pauses", worker=index)
