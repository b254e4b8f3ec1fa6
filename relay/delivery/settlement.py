"""
From an attempt's judgements to what the spool is told: who is settled, who is tried again and when, who goes back.

Pure: a settlement is a value, and nothing has happened yet.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from attrs import evolve, frozen

from relay.delivery.retry import Again, Schedule, Schedules
from relay.delivery.trouble import About, Judgement, judge
from relay.delivery.work import PutOff
from relay.interfaces import Claim, GiveBack, IClock, Postpone, Settle, Step
from relay.mail.envelope import ByMode
from relay.mail.outcome import Delayed, Delivered, Failed, Misbehaved, Relayed
from relay.mail.queue import EXPANSION, Pending, Recipient

#: What is said of recipients whom we failed, whatever they met before.
OUR_FAULT = Delayed("4.3.0", "an internal error")
#: What failed only because its time was over (RFC 2852 section 4.1.3).
TOO_LATE: Final = "5.4.7"
#: For recipients of which an attempt says nothing although nobody has cut it short.
_FORGOTTEN = judge(Misbehaved("an attempt"))


@frozen
class Settlement:
    """What one attempt came to, for each recipient of its claim exactly one of four."""

    carried: tuple[tuple[Pending, Delivered | Relayed], ...] = ()
    failed: tuple[tuple[Pending, Failed], ...] = ()
    #: With the time of the next attempt.
    delayed: tuple[tuple[Pending, float, Delayed], ...] = ()
    untried: tuple[Recipient, ...] = ()

    def steps(self, claim: Claim) -> list[Step]:
        """What goes into one commit; the notice about those that failed belongs into the same (law L2)."""
        if len(self.carried) == 1 and not (self.failed or self.delayed or self.untried):
            [(pending, carried)] = self.carried
            return [Settle(claim, ((pending.recipient, carried),))]
        steps: list[Step] = []
        settled = [(pending.recipient, outcome) for pending, outcome in (*self.carried, *self.failed)]
        if settled:
            steps.append(Settle(claim, tuple(settled)))
        if self.delayed:
            delays = tuple((pending.recipient, due, delayed) for pending, due, delayed in self.delayed)
            steps.append(Postpone(claim, delays))
        if self.untried:
            steps.append(GiveBack(claim, self.untried))
        return steps

    def later(self, waiting: Collection[Pending], due: float, delayed: Delayed) -> Settlement:
        """The same, but these are settled at `due` or later, since their sender cannot be told now."""
        again = tuple((pending, due, delayed) for pending in waiting)
        return evolve(self._without(waiting), delayed=self.delayed + again)

    def giving_back(self, waiting: Collection[Pending]) -> Settlement:
        """The same, but these go back as they were, since there is no time to tell their sender."""
        again = tuple(pending.recipient for pending in waiting)
        return evolve(self._without(waiting), untried=self.untried + again)

    def _without(self, waiting: Collection[Pending]) -> Settlement:
        return evolve(
            self,
            carried=tuple((pending, done) for pending, done in self.carried if pending not in waiting),
            failed=tuple((pending, failed) for pending, failed in self.failed if pending not in waiting),
        )


def foregone(claim: Claim, clock: IClock) -> dict[str, Judgement]:
    """
    What is certain of a claim's recipients before anything is tried: that their time is over, or that there is nothing
    to carry. Of all of them, or of nobody.
    """
    if claim.pending[0].recipient.destination == EXPANSION.agent:
        return {one.recipient.id: _EXPANDED for one in claim.pending if one.recipient.route == EXPANSION}
    by = claim.entry.envelope.deliver_by
    if by is not None and by.mode is ByMode.RETURN and by.until <= clock.now():
        return {pending.recipient.id: Judgement(_too_late(pending), About.MESSAGE) for pending in claim.pending}
    return {}


def put_off(claim: Claim, why: PutOff | None) -> dict[str, Judgement]:
    """What is said of recipients whose destination is paused."""
    if why is None:
        return {}
    return {pending.recipient.id: Judgement(why.because, About.DESTINATION) for pending in claim.pending}


_EXPANDED: Final = Judgement(Delivered(EXPANSION.agent), About.RECIPIENT)


def _too_late(pending: Pending, last: Delayed | None = None) -> Failed:
    """RFC 2852 section 4.1.3, with what stood in the way."""
    last = last or pending.last
    if last is None:
        return Failed(TOO_LATE, "the time in which it was to be delivered is over")
    because = f"the time in which it was to be delivered is over: {last.because}"
    return Failed(TOO_LATE, because, last.diagnostic, last.peer)


def settled_at_once(claim: Claim, judgements: Mapping[str, Judgement]) -> Settlement | None:
    """As `settle`, for the one recipient of nearly every message, whose copy is out of our hands; else `None`."""
    if len(claim.pending) != 1:
        return None
    pending = claim.pending[0]
    judgement = judgements.get(pending.recipient.id)
    if judgement is None or not isinstance(judgement.outcome, Delivered | Relayed):
        return None
    return Settlement(((pending, judgement.outcome),))


def settle(
    claim: Claim,
    judgements: Mapping[str, Judgement],
    *,
    schedules: Schedules,
    now: float,
    chance: float,
    stopping: bool = False,
    not_before: float = 0.0,
) -> Settlement:
    """
    What follows from these judgements, at `now` by the spool's clock.

    `stopping`: the attempt was cut short because the relay stops. Who was not carried then goes back, and the
    attempt is not held against anybody. `not_before`: when the next attempt may be made at the earliest, unless
    patience ends earlier.
    """
    carried: list[tuple[Pending, Delivered | Relayed]] = []
    failed: list[tuple[Pending, Failed]] = []
    delayed: list[tuple[Pending, float, Delayed]] = []
    untried: list[Recipient] = []
    for pending in claim.pending:
        outcome = judgements.get(pending.recipient.id, _FORGOTTEN).outcome
        if isinstance(outcome, Delivered | Relayed):
            carried.append((pending, outcome))
        elif isinstance(outcome, Failed):
            failed.append((pending, outcome))
        elif stopping:
            untried.append(pending.recipient)
        else:
            schedule = schedules.of(pending.recipient.policy)
            again = _again(claim, pending, outcome, schedule, max(now, pending.due), chance, not_before)
            if isinstance(again, Failed):
                failed.append((pending, again))
            else:
                delayed.append((pending, again, outcome))
    return Settlement(tuple(carried), tuple(failed), tuple(delayed), tuple(untried))


def _again(
    claim: Claim,
    pending: Pending,
    delayed: Delayed,
    schedule: Schedule,
    now: float,
    chance: float,
    not_before: float,
) -> float | Failed:
    """When a copy is tried again, or that it is not."""
    by = claim.entry.envelope.deliver_by
    if by is not None and by.mode is ByMode.RETURN and by.until <= now:
        return _too_late(pending, delayed)
    decided = schedule.decide(claim.entry, pending.attempts + 1, delayed, now, chance)
    match decided:
        case Again(due):
            due = max(due, min(not_before, schedule.end(claim.entry)))
            return schedule.before(due, claim.entry, pending.recipient.wishes, now)
        case Failed():
            return decided


def salvage(claim: Claim, judgements: Mapping[str, Judgement], due: float) -> Settlement:
    """
    A settlement for when making the proper one has failed by our own fault: what was carried is never carried
    again, and all else is tried again at `due`.
    """
    carried: list[tuple[Pending, Delivered | Relayed]] = []
    delayed: list[tuple[Pending, float, Delayed]] = []
    for pending in claim.pending:
        outcome = judgements.get(pending.recipient.id, _FORGOTTEN).outcome
        if isinstance(outcome, Delivered | Relayed):
            carried.append((pending, outcome))
        else:
            delayed.append((pending, due, OUR_FAULT))
    return Settlement(carried=tuple(carried), delayed=tuple(delayed))
