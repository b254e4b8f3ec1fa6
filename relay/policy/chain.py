"""The ordered list of policies, phase by phase: the first that does not abstain decides."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger
from zope.interface import implementer

from relay.interfaces import Deciding, IAttemptScreening, IChain, IClock, IRoutes, IScreening
from relay.mail.decision import Accepted, Admission, Admitted, Decision, Placement, Refused
from relay.mail.dsn import NO_WISHES
from relay.mail.envelope import Envelope
from relay.mail.facts import Facts
from relay.mail.phases import AttemptInquiry, AttemptVerdict, ConnectionInquiry, SenderInquiry
from relay.mail.routing import ABSTAIN, Accept, Delay, Inquiry, Reject, Rewrite, Route
from relay.policy.aside import aside
from relay.policy.asking import COMMAND_TIMEOUT, NOTHING, POLICY_TIMEOUT, Asking, Ruling, Station, Stop, stops
from relay.policy.contents import Content
from relay.policy.expansion import Expansion
from relay.policy.narrowed import Narrowed, Turn
from relay.policy.phases import ATTEMPT, CONNECTION, CONTENT, RECIPIENT, SENDER
from relay.policy.sparing import Sparing
from relay.policy.steps import Observer
from relay.policy.straight import ALL_ABSTAINED, Straight, denied
from relay.smtp.answers import OUR_FAULT

__all__ = ["COMMAND_TIMEOUT", "POLICY_TIMEOUT", "Chain", "Station"]


@implementer(IChain, IRoutes, IScreening, IAttemptScreening)
class Chain:
    """
    Asks its stations in order, and follows aliases.

    It never fails open. Where nobody decides about a recipient the answer is 550 5.7.1. A policy that raises, is too
    late, or says what is no verdict makes it 451 4.3.0 for what it was asked about, and the log has the policy's name,
    with the traceback if there is one.

    No method costs a `Deferred` as long as no policy waits (drive them by `relay.net.waiting.start`). `observe` hears
    of each step as it is made; without it no record is kept. If one is cancelled, Twisted's `CancelledError` passes
    through.
    """

    def __init__(
        self, stations: Iterable[Station], clock: IClock, log: Logger, timeout: float = COMMAND_TIMEOUT
    ) -> None:
        """`timeout`: seconds for one decision, all that it waits for together."""
        self.stations = tuple(stations)
        self._connection = stops(CONNECTION, self.stations)
        self._sender = stops(SENDER, self.stations)
        self._recipient = stops(RECIPIENT, self.stations)
        self._content = stops(CONTENT, self.stations)
        self._attempt = stops(ATTEMPT, self.stations)
        self._routing = tuple(stop for stop in self._recipient if stop.routes)
        self._clock = clock
        self._log = log
        self._timeout = timeout
        self._straight = Narrowed(self._recipient, self._straight_way)
        self._sparing = Narrowed(self._content, Sparing)
        self.asks_clients = bool(self._connection)
        self.asks_senders = bool(self._sender)
        self.asks_contents = bool(self._content)
        self.asks_attempts = bool(self._attempt)

    def without(self, names: Collection[str]) -> Chain:
        """The same, as if these policies had nothing to say."""
        left = (station for station in self.stations if station.name not in names)
        return Chain(left, self._clock, self._log, self._timeout)

    def followed_by(self, station: Station) -> Chain:
        """The same, with one more policy behind all others."""
        return Chain((*self.stations, station), self._clock, self._log, self._timeout)

    # In the order of a session.

    async def connect(self, inquiry: ConnectionInquiry, observe: Observer | None = None) -> Admission:
        return _admission(await self._asking(self._connection, observe).first(inquiry))

    async def sender(
        self, inquiry: SenderInquiry, observe: Observer | None = None, until: float | None = None
    ) -> Admission:
        return _admission(await self._asking(self._sender, observe, until).first(inquiry))

    async def route(self, inquiry: Inquiry, observe: Observer | None = None) -> Decision:
        return await self._routed(self._asking(self._recipient, observe), inquiry)

    async def inquire(self, inquiry: Inquiry) -> Decision:
        return await aside(self.route(inquiry))

    def decide(self, inquiry: Inquiry, observe: Observer | None = None) -> Decision | Awaitable[Decision]:
        """`route`, without a coroutine where nothing waits."""
        decision = self._straight.of(inquiry).decide(inquiry, observe)
        return Accepted((decision,)) if isinstance(decision, Placement) else decision

    def deciding(self, inquiry: Inquiry) -> Deciding:
        """
        `decide`, for each RCPT that the client of this inquiry says. Where a policy waits, notes something or makes
        others of the recipient, it goes on from there in the way of all.
        """
        return self._straight.of(inquiry).decide

    def _straight_way(self, turns: Iterable[Turn]) -> Straight:
        return Straight(turns, self._asking(self._recipient, None), self._clock.seconds, self._go_on)

    def _go_on(self, inquiry: Inquiry, observe: Observer | None, stop: Stop, said: Any) -> Awaitable[Decision]:
        return self._routed(self._asking(self._recipient, observe), inquiry, stop.place, said)

    async def _routed(self, asking: Asking, inquiry: Inquiry, place: int = 0, said: Any = NOTHING) -> Decision:
        verdict, policy, place, facts = await _rule(asking, inquiry, place, said)
        if isinstance(verdict, Rewrite):
            return await Expansion(partial(_rule, asking), self._log).decide(inquiry, verdict, policy, place)
        if isinstance(verdict, Reject | Delay):
            return Refused(verdict.reply, policy, verdict.because)
        return _placed(inquiry, verdict, policy, facts)

    def content_policies(self, inquiry: Inquiry) -> tuple[int, ...]:
        """Which policies will be asked about the content, as far as it goes to this recipient."""
        return tuple(stop.place for stop in self._content if not (stop.skipped_by and stop.skipped_by(inquiry)))

    def sparing(self, inquiry: Inquiry) -> Sparing:
        return self._sparing.of(inquiry)

    def content(
        self, id: str, envelope: Envelope, about: Sequence[Inquiry], observe: Observer | None = None
    ) -> Content:
        return Content(self._asking(self._content, observe), self._content, id, envelope, about, self._log, observe)

    async def attempt(self, inquiry: AttemptInquiry, about: Inquiry, observe: Observer | None = None) -> AttemptVerdict:
        asking = self._asking(self._attempt, observe)
        for stop in self._attempt:
            if stop.skipped_by is not None and stop.skipped_by(about) is not None:
                continue
            verdict: AttemptVerdict = await asking.ask(inquiry, stop)
            if verdict is not ABSTAIN:
                return verdict
        return ABSTAIN

    # From the queue.

    async def today(self, inquiry: Inquiry, policy: str) -> Decision | None:
        decided = [stop for stop in self._recipient if stop.name == policy]
        if not self._routing or any(not stop.routes for stop in decided):
            return None
        verdict, name, _, facts = await _rule(self._asking(self._routing, None), inquiry, 0)
        if isinstance(verdict, Reject | Delay):
            return Refused(verdict.reply, name, verdict.because)
        if isinstance(verdict, Rewrite):
            return Refused(OUR_FAULT, name, "it stands for others now")
        return _placed(inquiry, verdict, name, facts)

    def _asking(self, stops: tuple[Stop, ...], observe: Observer | None, until: float | None = None) -> Asking:
        return Asking(stops, self._clock, self._log, self._timeout, observe, until)


async def _rule(asking: Asking, inquiry: Inquiry, place: int, said: Any = NOTHING) -> Ruling:
    """Of a recipient somebody has to decide."""
    ruling = await asking.first(inquiry, place, said)
    if ruling[0] is not ABSTAIN:
        return ruling
    return Reject(denied(inquiry), ALL_ABSTAINED), "", -1, ruling[3]


def _placed(inquiry: Inquiry, route: Route, policy: str, facts: Facts) -> Accepted:
    return Accepted((Placement(inquiry.recipient, inquiry.original, route, policy, route.because, NO_WISHES, facts),))


def _admission(ruling: Ruling) -> Admission:
    verdict, policy, _, facts = ruling
    match verdict:
        case Reject(reply, because) | Delay(reply, because):
            return Refused(reply, policy, because)
        case Accept(because, more):
            return Admitted(facts.plus(more), policy, because)
        case _:
            return Admitted(facts)
