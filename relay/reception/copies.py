"""
Copies for those whom policies name, and the client has not: beside its recipients (`AddRecipient`), or instead of them
(`ReplaceRecipients`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from attrs import evolve

from relay.mail.address import Address
from relay.mail.decision import Accepted, Placement, Refused
from relay.mail.dsn import NO_WISHES, Notify, Wishes
from relay.mail.routing import Discard, Inquiry, Reject
from relay.mail.screening import Outcome, Ruled
from relay.net.together import together
from relay.reception.reception import Reception
from relay.reception.transaction import Transaction
from relay.reception.weighing import Judged, refusal, under

#: A copy beside those that the client asked for: nobody has to be told what becomes of it.
_UNASKED: Final = Wishes(frozenset({Notify.NEVER}))


class Copies:
    """
    One message's further copies.

    Whoever is named is asked about like a member of an alias: a recipient of the client's stands for it, so what counts
    or keeps waiting those whom a client names leaves it alone. A recipient of the client's that is named again is not
    asked about again: it has its verdicts, about its copy and about the content.

    If one of those to be asked about is delayed, so is the message, before anything is promised: the next try finds all
    of them. One that is refused fails beside the others that stand instead, and a copy beside is left out.
    """

    def __init__(
        self,
        id: str,
        reception: Reception,
        transaction: Transaction,
        outcome: Outcome,
        observe: Callable[[Any], object] | None,
    ) -> None:
        self._id = id
        self._reception = reception
        self._transaction = transaction
        self._outcome = outcome
        self._observe = observe
        #: What is known of all of the client's recipients alike.
        self._facts = outcome.facts
        #: The client's, that do not take the message, and why.
        self._refusing: dict[Address, Refused] = {}
        #: Whose word counts as the client's: the first that takes it.
        self._for = transaction.asked[0].original
        for inquiry, ruled in zip(reversed(transaction.asked), reversed(outcome.each), strict=True):
            refused = refusal(ruled)
            if refused is None:
                self._for = inquiry.original
            else:
                self._refusing[inquiry.original] = refused

    async def beside(self, judged: Judged) -> Judged:
        """The same with them, or the refusal that comes of asking about them."""
        following = judged.following
        if judged.refused is not None or (following is not None and isinstance(following.verdict, Discard)):
            return judged
        own: dict[Address, list[Placement]] = {}
        for placement in judged.placements:
            if not isinstance(placement.route, Reject):
                own.setdefault(placement.original, []).append(placement)
        placements = judged.placements
        if self._outcome.instead is not None:
            # What fails does so as if nothing had been replaced.
            failing = tuple(placement for placement in placements if isinstance(placement.route, Reject))
            instead = await self._instead(self._outcome.instead, own, following)
            if isinstance(instead, Refused):
                return judged.refusing(instead)
            placements = failing + instead
        also = await self._also(own, {placement.address for placement in placements}, following)
        if isinstance(also, Refused):
            return judged.refusing(also)
        return evolve(judged, placements=placements + also)

    async def _instead(
        self, named: tuple[Address, ...], own: dict[Address, list[Placement]], following: Ruled | None
    ) -> tuple[Placement, ...] | Refused:
        wishes = self._wishes()
        placements: list[Placement] = []
        refused: Refused | None = None
        decisions = await self._asked_about([address for address in named if address not in own])
        for address in dict.fromkeys(named):
            if address in own:
                placements += own[address]
                continue
            decision = decisions[address]
            if isinstance(decision, Accepted):
                placements += [_wished(each, wishes) for each in _followed(decision, following)]
            elif decision.reply.temporary:
                return decision
            else:
                refused = refused or decision
                # Of who has refused the content somebody is told anyway.
                if address not in self._refusing:
                    placements.append(self._failing(address, decision, wishes))
        if refused is not None and all(isinstance(placement.route, Reject) for placement in placements):
            return refused
        return tuple(placements)

    async def _also(
        self, own: dict[Address, list[Placement]], receiving: set[Address], following: Ruled | None
    ) -> tuple[Placement, ...] | Refused:
        placements: list[Placement] = []
        further = [address for address in self._outcome.also if address not in receiving]
        decisions = await self._asked_about([address for address in further if address not in own])
        for address in further:
            if address in own:
                placements += [evolve(each, wishes=_UNASKED) for each in own[address]]
                continue
            decision = decisions[address]
            if isinstance(decision, Accepted):
                # Of what the client has named nobody is to be told that it led to others, too.
                placements += [
                    evolve(each, original=address, wishes=_UNASKED) for each in _followed(decision, following)
                ]
            elif decision.reply.temporary:
                return decision
            else:
                self._reception.log.error(
                    "{id}: the copy for <{address}> that a policy wants is refused: {reply}",
                    id=self._id,
                    address=str(address),
                    reply=str(decision.reply),
                )
        return tuple(placements)

    async def _asked_about(self, addresses: Iterable[Address]) -> dict[Address, Accepted | Refused]:
        """At the same time, so that all of them have no more than the time of one."""
        asked = list(dict.fromkeys(addresses))
        return dict(zip(asked, await together([self._decision(address) for address in asked]), strict=True))

    async def _decision(self, address: Address) -> Accepted | Refused:
        refused = self._refusing.get(address)
        if refused is not None:
            return refused
        envelope = self._transaction.envelope
        inquiry = Inquiry(address, self._for, envelope.reverse_path, envelope.client, self._facts)
        return await self._reception.chain.route(inquiry, self._observe)

    def _failing(self, address: Address, refused: Refused, wishes: Wishes) -> Placement:
        route = Reject(refused.reply, refused.because)
        return Placement(address, self._for, route, refused.policy, refused.because, wishes, self._facts)

    def _wishes(self) -> Wishes:
        """What the client wishes for all of its recipients that take the message, as far as it is the same."""
        said = {
            placement.wishes for placement in self._transaction.placements if placement.original not in self._refusing
        }
        if len(said) == 1:
            return said.pop()
        notify = {wishes.notify for wishes in said}
        orcpt = {wishes.orcpt for wishes in said}
        return Wishes(notify.pop() if len(notify) == 1 else None, orcpt.pop() if len(orcpt) == 1 else "")


def _followed(decision: Accepted, following: Ruled | None) -> tuple[Placement, ...]:
    """Its copies, as far as what is said of the content lets them go their way."""
    if following is None:
        return decision.placements
    return tuple(under(following, placement) for placement in decision.placements)


def _wished(placement: Placement, wishes: Wishes) -> Placement:
    return placement if wishes is NO_WISHES else evolve(placement, wishes=wishes)
