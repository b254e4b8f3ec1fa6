"""
The dispatcher: what reception has promised and what the agenda says is due, carried, judged and written down.

The way of one work: admitted (`destination`), its turn comes, one attempt (`attempt`), a settlement (`settlement`),
a notice if the sender is to be told (`telling`, `notices`), one commit (`ledger`), released. Of a healthy message none
of these is a timer or a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from attrs import define, evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.delivery.agenda import Agenda
from relay.delivery.attempt import Attempts, Judgements, known
from relay.delivery.chronicle import Chronicle
from relay.delivery.conclusions import Conclusions
from relay.delivery.consulting import Consulted
from relay.delivery.destination import Condition, Destinations, Limits
from relay.delivery.health import WELL, Sign, sign_of
from relay.delivery.leases import Leases
from relay.delivery.ledger import Ledger, Record
from relay.delivery.notices import Notices
from relay.delivery.pauses import Paused
from relay.delivery.retry import Schedules
from relay.delivery.settlement import foregone, put_off
from relay.delivery.today import Routed, Today
from relay.delivery.work import Cut, Destination, PutOff, UnderWay, Work
from relay.interfaces import Claim, GiveBack, IClock, IDispatch, IRoutes, ISpool, ITakesRows, Step
from relay.mail.envelope import Envelope
from relay.mail.outcome import Delayed
from relay.mail.queue import Recipient
from relay.mail.routing import Forward, Hold
from relay.net.clock import cancel
from relay.net.waiting import start


@frozen
class Pace:
    """How the dispatcher deals with time, in seconds."""

    #: How long a claim holds before it has to be renewed; another holder waits this long for one that died.
    lease: float = 300.0
    #: Longer than this no attempt may take, whoever is at fault: each of its phases has a deadline of its own.
    attempt: float = 2 * 3600.0
    #: How long the policies may think about where a claim goes today, as a part of its lease.
    thinking: float = 1 / 4
    #: How long what is under way may go on when the relay stops, and how long it may then take to end.
    grace: float = 5.0


@define(eq=False)
class _GivenBack(Record):
    """Claims that nobody has a place for: they are due in the spool again, and `told` is called with where they go."""

    claims: Sequence[Claim]
    told: Callable[[Collection[str]], None]

    def steps(self) -> Sequence[Step]:
        return [GiveBack(claim, tuple(pending.recipient for pending in claim.pending)) for claim in self.claims]

    def written(self) -> None:
        self.told({claim.pending[0].recipient.destination for claim in self.claims})

    def lost(self) -> None:
        """Whoever has them now does with them what is to be done."""


@implementer(IDispatch)
class Dispatcher:
    """
    Carries mail, as long as it runs.

    Nothing that others raise ends it: an exception is logged with its traceback, and the recipients are delayed.
    """

    def __init__(
        self,
        *,
        spool: ISpool,
        clock: IClock,
        mail_log: ITakesRows,
        attempts: Attempts | Consulted,
        notices: Notices,
        random: Callable[[], float],
        schedules: Schedules | None = None,
        limits: Limits | None = None,
        pace: Pace | None = None,
        routes: IRoutes | None = None,
        parted: Callable[[], None] = lambda: None,
    ) -> None:
        """
        `routes`: where what waits goes today; without it, where it was sent when it was accepted. `parted` is called
        when nothing is carried any more: what was kept open for the next message is of no use.
        """
        self._spool = spool
        self._clock = clock
        self._attempts = attempts
        self._limits = limits or Limits()
        self._pace = pace or Pace()
        self._log = Logger(namespace="relay.delivery")
        thinking = self._pace.lease * self._pace.thinking
        self._today = None if routes is None else Today(routes, clock, mail_log, thinking, self._log)
        self._parted = parted
        #: Claims about which policies are thinking. They are held, but have no place yet.
        self._asking: set[Work] = set()
        self._destinations = Destinations(self._limits, random, UnderWay(sent=self._sent, arrived=self._arrived))
        self._ledger = Ledger(spool, clock, enrolled=self.accept, eased=self._eased)
        self._leases = Leases(
            spool,
            clock,
            lease=self._pace.lease,
            longest_attempt=self._pace.attempt,
            lost=self._lost,
            eased=self._eased,
        )
        self._conclusions = Conclusions(
            spool,
            clock,
            self._ledger,
            Chronicle(mail_log),
            notices,
            random,
            schedules or Schedules(),
            lease=lambda: self._pace.lease if self._running else None,
            over=self._release,
            due_at=self._due_at,
            unsure=lambda: self._agenda.wake(),
        )
        self._agenda = Agenda(
            spool,
            clock,
            lease=self._pace.lease,
            room=self._room,
            excluding=self._with_enough,
            take=self._take_due,
            looked=self._check_stopped,
        )
        self._running = False
        self._beginning = False
        self._stopping: Deferred[None] | None = None
        self._giving_back: list[Claim] = []
        self._timer: Any = None
        #: When a rate permits the next attempt.
        self._rested: Any = None

    # What others call.

    def adopt(
        self,
        *,
        attempts: Attempts | Consulted,
        notices: Notices,
        schedules: Schedules,
        limits: Limits,
        routes: IRoutes,
        parted: Callable[[], None],
    ) -> None:
        """
        What begins from now on is carried and told in this way, instead of that of the constructor; what is under way
        comes to its end as it began. Never raises.
        """
        before, now = self._parted, self._clock.now()
        for work in self._leases.held():
            if work.attempt is not None and work.by is None:
                work.by = self._attempts
        self._attempts, self._limits, self._parted = attempts, limits, parted
        self._conclusions.adopt(notices, schedules)
        if self._today is not None:
            self._today = evolve(self._today, routes=routes)
        self._destinations.adopt(limits, now)
        before()
        if self._running:
            self._begin(now)
            self._agenda.go_on()

    def start(self) -> None:
        """Begin with what is due in the spool, which has been recovered before."""
        self._running = True
        self._agenda.start()

    def stop(self) -> Deferred[None]:
        """
        Begin nothing more, let what is under way come to its end for some seconds, and give the rest back.

        Fires when all of it is written to the spool, or when it is clear that it cannot be.
        """
        stopped: Deferred[None] = Deferred()
        if self._stopping is not None:
            self._stopping.chainDeferred(stopped)
            return stopped
        self._running = False
        self._agenda.stop()
        cancel(self._rested)
        for work in self._destinations.drain():
            self._release((work,))
            if work.cut is None:
                self._giving_back.append(work.claim)
        for work in tuple(self._asking):
            # Whoever comes after us asks anew.
            work.cut = work.cut or Cut.STOPPING
            work.attempt.cancel()
        self._stopping = Deferred()
        self._stopping.chainDeferred(stopped)
        self._timer = self._clock.callLater(self._pace.grace, self._cut_all_short)
        self._check_stopped()
        return stopped

    def lease(self, envelope: Envelope, recipients: Sequence[Recipient]) -> float | None:
        destinations = self._destinations
        if self._running and not self._ledger.troubled:
            spacious = destinations.room > destinations.plenty and not destinations.full
            for recipient in recipients:
                if type(recipient.route) is not Hold and (
                    spacious or destinations.has_place(recipient.destination, envelope)
                ):
                    return self._pace.lease
            if destinations.share > 1:
                # To claim them now would be to give them back: they are claimed with others, when there is a place.
                return None
        if _due(recipients):
            self._agenda.expect()
        return None

    def accept(self, claims: Sequence[Claim], left: Sequence[Recipient] = ()) -> None:
        if not claims:
            if not left:
                self._agenda.wake()
            elif due := _due(left):
                self._agenda.given_back(due)
            return
        try:
            if self._stopping is not None:
                self._giving_back += claims
                self._check_stopped()
                return
            now = self._clock.now()
            if len(claims) == 1 and len(claims[0].pending) == 1:
                # As it nearly always is. Of others it depends on each other which of them begins first.
                if self._admit(claims[0], now, not self._beginning):
                    return
            else:
                for claim in claims:
                    for part in _parts(claim, self._limits.recipients):
                        self._admit(part, now)
            if self._destinations.row or self._destinations.resting:
                self._begin(now)
        except Exception:
            self._log.failure("What was claimed could not be begun; it is tried again when its lease has ended")

    async def hasten(self, domain: str, below: bool = False) -> int:
        # Whoever asks for its mail is there to take it.
        self._destinations.revive(domain, below)
        concerned = await self._spool.hasten(domain, self._clock.now(), below)
        if concerned:
            self._agenda.wake()
        return concerned

    def wake(self) -> None:
        """Recipients in the spool may have become due by other means: an operator's word."""
        self._agenda.wake()

    def destinations(self) -> Sequence[Condition]:
        """How each destination is of which something is held or known."""
        return tuple(self._destinations.conditions(self._clock.now()))

    def knows(self, name: str) -> bool:
        """Whether anything is held or known in memory of the destination, or of those that `pause` means with it."""
        return self._destinations.knows(name)

    def pause(self, name: str) -> None:
        """Begin nothing for this destination until `resume`; what waits in memory goes back with that as its reason."""
        self._destinations.pause(name, self._clock.now())
        for work in self._destinations.put_off():
            self._put_off(work)

    def resume(self, name: str) -> None:
        """Begin again, whoever has paused it. What was put off comes when it is due, or when it is hastened."""
        now = self._clock.now()
        self._destinations.resume(name, now)
        self._begin(now)
        self._agenda.wake()

    def paused(self) -> Paused:
        """What an operator has paused."""
        return self._destinations.paused()

    @property
    def active(self) -> int:
        """How many attempts are under way."""
        return self._destinations.active + self._destinations.trailing

    @property
    def held(self) -> int:
        """How many claims are in memory, whatever for."""
        return self._destinations.held

    # From the claim to the attempt.

    def _take_due(self, claims: Sequence[Claim]) -> None:
        """What the spool has had for a while: where it goes is asked anew."""
        if self._today is None or self._stopping is not None:
            self.accept(claims)
            return
        known: list[Routed] = []
        for claim in claims:
            routed: Sequence[Routed] | Deferred[Sequence[Routed]] = start(self._today.route(claim))
            if isinstance(routed, Deferred):
                self._wait_for(routed, claim)
            else:
                known += routed
        self._take_routed(known)

    def _wait_for(self, routed: Deferred[Sequence[Routed]], claim: Claim) -> None:
        work = self._destinations.unplaced(claim, claim.pending[0].recipient.destination)
        work.began = self._clock.now()
        work.attempt = routed
        self._asking.add(work)
        self._leases.hold(work)
        routed.addBoth(partial(self._came, work))
        routed.addErrback(lambda failure: self._log.failure("A claim was dropped", failure))

    def _came(self, work: Work, routed: Sequence[Routed] | Failure) -> Failure | None:
        """The policies have said where a claim goes, or it is not ours to carry any more."""
        self._asking.discard(work)
        work.attempt = None
        try:
            if work.cut is Cut.LOST:
                return None
            if work.cut is not None:
                self._giving_back.append(work.claim)
                return None
            if isinstance(routed, Failure):
                return routed
            self._take_routed(routed)
            return None
        finally:
            # Not before others hold what it held.
            self._leases.let_go(work)
            if self._agenda.cramped:
                self._agenda.go_on()

    def _take_routed(self, routed: Sequence[Routed]) -> None:
        for each in routed:
            if each.nowhere is not None:
                self._hold_back(each.claim, each.nowhere)
        ways = [each.claim for each in routed if each.nowhere is None]
        if ways:
            self.accept(ways)
        else:
            self._check_stopped()

    def _hold_back(self, claim: Claim, why: Delayed) -> None:
        """It has no way now: it is delayed without an attempt."""
        if self._stopping is not None:
            self._giving_back.append(claim)
            return
        if claim.expires <= self._clock.now():
            self._has_ended(claim)
            return
        name = claim.pending[0].recipient.destination
        work = self._destinations.hold(claim, name, PutOff(why, 0.0))
        if work is None:
            self._enter_back([claim])
            return
        self._leases.hold(work)
        self._put_off(work)

    def _admit(self, claim: Claim, now: float, at_once: bool = False) -> bool:
        """`at_once`: it may begin here, and whether it did is what this returns. Else `_begin` is to be called."""
        if claim.expires <= now:
            self._has_ended(claim)
            return False
        destinations, leases = self._destinations, self._leases
        at_once = at_once and now < leases.sure_until and not self._ledger.troubled
        work = destinations.admit(claim, claim.pending[0].recipient.destination, now, at_once)
        if work is None:
            self._enter_back([claim])
            return False
        leases.hold(work)
        if work.under_way:
            self._begin(now, work)
            return True
        if destinations.to_give_back:
            for displaced in destinations.displaced():
                self._enter_back([displaced.claim])
                self._release((displaced,))
        if work.put_off is not None:
            self._put_off(work)
        return False

    def _has_ended(self, claim: Claim) -> None:
        """
        The lease was over before the claim came to us. What would be carried now others may carry as well, and what is
        carried so could not be settled. Nobody has settled it: it is claimed again.
        """
        self._log.warn("The claim of {id} came when its lease was over; it is claimed again", id=claim.entry.id)
        self._agenda.wake()

    def _begin(self, now: float, work: Work | None = None) -> None:
        """
        Begin this one, whose turn it is, and whatever else may begin. A loop, since an attempt that does not wait makes
        room for the next at once.
        """
        if self._beginning:
            return
        destinations = self._destinations
        self._beginning = True
        try:
            while work is not None or (work := self._next(now)) is not None:
                work.began = now
                if work.cut is not None or not self._attempts.begin(work.claim, work):
                    self._go_on(work)
                    now = self._clock.now()
                if not (destinations.row or destinations.resting):
                    break
                work = None
        finally:
            self._beginning = False

    def _next(self, now: float) -> Work | None:
        """Whose turn it is, if anything may begin."""
        if self._ledger.troubled or self._leases.in_doubt(now):
            # What was decided cannot be written down, or it is not certain that what we hold is ours: nothing new.
            return None
        destinations = self._destinations
        work = destinations.next(now)
        if work is None and (destinations.resting or self._rested is not None):
            self._wait_for_rates(now)
        return work

    def _go_on(self, work: Work) -> None:
        """Its attempt needs a coroutine."""
        carrying: Deferred[None] | None = start(self._carry(work))
        if carrying is not None:
            work.attempt = carrying
            carrying.addErrback(self._dropped)

    def _arrived(self, work: Work) -> None:
        """What has begun in one step is over. If there is nothing but that to note, it is noted in one step, too."""
        passing = work.attempt
        work.attempt = None
        now = self._clock.now()
        try:
            noted = work.cut is None and self._conclusions.conclude_carried(work, passing.facts, now)
        except Exception:
            self._log.failure("An attempt could not be concluded, for {id}", id=work.claim.entry.id)
            noted = work.concluded
        try:
            if noted:
                self._finish(work, WELL, now)
            else:
                work.passing = passing
                self._go_on(work)
        except Exception:
            # It would meet the connection that has carried the message, and what else that has to carry.
            self._log.failure("A work was dropped")

    def _dropped(self, failure: Failure) -> None:
        self._log.failure("A work was dropped", failure)

    def _wait_for_rates(self, now: float) -> None:
        """Where nothing but a destination's rate forbids an attempt, a timer says when it permits one."""
        cancel(self._rested)
        self._rested = None
        at = self._destinations.rested_at(now)
        if at is not None and self._stopping is None:
            self._rested = self._clock.callLater(max(0.0, at - now), self._is_rested)

    def _is_rested(self) -> None:
        self._rested = None
        self._begin(self._clock.now())

    def _put_off(self, work: Work) -> None:
        """Its destination is paused: it is settled without an attempt."""
        putting: Deferred[None] | None = start(self._settle_put_off(work))
        if putting is not None:
            work.attempt = putting
            putting.addErrback(self._dropped)

    async def _settle_put_off(self, work: Work) -> None:
        """As if it had met what the destination's last attempt met, so that patience ends and warnings are sent."""
        judgements: Judgements = {}
        work.began = self._clock.now()
        try:
            judgements = foregone(work.claim, self._clock) or put_off(work.claim, work.put_off)
            telling = self._conclusions.conclude(work, judgements, work.began)
            if telling is not None:
                await telling
        except Exception:
            self._log.failure("What was put off could not be concluded, for {id}", id=work.claim.entry.id)
            self._conclusions.salvage(work, judgements)
        finally:
            work.attempt = None
            self._check_stopped()

    async def _carry(self, work: Work) -> None:
        """One attempt and its settlement. Whatever happens, the work's place is free afterwards."""
        judgements: Judgements = {}
        sign: Sign = None
        now = work.began
        try:
            if work.cut is None:
                judgements = foregone(work.claim, self._clock)
                if not judgements:
                    attempts = work.by or self._attempts
                    begun = None if work.found is None and work.passing is None else work
                    judgements = await attempts.carry(work.claim, work.sent, work, begun)
                    sign = sign_of(judgements)
            elif work.passing is not None:
                judgements = known(work.claim, work.passing)
            now = self._clock.now()
            telling = self._conclusions.conclude(work, judgements, now)
            if telling is not None:
                await telling
                now = self._clock.now()
        except Exception:
            self._log.failure("An attempt could not be concluded, for {id}", id=work.claim.entry.id)
            self._conclusions.salvage(work, judgements)
            now = self._clock.now()
        finally:
            work.attempt = work.passing = None
            self._finish(work, sign, now)

    def _sent(self, work: Work) -> None:
        """Nothing but the final reply to it is awaited: the next one may follow it on its connection."""
        now, destinations = self._clock.now(), self._destinations
        if now < self._leases.sure_until and not (self._ledger.troubled or self._beginning):
            follower = destinations.followed(work, now)
            if follower is not None:
                self._begin(now, follower)
                return
        if destinations.trails(work, now):
            self._begin(now)

    def _finish(self, work: Work, sign: Sign, now: float) -> None:
        """
        Its place is free: begin the next, and claim more if the last claim had to leave something. If the destination
        is paused by what it has met, whoever waits is put off.
        """
        destinations = self._destinations
        if destinations.finished(work, sign, now):
            self._tell_of_pause(work.destination, now)
        if destinations.to_put_off:
            for other in destinations.put_off():
                self._put_off(other)
        if destinations.to_go_on:
            for other in destinations.going_on():
                if other.may_go is not None and not other.may_go.called:
                    other.may_go.callback(None)
        if destinations.row or destinations.resting:
            self._begin(now)
        if self._agenda.excluded:
            name = work.destination.name
            if name in self._agenda.excluded and not destinations.has_enough(name):
                self._agenda.go_on()
        if self._stopping is not None:
            self._check_stopped()

    def _tell_of_pause(self, destination: Destination, now: float) -> None:
        health = destination.health
        self._log.warn(
            "Nothing is sent to {destination} for {seconds} s: {because}",
            destination=destination.name,
            seconds=round((health.paused_until or now) - now),
            because=health.last.because if health.last else "",
        )

    # Room, and the lack of it.

    def _due_at(self, dues: Iterable[float]) -> None:
        for due in dues:
            self._agenda.due_at(due)

    def _room(self) -> int:
        """How many recipients the agenda may claim."""
        if self._ledger.troubled or self._leases.in_doubt(self._clock.now()):
            return 0
        room = self._destinations.room - len(self._asking)
        return min(room, self._destinations.portion) if room > 0 else 0

    def _with_enough(self) -> frozenset[str]:
        """Of which destinations the agenda should claim no more, by the names that they have in the spool."""
        names = self._destinations.with_enough()
        return names if self._today is None or not names else names.union(self._today.former_names(names))

    def _release(self, works: Collection[Work]) -> None:
        """They are settled and written down, or not ours any more."""
        self._leases.let_go(*works)
        self._destinations.release(*works)
        # Half empty, so that the next claim is a batch.
        if self._agenda.cramped and self._destinations.room * 2 >= self._limits.held:
            self._agenda.go_on()
        if self._stopping is not None:
            self._check_stopped()

    def _eased(self) -> None:
        """What stood in the way of carrying anything new is gone, or some of it."""
        self._begin(self._clock.now())
        if self._agenda.cramped:
            self._agenda.go_on()

    def _enter_back(self, claims: Sequence[Claim]) -> None:
        self._ledger.enter(_GivenBack(claims, self._agenda.given_back))

    def _lost(self, work: Work) -> None:
        """Somebody else holds these recipients: stop, since they carry them too."""
        work.cut = Cut.LOST
        if work.attempt is not None:
            work.attempt.cancel()

    # The end.

    def _cut_all_short(self) -> None:
        for work in self._leases.held():
            if work.attempt is not None:
                work.cut = work.cut or Cut.STOPPING
                work.attempt.cancel()
        if self._stopping is not None and not self._stopping.called:
            self._timer = self._clock.callLater(self._pace.grace, self._leave)

    def _check_stopped(self) -> None:
        """
        If nothing is under way any more, and no claim is on its way to us, write down what goes back, and wait for the
        ledger.
        """
        if self._stopping is None or self.active or self._agenda.looking:
            return
        if self._giving_back:
            claims, self._giving_back = self._giving_back, []
            self._enter_back(claims)
        self._ledger.when_idle().addCallback(lambda _: self._leave())

    def _leave(self) -> None:
        if self._stopping is None or self._stopping.called:
            return
        cancel(self._timer)
        self._ledger.stop()
        self._leases.stop()
        self._parted()
        self._stopping.callback(None)


def _due(recipients: Iterable[Recipient]) -> set[str]:
    """Where those of them go that will be due: what is held never is, until an operator says otherwise."""
    return {recipient.destination for recipient in recipients if type(recipient.route) is not Hold}


def _parts(claim: Claim, most: int) -> Sequence[Claim]:
    """
    A claim in parts of at most so many recipients. Each can be settled by itself: recipients have identities.

    The bound is that of other servers. An agent here gets all of them, since those who share a mailbox share a copy.
    """
    pending = claim.pending
    if len(pending) <= most or not isinstance(pending[0].recipient.route, Forward):
        return (claim,)
    return [evolve(claim, pending=pending[at : at + most]) for at in range(0, len(pending), most)]
