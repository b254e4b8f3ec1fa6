"""
The straight way to a decision about a recipient: where no policy waits, and that is nearly always.

It asks as `relay.policy.asking` does, and an observer hears the same. What is different is what is done once for all
policies of a decision and not for each of them: what is looked at is taken note of from the first of them to the last,
and one is asked at the time at which the one before it has answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.python.failure import Failure

from relay.mail.routing import ABSTAIN, Deliver, Discard, Forward, Hold, Inquiry
from relay.policy.asking import CURRENT, Asking, Stop
from relay.policy.looking import LOOKS, Look
from relay.policy.phases import RECIPIENT
from relay.policy.steps import Asked, Observer, Skipped

#: Verdicts that say where one copy goes.
ROUTES: Final = frozenset({Deliver, Forward, Discard, Hold})

_PHASE: Final = RECIPIENT.name

_step: Final = tuple.__new__


class Straight:
    """The policies about recipients, in their order."""

    __slots__ = ("_asking", "_seconds", "_stops")

    def __init__(self, stops: tuple[Stop, ...], asking: Asking, seconds: Callable[[], float]) -> None:
        """`asking` knows what an answer counts that is none of the usual ones. It observes nothing."""
        self._stops = stops
        self._asking = asking
        self._seconds = seconds

    def first(self, inquiry: Inquiry, observe: Observer | None) -> tuple[Any, Stop | None]:
        """
        What the first policy says that does not abstain at once, and which one that is; `ABSTAIN` and nobody if all do.

        Where one has to think it is what `Asking.put` says of it, for `Asking.first` to go on with.
        """
        recipient, seconds = inquiry.recipient, self._seconds
        looks: list[Look] = []
        token = None
        began = 0.0
        if observe is not None:
            token = LOOKS.set(looks)
            began = seconds()
        try:
            for stop in self._stops:
                skipped_by = stop.skipped_by
                if skipped_by is not None and (guard := skipped_by(inquiry)) is not None:
                    if observe is not None:
                        observe(_step(Skipped, (_PHASE, stop.name, recipient, guard, None, "", (), 0.0)))
                    continue
                CURRENT[0] = stop.name
                try:
                    said: Any = stop.ask(inquiry)
                except Exception:
                    said = self._asking.raised(inquiry, stop, Failure())
                if said is not ABSTAIN and type(said) not in ROUTES:
                    said = self._weighed(inquiry, stop, said)
                    if said is not ABSTAIN and type(said) not in ROUTES:
                        if observe is not None:
                            said = self._asking.told(inquiry, stop, said, looks, began, observe)
                        return said, stop
                if observe is not None:
                    answered = seconds()
                    found = tuple(looks) if looks else ()
                    # Whoever still adds to those, or to none, does so for that policy, and not for the next one.
                    looks = []
                    LOOKS.set(looks)
                    because = "" if said is ABSTAIN else said.because
                    took = (answered - began) * 1000
                    observe(_step(Asked, (_PHASE, stop.name, recipient, "", said, because, found, took)))
                    began = answered
                if said is not ABSTAIN:
                    return said, stop
            return ABSTAIN, None
        finally:
            CURRENT[0] = ""
            if token is not None:
                LOOKS.reset(token)

    def _weighed(self, inquiry: Inquiry, stop: Stop, said: Any) -> Any:
        """What it counts that a policy has said, where that is nothing usual."""
        try:
            return self._asking.weighed(inquiry, stop, said)
        except Exception:
            return self._asking.raised(inquiry, stop, Failure())
