"""What an alias leads to, and what an alias of its members leads to, until every copy has a place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from attrs import evolve
from twisted.logger import Logger

from relay.mail.address import Address
from relay.mail.decision import Accepted, Decision, Placement, Refused
from relay.mail.routing import Delay, Inquiry, Reject, Rewrite
from relay.policy.asking import Ruling
from relay.policy.names import about

#: How many aliases may lead to one another, and how many addresses one recipient may stand for in all.
DEPTH: Final = 10
MEMBERS: Final = 1000

#: Asks the chain about a recipient, beginning with the policy at that place.
Ask: TypeAlias = Callable[[Inquiry, int], Awaitable[Ruling]]


class Expansion:
    """
    Everything that one recipient stands for.

    * Each new address is asked about from the chain's beginning, and once: who is reached in two ways gets one copy.
    * An address that stands for itself, alone or beside others (`jon` -> `jon`, `archive`), keeps a copy: only the
      policies behind the one that said so are asked about that.
    * An address that is reached again from what it stands for, and keeps no copy, is a loop (RFC 3463, X.4.6).
    * Members that are refused are placed too if others are accepted. If all are refused, so is the recipient,
      with the first reply. If one is delayed, so is the recipient: the client's next try finds all of them.
    """

    def __init__(self, ask: Ask, log: Logger) -> None:
        self._ask = ask
        self._log = log
        self._met: set[Address] = set()
        #: Those that stand for themselves.
        self._keeping: set[Address] = set()
        #: Those that were reached in a circle.
        self._circling: set[Address] = set()
        self._questions = 0
        self._placements: list[Placement] = []

    async def decide(self, inquiry: Inquiry, rewrite: Rewrite, policy: str, place: int) -> Decision:
        """The decision for a recipient, about which the policy at `place` has said `rewrite`."""
        self._met.add(inquiry.recipient)
        delayed = await self._follow(inquiry, (), rewrite, policy, place)
        if delayed is not None:
            return delayed
        refused: Refused | None = None
        for placement in self._placements:
            if not isinstance(placement.route, Reject):
                return Accepted(tuple(self._placements))
            refused = refused or Refused(placement.route.reply, placement.policy, placement.because)
        assert refused is not None, "an alias leads to somebody, or to a refusal"
        return refused

    async def _follow(
        self, inquiry: Inquiry, ancestors: tuple[Address, ...], rewrite: Rewrite, policy: str, place: int
    ) -> Refused | None:
        """Place every member of `rewrite`. A `Refused` is for the whole recipient."""
        alias = inquiry.recipient
        lineage = (*ancestors, alias)
        if alias in rewrite.recipients:
            self._keeping.add(alias)
        for member in dict.fromkeys(rewrite.recipients):
            asked = evolve(inquiry, recipient=member)
            if member == alias:
                refused = await self._place(asked, ancestors, place + 1)
            elif member in ancestors and member not in self._keeping:
                self._looped(asked, lineage, policy)
                continue
            elif member in self._met:
                continue
            elif len(lineage) > DEPTH:
                self._looped(asked, lineage, policy)
                continue
            else:
                self._met.add(member)
                refused = await self._place(asked, lineage, 0)
            if refused is not None:
                return refused
        return None

    async def _place(self, inquiry: Inquiry, ancestors: tuple[Address, ...], place: int) -> Refused | None:
        self._questions += 1
        if self._questions > MEMBERS:
            return self._too_many(inquiry)
        verdict, policy, decided_at, facts = await self._ask(inquiry, place)
        if isinstance(verdict, Rewrite):
            return await self._follow(inquiry, ancestors, verdict, policy, decided_at)
        if isinstance(verdict, Delay):
            return Refused(verdict.reply, policy, verdict.because)
        self._placements.append(
            Placement(inquiry.recipient, inquiry.original, verdict, policy, verdict.because, facts=facts)
        )
        return None

    def _looped(self, inquiry: Inquiry, lineage: tuple[Address, ...], policy: str) -> None:
        """The operator's tables are wrong, but the client can do nothing about it, and neither can time."""
        if inquiry.recipient in self._circling:
            return
        self._circling.add(inquiry.recipient)
        path = " -> ".join(map(str, (*lineage, inquiry.recipient)))
        self._log.warn("policy {policy}: the aliases {path} lead nowhere", policy=policy, path=path)
        because = f"alias loop: {path}"
        reject = Reject(about(inquiry.original, 550, "5.4.6", "aliases lead in a circle"), because)
        self._placements.append(Placement(inquiry.recipient, inquiry.original, reject, policy, because))

    def _too_many(self, inquiry: Inquiry) -> Refused:
        """RFC 3463, X.2.4: mailing list expansion problem. Ours, therefore for now."""
        self._log.error(
            "<{original}> stands for more than {members} addresses: 451",
            original=str(inquiry.original),
            members=MEMBERS,
        )
        reply = about(inquiry.original, 451, "4.2.4", "stands for too many addresses")
        return Refused(reply, "", f"stands for more than {MEMBERS} addresses")
