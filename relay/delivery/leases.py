"""
What we hold stays ours while we work on it: one timer renews all leases, and ends attempts that take too long.

It runs only while something is held; a message that is gone within seconds never meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relay.delivery.work import Cut, Work
from relay.interfaces import ClaimLost, IClock, ISpool, Renew
from relay.net.clock import cancel
from relay.net.waiting import start


class Leases:
    """
    The works that are held. `lost` is called with one that turned out to be somebody else's, `eased` when all that is
    held is certainly ours again after that had been in doubt.
    """

    def __init__(
        self,
        spool: ISpool,
        clock: IClock,
        *,
        lease: float,
        longest_attempt: float,
        lost: Callable[[Work], None],
        eased: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._lease = lease
        self._longest_attempt = longest_attempt
        self._lost = lost
        self._eased = eased
        self._log = Logger(namespace="relay.delivery")
        # A set that keeps its order.
        self._held: dict[Work, None] = {}
        self._unrenewed: set[Work] = set()
        #: Until when no lease ends, unless a renewal fails: what a tick leaves out has so much left.
        self._lasts_until = 0.0
        #: The same, or 0 while one has to be renewed: before that nothing is `in_doubt`, for those who ask often.
        self.sure_until = 0.0
        self._timer: Any = None

    def in_doubt(self, now: float) -> bool:
        """
        Whether a lease may have ended: renewing failed, or the whole process stood still for so long. What we hold
        then looks free to everybody, our own agenda included.
        """
        return now >= self.sure_until and bool(self._held)

    def hold(self, work: Work) -> None:
        self._held[work] = None
        if self._timer is None:
            self._wait()

    def let_go(self, *works: Work) -> None:
        held = self._held
        for work in works:
            held.pop(work, None)
        if self._unrenewed:
            self._sure_of(works)

    def held(self) -> Sequence[Work]:
        return tuple(self._held)

    def stop(self) -> None:
        cancel(self._timer)

    def _wait(self) -> None:
        self._lasts_until = self._clock.now() + self._lease * 2 / 3
        self.sure_until = 0.0 if self._unrenewed else self._lasts_until
        self._timer = self._clock.callLater(self._lease / 3, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._held:
            return
        self._end_the_late()
        # What was claimed since the last tick has two more before its lease ends.
        soon = self._clock.now() + self._lease * 2 / 3
        older = [work for work in self._held if work.claim.expires <= soon]
        self._unrenewed.update(older)
        self._wait()
        if older:
            renewing: Deferred[None] | None = start(self._renew(older))
            if renewing is not None:
                renewing.addErrback(lambda failure: self._log.failure("Leases were not renewed", failure))

    def _end_the_late(self) -> None:
        latest = self._clock.now() - self._longest_attempt
        for work in self.held():
            if work.attempt is not None and work.began < latest and work.cut is None:
                self._log.error("The attempt to carry {id} took too long", id=work.claim.entry.id)
                work.cut = Cut.LATE
                work.attempt.cancel()

    async def _renew(self, works: Sequence[Work]) -> None:
        try:
            await self._spool.commit([Renew(work.claim, self._lease) for work in works])
        except ClaimLost:
            if len(works) > 1:
                for work in works:
                    await self._renew([work])
                return
            if works[0] in self._held:
                self._lost(works[0])
        except Exception:
            self._log.failure("Leases could not be renewed; another try in {pause} s", pause=self._lease / 3)
            return
        self._sure_of(works)

    def _sure_of(self, works: Sequence[Work]) -> None:
        if self._unrenewed:
            self._unrenewed.difference_update(works)
            if not self._unrenewed:
                self.sure_until = self._lasts_until
                self._eased()
