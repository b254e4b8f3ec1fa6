"""A policy that blocks, where whoever asks it has to wait: it is asked until it has taken too much time in all."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Final

from zope.interface import directlyProvides, providedBy

from relay.mail.routing import Delay
from relay.smtp.answers import OUR_FAULT

#: Seconds that all questions to one such policy may take.
RATION: Final = 5.0


class Rationed:
    """It provides what `policy` does. When the time is used up each question comes back unanswered, at once."""

    def __init__(
        self,
        policy: Any,
        *,
        now: Callable[[], float],
        unanswered: Callable[[], object],
        seconds: float,
    ) -> None:
        """`now`: seconds of a clock that runs while it blocks. `unanswered` is called for each such question."""
        self._policy = policy
        self._now = now
        self._unanswered = unanswered
        self._left = seconds
        #: How many questions came back unanswered.
        self.unanswered = 0
        directlyProvides(self, *providedBy(policy))

    def __getattr__(self, name: str) -> Any:
        """What else there is to know of the policy."""
        return getattr(self._policy, name)

    def connect(self, inquiry: Any) -> Any:
        return self._ask(self._policy.connect, inquiry)

    def sender(self, inquiry: Any) -> Any:
        return self._ask(self._policy.sender, inquiry)

    def route(self, inquiry: Any) -> Any:
        return self._ask(self._policy.route, inquiry)

    def _ask(self, method: Callable[[Any], Any], inquiry: Any) -> Any:
        if self._left <= 0:
            self.unanswered += 1
            self._unanswered()
            return Delay(OUR_FAULT, "it blocks, and has been asked for too long")
        return self._answered(method, inquiry)

    async def _answered(self, method: Callable[[Any], Any], inquiry: Any) -> Any:
        began = self._now()
        try:
            said = method(inquiry)
            return await said if isawaitable(said) else said
        finally:
            self._left -= self._now() - began
