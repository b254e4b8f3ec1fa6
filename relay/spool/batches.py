"""
Group commit: what arrives while the writer's thread is busy crosses to it together, as its next batch.

The window is 0 ms: a request never waits for company, only for the batch that is under way. When that is done, the next
one is handed over before the first answer is given, so the disk never waits for us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.interfaces import OutcomeUnknown
from relay.spool.workers import IsWorkers
from relay.spool.writer import Done, Request, Writer


class Waiting(Deferred[Any]):
    """
    Who waits for the result of a request, which may be an exception (as a value: it is raised by who asked).

    One that is cancelled while the request waits is not made. One that the writer has can be called back no more: it
    goes on, and its result is given in spite of the cancelling.
    """

    request: Request
    batches: Batches

    def answered(self, result: Any) -> None:
        """This is the result."""
        self.callback(result)

    def cancel(self) -> None:
        if self.batches.withdraw(self):
            super().cancel()


class Batches:
    """
    The reactor's end of the writer's thread. `refusing` is called with the reason when the writer has said that it
    cannot write any more.
    """

    log = Logger()

    def __init__(self, writer: Writer, workers: IsWorkers, refusing: Callable[[str], object]) -> None:
        self._writer = writer
        self._workers = workers
        self._refusing = refusing
        self._waiting: list[Waiting] = []
        self._under_way: list[Waiting] | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait, or are being carried out."""
        return len(self._waiting) + len(self._under_way or ())

    def request(self, request: Request) -> Deferred[Any]:
        """The result of this request, or an exception as its result, from the batch that it will be in."""
        waiting = Waiting()
        self.add(request, waiting)
        return waiting

    def add(self, request: Request, waiting: Waiting) -> None:
        """`request`, with somebody who waits for it already."""
        waiting.request = request
        waiting.batches = self
        self._waiting.append(waiting)
        if self._under_way is None:
            self._hand_over()

    def withdraw(self, waiting: Waiting) -> bool:
        """Whether this one has not been handed over; then it never is."""
        if waiting not in self._waiting:
            return False
        self._waiting.remove(waiting)
        return True

    def _hand_over(self) -> None:
        batch, self._waiting = self._waiting, []
        self._under_way = batch
        requests = [waiting.request for waiting in batch]
        writer = self._writer
        self._workers.perform(lambda: writer.run(requests), self._done)

    def _done(self, done: Done | Exception) -> None:
        batch = self._under_way
        assert batch is not None
        if self._waiting:
            self._hand_over()
        else:
            self._under_way = None
        if isinstance(done, Exception):
            # Ours is the fault, and whether COMMIT was said is not known.
            self.log.failure("the spool's writer failed", failure=Failure(done))
            done = Done([OutcomeUnknown(str(done))] * len(batch), str(done))
        if done.refusing:
            self._refusing(done.refusing)
        for waiting, result in zip(batch, done.results, strict=True):
            waiting.answered(result)
