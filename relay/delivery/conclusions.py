"""
From an attempt to what is written down of it: the settlement, the notice that belongs to it, and one commit of both.

Whatever happens here, what was carried is never carried again by us.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from typing import assert_never

from attrs import define, evolve, field
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from relay.delivery.attempt import Judgements
from relay.delivery.chronicle import Chronicle
from relay.delivery.ledger import Ledger, Record
from relay.delivery.notices import Letter, News, NotDue, Notices, NotNow
from relay.delivery.retry import Schedules
from relay.delivery.settlement import OUR_FAULT, Settlement, salvage, settle, settled_at_once
from relay.delivery.telling import NOTHING, Tidings, tidings
from relay.delivery.trouble import carried
from relay.delivery.work import Cut, Work
from relay.interfaces import Claim, Enrol, IClock, ISpool, Settle, Step
from relay.mail.notice import Action
from relay.mail.outcome import Carried, Fact, Relayed
from relay.mail.queue import Pending


@define(eq=False)
class _Conclusion(Record):
    """A settlement on its way into the spool, with the notice that belongs to it."""

    work: Work
    settlement: Settlement
    letter: Letter | None
    #: Of whom it is a conclusion.
    by: Conclusions
    #: What the last commit that was tried kept the notice as.
    enrol: Enrol | None = None

    def steps(self) -> Sequence[Step]:
        steps = self.settlement.steps(self.work.claim)
        if self.letter is not None:
            self.enrol = self.by.enrolled(self.letter)
            steps.append(self.enrol)
        return steps

    def written(self) -> None:
        by, settlement = self.by, self.settlement
        if settlement.delayed:
            by.due_at([due for _, due, _ in settlement.delayed])
        by.over((self.work,))
        if self.enrol is not None:
            by.noticed(self.work, self.enrol)

    def lost(self) -> None:
        self.by.refused(self.work, self.doubtful)


@define(eq=False)
class _Carried(Record):
    """Some works of one recipient each, of whom there is nothing to tell but that the copy is out of our hands."""

    #: Of whom these are conclusions.
    by: Conclusions
    settled: dict[Work, Settle] = field(factory=dict)

    def steps(self) -> Sequence[Step]:
        self.by.no_more_for(self)
        return [*self.settled.values()]

    def apart(self) -> Sequence[Record]:
        if len(self.settled) == 1:
            return (self,)
        return [
            _Carried(self.by, {work: settle}, alone=self.alone, doubtful=self.doubtful)
            for work, settle in self.settled.items()
        ]

    def written(self) -> None:
        self.by.over(self.settled)

    def lost(self) -> None:
        for work in self.settled:
            self.by.refused(work, self.doubtful)


class Conclusions:
    """
    Concludes attempts.

    `over` is called with works that are written down, or are not ours any more, behind `due_at` with the times at which
    some of it is due, if any is; `unsure` when something may be due of which only the spool knows. `lease` says for how
    long a notice is claimed at once, if it is.
    """

    def __init__(
        self,
        spool: ISpool,
        clock: IClock,
        ledger: Ledger,
        chronicle: Chronicle,
        notices: Notices,
        random: Callable[[], float],
        schedules: Schedules,
        *,
        lease: Callable[[], float | None],
        over: Callable[[Collection[Work]], None],
        due_at: Callable[[Iterable[float]], None],
        unsure: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._ledger = ledger
        self._chronicle = chronicle
        self._notices = notices
        self._random = random
        self._schedules = schedules
        self._lease = lease
        self.over = over
        self.due_at = due_at
        self._unsure = unsure
        #: What is carried is settled together with others, until that is about to be written down.
        self._gathering: _Carried | None = None
        self._log = Logger(namespace="relay.delivery")

    def adopt(self, notices: Notices, schedules: Schedules) -> None:
        """What is concluded from now on has these notices and schedules."""
        self._notices = notices
        self._schedules = schedules

    def conclude_carried(self, work: Work, facts: Sequence[Fact], now: float) -> bool:
        """
        What `conclude` does of what was begun by `Attempts.begin`, if this is all that was met: that the copy was
        carried, and nobody wants to hear of it. `False`: there is more to it, and nothing has happened yet.
        """
        claim = work.claim
        pending = claim.pending[0]
        recipient = pending.recipient
        # It was begun only because nothing was said of a deadline, of which somebody might want to hear, too.
        fact = facts[0] if facts else None
        if type(fact) is not Carried or recipient.wishes.notify is not None:
            return False
        outcome = Relayed(fact.by, fact.text, fact.told, fact.tls, fact.timed) if fact.onward else carried(fact)
        work.concluded = True
        settle, gathering = Settle(claim, ((recipient, outcome),)), self._gathering
        if gathering is None:
            self._gathering = gathering = _Carried(self, {work: settle})
            self._ledger.enter(gathering)
        else:
            gathering.settled[work] = settle
        self._chronicle.carried(claim.entry, pending, outcome, now)
        return True

    def no_more_for(self, gathering: _Carried) -> None:
        """It is about to be committed."""
        if self._gathering is gathering:
            self._gathering = None

    def conclude(self, work: Work, judgements: Judgements, now: float) -> Awaitable[None] | None:
        """
        What follows from these judgements is in the ledger when this returns, or, if it returns something to wait for,
        when that has come: of few messages there is something to tell the sender, and that may take its time.
        """
        claim = work.claim
        if work.cut is Cut.LOST:
            work.concluded = True
            self.over((work,))
            self._chronicle.lost(claim, judgements)
            return None
        settlement = settled_at_once(claim, judgements)
        if settlement is None:
            settlement = settle(
                claim,
                judgements,
                schedules=self._schedules,
                now=now,
                chance=self._random(),
                stopping=work.cut is Cut.STOPPING,
                not_before=work.put_off.until if work.put_off is not None else 0.0,
            )
        tell = tidings(claim.entry, settlement, self._schedules, now)
        if tell is not NOTHING:
            return self._conclude_and_tell(work, settlement, judgements, tell)
        work.concluded = True
        self._ledger.enter(_Conclusion(work, settlement, None, self))
        self._chronicle.attempted(claim, settlement, judgements, now)
        return None

    async def _conclude_and_tell(
        self, work: Work, settlement: Settlement, judgements: Judgements, tell: Tidings
    ) -> None:
        settlement, letter = await self._tell_the_sender(work, settlement, tell)
        self._enter(work, settlement, letter)
        self._chronicle.attempted(work.claim, settlement, judgements, self._clock.now())

    async def _tell_the_sender(
        self, work: Work, settlement: Settlement, tell: Tidings
    ) -> tuple[Settlement, Letter | None]:
        """
        Law L2: of whom the sender is to be told is settled in the commit that keeps the notice, or with the recorded
        reason why there is none. Where the way to the sender is not known now, what failed waits as long as patience
        lasts. What was carried cannot wait, lest it be carried again.
        """
        claim = work.claim
        for pending in tell.unwanted:
            self._chronicle.not_asked_for(claim, pending)
        if not tell.told:
            return settlement, None
        can_wait = [one.pending for one in tell.told if one.action in (Action.FAILED, Action.EXPANDED)]
        try:
            news: News = await self._notices.about(claim, tell.told)
        except CancelledError:
            if work.cut is Cut.STOPPING:
                if len(can_wait) < len(tell.told):
                    self._chronicle.no_notice(claim, "the relay stopped")
                return settlement.giving_back(can_wait), None
            news = NotNow("it took too long to find out")
        except Exception:
            self._log.failure("No notice could be written about {id}", id=claim.entry.id)
            news = NotNow("an internal error")
        now = self._clock.now()
        match news:
            case Letter(silent=silent):
                if silent:
                    self._chronicle.no_notice(claim, silent)
                return settlement, news
            case NotNow(because) if can_wait and now < self._patience_ends(can_wait[0], claim):
                schedule = self._schedules.of(can_wait[0].recipient.policy)
                due = now + schedule.pause(can_wait[0].attempts + 1, self._random())
                self._chronicle.notice_waits(claim, because)
                if len(can_wait) < len(tell.told):
                    self._chronicle.no_notice(claim, because)
                return settlement.later(can_wait, due, evolve(OUR_FAULT, because="its notice waits")), None
            case NotDue(because) | NotNow(because):
                self._chronicle.no_notice(claim, because)
                return settlement, None
            case _:
                assert_never(news)

    def salvage(self, work: Work, judgements: Judgements) -> None:
        """We have stumbled over a work: keep what is known of it."""
        if work.concluded:
            return
        try:
            due = self._clock.now() + self._schedules.usual.first
            self._enter(work, salvage(work.claim, judgements, due), None)
        except Exception:
            self._log.failure("The work on {id} is dropped, until its lease has ended", id=work.claim.entry.id)
            self.due_at((work.claim.expires,))
            self.over((work,))

    def _patience_ends(self, pending: Pending, claim: Claim) -> float:
        return self._schedules.of(pending.recipient.policy).end(claim.entry)

    def _enter(self, work: Work, settlement: Settlement, letter: Letter | None) -> None:
        work.concluded = True
        self._ledger.enter(_Conclusion(work, settlement, letter, self))

    # What a conclusion asks, on its way into the spool.

    def enrolled(self, letter: Letter) -> Enrol:
        """The notice, as a step of the commit that is tried now."""
        return letter.enrol(self._spool, self._clock.now(), self._lease())

    def noticed(self, work: Work, enrol: Enrol) -> None:
        self._chronicle.noticed(work.claim, enrol)

    def refused(self, work: Work, doubtful: bool) -> None:
        self.over((work,))
        if doubtful:
            # It was written after all, and what it said is to happen next only the spool knows.
            self._unsure()
        else:
            self._chronicle.lost(work.claim, {})
