"""
Rounds: copies that wait for the same disk are put there together, in one go of a thread.

Nobody is waited for. Who comes while a round is under way goes with the next one, which begins when that has ended or
some have come: the slower the disk, the more of them share what a round costs, which is a thread's turn, the syncs that
the disk can put together, and a wake-up of the reactor.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.agents.copies import Copy, fact_from
from relay.interfaces import IPassing, ITraveller
from relay.mail.outcome import Carried, Fact
from relay.net.threads import IThreads, Stop, Stopped
from relay.net.waiting import start

#: So many copies go together at most: each has a file open meanwhile, and the first one waits for the last.
MOST = 50
#: Beside a round that is under way another one begins if so many wait, but no more than so many at once: while one
#: waits for the disk another one writes, and where a file's sync is several requests the disk has some of each. A
#: round leaves to others what is more than this and more than its part.
ENOUGH, ABREAST, FEW = 4, 3, 8
#: More octets of content than these go alone.
_LARGE = 256 * 1024
#: Of so many folders it is remembered where they are; beyond that all are forgotten, and found out once more.
_KNOWN = 10_000


class Posting:
    """One copy on its way into a mailbox, which is a folder."""

    __slots__ = ("copy", "device", "folder", "outcome", "stopped")

    def __init__(self, folder: str, copy: Copy) -> None:
        self.folder = folder
        self.copy = copy
        #: Nobody waits for it any more: it is left where everything can still be left as it was.
        self.stopped = False
        #: What came of it, said by the thread.
        self.outcome: Carried | BaseException | None = None
        #: The device on which its mailbox is, if the thread has found that out.
        self.device: int | None = None

    def check(self) -> None:
        """Called by the thread: raises `Stopped` if it is."""
        if self.stopped:
            raise Stopped

    def told(self) -> None:
        """There is an outcome. Called in the reactor's thread; never raises."""
        raise NotImplementedError


class Awaited(Posting):
    """One for which somebody waits by a `Deferred`."""

    __slots__ = ("deferred",)

    def __init__(self, folder: str, copy: Copy) -> None:
        super().__init__(folder, copy)
        self.deferred: Deferred[Fact] = Deferred(self._stop)

    def _stop(self, _: Deferred[Fact]) -> None:
        self.stopped = True

    def told(self) -> None:
        if self.deferred.called:
            return
        if isinstance(self.outcome, Carried):
            self.deferred.callback(self.outcome)
        else:
            self.deferred.errback(Failure(self.outcome or AssertionError("a round has passed it by")))


@implementer(IPassing)
class Travelling(Posting):
    """One that was set off for an `ITraveller`, in one step."""

    __slots__ = ("_agent", "_traveller", "facts", "over", "problem", "under_way")

    def __init__(self, agent: str, folder: str, copy: Copy, traveller: ITraveller) -> None:
        super().__init__(folder, copy)
        self._agent = agent
        self._traveller = traveller
        #: Whoever has set it off knows that it has not ended at once.
        self.under_way = False
        self.over = False
        self.facts: tuple[Fact, ...] = ()
        self.problem: BaseException | None = None

    def told(self) -> None:
        outcome = self.outcome
        if self.over:
            return  # it was cancelled
        if isinstance(outcome, Carried):
            self.facts = (outcome,)
        elif isinstance(outcome, Exception):
            self.facts = (fact_from(self._agent, self.folder, outcome),)
        else:
            self.problem = outcome
        self._end()

    def cancel(self) -> None:
        self.stopped = True
        if not self.over:
            self.facts = (fact_from(self._agent, self.folder, CancelledError()),)
            self._end()

    def _end(self) -> None:
        self.over = True
        if self.under_way:
            self._traveller.arrived()


#: Gives each posting its outcome. Called in threads; raises only where the process is to end.
Work: TypeAlias = Callable[[Sequence[Posting]], None]


class Rounds:
    """
    The rounds of each disk. For the reactor's thread.

    A disk that hangs keeps nobody from another one. So a mailbox of which it is not known yet on which disk it is has
    its first copy put there alone, which is the one that may have to make it, too; and a large copy goes alone, since
    small ones would wait for it.
    """

    def __init__(self, threads: IThreads, work: Work) -> None:
        self._threads = threads
        self._work = work
        #: By folder, on which device it was last; where it is by now matters only to who waits for whom.
        self._devices: dict[str, int] = {}
        self._disks: dict[int, _Disk] = {}

    def add(self, posting: Posting) -> None:
        """It is told its outcome, perhaps before this returns."""
        device = self._devices.get(posting.folder)
        if device is None or posting.copy.content.size > _LARGE:
            _Disk(self._threads, self._work, self._tell).add(posting)
            return
        disk = self._disks.get(device)
        if disk is None:
            disk = self._disks[device] = _Disk(self._threads, self._work, self._tell)
        disk.add(posting)

    def _tell(self, postings: Sequence[Posting]) -> None:
        devices = self._devices
        for posting in postings:
            if posting.device is not None:
                devices[posting.folder] = posting.device
            posting.told()
        if len(devices) > _KNOWN:
            devices.clear()


class _Disk:
    """Those who wait for one disk, and its rounds. `tell` is called with all of a round when that is over."""

    def __init__(self, threads: IThreads, work: Work, tell: Callable[[Sequence[Posting]], None]) -> None:
        self._threads = threads
        self._work = work
        self._tell = tell
        #: Threads take them from the left.
        self._waiting: deque[Posting] = deque()
        #: How many rounds.
        self._under_way = 0
        self._telling = False

    def add(self, posting: Posting) -> None:
        self._waiting.append(posting)
        self._go()

    def _go(self) -> None:
        """Begin rounds as long as there is reason to. One that has not to be waited for is over here."""
        while self._has_reason():
            self._under_way += 1
            taken: list[Posting] = []
            try:
                made: Any = start(self._threads.run(partial(self._round, taken)))
            except BaseException as problem:
                self._failed(taken, problem)
                continue
            if isinstance(made, Deferred):
                made.addCallbacks(
                    lambda _, taken=taken: self._ended(taken),
                    lambda failure, taken=taken: self._failed(taken, failure.value),
                )
            else:
                self._ended(taken)

    def _has_reason(self) -> bool:
        waiting = len(self._waiting)
        if self._under_way:
            return waiting >= ENOUGH and self._under_way < ABREAST
        # Who comes while others are told goes together.
        return waiting > 0 and not self._telling

    def _round(self, taken: list[Posting], _stop: Stop) -> None:
        """In a thread, which takes of those who have come by the time it begins as many as leave a part to others."""
        waiting = self._waiting
        most = min(max(FEW, len(waiting) // ABREAST), MOST)
        # Others take from there, too.
        with suppress(IndexError):
            while len(taken) < most:
                taken.append(waiting.popleft())
        if taken:
            self._work(taken)

    def _failed(self, taken: list[Posting], problem: BaseException) -> None:
        if not taken:
            # No thread has come for them.
            taken += self._waiting
            self._waiting.clear()
        for posting in taken:
            posting.outcome = posting.outcome or problem
        self._ended(taken)

    def _ended(self, taken: list[Posting]) -> None:
        self._under_way -= 1
        # The disk goes on with those who wait, while these are told.
        self._go()
        telling, self._telling = self._telling, True
        self._tell(taken)
        self._telling = telling
        self._go()
