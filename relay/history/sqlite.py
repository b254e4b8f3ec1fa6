"""The history on a disk of this machine: the reactor's side. `relay.history.records` has the thread's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger
from zope.interface import implementer

from relay.history.block import DECIDED
from relay.history.block import MOST as FULL
from relay.history.records import BOUNDS, Bounds, Records, free_space
from relay.interfaces import HistoryUnavailable, IClock, IHistory, ITakesTurns
from relay.mail.event import Event, shape_of
from relay.mail.explanation import Decided
from relay.mail.history import Accounts, Findings
from relay.net.clock import cancel
from relay.net.workers import IsWorkers, Workers

T = TypeVar("T")

#: Seconds that events wait for others, so that all of them are kept in one go: as long as they fill no block.
DELAY: Final = 0.25
#: Seconds after which it is tried again when nothing could be kept.
PAUSE: Final = 10.0
#: Seconds between two looks at what has become too old.
ROUND: Final = 3600.0
#: Seconds that a disk gets for what is to be kept when the relay stops. Nobody was promised it.
PATIENCE: Final = 5.0
#: Events that wait; what goes beyond is dropped.
MOST_WAITING: Final = 20_000


@implementer(IHistory, ITakesTurns)
class SqliteHistory:
    """
    Events are kept in one transaction for all that came while the last one ran, in a thread of their own. As soon as
    they fill a block they are handed over: the thread holds Python's lock while it makes one, and the reactor, which
    has to win it back after each of its system calls, would stand still for as many as there are in one go.

    When they cannot be kept (a full disk, a slow one) they wait within a bound; what goes beyond is dropped and
    counted, and the operator is told once. Nothing is touched on the disk before the first event or question.
    """

    def __init__(
        self,
        path: Path,
        clock: IClock,
        worker: IsWorkers,
        *,
        bounds: Bounds = BOUNDS,
        most_waiting: int = MOST_WAITING,
        free: Callable[[Path], int] = free_space,
    ) -> None:
        self._log = Logger(namespace="relay.history")
        self._path = path
        self._clock = clock
        self._calendar = clock.calendar
        self._worker = worker
        self._records = Records(path, bounds, free)
        self._most_waiting = most_waiting
        #: How many events may wait: none behind the end.
        self._room = most_waiting
        #: With so many that wait, but at least one, one more changes nothing.
        self._few = min(FULL - 1, most_waiting)
        self._waiting: list[Event] = []
        #: When they are handed over, if that is arranged.
        self._next: Any = None
        self._next_round: Any = None
        #: Events that the thread has.
        self._under_way = 0
        self._ailing = False
        self._closed = False
        #: How many events were dropped since the start, and how many of them the operator has not heard of.
        self.dropped = 0
        self._unsaid = 0
        #: Whoever has events for it that it was not told yet says so then.
        self._sources: tuple[Callable[[], object], ...] = ()

    @classmethod
    def in_thread(
        cls,
        path: Path,
        clock: IClock,
        call_from_thread: Callable[..., object],
        *,
        bounds: Bounds = BOUNDS,
    ) -> SqliteHistory:
        """The history as a relay has it: `call_from_thread` is the reactor's `callFromThread`."""
        return cls(path, clock, Workers(call_from_thread, "history"), bounds=bounds)

    # The contract.

    def event(self, what: str, /, **fields: object) -> None:
        self.take([(self._calendar(), shape_of(what, fields), tuple(fields.values()))])

    def take(self, events: Sequence[Event]) -> None:
        waiting = self._waiting
        waiting += events
        excess = len(waiting) - self._room
        if excess > 0:
            excess = min(excess, len(events))
            del waiting[-excess:]
            self._drop(excess)
        self._arrange()

    def gathered(self, tell: Callable[[], object]) -> None:
        self._sources += (tell,)

    def decided(self, decision: Decided, id: str = "", ref: str = "") -> None:
        event = (self._calendar(), DECIDED, (id, ref, decision))
        if 0 < len(self._waiting) < self._few:
            self._waiting.append(event)
        else:
            self.take([event])

    def _arrange(self) -> None:
        """Whatever waits is handed over some time: by a call that is arranged, or when what is under way is done."""
        if self._under_way or not self._waiting:
            return
        if len(self._waiting) >= FULL and not self._ailing:
            self._hand_over()
        elif self._next is None:
            self._next = self._clock.callLater(DELAY, self._hand_over)

    async def find(self, text: str, most: int = 20) -> Findings:
        now = self._question()
        found = await self._ask(lambda: self._records.find(text, most, now))
        return Findings(found.lives, found.more, found.since, self.dropped)

    async def why(self, text: str, most: int = 20) -> Accounts:
        now = self._question()
        found = await self._ask(lambda: self._records.why(text, most, now))
        return Accounts(found.accounts, found.more, found.since, self.dropped)

    def _question(self) -> float:
        """Somebody asks: what was told by now is to be in the answer. The time by the calendar."""
        if self._closed:
            raise HistoryUnavailable("the history is closed")
        self._catch_up()
        # Behind a disk that hangs, questions would otherwise carry events past the bound.
        if self._under_way + len(self._waiting) <= self._most_waiting:
            self._hand_over()
        return self._clock.calendar()

    async def close(self) -> None:
        if self._closed:
            return
        self._catch_up()
        self._closed, self._room = True, 0
        cancel(self._next)
        cancel(self._next_round)
        waiting, self._waiting = self._waiting, []
        now = self._clock.calendar()

        def finish() -> None:
            try:
                if waiting:
                    self._records.keep(waiting, now)
            finally:
                self._records.close()

        asked = self._ask(finish).addTimeout(PATIENCE, cast(Any, self._clock))
        try:
            await asked
        except TimeoutError:
            # A disk that hangs is not waited for: the thread ends with the process.
            self._log.warn("The disk hangs: the last {count} events are not in the history", count=len(waiting))
            return
        except HistoryUnavailable as problem:
            self._log.warn(
                "The last {count} events are not in the history: {problem}", count=len(waiting), problem=problem
            )
        self._worker.stop()

    def _catch_up(self) -> None:
        for tell in self._sources:
            tell()

    # Keeping.

    def _hand_over(self) -> None:
        """Give the thread what waits."""
        cancel(self._next)
        self._next = None
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self._under_way += len(batch)
        now = self._clock.calendar()
        if self._next_round is None:
            self._next_round = self._clock.callLater(ROUND, self._go_round)
        self._perform(lambda: self._records.keep(batch, now), lambda result: self._handed_over(len(batch), result))

    def _handed_over(self, count: int, result: Exception | None) -> None:
        self._under_way -= count
        if isinstance(result, Exception):
            self._drop(count)
            self._complain(result)
        else:
            self._recovered()
        if self._closed or self._under_way or self._next is not None:
            return
        if isinstance(result, Exception):
            self._next = self._clock.callLater(PAUSE, self._hand_over)
        elif len(self._waiting) >= FULL:
            self._hand_over()
        elif self._waiting:
            self._next = self._clock.callLater(DELAY, self._hand_over)

    def _go_round(self) -> None:
        """Remove what is too old also where nothing happens any more."""
        self._next_round = self._clock.callLater(ROUND, self._go_round)
        now = self._clock.calendar()
        self._perform(lambda: self._records.prune(now), self._went_round)

    def _went_round(self, result: Exception | None) -> None:
        if result is not None:
            self._complain(result)

    def _ask(self, do: Callable[[], T]) -> Deferred[T]:
        """What the thread answers. Raises `HistoryUnavailable`."""
        asked: Deferred[T] = Deferred()

        def answer(result: T | Exception) -> None:
            if isinstance(result, Exception):
                asked.errback(HistoryUnavailable(f"{self._path}: {result}"))
            else:
                asked.callback(result)

        self._perform(do, answer)
        return asked

    def _perform(self, do: Callable[[], T], answer: Callable[[T | Exception], object]) -> None:
        """Do this in the thread, and call `answer` here. Tells the operator what was wrong with the file."""

        def heard(result: tuple[T, str, int] | Exception) -> None:
            if isinstance(result, Exception):
                answer(result)
                return
            value, damage, unreadable = result
            if damage:
                self._log.error("The history {path} begins anew: {damage}", path=self._path, damage=damage)
            if unreadable:
                self._log.error(
                    "The history {path} is damaged: {count} of the rows that were asked for cannot be read",
                    path=self._path,
                    count=unreadable,
                )
            answer(value)

        records = self._records
        self._worker.perform(lambda: (do(), records.take_damage(), records.take_unreadable()), heard)

    # Saying.

    def _drop(self, count: int) -> None:
        self.dropped += count
        self._unsaid += count

    def _complain(self, problem: Exception) -> None:
        """Once, and not for each batch."""
        if not self._ailing:
            self._ailing = True
            self._log.error(
                "The history {path} cannot be written: {problem}. Mail goes on without it",
                path=self._path,
                problem=problem,
            )

    def _recovered(self) -> None:
        if self._ailing or self._unsaid:
            self._log.warn("The history is written again; {count} events are missing", count=self._unsaid)
            self._ailing = False
            self._unsaid = 0
