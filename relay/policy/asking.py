"""
Asking policies, one after the other: whom, for how long, and what counts as an answer.

What each phase makes of the verdicts is said elsewhere (`relay.policy.chain`, `relay.policy.contents`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, TypeAlias

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.interfaces import IClock
from relay.mail.address import Address
from relay.mail.facts import Facts
from relay.mail.routing import ABSTAIN, Abstention, Delay, Note, Rewrite
from relay.net.waiting import start
from relay.policy.guard import Guard
from relay.policy.looking import LOOKS, Look
from relay.policy.patience import Came, Late, Raised, wait
from relay.policy.phases import Phase
from relay.policy.steps import Asked, Observer, Skipped
from relay.policy.tables import Unusable
from relay.smtp.answers import OUR_FAULT

#: RELIABILITY.md: a policy has 10 s for each question, and all of them have 30 s for a command.
POLICY_TIMEOUT: Final = 10.0
COMMAND_TIMEOUT: Final = 30.0

#: What code of others may raise. `sys.exit` in some library ends a program, and is no reason to answer no client.
FAILURES: Final = (Exception, SystemExit)

#: An inquiry of any phase (`relay.mail.phases`, `relay.mail.routing.Inquiry`).
Inquiry: TypeAlias = Any
#: Any verdict.
Verdict: TypeAlias = Any

_step: Final = tuple.__new__

#: No policy has said anything yet.
NOTHING: Final = object()

#: The name of the policy at work, which only those write who ask one.
CURRENT: Final[list[str]] = [""]


def at_work() -> str:
    """The name of the policy whose code runs now, or "": for whoever finds that the reactor stands still."""
    return CURRENT[0]


@frozen
class Station:
    """One policy's place in the chain."""

    #: What the log and explanations call it.
    name: str
    policy: Any
    #: `None`, or one without conditions: it is always asked.
    guard: Guard | None = None
    #: Seconds for each question.
    timeout: float = POLICY_TIMEOUT


class Stop:
    """A station, made ready to be asked in one phase."""

    __slots__ = (
        "ask",
        "beside_client",
        "certainly_skipped_by",
        "keys",
        "name",
        "of_client",
        "phase",
        "place",
        "policy",
        "reads",
        "reads_along",
        "routes",
        "skipped_by",
        "timeout",
        "usual",
        "verdicts",
    )

    def __init__(self, phase: Phase, place: int, station: Station) -> None:
        """`place` is where it stands among all policies of the configuration."""
        self.phase = phase
        self.place = place
        self.name = station.name
        self.policy = station.policy
        self.ask: Callable[[Inquiry], Verdict | Awaitable[Verdict]] = getattr(station.policy, phase.method)
        guard = station.guard.within(phase.known) if station.guard else None
        self.skipped_by = guard.skipped_by if guard else None
        self.of_client = guard.of_client if guard else None
        self.beside_client = guard.beside_client if guard else None
        self.keys = guard.keys if guard else ()
        early = guard.before_facts() if guard else None
        #: The same, whatever policies before it will find out.
        self.certainly_skipped_by = early.skipped_by if early else None
        self.timeout = station.timeout
        self.verdicts = phase.verdicts
        #: Of them, those in which nothing can be wrong.
        self.usual = phase.verdicts - {Rewrite}
        self.routes = getattr(station.policy, "routes", False) is True
        wants = getattr(station.policy, "wants", None)
        #: Of content: it wants all of it at the end, or as it comes in.
        self.reads, self.reads_along = wants == "message", wants == "stream"


def stops(phase: Phase, stations: Iterable[Station]) -> tuple[Stop, ...]:
    """Those that have something to say in this phase."""
    return tuple(
        Stop(phase, place, station)
        for place, station in enumerate(stations)
        if phase.interface.providedBy(station.policy)
    )


#: A verdict, the name of the policy it is from, that policy's place in the chain, and what is known by then; "" and -1
#: for nobody's.
Ruling: TypeAlias = tuple[Verdict, str, int, Facts]


class Thinking:
    """A policy that has to think, while somebody observes."""

    __slots__ = ("began", "looks", "verdict")

    def __init__(self, verdict: Deferred[Any], looks: list[Look], began: float) -> None:
        self.verdict = verdict
        self.looks = looks
        self.began = began


class Asking:
    """The questions of one decision: what they share is an observer, and a deadline."""

    __slots__ = ("_clock", "_deadline", "_log", "_observe", "_stops", "_timeout")

    def __init__(
        self,
        stops: tuple[Stop, ...],
        clock: IClock,
        log: Logger,
        timeout: float,
        observe: Observer | None,
        until: float | None = None,
    ) -> None:
        """`until`: the deadline, where the decision shares one with another one; by `IClock.seconds`."""
        self._stops = stops
        self._clock = clock
        self._log = log
        self._timeout = timeout
        self._observe = observe
        #: Set when something waits: what does not wait takes no time that anybody could measure.
        self._deadline = until

    async def first(
        self, inquiry: Inquiry, place: int = 0, said: Verdict | Deferred[Any] | Thinking = NOTHING
    ) -> Ruling:
        """
        What the first policy from `place` on says that does not abstain, and what is known by then; `ABSTAIN` if
        there is none. `said`: what `put` has had from the one at `place`, so that it is not asked again.
        """
        for stop in self._stops:
            if stop.place < place:
                continue
            if said is not NOTHING:
                verdict, said = said, NOTHING
            elif self.skip(inquiry, stop):
                continue
            else:
                verdict = self.put(inquiry, stop)
            if isinstance(verdict, Deferred | Thinking):
                verdict = await self.heard(inquiry, stop, verdict)
            if verdict is ABSTAIN:
                continue
            if type(verdict) is Note:
                inquiry = evolve(inquiry, facts=inquiry.facts.plus(verdict.facts))
                continue
            return verdict, stop.name, stop.place, inquiry.facts
        return ABSTAIN, "", -1, inquiry.facts

    async def ask(self, inquiry: Inquiry, stop: Stop) -> Verdict:
        """What one policy says."""
        verdict = self.put(inquiry, stop)
        return await self.heard(inquiry, stop, verdict) if isinstance(verdict, Deferred | Thinking) else verdict

    def put(self, inquiry: Inquiry, stop: Stop) -> Verdict | Deferred[Any] | Thinking:
        """What one policy says, or who it is that has to think (`heard`). An observer hears of what is said."""
        observe = self._observe
        looks: list[Look] = []
        began, token = 0.0, None
        if observe is not None:
            began = self._clock.seconds()
            token = LOOKS.set(looks)
        CURRENT[0] = stop.name
        try:
            verdict = stop.ask(inquiry)
            if type(verdict) not in stop.usual:
                verdict = self.weighed(inquiry, stop, verdict)
        except FAILURES:
            verdict = self.raised(inquiry, stop, Failure())
        finally:
            CURRENT[0] = ""
            if token is not None:
                LOOKS.reset(token)
        return verdict if observe is None else self.told(inquiry, stop, verdict, looks, began, observe)

    async def heard(self, inquiry: Inquiry, stop: Stop, thinking: Deferred[Any] | Thinking) -> Verdict:
        """What a policy says that had to think."""
        if isinstance(thinking, Deferred):
            return await self._later(inquiry, stop, thinking)
        verdict = await self._later(inquiry, stop, thinking.verdict)
        assert self._observe is not None, "somebody observes"
        return self.told(inquiry, stop, verdict, thinking.looks, thinking.began, self._observe)

    def skip(self, inquiry: Inquiry, stop: Stop) -> bool:
        """Whether a condition says that this one is not asked. An observer hears of it."""
        if stop.skipped_by is None or (guard := stop.skipped_by(inquiry)) is None:
            return False
        if self._observe is not None:
            self._observe(Skipped(recipient_of(inquiry), stop.name, guard, stop.phase.name))
        return True

    def told(
        self,
        inquiry: Inquiry,
        stop: Stop,
        verdict: Any,
        looks: list[Look],
        began: float,
        observe: Observer,
    ) -> Verdict | Thinking:
        """What a policy has said, and an observer has heard it; or who it is that has to think."""
        # A Deferred is known by what it is not: to ask whether something is one costs more than all of this.
        if type(verdict) not in stop.verdicts and isinstance(verdict, Deferred):
            return Thinking(verdict, looks, began)
        took = self._clock.seconds() - began
        about, phase, found = recipient_of(inquiry), stop.phase.name, tuple(looks)
        if type(verdict) is Delay and verdict.reply is OUR_FAULT:
            observe(Asked(about, stop.name, verdict, took, True, phase, found))
        else:
            because = "" if verdict is ABSTAIN else verdict.because
            observe(_step(Asked, (phase, stop.name, about, "", verdict, because, found, took * 1000)))
        return verdict

    def weighed(self, inquiry: Inquiry, stop: Stop, answer: Any) -> Verdict | Deferred[Any]:
        """What an answer counts, which may have to be waited for. What it raises is for `raised`."""
        if type(answer) in stop.usual:
            return answer
        answer = start(answer)
        return answer if isinstance(answer, Deferred) else self._checked(inquiry, stop, answer)

    async def _later(self, inquiry: Inquiry, stop: Stop, awaited: Deferred[Any]) -> Verdict:
        now = self._clock.seconds()
        if self._deadline is None:
            self._deadline = now + self._timeout
        match await wait(self._clock, min(stop.timeout, max(0.0, self._deadline - now)), awaited):
            case Came(answer):
                return self._checked(inquiry, stop, answer)
            case Raised(failure):
                return self.raised(inquiry, stop, failure)
            case Late(seconds):
                self._log.error(
                    "policy {policy} has not answered about {about} within {seconds} seconds: 451",
                    policy=stop.name,
                    about=_about(inquiry),
                    seconds=seconds,
                )
                return Delay(OUR_FAULT, f"no answer within {seconds:g} seconds")

    def _checked(self, inquiry: Inquiry, stop: Stop, answer: object) -> Verdict:
        kind = type(answer)
        if kind in stop.verdicts:
            if not isinstance(answer, Rewrite) or all(isinstance(each, Address) for each in answer.recipients):
                return answer
            said = "a Rewrite with recipients that are no addresses"
        elif isinstance(answer, Abstention):
            return answer
        else:
            said = "None" if answer is None else f"a value of type {kind.__name__}"
        self._log.error(
            "policy {policy} answered about {about} with {said}, which is no verdict: 451",
            policy=stop.name,
            about=_about(inquiry),
            said=said,
        )
        return Delay(OUR_FAULT, f"said {said}, which is no verdict")

    def raised(self, inquiry: Inquiry, stop: Stop, failure: Failure) -> Verdict:
        """What it counts that a policy has raised an exception."""
        if isinstance(failure.value, Unusable):
            # A slip of the operator's in a file: where it is says all, and a traceback nothing.
            self._log.error(
                "{problem}: policy {policy} cannot be asked about {about}: 451",
                problem=failure.value,
                policy=stop.name,
                about=_about(inquiry),
            )
            return Delay(OUR_FAULT, str(failure.value))
        self._log.failure(
            "policy {policy} raised an exception when it was asked about {about}: 451",
            failure,
            policy=stop.name,
            about=_about(inquiry),
        )
        return Delay(OUR_FAULT, f"raised {failure.type.__name__ if failure.type else 'an exception'}")


def recipient_of(inquiry: Inquiry) -> Address | None:
    """Whom a question is about, if it is about one recipient."""
    return getattr(inquiry, "recipient", None)


def _about(inquiry: Inquiry) -> str:
    """What a question is about, for the log."""
    recipient = recipient_of(inquiry)
    if recipient is not None:
        return f"<{recipient}>"
    if hasattr(inquiry, "id"):
        return str(inquiry.id)
    if hasattr(inquiry, "reverse_path"):
        return f"the sender <{inquiry.reverse_path or ''}>"
    return f"the client {inquiry.client.address or 'at a Unix socket'}"
