"""How a decision came about, step by step: what the chain tells an observer, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import frozen

from relay.mail.address import Address
from relay.mail.routing import Abstention, RoutingVerdict


@frozen
class Asked:
    """A policy was asked about a recipient, and this is what counts as its verdict."""

    recipient: Address
    policy: str
    #: For a policy that failed, the `Delay` that stands for it.
    verdict: RoutingVerdict
    #: How long it took, by the clock that the chain was given.
    seconds: float
    #: It raised, was too late, or said what is no verdict.
    failed: bool = False

    @property
    def because(self) -> str:
        return "" if isinstance(self.verdict, Abstention) else self.verdict.because


@frozen
class Skipped:
    """A policy was not asked, since the condition `guard` of its `when` does not hold."""

    recipient: Address
    policy: str
    guard: str


Step: TypeAlias = Asked | Skipped
Observer: TypeAlias = Callable[[Step], None]
