"""
Policies that have a word before each attempt: where there are any, every attempt goes by way of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import evolve, field, frozen
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from relay.delivery.attempt import Attempts, ICourse, Judgements
from relay.delivery.trouble import judge
from relay.interfaces import Claim, IAttemptScreening
from relay.mail.outcome import Misbehaved, RefusedByPolicy
from relay.mail.phases import AttemptInquiry, AttemptVerdict
from relay.mail.queue import Pending
from relay.mail.routing import Delay, Forward, Inquiry, Reject
from relay.net.together import together


@frozen
class Consulted:
    """`Attempts` of what policies let through. A copy that they delay or refuse is judged without an attempt."""

    attempts: Attempts
    policies: IAttemptScreening
    log: Logger = field(factory=lambda: Logger(namespace="relay.delivery"))

    def begin(self, claim: Claim, course: ICourse) -> bool:
        """Nothing begins before the policies have been asked."""
        return False

    async def carry(self, claim: Claim, *more: Any) -> Judgements:
        """As `Attempts.carry`."""
        judgements: Judgements = {}
        try:
            # At the same time, so that the deadline of one is that of all (`IAttemptScreening`).
            copies = await together([self._consulted(claim, pending, judgements) for pending in claim.pending])
        except CancelledError:
            # Who has been judged is; nobody else was tried.
            return judgements
        permitted = [copy for copy in copies if copy is not None]
        if permitted:
            carry: Callable[..., Any] = self.attempts.carry
            judgements |= await carry(evolve(claim, pending=tuple(permitted)), *more)
        return judgements

    async def _consulted(self, claim: Claim, pending: Pending, judgements: Judgements) -> Pending | None:
        """The copy as it is to be carried; `None` if it is judged instead."""
        try:
            verdict = await self._asked(claim, pending)
        except CancelledError:
            raise
        except Exception:
            self.log.failure("Policies could not be asked about an attempt to carry {id}", id=claim.entry.id)
            judgements[pending.recipient.id] = judge(Misbehaved("policies"))
            return None
        match verdict:
            case Delay(reply, because) | Reject(reply, because):
                judgements[pending.recipient.id] = judge(RefusedByPolicy(reply, because))
                return None
            case Forward():
                return evolve(pending, recipient=evolve(pending.recipient, route=verdict))
            case _:
                return pending

    async def _asked(self, claim: Claim, pending: Pending) -> AttemptVerdict:
        entry, recipient = claim.entry, pending.recipient
        envelope = entry.envelope
        inquiry = AttemptInquiry(
            entry.id,
            envelope,
            recipient.address,
            recipient.route,
            recipient.policy,
            pending.attempts,
            entry.arrived,
            recipient.facts,
        )
        about = Inquiry(recipient.address, recipient.original, envelope.reverse_path, envelope.client, recipient.facts)
        verdict: AttemptVerdict = await self.policies.attempt(inquiry, about)
        return verdict
