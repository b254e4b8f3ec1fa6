"""The ordered list of policies: the first that does not abstain decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from relay.interfaces import IChain, IClock, IRoutes, IRoutingPolicy
from relay.mail.address import Address
from relay.mail.decision import Accepted, Decision, Placement, Refused
from relay.mail.routing import (
    ABSTAIN,
    Abstention,
    Delay,
    Deliver,
    Discard,
    Forward,
    Hold,
    Inquiry,
    Reject,
    Rewrite,
    RoutingVerdict,
)
from relay.net.waiting import start
from relay.policy.expansion import Expansion, Ruling
from relay.policy.guard import Guard
from relay.policy.names import about
from relay.policy.patience import Came, Late, Raised, wait
from relay.policy.steps import Asked, Observer, Skipped
from relay.smtp.answers import OUR_FAULT

#: RELIABILITY.md: a policy has 10 s for each question, and all of them have 30 s for a command.
POLICY_TIMEOUT: Final = 10.0
COMMAND_TIMEOUT: Final = 30.0

#: Verdicts that need no second look. `Rewrite` does: its recipients are asked about.
_AT_SIGHT: Final = frozenset({Abstention, Deliver, Forward, Reject, Delay, Discard, Hold})


@frozen
class Station:
    """One policy's place in the chain."""

    #: What the log and explanations call it.
    name: str
    policy: IRoutingPolicy
    #: `None`, or one without conditions: it is always asked.
    guard: Guard | None = None
    #: Seconds for each question.
    timeout: float = POLICY_TIMEOUT


@implementer(IChain, IRoutes)
class Chain:
    """
    Asks its stations in order, and follows aliases.

    It never fails open. Where nobody decides the answer is 550 5.7.1. A policy that raises, is too late, or says
    what is no verdict makes it 451 4.3.0 for the one recipient that it was asked about, and the log has the
    policy's name, with the traceback if there is one.
    """

    def __init__(
        self, stations: Iterable[Station], clock: IClock, log: Logger, timeout: float = COMMAND_TIMEOUT
    ) -> None:
        """`timeout`: seconds for one decision, all that it waits for together."""
        self.stations = tuple(stations)
        self._stops = tuple(_Stop(place, station) for place, station in enumerate(self.stations))
        self._routing = tuple(stop for stop in self._stops if stop.routes)
        self._clock = clock
        self._log = log
        self._timeout = timeout

    async def route(self, inquiry: Inquiry, observe: Observer | None = None) -> Decision:
        """
        Where the recipient's copy goes, or the reply that refuses it.

        Costs no `Deferred` as long as no policy waits (drive it by `relay.net.waiting.start`). `observe` hears
        of each step as it is made; without it no record is kept. If it is cancelled, Twisted's `CancelledError`
        passes through.
        """
        asking = _Asking(self._stops, self._clock, self._log, self._timeout, observe)
        verdict, policy, place = await asking.first(inquiry, 0)
        if isinstance(verdict, Rewrite):
            return await Expansion(asking.first, self._log).decide(inquiry, verdict, policy, place)
        if isinstance(verdict, Reject | Delay):
            return Refused(verdict.reply, policy, verdict.because)
        return Accepted((Placement(inquiry.recipient, inquiry.original, verdict, policy, verdict.because),))

    async def today(self, inquiry: Inquiry, policy: str) -> Decision | None:
        decided = [stop for stop in self._stops if stop.name == policy]
        if not self._routing or any(not stop.routes for stop in decided):
            return None
        asking = _Asking(self._routing, self._clock, self._log, self._timeout, None)
        verdict, name, _ = await asking.first(inquiry, 0)
        if isinstance(verdict, Reject | Delay):
            return Refused(verdict.reply, name, verdict.because)
        if isinstance(verdict, Rewrite):
            return Refused(OUR_FAULT, name, "it stands for others now")
        return Accepted((Placement(inquiry.recipient, inquiry.original, verdict, name, verdict.because),))


class _Stop:
    """A station, made ready to be asked."""

    __slots__ = ("ask", "name", "place", "routes", "skipped_by", "timeout")

    def __init__(self, place: int, station: Station) -> None:
        self.place = place
        self.name = station.name
        self.ask: Callable[[Inquiry], RoutingVerdict | Awaitable[RoutingVerdict]] = station.policy.route
        self.skipped_by = station.guard.skipped_by if station.guard else None
        self.timeout = station.timeout
        self.routes = getattr(station.policy, "routes", False) is True


class _Asking:
    """The questions of one decision: what they share is an observer, and a deadline."""

    __slots__ = ("_clock", "_deadline", "_log", "_observe", "_stops", "_timeout")

    def __init__(
        self, stops: tuple[_Stop, ...], clock: IClock, log: Logger, timeout: float, observe: Observer | None
    ) -> None:
        self._stops = stops
        self._clock = clock
        self._log = log
        self._timeout = timeout
        self._observe = observe
        #: Set when something waits: what does not wait takes no time that anybody could measure.
        self._deadline: float | None = None

    async def first(self, inquiry: Inquiry, place: int) -> Ruling:
        """What the first policy from `place` on says that does not abstain."""
        observe = self._observe
        for stop in self._stops[place:] if place else self._stops:
            if stop.skipped_by is not None and (guard := stop.skipped_by(inquiry)) is not None:
                if observe is not None:
                    observe(Skipped(inquiry.recipient, stop.name, guard))
                continue
            began = 0.0 if observe is None else self._clock.seconds()
            verdict = self._at_once(inquiry, stop)
            if isinstance(verdict, Deferred):
                verdict = await self._later(inquiry, stop, verdict)
            if observe is not None:
                seconds = self._clock.seconds() - began
                observe(Asked(inquiry.recipient, stop.name, verdict, seconds, failed=_stands_for_failure(verdict)))
            if verdict is not ABSTAIN:
                return verdict, stop.name, stop.place
        return Reject(about(inquiry.original, 550, "5.7.1", "relaying denied"), "every policy abstained"), "", -1

    def _at_once(self, inquiry: Inquiry, stop: _Stop) -> RoutingVerdict | Deferred[Any]:
        try:
            answer = stop.ask(inquiry)
            if type(answer) in _AT_SIGHT:
                return answer  # type: ignore[return-value]  # mypy does not know that this narrows it
            answer = start(answer)
        except Exception:
            return self._raised(inquiry, stop, Failure())
        return answer if isinstance(answer, Deferred) else self._checked(inquiry, stop, answer)

    async def _later(self, inquiry: Inquiry, stop: _Stop, awaited: Deferred[Any]) -> RoutingVerdict:
        now = self._clock.seconds()
        if self._deadline is None:
            self._deadline = now + self._timeout
        match await wait(self._clock, min(stop.timeout, max(0.0, self._deadline - now)), awaited):
            case Came(answer):
                return self._checked(inquiry, stop, answer)
            case Raised(failure):
                return self._raised(inquiry, stop, failure)
            case Late(seconds):
                self._log.error(
                    "policy {policy} has not answered about <{recipient}> within {seconds} seconds: 451",
                    policy=stop.name,
                    recipient=str(inquiry.recipient),
                    seconds=seconds,
                )
                return Delay(OUR_FAULT, f"no answer within {seconds:g} seconds")

    def _checked(self, inquiry: Inquiry, stop: _Stop, answer: object) -> RoutingVerdict:
        if isinstance(answer, Rewrite):
            if all(isinstance(recipient, Address) for recipient in answer.recipients):
                return answer
            said = "a Rewrite with recipients that are no addresses"
        elif isinstance(answer, Abstention | Deliver | Forward | Reject | Delay | Discard | Hold):
            return answer
        else:
            said = "None" if answer is None else f"a value of type {type(answer).__name__}"
        self._log.error(
            "policy {policy} answered about <{recipient}> with {said}, which is no verdict: 451",
            policy=stop.name,
            recipient=str(inquiry.recipient),
            said=said,
        )
        return Delay(OUR_FAULT, f"said {said}, which is no verdict")

    def _raised(self, inquiry: Inquiry, stop: _Stop, failure: Failure) -> RoutingVerdict:
        self._log.failure(
            "policy {policy} raised an exception when it was asked about <{recipient}>: 451",
            failure,
            policy=stop.name,
            recipient=str(inquiry.recipient),
        )
        return Delay(OUR_FAULT, f"raised {failure.type.__name__ if failure.type else 'an exception'}")


def _stands_for_failure(verdict: RoutingVerdict) -> bool:
    return isinstance(verdict, Delay) and verdict.reply is OUR_FAULT
