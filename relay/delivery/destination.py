"""
Who is next: works wait by destination, and a slow destination takes up less room the more of it there is.

Nothing here waits or reads a clock: `now` is the caller's. Memory is bounded by what is active: a destination of which
nothing is held has no queue, and what was learnt of it is kept for some hours, of a bounded number of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from attrs import field, frozen
from attrs.validators import ge, gt

from relay.delivery.health import WELL, Health, Manner, Rate, Sign
from relay.delivery.pauses import Paused
from relay.delivery.turns import PLACES as PLACES
from relay.delivery.turns import sender_of
from relay.delivery.work import Destination, PutOff, UnderWay, Work
from relay.interfaces import Claim
from relay.mail.envelope import Envelope
from relay.mail.outcome import Delayed

#: What was learnt of a destination is forgotten when it was not used for so long, and when others are more.
_MEMORY_SECONDS: Final = 6 * 3600.0
_MOST_REMEMBERED: Final = 10_000


@frozen
class Particular:
    """What the operator wants of one destination."""

    most: int | None = None
    rate: Rate | None = None


@frozen
class Limits:
    """How much is under way at once."""

    #: Attempts for one destination, and how many of them before one has succeeded.
    destination: int = field(default=20, validator=ge(1))
    first: int = field(default=2, validator=ge(1))
    #: Attempts for all destinations together.
    total: int = field(default=200, validator=ge(1))
    #: Claims in memory: what is being carried, what waits for its turn, and what waits to be written down.
    held: int = field(default=1000, validator=ge(1))
    #: Recipients in one transaction (RFC 5321 section 4.5.3.1.8 lets a server stop at 100).
    recipients: int = field(default=50, validator=ge(1))
    #: For how long a destination is left alone that has nothing but trouble, in seconds: at first, and at most.
    pause: float = field(default=60.0, validator=gt(0))
    longest_pause: float = field(default=1800.0, validator=gt(0))
    #: By a destination's name, or by what stands before the `;` in it.
    particular: Mapping[str, Particular] = field(factory=dict)
    #: How a destination is treated of which the operator has said nothing.
    usual: Manner = field(init=False)

    @usual.default
    def _is_the_same_for_most(self) -> Manner:
        return Manner(self.first, self.destination, None, self.pause, self.longest_pause)

    def manner(self, name: str) -> Manner:
        """How a destination is treated."""
        wanted = self.particular.get(name) or self.particular.get(_plain(name))
        if wanted is None:
            return self.usual
        most = wanted.most or self.destination
        return Manner(self.first, most, wanted.rate, self.pause, self.longest_pause)


def _plain(name: str) -> str:
    """A destination's name without what is wanted of the way there."""
    return name.partition(";")[0]


def _plenty(limits: Limits) -> int:
    """What is held then is less than a quarter of what is left."""
    return (4 * limits.held + 7) // 5


@frozen
class Condition:
    """How a destination is, for people. Times are seconds since the epoch."""

    name: str
    #: How many attempts are under way, but for those that are `trailing`; how many works wait in memory, and how many
    #: may be under way, now and at most.
    active: int
    waiting: int
    limit: int
    most: int
    #: How many attempts its rate permits now, if it has one.
    rate_left: int | None
    #: By whom it is paused (`operator`, `relay`, "") and until when; `None`: until somebody resumes it.
    paused_by: str
    paused_until: float | None
    #: One attempt is to find out whether it is well again.
    probing: bool
    last_trouble: Delayed | None
    last_trouble_at: float | None
    #: How many attempts more await nothing but the final reply to a message that the host has.
    trailing: int = 0


class Destinations:
    """
    All that is held, and the order in which it begins.

    Destinations take turns, and within one its senders. What one of them may have under way, and what may wait for it,
    shrink with what is left for all: to a quarter of the places that are free. So one slow destination never takes them
    all, and even ten leave something to the next healthy one.
    """

    def __init__(
        self, limits: Limits, random: Callable[[], float] = lambda: 0.5, under_way: UnderWay | None = None
    ) -> None:
        """`random` gives numbers from 0 to 1."""
        self.limits = limits
        self._random = random
        self.under_way = under_way or UnderWay()
        #: How many more works can be held; less than none, where the limit has shrunk.
        self.room = limits.held
        #: With more room than this nobody can have filled a `share`: then all of them `has_place`, but those that are
        #: full. So those who ask often need not ask about each.
        self.plenty = _plenty(limits)
        #: For these more came than may wait, and much of that still does: see `has_place`.
        self.full: set[Destination] = set()
        #: How many attempts more may be under way, for all destinations together.
        self.free = limits.total
        self._destinations: dict[str, Destination] = {}
        #: Those that could begin something, in the order of their turns.
        self.row: deque[Destination] = deque()
        #: Those that could begin something if their rate permitted it.
        self.resting: dict[Destination, None] = {}
        #: What was learnt, of those that are used and of some others; the least recently used first.
        self._known: dict[str, Health] = {}
        #: What an operator has resumed while all others that begin like it stay paused.
        self._exempt: set[str] = set()
        #: What `displaced` and `put_off` have to tell, for those who ask often.
        self.to_give_back: list[Work] = []
        self.to_put_off: list[Work] = []
        #: As is this: those who have waited for a connection, and need not any longer.
        self.to_go_on: list[Work] = []

    def admit(self, claim: Claim, name: str, now: float = 0.0, at_once: bool = False) -> Work | None:
        """
        Take this in, or `None` where there is no place for it: it is to be given back.

        What was taken in may turn out to be `put_off`. It may also have displaced another work: see `displaced`.

        `at_once`: it may begin now, and if nobody waits whom that might concern it is `under_way` when this returns.
        `next` would return it, but it needs no turn.
        """
        room = self.room
        if room <= 0:
            return None
        destination = self._destinations.get(name)
        if destination is None:
            destination = self._destinations[name] = Destination(name, self._health(name, now), self.under_way)
        waiting, health = destination.waiting, destination.health
        heap, envelope = waiting.heap, claim.entry.envelope
        if heap:
            at_once = False
            if room <= self.plenty and len(heap) >= (room // 4 or 1):
                # It has its `share` already.
                displaced = waiting.displace(sender_of(envelope))
                if displaced is None:
                    return None
                self.to_give_back.append(displaced)
        self.room = room - 1
        work = Work(claim, destination)
        if now < health.easy_from:
            if health.is_paused(now):
                work.put_off = PutOff(health.reason(), health.until(self._random()))
                self._forget_if_empty(destination, now)
                return work
            at_once = at_once and health.manner.rate is None
        active = destination.active
        if active < health.limit:
            if at_once and not self.row and active * 4 < (free := self.free) + 3 and free > 0:
                self._begins(work)
                return work
            if not destination.in_row:
                destination.in_row = True
                self.row.append(destination)
        waiting.add(work, sender_of(envelope), envelope.priority or 0)
        return work

    def has_place(self, name: str, envelope: Envelope) -> bool:
        """
        Whether something new for this destination, with such an envelope, should be claimed for it at once.

        Between this and `admit` is a commit, and others come meanwhile. So a destination that was full is so for those
        who come until hardly anything waits for it: what is in the spool by then comes first, in batches; but whoever
        has less than others need not wait behind them. Where the `share` of all is one, nothing new has a place.
        """
        room = self.room
        if room < 8:
            return False  # so it is where `share` says one
        destination = self._destinations.get(name)
        if destination is None:
            return True
        waiting, share = len(destination.waiting.heap), room // 4
        if waiting >= share:
            self.full.add(destination)
        elif waiting * 8 <= share:
            self.full.discard(destination)
        return destination not in self.full or destination.waiting.yields_to(sender_of(envelope))

    def hold(self, claim: Claim, name: str, put_off: PutOff) -> Work | None:
        """Take this in, to be settled without an attempt; `None` as from `admit`."""
        if self.room <= 0:
            return None
        self.room -= 1
        work = self.unplaced(claim, name)
        work.put_off = put_off
        return work

    def unplaced(self, claim: Claim, name: str) -> Work:
        """A work whose turn never comes, and that takes up no place."""
        destination = self._destinations.get(name) or Destination(
            name, Health(self.limits.manner(name)), self.under_way
        )
        return Work(claim, destination)

    def next(self, now: float = 0.0) -> Work | None:
        """The work whose turn it is, now under way; `None` if nothing may begin."""
        if self.resting:
            self._wake_rested(now)
        row, free = self.row, self.free
        if free <= 0:
            return None
        passed = 0
        while passed < len(row):
            destination = row[0]
            health, active, waiting = destination.health, destination.active, destination.waiting
            if active >= health.limit or not waiting.heap:
                # Its limit has shrunk since it was queued.
                row.popleft()
                destination.in_row = False
                continue
            if active * 4 >= free + 3:
                passed += 1
                row.rotate(-1)
                continue
            if health.manner.rate is not None:
                if health.may_begin_at(now) > now:
                    self.resting[row.popleft()] = None
                    continue
                health.begins(now)
            work = waiting.take()
            self._begins(work)
            if waiting.heap and active + 1 < health.limit:
                row.rotate(-1)
            else:
                row.popleft()
                destination.in_row = False
            return work
        return None

    def _begins(self, work: Work) -> None:
        """It is under way from now on."""
        destination = work.destination
        health, connections = destination.health, destination.connections
        work.under_way, work.era = True, health.era
        destination.active += 1
        self.free -= 1
        if connections < health.limit and not destination.crowd:
            destination.connections = connections + 1
            work.own = True

    def trails(self, work: Work, now: float = 0.0) -> bool:
        """
        The host has its content, and another message may follow on the same connection: whether one of this destination
        does, which then takes its place. No more of them than there are places, and none while somebody waits for the
        connection; and a destination that has trouble, or that is not known yet to have none, judges one message before
        it gets the next.
        """
        destination, limit = work.destination, work.destination.health.limit
        if (
            work.trailing
            or not work.under_way
            or not destination.waiting.heap
            or destination.trailing >= limit
            or destination.connections > limit
            or destination.crowd
            or not destination.health.is_carefree(now)
        ):
            return False
        work.trailing = True
        destination.trailing += 1
        destination.active = active = destination.active - 1
        if active < limit and not destination.in_row:
            destination.in_row = True
            self.row.append(destination)
        return True

    def followed(self, work: Work, now: float = 0.0) -> Work | None:
        """
        As `trails` and then `next`, of a destination for which somebody waits, where nobody else could begin, and
        nothing is to be considered but that one of those takes its place: that one. `None`: there is more to consider,
        and nothing has happened yet.
        """
        destination, free = work.destination, self.free
        health, waiting, connections = destination.health, destination.waiting, destination.connections
        active, limit = destination.active, destination.health.limit
        if (
            active != limit  # nothing but its limit keeps it from more
            or connections > limit
            or destination.trailing >= limit
            or self.row
            or self.resting
            or now < health.easy_from
            or free <= 0
            or active * 4 >= free + 7
            or work.trailing
            or not work.under_way
            or destination.crowd
        ):
            return None
        work.trailing = True
        destination.trailing += 1
        follower = waiting.take()
        follower.under_way, follower.era = True, health.era
        self.free = free - 1
        if connections < limit:
            destination.connections = connections + 1
            follower.own = True
        return follower

    def finished(self, work: Work, sign: Sign = None, now: float = 0.0) -> bool:
        """
        Its attempt is over; it is held until its outcomes are written down. If the destination is paused by what it has
        met, which is what this returns, all that waits for it is put off: see `put_off`. And its connection is somebody
        else's: see `to_go_on`.
        """
        destination = work.destination
        health, active = destination.health, destination.active
        paused = False
        if sign is not WELL or health.failures or active >= health.limit < health.manner.most:
            # Else there is nothing to learn.
            paused = health.has_met(sign, work.era, active, now, self._random)
        work.under_way = False
        self.free += 1
        if work.trailing:
            destination.trailing -= 1
        else:
            destination.active = active = active - 1
        follower = work.follower
        if work.ahead is not None:
            work.part()
        elif follower is not None:
            # What `part` does where nobody is ahead, as hardly ever anybody is.
            work.follower = follower.ahead = None
            work.own, follower.own = False, True
        if work.own:
            work.own = False
            destination.connections -= 1
        if destination.crowd:
            self._let_go_on(destination)
        if destination.waiting.heap:
            if now < health.easy_from and health.is_paused(now):
                self._put_all_off(destination)
                self._forget_if_empty(destination, now)
            elif active < health.limit and not destination.in_row:
                destination.in_row = True
                self.row.append(destination)
        elif not (active or destination.trailing):
            self._forget_if_empty(destination, now)
        return paused

    def release(self, *works: Work) -> None:
        """Their outcomes are written down, or they were lost or given back: they are no longer held."""
        self.room += len(works)

    def displaced(self) -> list[Work]:
        """What had to make a place for somebody who had less. It stays held until it is released."""
        works, self.to_give_back = self.to_give_back, []
        return works

    def put_off(self) -> list[Work]:
        """What waited for a destination that was paused. It stays held until it is released."""
        works, self.to_put_off = self.to_put_off, []
        return works

    def going_on(self) -> list[Work]:
        """Who has waited for a connection, and has one now."""
        works, self.to_go_on = self.to_go_on, []
        return works

    def drain(self) -> list[Work]:
        """All that has not begun, and now will not. It stays held until it is released."""
        drained: list[Work] = []
        for destination in list(self._destinations.values()):
            drained += destination.waiting.drain()
            destination.in_row = False
            if not (destination.active or destination.trailing):
                del self._destinations[destination.name]
        self.full.clear()
        self.row.clear()
        self.resting.clear()
        return drained

    @property
    def active(self) -> int:
        """How many attempts are under way, but for those that are `trailing`."""
        return sum(destination.active for destination in self._destinations.values())

    @property
    def trailing(self) -> int:
        """How many attempts await nothing but a final reply, and have left their place to the next."""
        return sum(destination.trailing for destination in self._destinations.values())

    @property
    def held(self) -> int:
        """How many works are held."""
        return self.limits.held - self.room

    @property
    def share(self) -> int:
        """How many may wait for one destination."""
        return self.room // 4 if self.room >= 4 else 1

    @property
    def portion(self) -> int:
        """
        How many may be claimed at once so that all of them have a place, even if all are for one destination that is
        not one of those `with_enough`. A part of a half, since with each of them there is less that may wait.
        """
        return self.share * 2 // 5 or 1

    def rested_at(self, now: float) -> float | None:
        """When a rate permits what nothing else forbids; `None`: nothing waits for that."""
        return min((each.health.may_begin_at(now) for each in self.resting), default=None)

    def has_enough(self, name: str) -> bool:
        """
        Whether so much waits for this destination that nothing more should be claimed for it: half of what may wait,
        so that what is claimed next comes in a batch.
        """
        destination = self._destinations.get(name)
        return destination is not None and len(destination.waiting) > self.share // 2

    def with_enough(self) -> frozenset[str]:
        """The names of all destinations that have enough to do."""
        most = self.share // 2
        return frozenset(d.name for d in self._destinations.values() if len(d.waiting) > most)

    # The operator.

    def adopt(self, limits: Limits, now: float) -> None:
        """From now on these limits count. What is under way beyond them comes to its end."""
        self.free += limits.total - self.limits.total
        self.room += limits.held - self.limits.held
        self.limits = limits
        self.plenty = _plenty(limits)
        for name, health in self._known.items():
            health.treat(limits.manner(name), now)
        for destination in self._destinations.values():
            destination.health.treat(limits.manner(destination.name), now)
            # A rate that is gone forbids nothing any more, and a limit that has grown permits more.
            self._rest_no_more(destination)
            self._queue(destination)

    def conditions(self, now: float) -> Iterator[Condition]:
        """All of which something is held or known."""
        for name in sorted({*self._destinations, *self._known}):
            health = self._known.get(name) or self._destinations[name].health
            destination = self._destinations.get(name)
            paused = health.is_paused(now)
            yield Condition(
                name=name,
                active=destination.active if destination else 0,
                waiting=len(destination.waiting) if destination else 0,
                limit=health.limit,
                most=health.manner.most,
                rate_left=health.rate_left(now),
                paused_by="operator" if health.by_operator else "relay" if paused else "",
                paused_until=None if health.by_operator else health.paused_until,
                probing=health.probing,
                last_trouble=health.last,
                last_trouble_at=health.last_at if health.last else None,
                trailing=destination.trailing if destination else 0,
            )

    def pause(self, name: str, now: float) -> None:
        """
        Begin nothing for this destination until it is resumed. What waits for it is put off. As in `Limits`, a name
        without `;` means those that have one behind it, too, also those of which nothing is known yet.
        """
        self._exempt -= {each for each in self._exempt if name in (each, _plain(each))}
        for each in self._meant(name):
            self._health(each, now).pause()
            destination = self._destinations.get(each)
            if destination is not None:
                self._put_all_off(destination)
                self._forget_if_empty(destination, now)

    def resume(self, name: str, now: float) -> None:
        """Begin again, whoever has paused it; whom the name means is as in `pause`."""
        for each in self._meant(name):
            self._health(each, now).resume()
        self._exempt -= {each for each in self._exempt if _plain(each) == name}
        if self._is_paused_with_others(name):
            self._exempt.add(name)

    def paused(self) -> Paused:
        """What an operator has said, so that `pause` and `resume` can say it again."""
        names = sorted(name for name, health in self._known.items() if health.by_operator)
        return Paused(tuple(names), tuple(sorted(self._exempt)))

    def knows(self, name: str) -> bool:
        """Whether anything is held or known of whom this name means."""
        return any(each in self._known or each in self._destinations for each in self._meant(name))

    def _meant(self, name: str) -> Sequence[str]:
        """This name, and if it has no `;` all that have one behind it."""
        known = {*self._known, *self._destinations} - {name}
        return (name, *sorted(each for each in known if _plain(each) == name))

    def _is_paused_with_others(self, name: str) -> bool:
        """Whether the operator has paused all that begin like this one, and has not resumed this one since."""
        plain = self._known.get(_plain(name))
        return plain is not None and plain.by_operator and name != _plain(name) and name not in self._exempt

    def revive(self, domain: str, below: bool) -> None:
        """Forget what troubles were met there, or below it in the DNS too, unless an operator has paused it."""
        for name, health in self._known.items():
            host = name.partition(";")[0]
            if not health.by_operator and (host == domain or (below and host.endswith(f".{domain}"))):
                health.resume()

    # What it keeps.

    def _queue(self, destination: Destination) -> None:
        """If it could begin something, it stands in the row, or rests."""
        if destination.active < destination.health.limit and destination.waiting.heap and not destination.in_row:
            destination.in_row = True
            self.row.append(destination)

    def _rest_no_more(self, destination: Destination) -> None:
        if destination in self.resting:
            del self.resting[destination]
            destination.in_row = False

    def _let_go_on(self, destination: Destination) -> None:
        """Who has begun already comes before who has not."""
        while destination.crowd and destination.connections < destination.health.limit:
            work = destination.crowd.popleft()
            destination.connections += 1
            work.own = True
            self.to_go_on.append(work)

    def _wake_rested(self, now: float) -> None:
        for destination in list(self.resting):
            if destination.health.may_begin_at(now) <= now:
                self._rest_no_more(destination)
                self._queue(destination)

    def _put_all_off(self, destination: Destination) -> None:
        because = destination.health.reason()
        for at, work in enumerate(works := destination.waiting.drain()):
            # Not all of them at once when the pause is over.
            work.put_off = PutOff(because, destination.health.until(at / len(works)))
        self.to_put_off += works
        self._rest_no_more(destination)

    def _forget_if_empty(self, destination: Destination, now: float) -> None:
        if destination.active or destination.trailing or destination.waiting.heap:
            return
        if now > destination.health.used:
            destination.health.used = now
        del self._destinations[destination.name]
        self.full.discard(destination)
        if destination.in_row:
            self._rest_no_more(destination)
        if destination.in_row:
            self.row.remove(destination)
            destination.in_row = False
        if destination.health.untaught:
            self._known.pop(destination.name, None)

    def _health(self, name: str, now: float) -> Health:
        """What is known of a destination, now the most recently used one."""
        health = self._known.pop(name, None)
        if health is None or (now - health.used > _MEMORY_SECONDS and not health.by_operator and not self._has(name)):
            health = Health(self.limits.manner(name), by_operator=self._is_paused_with_others(name))
        health.used = now
        self._known[name] = health
        if len(self._known) > _MOST_REMEMBERED:
            self._forget_one()
        return health

    def _has(self, name: str) -> bool:
        return name in self._destinations

    def _forget_one(self) -> None:
        """Whoever was not used for the longest time, unless that matters now."""
        for name, health in self._known.items():
            if not health.by_operator and not self._has(name):
                del self._known[name]
                return
