"""
A work, its destination, and at how many connections a destination is kept busy.

A destination's limit is a promise to whoever is at the other end. When nothing but the final reply to a message is
awaited, the next work begins in its place, and there are more works than the limit; but not more connections: who
began so follows on the very connection of the one ahead, or waits for one of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from zope.interface import implementer

from relay.delivery.attempt import Attempts, ICourse
from relay.delivery.consulting import Consulted
from relay.delivery.exchangers import Exchangers
from relay.delivery.health import Health
from relay.delivery.turns import Turns
from relay.interfaces import Claim, IPassing, IPlace
from relay.mail.outcome import Delayed, Unresolved


class Cut(Enum):
    """Why an attempt was cut short."""

    #: It took longer than any attempt may.
    LATE = "late"
    #: The relay stops.
    STOPPING = "stopping"
    #: Somebody else holds the recipients now.
    LOST = "lost"


@frozen
class PutOff:
    """Why nothing is tried, since the destination is paused, and when it may be tried; 0: nobody knows."""

    because: Delayed
    until: float


def _nothing(work: Work) -> None:
    """Nobody dispatches."""


@define(eq=False)
class UnderWay:
    """What becomes of an attempt that has come so far: see `ITraveller`."""

    sent: Callable[[Work], None] = _nothing
    arrived: Callable[[Work], None] = _nothing


@define(eq=False)
class Destination:
    """What is held for one destination."""

    name: str
    health: Health
    under_way: UnderWay
    active: int = 0
    #: Beside these, how many attempts await nothing but a final reply: the next one follows on their connection.
    trailing: int = 0
    #: How many connections all of these may use.
    connections: int = 0
    #: Those of the `active` who wait for one, the first one first; `None`: there was nobody yet.
    crowd: deque[Work] | None = None
    waiting: Turns[Work] = field(factory=Turns)
    #: Whether it stands in the row of those that could begin something, or rests.
    in_row: bool = False

    @property
    def limit(self) -> int:
        """How many attempts may be under way."""
        return self.health.limit


@implementer(ICourse)
@define(eq=False)
class Work:
    """Some recipients of one entry with one destination, from the claim until their outcomes are written down."""

    claim: Claim
    destination: Destination
    #: When its attempt began, by `IClock.now`.
    began: float = 0.0
    #: In which era of its destination's health that was.
    era: int = 0
    #: The `Deferred` of its attempt, while that waits for something, or the `IPassing`.
    attempt: Any = None
    #: See `ICourse`, as for `attempt`.
    found: Exchangers | Awaitable[Exchangers | Unresolved] | None = None
    passing: IPassing | None = None
    #: By whom it was begun, if that is not done by them any more: others would go on with it in another way.
    by: Attempts | Consulted | None = None
    cut: Cut | None = None
    put_off: PutOff | None = None
    #: It takes up a place of its destination, or did so before it was `trailing`.
    under_way: bool = False
    #: Nothing but the final reply to its content was awaited, and the next one could begin.
    trailing: bool = False
    #: Its outcomes are decided, and in the ledger.
    concluded: bool = False
    #: One of its destination's connections is for it.
    own: bool = False
    #: Whom it follows on that one's connection, while that one is under way; and who follows this one.
    ahead: Work | None = None
    follower: Work | None = None
    #: Fires when it need not wait for a connection any longer.
    may_go: Deferred[None] | None = None

    def sent(self) -> None:
        destination = self.destination
        if destination.waiting.heap:
            # Else nobody is there to follow.
            destination.under_way.sent(self)

    def arrived(self) -> None:
        self.destination.under_way.arrived(self)

    def follow(self, ahead: IPlace) -> bool:
        if type(ahead) is not Work or ahead.destination is not self.destination or not ahead.own or ahead.follower:
            return self.own
        if self.ahead is not None:
            self.ahead.follower = None
        self.ahead, ahead.follower = ahead, self
        if self.own:
            # Two of them with one connection: the other one is free.
            self.own = False
            self.destination.connections -= 1
        return True

    def leave(self) -> None:
        self.part()
        if self.trailing:
            # Somebody else has its place: it is one of the active ones again, even if it is one too many.
            destination = self.destination
            self.trailing = False
            destination.trailing -= 1
            destination.active += 1

    def part(self) -> None:
        """Nobody else has a connection together with it from now on: whoever follows keeps the one that they had."""
        ahead, follower = self.ahead, self.follower
        if ahead is not None:
            self.ahead = ahead.follower = None
        if follower is not None:
            self.follower = follower.ahead = None
            self.own, follower.own = False, True

    def wait(self) -> Deferred[None]:
        destination = self.destination
        self.may_go = Deferred(self._wait_no_more)
        if destination.connections < destination.health.limit:
            destination.connections += 1
            self.own = True
            self.may_go.callback(None)
        else:
            if destination.crowd is None:
                destination.crowd = deque()
            destination.crowd.append(self)
        return self.may_go

    def _wait_no_more(self, _: Deferred[None]) -> None:
        """It is cancelled."""
        if self.destination.crowd is not None and self in self.destination.crowd:
            self.destination.crowd.remove(self)
