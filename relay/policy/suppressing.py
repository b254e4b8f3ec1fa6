"""Refuses at RCPT what is known to fail: recipients of others that are on the suppression list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Protocol

from attrs import frozen
from zope.interface import implementer

from relay.interfaces import IChain
from relay.mail.address import Address
from relay.mail.decision import Accepted, Decision, Refused
from relay.mail.routing import Forward, Inquiry
from relay.policy.guard import Networks
from relay.policy.names import about


class IsListed(Protocol):
    """An entry of the list: `relay.delivery.suppression.Suppressed`."""

    @property
    def until(self) -> float: ...
    @property
    def because(self) -> str: ...


class HasList(Protocol):
    """The list: `relay.delivery.suppression.Suppressions`."""

    def find(self, address: Address) -> IsListed | None:
        """Whether it is on the list."""


@implementer(IChain)
@frozen
class Suppressing:
    """
    A chain of policies, and behind it the list.

    It is for mail that goes onward, of those who have said who they are or come from a network that we trust: they can
    be told, and mend their lists. Anybody else could be told by it who has written to whom. A notice has nobody to be
    told, an alias has a sender who knows nothing of whom it stands for, and what stays here is ours to know.
    """

    chain: IChain
    suppressions: HasList
    trusted: Networks

    async def route(self, inquiry: Inquiry, observe: Any = None) -> Decision:
        decision: Decision = await self.chain.route(inquiry, observe)
        match decision:
            case Accepted((placement,)) if isinstance(placement.route, Forward) and _leaves(placement.route):
                known = inquiry.client.user is not None or inquiry.client.address in self.trusted
                if not known or inquiry.reverse_path is None or placement.address != inquiry.recipient:
                    return decision
                found = self.suppressions.find(placement.address)
                return decision if found is None else _refused(inquiry, found, placement.policy)
            case _:
                return decision

    async def inquire(self, inquiry: Inquiry) -> Decision:
        # Who only asks is not told what became of other mail.
        decision: Decision = await self.chain.inquire(inquiry)
        return decision


def _leaves(route: Forward) -> bool:
    """Who speaks LMTP has the mailboxes (RFC 2033): one that is not there today may be made tomorrow."""
    return not any(hop.lmtp for hop in route.next_hops)


def _refused(inquiry: Inquiry, found: IsListed, policy: str) -> Refused:
    until = datetime.fromtimestamp(found.until, UTC).date().isoformat()
    text = f"mail to this address has failed, and is not tried again before {until}: {found.because}"
    return Refused(about(inquiry.recipient, 550, "5.1.1", text), policy, "it is on the suppression list")
