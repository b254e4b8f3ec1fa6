"""
From an attempt's judgements to what the spool is told: who is settled, who is tried again and when, who goes back.

Pure: a settlement is a value, and nothing has happened yet.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from relay.delivery.retry import Again, Schedule
from relay.delivery.trouble import Judgement, judge
from relay.interfaces import Claim, GiveBack, Postpone, Settle, Step
from relay.mail.outcome import Delayed, Delivered, Failed, Misbehaved, Relayed
from relay.mail.queue import Pending, Recipient

#: What is said of recipients whom we failed, whatever they met before.
OUR_FAULT = Delayed("4.3.0", "an internal error")
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

    def without_failures(self, due: float, delayed: Delayed) -> Settlement:
        """The same, but those that failed are tried again, since their sender cannot be told now."""
        again = tuple((pending, due, delayed) for pending, _ in self.failed)
        return evolve(self, failed=(), delayed=self.delayed + again)

    def giving_back_failures(self) -> Settlement:
        """The same, but those that failed go back as they were, since there is no time to tell their sender."""
        again = tuple(pending.recipient for pending, _ in self.failed)
        return evolve(self, failed=(), untried=self.untried + again)


def settle(
    claim: Claim,
    judgements: Mapping[str, Judgement],
    *,
    schedule: Schedule,
    now: float,
    chance: float,
    stopping: bool = False,
) -> Settlement:
    """
    What follows from these judgements, at `now` by the spool's clock.

    `stopping`: the attempt was cut short because the relay stops. Who was not carried then goes back, and the
    attempt is not held against anybody.
    """
    if len(claim.pending) == 1:
        judgement = judgements.get(claim.pending[0].recipient.id)
        if judgement is not None and isinstance(judgement.outcome, Delivered | Relayed):
            return Settlement(carried=((claim.pending[0], judgement.outcome),))
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
            match schedule.decide(claim.entry, pending.attempts + 1, outcome, now, chance):
                case Again(due):
                    delayed.append((pending, due, outcome))
                case Failed() as given_up:
                    failed.append((pending, given_up))
    return Settlement(tuple(carried), tuple(failed), tuple(delayed), tuple(untried))


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
