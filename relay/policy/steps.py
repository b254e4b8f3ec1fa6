"""How a decision came about, step by step: what the chain tells an observer, if there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from relay.mail import explanation
from relay.mail.address import Address
from relay.mail.routing import Abstention
from relay.mail.verdict import cut, words
from relay.policy.looking import Look

# There are several steps to each message, so a step is at once what is kept of it (`relay.mail.explanation.Brief`): a
# tuple that whoever writes it down can write as it is. Where its parts are at hand, `tuple.__new__` makes one of them
# in a third of the time.


class Asked(explanation.Brief):
    """A policy was asked, and this is what counts as its verdict."""

    __slots__ = ()

    #: It raised, was too late, or said what is no verdict.
    failed: ClassVar[bool] = False
    whole: ClassVar[bool] = True

    def __new__(
        cls,
        recipient: Address | None,
        policy: str,
        verdict: Any,
        seconds: float,
        failed: bool = False,
        phase: str = "recipient",
        looks: tuple[Look, ...] = (),
    ) -> Asked:
        """
        `recipient`: about whom, where it was asked about one. `verdict`: for a policy that failed, the `Delay` that
        stands for it. `seconds`: how long it took, by the clock that the chain was given.
        """
        because = "" if isinstance(verdict, Abstention) else str(verdict.because)
        made = (phase, policy, recipient, "", verdict, because, looks, seconds * 1000)
        return tuple.__new__(Failed if failed else cls, made)

    def told(self) -> explanation.Step:
        """The same, for people."""
        return explanation.Step(
            phase=self.phase,
            policy=self.policy,
            recipient="" if self.recipient is None else self.recipient.text,
            verdict=words(self.verdict),
            because=cut(self.because),
            failed=self.failed,
            looks=tuple(self.looks),
            milliseconds=self.milliseconds,
        )


class Failed(Asked):
    """A policy was asked that raised, was too late, or said what is no verdict."""

    __slots__ = ()
    failed = True
    whole = False


class Skipped(explanation.Brief):
    """A policy was not asked, since the condition `guard` of its `when` does not hold."""

    __slots__ = ()

    whole: ClassVar[bool] = True

    def __new__(cls, recipient: Address | None, policy: str, guard: str, phase: str = "recipient") -> Skipped:
        return tuple.__new__(cls, (phase, policy, recipient, guard, None, "", (), 0.0))

    def told(self) -> explanation.Step:
        """The same, for people."""
        recipient = "" if self.recipient is None else self.recipient.text
        return explanation.Step(phase=self.phase, policy=self.policy, recipient=recipient, guard=self.guard)


Step: TypeAlias = Asked | Skipped
Observer: TypeAlias = Callable[[Step], None]
