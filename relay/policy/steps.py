"""How a decision came about, step by step: what the chain tells an observer, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import field

from relay.mail import explanation
from relay.mail.address import Address
from relay.mail.routing import ABSTAIN, Abstention
from relay.mail.value import value
from relay.mail.verdict import cut, words
from relay.policy.looking import Look


@value
class Asked:
    """A policy was asked, and this is what counts as its verdict."""

    #: About whom, where it was asked about a recipient.
    recipient: Address | None
    policy: str
    #: For a policy that failed, the `Delay` that stands for it.
    verdict: Any
    #: How long it took, by the clock that the chain was given.
    seconds: float
    #: It raised, was too late, or said what is no verdict.
    failed: bool = False
    #: The phase's name (`relay.policy.phases`).
    phase: str = "recipient"
    #: What it has looked at.
    looks: tuple[Look, ...] = field(default=(), eq=False)

    @property
    def because(self) -> str:
        return "" if isinstance(self.verdict, Abstention) else str(self.verdict.because)

    def told(self) -> explanation.Step:
        """The same, for people."""
        return explanation.Step(
            phase=self.phase,
            policy=self.policy,
            recipient="" if self.recipient is None else str(self.recipient),
            verdict=words(self.verdict),
            because=cut(self.because),
            failed=self.failed,
            looks=tuple((look.where, look.what, look.found) for look in self.looks),
            milliseconds=self.seconds * 1000,
        )

    def brief(self) -> explanation.Brief | None:
        """The same, at once, unless it has failed."""
        if self.failed:
            return None
        looks = [(look.where, look.what, look.found) for look in self.looks] if self.looks else ()
        because = "" if self.verdict is ABSTAIN else self.because
        milliseconds = self.seconds * 1000
        return explanation.Brief(
            self.phase, self.policy, self.recipient, "", self.verdict, because, looks, milliseconds
        )


@value
class Skipped:
    """A policy was not asked, since the condition `guard` of its `when` does not hold."""

    recipient: Address | None
    policy: str
    guard: str
    phase: str = "recipient"

    def told(self) -> explanation.Step:
        """The same, for people."""
        recipient = "" if self.recipient is None else str(self.recipient)
        return explanation.Step(phase=self.phase, policy=self.policy, recipient=recipient, guard=self.guard)

    def brief(self) -> explanation.Brief:
        """The same, at once."""
        return explanation.Brief(self.phase, self.policy, self.recipient, self.guard, None, "", (), 0.0)


Step: TypeAlias = Asked | Skipped
Observer: TypeAlias = Callable[[Step], None]
