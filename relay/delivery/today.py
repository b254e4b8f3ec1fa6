"""
Routes of the day: where a copy goes is asked again before it is tried again.

A queue outlives configurations. A next hop that is gone from the configuration is not tried for days, and one that has
come into it takes what waits. The first attempt, right behind the 250, goes where the policies have just said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

from attrs import evolve, field, frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from relay.interfaces import Claim, IClock, IMailLog, IRoutes
from relay.mail.decision import Accepted, Decision, Refused
from relay.mail.outcome import Delayed
from relay.mail.queue import EXPANSION, Pending, destination
from relay.mail.routing import Deliver, Forward, Inquiry, Route
from relay.mail.selection import BY_OPERATOR
from relay.net.clock import cancel
from relay.net.waiting import start

#: The log is told so often at most, in seconds: the mail log tells it of each copy.
_ALARM_SECONDS = 60.0
#: Destinations of which it is remembered under what names the spool has their mail.
_MOST_NAMES = 1000


#: What is found out about a recipient, at once or later.
_Found: TypeAlias = Pending | Delayed | Deferred[Pending | Delayed]


@frozen
class Routed:
    """Some recipients of a claim that go to one destination, or, if there is a reason, nowhere now."""

    claim: Claim
    nowhere: Delayed | None = None


@frozen
class Today:
    """Asks the policies of today about what waits. No exception comes out of it."""

    routes: IRoutes
    clock: IClock
    mail_log: IMailLog
    #: So many seconds the policies have for all recipients of a claim together: less than its lease.
    deadline: float
    log: Logger = field(factory=lambda: Logger(namespace="relay.delivery"))
    #: From which destinations, as the spool has them, mail goes to this one today.
    _formerly: dict[str, set[str]] = field(factory=dict)
    #: When the operator was told last.
    _told: list[float] = field(factory=lambda: [float("-inf")])

    async def route(self, claim: Claim) -> Sequence[Routed]:
        """
        The recipients of this claim by where they go today; it is the same claim if nothing has changed. Of whom no
        policy has said anything at the deadline goes nowhere now.
        """
        # All are asked at once: one after another many of them take longer than any lease.
        looks: list[_Found] = [start(self._look(claim, pending)) for pending in claim.pending]
        if len(looks) == 1 and looks[0] is claim.pending[0]:
            # So nearly every claim goes where it was going, and nobody has to wait to know it.
            return (Routed(claim),)
        ways: dict[tuple[str, Delayed | None], list[Pending]] = {}
        for pending, found in zip(claim.pending, await self._seen(claim, looks), strict=True):
            way = (pending.recipient.destination, found) if isinstance(found, Delayed) else (_of(found), None)
            ways.setdefault(way, []).append(pending if isinstance(found, Delayed) else found)
        if len(ways) == 1:
            [((_, nowhere), pendings)] = ways.items()
            same = all(one is other for one, other in zip(pendings, claim.pending, strict=True))
            return (Routed(claim if same else evolve(claim, pending=tuple(pendings)), nowhere),)
        return [Routed(evolve(claim, pending=tuple(pendings)), nowhere) for (_, nowhere), pendings in ways.items()]

    def former_names(self, destinations: Iterable[str]) -> Iterator[str]:
        """Under which other names the spool has mail for these: who wants no more of it must say these, too."""
        for name in destinations:
            yield from self._formerly.get(name, ())

    async def _seen(self, claim: Claim, found: list[_Found]) -> Sequence[Pending | Delayed]:
        """What these looks have come to, at the deadline at the latest."""
        if any(isinstance(each, Deferred) for each in found):
            await _Gathering(found).until(self.clock, self.deadline)
        because = f"no answer within {self.deadline:g} s"
        return [
            self._nowhere(claim, pending, because) if isinstance(each, Deferred) else each
            for pending, each in zip(claim.pending, found, strict=True)
        ]

    async def _look(self, claim: Claim, pending: Pending) -> Pending | Delayed:
        recipient, envelope = pending.recipient, claim.entry.envelope
        route = recipient.route
        if not isinstance(route, Forward) and (not isinstance(route, Deliver) or route == EXPANSION):
            return pending
        if route.because == BY_OPERATOR:
            return pending
        inquiry = Inquiry(
            recipient.address, recipient.original, envelope.reverse_path, envelope.client, recipient.facts
        )
        try:
            decision = await self.routes.today(inquiry, recipient.policy)
        except CancelledError:
            raise
        except Exception:
            self.log.failure("No policy could be asked where {recipient} goes today", recipient=str(recipient.address))
            return self._nowhere(claim, pending, "an internal error")
        return pending if decision is None else self._by(decision, claim, pending)

    def _by(self, decision: Decision, claim: Claim, pending: Pending) -> Pending | Delayed:
        recipient = pending.recipient
        match decision:
            case Refused(reply=reply, because=because):
                return self._nowhere(claim, pending, because or str(reply))
            case Accepted((placement,)) if isinstance(placement.route, Deliver | Forward):
                if _same(placement.route, recipient.route):
                    if placement.policy == recipient.policy:
                        return pending
                    return evolve(pending, recipient=evolve(recipient, policy=placement.policy))
                way = destination(placement.route)
                if len(self._formerly) >= _MOST_NAMES:
                    self._formerly.clear()
                self._formerly.setdefault(way, set()).add(recipient.destination)
                self.mail_log.event(
                    "rerouted",
                    id=claim.entry.id,
                    recipient=recipient.address,
                    destination=recipient.destination,
                    via=way,
                    policy=placement.policy,
                )
                changed = evolve(recipient, route=placement.route, destination=way, policy=placement.policy)
                return evolve(pending, recipient=changed)
            case _:
                return self._nowhere(claim, pending, "what the policies say of it now is no way")

    def _nowhere(self, claim: Claim, pending: Pending, because: str) -> Delayed:
        now = self.clock.seconds()
        if now - self._told[0] >= _ALARM_SECONDS:
            self._told[0] = now
            self.log.error(
                "The policies of today send {recipient} of {id} nowhere, which {policy} has once accepted: {because}. "
                "It waits; `relayctl queue list` shows how many others do",
                recipient=str(pending.recipient.address),
                id=claim.entry.id,
                policy=pending.recipient.policy or "nobody",
                because=because,
            )
        return Delayed("4.3.5", f"the policies of today send it nowhere: {because}")


class _Gathering:
    """Waits for those that are not known yet, and puts what they say in their places."""

    def __init__(self, found: list[_Found]) -> None:
        self._found = found
        self._waiting = {at: each for at, each in enumerate(found) if isinstance(each, Deferred)}
        self._over: Deferred[None] = Deferred()

    async def until(self, clock: IClock, deadline: float) -> None:
        """Whoever has not answered then is cancelled. It is not waited for: it need not obey."""
        for at, each in tuple(self._waiting.items()):
            each.addCallback(partial(self._came, at)).addErrback(_nobody_listens)
        timer = clock.callLater(deadline, self._end)
        try:
            if self._waiting:
                await self._over
        finally:
            cancel(timer)
            late, self._waiting = self._waiting, {}
            for each in late.values():
                each.cancel()

    def _came(self, at: int, found: Pending | Delayed) -> None:
        if self._waiting.pop(at, None) is None:
            return
        self._found[at] = found
        if not self._waiting:
            self._end()

    def _end(self) -> None:
        if not self._over.called:
            self._over.callback(None)


def _nobody_listens(_failure: Failure) -> None:
    """It was cancelled: nothing else comes out of a look as a failure."""


def _of(pending: Pending) -> str:
    return pending.recipient.destination


def _same(one: Route, other: Route) -> bool:
    """Whether two routes lead the same way, whatever is said of why."""
    match one, other:
        case Forward(hops), Forward(others):
            return hops == others
        case Deliver(agent, parameters), Deliver(name, more):
            return agent == name and parameters == more
        case _:
            return False
