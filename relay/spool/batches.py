"""
Group commit: what arrives while the writer's thread is busy crosses to it together, as its next batch.

Each batch costs a sync of the disk, and some ten times in which the reactor's thread and the writer's take Python's
lock from each other: so it pays to wait for those who are about to come. How long anybody waits for company is bounded
by `Patience`; who is alone never does. When a batch is done, the next one is on its way before the first answer is
given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.interfaces import IClock, OutcomeUnknown
from relay.net.waiting import Coming
from relay.net.workers import IsWorkers
from relay.spool.writer import Done, Request, Writer

#: So many that are about to ask for something are a crowd.
CROWD: Final = 8


@frozen
class Patience:
    """Seconds that a request waits for company while the writer has nothing to do."""

    #: One that only notes what has happened: nobody waits for it, and a crash before it repeats a delivery, as one just
    #: before a commit always does.
    noting: float = 0.005
    #: Any other one, while a crowd is about to come. If only some are, it waits for the end of the reactor's turn.
    crowd: float = 0.002


class Waiting(Coming[Any]):
    """
    Who waits for the result of a request, which may be an exception (as a value: it is raised by who asked).

    One that is called off while the request waits is not made. One that the writer has can be called back no more: it
    goes on, and its result is given in spite of that.
    """

    request: Request
    batches: Batches

    def answered(self, result: Any) -> None:
        """This is the result."""
        self.give(result)

    def call_off(self) -> bool:
        return self.batches.withdraw(self)


class Batches:
    """
    The reactor's end of the writer's thread. `refusing` is called with the reason when the writer has said that it
    cannot write any more.

    `company` says how many are about to ask for something: how long those wait who have asked, by this clock, is a
    matter of `patience`. Without it nobody waits.
    """

    log = Logger()

    def __init__(
        self,
        writer: Writer,
        workers: IsWorkers,
        refusing: Callable[[str], object],
        clock: IClock,
        company: Callable[[], int],
        patience: Patience | None = None,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._company = company
        self._patience = patience
        self._workers = workers
        self._refusing = refusing
        self._waiting: list[Waiting] = []
        #: Those of them that only note something.
        self._noting: list[Waiting] = []
        self._under_way: list[Waiting] | None = None
        #: When those that wait are handed over in any case, the patient and the others. It is not taken back when they
        #: go before that: then who comes next waits the less.
        self._latest: Any = None
        self._soon: Any = None

    @property
    def waiting(self) -> int:
        """How many requests wait, or are being carried out."""
        return len(self._waiting) + len(self._noting) + len(self._under_way or ())

    def request(self, request: Request) -> Waiting:
        """The result of this request, or an exception as its result, from the batch that it will be in."""
        waiting = Waiting()
        waiting.request = request
        self.add(waiting)
        return waiting

    def wait_for_all(self) -> None:
        """From now on those are waited for, too, who only note something: whoever asks next is answered behind them."""
        self._waiting += self._noting
        self._noting = []

    def add(self, waiting: Waiting, *, patient: bool = False) -> None:
        """Somebody who waits for a request already."""
        waiting.batches = self
        (self._noting if patient else self._waiting).append(waiting)
        if self._under_way is None:
            self._go_on()

    def withdraw(self, waiting: Waiting) -> bool:
        """Whether this one has not been handed over; then it never is."""
        for those in (self._waiting, self._noting):
            if waiting in those:
                those.remove(waiting)
                return True
        return False

    def _go_on(self) -> None:
        """Nothing is under way, and somebody waits."""
        patience = self._patience
        if patience is None:
            self._hand_over()
        elif not self._waiting:
            if self._latest is None:
                self._latest = self._clock.callLater(patience.noting, self._is_latest)
        elif self._soon is None:
            company = self._company()
            if company:
                self._soon = self._clock.callLater(patience.crowd if company >= CROWD else 0.0, self._is_soon)
            else:
                self._hand_over()

    def _is_latest(self) -> None:
        self._latest = None
        if (self._waiting or self._noting) and self._under_way is None:
            self._hand_over()

    def _is_soon(self) -> None:
        self._soon = None
        if (self._waiting or self._noting) and self._under_way is None:
            self._hand_over()

    def _hand_over(self) -> None:
        # First are those who are waited for, and so they are answered.
        batch = self._waiting + self._noting
        self._waiting, self._noting, self._under_way = [], [], batch
        requests = [waiting.request for waiting in batch]
        writer = self._writer
        self._workers.perform(lambda: writer.run(requests), self._done)

    def _done(self, done: Done | Exception) -> None:
        batch = self._under_way
        assert batch is not None
        self._under_way = None
        if self._waiting or self._noting:
            self._go_on()
        if isinstance(done, Exception):
            # Ours is the fault, and whether COMMIT was said is not known.
            self.log.failure("the spool's writer failed", failure=Failure(done))
            done = Done([OutcomeUnknown(str(done))] * len(batch), str(done))
        if done.refusing:
            self._refusing(done.refusing)
        for waiting, result in zip(batch, done.results, strict=True):
            try:
                waiting.answered(result)
            except Exception:
                # Of one: the others have their answers, too.
                self.log.failure("what came of a request was no good to who waited for it")
