"""
The straight way to a decision about a recipient: where no policy waits, and that is nearly always.

It asks as `relay.policy.asking` does, and an observer hears the same. What is different is what is done once for all
policies of a decision and not for each of them: what is looked at is taken note of from the first of them to the last,
one is asked at the time at which the one before it has answered, and no condition is asked again that is about the
client alone (`relay.policy.narrowed`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from twisted.python.failure import Failure

from relay.mail.decision import Decision, Placement, Refused
from relay.mail.dsn import NO_WISHES
from relay.mail.reply import Reply
from relay.mail.routing import ABSTAIN, Delay, Deliver, Discard, Forward, Hold, Inquiry, Reject
from relay.policy.asking import CURRENT, FAILURES, Asking, Stop
from relay.policy.looking import LOOKS, Look
from relay.policy.names import about
from relay.policy.narrowed import Turn
from relay.policy.phases import RECIPIENT
from relay.policy.steps import Asked, Observer, Skipped

#: Verdicts that say where one copy goes.
ROUTES: Final = frozenset({Deliver, Forward, Discard, Hold})

#: Why nobody has decided.
ALL_ABSTAINED: Final = "every policy abstained"

#: What goes on from the policy that has to think, notes something or makes others of the recipient, with what
#: `Asking.put` says of it.
GoOn: TypeAlias = Callable[[Inquiry, Observer | None, Stop, Any], Awaitable[Decision]]

_PHASE: Final = RECIPIENT.name

_step: Final = tuple.__new__


class Straight:
    """The policies about recipients, in their order, for one client."""

    __slots__ = ("_asking", "_go_on", "_seconds", "_turns")

    def __init__(self, turns: Iterable[Turn], asking: Asking, seconds: Callable[[], float], go_on: GoOn) -> None:
        """`asking` knows what an answer counts that is none of the usual ones. It observes nothing."""
        self._turns = [(stop, stop.name, skipped_by, guard, stop.ask) for stop, skipped_by, guard in turns]
        self._asking = asking
        self._seconds = seconds
        self._go_on = go_on

    def decide(self, inquiry: Inquiry, observe: Observer | None = None) -> Placement | Refused | Awaitable[Decision]:
        """
        As `IChain.route`; where it is one copy that goes one way, that copy. There is no coroutine as long as each
        policy abstains or says at once what becomes of the copy.
        """
        recipient, seconds = inquiry.recipient, self._seconds
        looks: list[Look] = []
        token = None
        began = 0.0
        if observe is not None:
            token = LOOKS.set(looks)
            began = seconds()
        try:
            for stop, name, skipped_by, guard, ask in self._turns:
                if guard is not None:
                    skipped_by = guard(inquiry)
                if skipped_by is not None:
                    if observe is not None:
                        observe(_step(Skipped, (_PHASE, name, recipient, skipped_by, None, "", (), 0.0)))
                    continue
                CURRENT[0] = name
                try:
                    said: Any = ask(inquiry)
                except FAILURES:
                    said = self._asking.raised(inquiry, stop, Failure())
                if said is not ABSTAIN:
                    if type(said) not in ROUTES:
                        said = self._weighed(inquiry, stop, said)
                    if type(said) in ROUTES:
                        because = said.because
                        if observe is not None:
                            found, took = tuple(looks) if looks else (), (seconds() - began) * 1000
                            observe(_step(Asked, (_PHASE, name, recipient, "", said, because, found, took)))
                        return Placement(recipient, inquiry.original, said, name, because, NO_WISHES, inquiry.facts)
                    if said is not ABSTAIN:
                        if observe is not None:
                            said = self._asking.told(inquiry, stop, said, looks, began, observe)
                        break
                if observe is not None:
                    answered = seconds()
                    found, took = tuple(looks) if looks else (), (answered - began) * 1000
                    observe(_step(Asked, (_PHASE, name, recipient, "", ABSTAIN, "", found, took)))
                    began = answered
                    # Whoever still adds to those, or to none, does so for that policy, and not for the next one.
                    looks = []
                    LOOKS.set(looks)
            else:
                return Refused(denied(inquiry), "", ALL_ABSTAINED)
        finally:
            CURRENT[0] = ""
            if token is not None:
                LOOKS.reset(token)
        if type(said) is Reject or type(said) is Delay:
            return Refused(said.reply, name, said.because)
        return self._go_on(inquiry, observe, stop, said)

    def _weighed(self, inquiry: Inquiry, stop: Stop, said: Any) -> Any:
        """What it counts that a policy has said, where that is nothing usual."""
        try:
            return self._asking.weighed(inquiry, stop, said)
        except FAILURES:
            return self._asking.raised(inquiry, stop, Failure())


def denied(inquiry: Inquiry) -> Reply:
    """What a client hears about whom nobody decides."""
    return about(inquiry.original, 550, "5.7.1", "relaying denied")
