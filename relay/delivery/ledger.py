"""
Writes down what was decided, and never forgets what could not be written.

A copy that was delivered must not be sent again because the spool had no room for the fact. So what belongs into the
spool stays here until a commit has returned, is tried again with growing pauses, and meanwhile the dispatcher
carries nothing new.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relay.interfaces import Claim, ClaimLost, IClock, ISpool, OutcomeUnknown, Step
from relay.net.clock import cancel
from relay.net.waiting import start

#: Pauses after a commit that failed.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: Records in one commit.
_BATCH = 500
_FOLLOWS = "What follows from a commit failed"


@define(eq=False, kw_only=True)
class Record(ABC):
    """Steps, and what follows. Each record's happen together or not at all, but for those that can be taken `apart`."""

    #: It is committed alone, because a commit that it shared with others has failed.
    alone: bool = False
    #: A commit of it had an unknown outcome.
    doubtful: bool = False

    @abstractmethod
    def steps(self) -> Sequence[Step]:
        """
        Called for each commit that is tried, since a draft that was part of a failed one is of no more use. May raise
        `OSError` or `SpoolError`.
        """

    def apart(self) -> Sequence[Record]:
        """The same as records of which each happens by itself, behind `steps`."""
        return (self,)

    @abstractmethod
    def written(self) -> None:
        """The steps have happened."""

    @abstractmethod
    def lost(self) -> None:
        """
        It is certain that they never will, because the recipients are no longer ours. If it is `doubtful`, it was most
        likely an earlier commit of it which took them from us, by happening.
        """


class Ledger:
    """
    One commit at a time, with everything that was entered while the last one ran.

    `enrolled` gets the claims on what these commits enrolled with a lease (notices); `eased` is called when a commit
    has succeeded after others had failed.
    """

    def __init__(
        self,
        spool: ISpool,
        clock: IClock,
        *,
        enrolled: Callable[[Sequence[Claim]], None],
        eased: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._enrolled = enrolled
        self._eased = eased
        self._log = Logger(namespace="relay.delivery")
        self._waiting: deque[Record] = deque()
        self._writing = False
        self._pause = _FIRST_PAUSE
        self._timer: Any = None
        self._idle: list[Deferred[None]] = []
        #: The last commit failed. Nothing new is carried while that is so.
        self.troubled = False

    def enter(self, record: Record) -> None:
        """Have this written: now, or with all else that waits for the commit that is under way."""
        self._waiting.append(record)
        if not self._writing:
            self._write()

    def when_idle(self) -> Deferred[None]:
        """Fires when everything is written."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._check_idle()
        return idle

    def stop(self) -> None:
        """Try nothing more. What is not written by now will be carried again after the next start."""
        cancel(self._timer)
        if self._waiting:
            self._log.error(
                "{count} outcomes could not be written to the spool; these recipients will be tried again",
                count=sum(len(record.apart()) for record in self._waiting),
            )

    def _write(self) -> None:
        if self._writing or self._paused:
            return
        self._writing = True
        writing: Deferred[None] | None = start(self._write_all())
        if writing is not None:
            writing.addErrback(lambda failure: self._log.failure("The ledger failed", failure))

    async def _write_all(self) -> None:
        try:
            while self._waiting and not self._paused:
                await self._write_batch(self._next_batch())
        finally:
            self._writing = False
        self._check_idle()

    @property
    def _paused(self) -> bool:
        return self._timer is not None and bool(self._timer.active())

    def _next_batch(self) -> list[Record]:
        batch = [self._waiting.popleft()]
        while self._waiting and not batch[0].alone and not self._waiting[0].alone and len(batch) < _BATCH:
            batch.append(self._waiting.popleft())
        return batch

    async def _write_batch(self, batch: Sequence[Record]) -> None:
        ready: list[Record] = []
        steps: list[Step] = []
        for record in batch:
            try:
                steps += record.steps()
            except Exception:
                self._keep([record], "Something that belongs into the spool could not be made")
            else:
                ready.append(record)
        if not ready:
            return
        try:
            claims = await self._spool.commit(steps)
        except ClaimLost:
            self._succeeded()
            self._claim_lost(ready)
        except OutcomeUnknown:
            for record in ready:
                record.doubtful = True
            self._keep(ready, "Nobody knows whether outcomes were written")
        except Exception:
            self._keep(ready, "Outcomes could not be written")
        else:
            self._succeeded()
            for record in ready:
                try:
                    record.written()
                except Exception:
                    self._log.failure(_FOLLOWS)
            if claims:
                self._enrolled(claims)

    def _keep(self, records: Sequence[Record], why: str) -> None:
        """A commit of these failed: another one later, each alone, lest one of them stands in the way of all."""
        self._log.failure("{why}; another try in {pause} s", why=why, pause=self._pause)
        self.troubled = True
        parts = [part for record in records for part in record.apart()]
        for part in parts:
            part.alone = part.alone or len(parts) > 1
        if len(parts) > 1:
            self._waiting.extendleft(reversed(parts))
        else:
            self._waiting.extend(parts)
        self._wait()

    def _wait(self) -> None:
        cancel(self._timer)
        self._timer = self._clock.callLater(self._pause, self._resume)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _resume(self) -> None:
        if self._spool.accepting:
            self._write()
        else:
            self._wait()

    def _claim_lost(self, records: Sequence[Record]) -> None:
        """Somebody else holds the recipients of one of these, and nothing of the commit has happened."""
        parts = [part for record in records for part in record.apart()]
        if len(parts) > 1:
            for part in parts:
                part.alone = True
            self._waiting.extendleft(reversed(parts))
        else:
            try:
                parts[0].lost()
            except Exception:
                self._log.failure(_FOLLOWS)

    def _succeeded(self) -> None:
        """The spool works."""
        self._pause = _FIRST_PAUSE
        if self.troubled:
            self.troubled = False
            self._eased()

    def _check_idle(self) -> None:
        if not self._waiting and not self._writing:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)
