"""What is due: claims it from the spool, and wakes when the next recipient will be due. Idle, it does nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from relay.interfaces import Claim, IClock, ISpool, SpoolError
from relay.net.clock import cancel
from relay.net.waiting import start

#: Recipients claimed by one commit.
BATCH = 100
#: The first pause after the spool could not be asked, and the longest.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
#: When what was due a moment ago could not be claimed: not at once again.
_SHORT_PAUSE = 0.1
#: For so long it is believed that nothing is due but what is left out, unless there is news.
_BARREN = 60.0
#: How long a commit may take of which we have said that it should leave its recipients in the spool.
_NEWS = 5.0
_NEVER = float("inf")


class Agenda:
    """
    Looks for what is due, one look at a time.

    `room` says how many recipients may be claimed now, `excluding` which destinations have enough to do, `take` gets
    the claims, and `looked` is called when a look has ended. Where either of the first two kept something from being
    claimed, whoever makes room again wakes us.
    """

    def __init__(
        self,
        spool: ISpool,
        clock: IClock,
        *,
        lease: float,
        room: Callable[[], int],
        excluding: Callable[[], Collection[str]],
        take: Callable[[Sequence[Claim]], None],
        looked: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._lease = lease
        self._room = room
        self._excluding = excluding
        self._take = take
        self._looked = looked
        self._log = Logger(namespace="relay.delivery")
        self._running = False
        #: The spool is asked, and what it claims for us is not here yet.
        self.looking = False
        self._again = False
        self._pause = _FIRST_PAUSE
        self._timer: Any = None
        #: When the timer will fire, by `IClock.now`.
        self._due = _NEVER
        #: The destinations that the last look left out.
        self.excluded: frozenset[str] = frozenset()
        #: Beside which destinations nothing is due before when: of a long queue that is known by reading all of it.
        self._barren: frozenset[str] = frozenset()
        self._barren_until = 0.0
        #: How often there was news: what a look finds out while there is some may be wrong.
        self._news = 0
        #: The last look ended because there was no room.
        self.cramped = False

    def start(self) -> None:
        self._running = True
        self.wake()

    def stop(self) -> None:
        """Claim nothing more. Claims that are on their way still come to `take`."""
        self._running = False
        self._again = False
        cancel(self._timer)

    def wake(self) -> None:
        """Something may be due now that was not when we looked last: look."""
        self._barren_until = 0.0
        self._news += 1
        self.go_on()

    def given_back(self, destinations: Collection[str]) -> None:
        """
        Something is due for these, and claimed by nobody. If they are left out that is no news: whoever has a place for
        them again says `go_on`.
        """
        if self.excluded.issuperset(destinations):
            return
        if not self._barren.issuperset(destinations):
            self._barren_until = 0.0
        self._news += 1
        self.go_on()

    def go_on(self) -> None:
        """There is room again, for all or for a destination that was left out: look."""
        if not self._running:
            return
        self._again = True
        if not self.looking:
            self._look(self._clock.now())

    def due_at(self, when: float) -> None:
        """Something will be due at `when`: look then, unless there is a reason to look earlier."""
        self._barren_until = min(self._barren_until, when)
        self._news += 1
        if self._running and when < self._due:
            self._set_timer(when)

    def expect(self) -> None:
        """Somebody is about to put recipients into the spool that are due at once."""
        self.due_at(self._clock.now() + _NEWS)

    def _look(self, now: float) -> None:
        self.looking = True
        looking: Deferred[None] | None = start(self._look_until_done(now))
        if looking is not None:
            looking.addErrback(lambda failure: self._log.failure("The agenda failed", failure))

    async def _look_until_done(self, now: float) -> None:
        try:
            while self._again:
                self._again = False
                due = await self._look_once(max(now, self._clock.now()))
                self._pause = _FIRST_PAUSE
        except Exception as problem:
            if not self._running and isinstance(problem, SpoolError):
                return  # it was closed before it could answer, and nobody wants to know any more
            self._log.failure("The spool could not say what is due; it is asked again in {pause} s", pause=self._pause)
            due = self._clock.now() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        finally:
            self.looking = False
            self._looked()
        self.due_at(due)

    async def _look_once(self, now: float) -> float:
        """Claim what is due. When to look again, if nobody wakes us earlier."""
        room = min(self._room(), BATCH)
        self.cramped = room <= 0
        if self.cramped:
            return _NEVER
        self.excluded = excluded = frozenset(self._excluding())
        if now < self._barren_until and excluded >= self._barren:
            return self._barren_until
        news = self._news
        claims = await self._spool.claim(now, room, self._lease, excluded)
        if claims:
            self._again = self._running
            self._take(claims)
        if claims or not self._running:
            return _NEVER
        due = await self._spool.next_due(excluded)
        if excluded and news == self._news and (due is None or due > now):
            # What comes to be due earlier is told to us, by `due_at` or `wake`.
            self._barren, self._barren_until = excluded, min(now + _BARREN, due or _NEVER)
        if due is None:
            return _NEVER
        # Somebody else may hold what is due, or a clock be imprecise: then not at once.
        return due if due > now else self._clock.now() + _SHORT_PAUSE

    def _set_timer(self, when: float) -> None:
        cancel(self._timer)
        self._due = when
        self._timer = self._clock.callLater(max(0.0, when - self._clock.now()), self._fire, when)

    def _fire(self, when: float) -> None:
        # The timer may be early by what a float cannot say; what is due at `when` is due now.
        self._due = _NEVER
        if self._running:
            self._again = True
            if not self.looking:
                self._look(when)
