"""Looking names up for one question of a policy, for no longer than it may wait."""

from __future__ import annotations

from collections.abc import Awaitable

from attrs import frozen
from twisted.internet.defer import Deferred

from relay.interfaces import IClock, IResolver
from relay.mail.answer import Answer, Found, Unanswered
from relay.net.waiting import start
from relay.policy.patience import Came, Raised, wait


@frozen
class Addresses:
    """What the DNS says of a host's addresses."""

    addresses: tuple[str, ...]
    #: Why this may not be all of them, or "".
    unanswered: str = ""


class LookUps:
    """
    The look-ups of one question. Together they wait so many seconds, and what has not come by then is `Unanswered`: the
    policy can still say what it wants to say where nobody knows.
    """

    def __init__(self, resolver: IResolver, clock: IClock, seconds: float) -> None:
        self._resolver = resolver
        self._clock = clock
        self._seconds = seconds
        self._deadline: float | None = None

    async def look_up(self, name: str, kind: str) -> Answer:
        """As `IResolver.look_up`, but for the time."""
        asked: Awaitable[Answer] = self._resolver.look_up(name, kind)
        answer: Answer | Deferred[Answer] = start(asked)
        if not isinstance(answer, Deferred):
            return answer
        now = self._clock.seconds()
        if self._deadline is None:
            self._deadline = now + self._seconds
        match await wait(self._clock, max(0.0, self._deadline - now), answer):
            case Came(came):
                return came
            case Raised(failure):
                failure.raiseException()
                raise AssertionError
            case _:
                return Unanswered(f"no answer within {self._seconds:g} seconds")

    async def addresses(self, name: str) -> Addresses:
        """The addresses of a host, of both families."""
        found: list[str] = []
        unanswered = ""
        for kind in ("A", "AAAA"):
            match await self.look_up(name, kind):
                case Found(records):
                    found.extend(map(str, records))
                case Unanswered(why):
                    unanswered = f"{name} {kind}: {why}"
                case _:
                    pass
        return Addresses(tuple(found), unanswered)
