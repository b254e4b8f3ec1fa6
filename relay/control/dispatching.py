"""The dispatcher as an operator sees it."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from relay.delivery.destination import Condition
from relay.delivery.dispatch import Dispatcher
from relay.mail.outcome import Delayed
from relay.mail.waiting import DestinationView, Reason


@frozen
class Dispatching:
    """Answers for a dispatcher; see `relay.control.running.HasDestinations`."""

    dispatcher: Dispatcher

    def destinations(self) -> Sequence[DestinationView]:
        return sorted(map(view, self.dispatcher.destinations()), key=lambda each: each.name)

    def pause(self, name: str) -> None:
        self.dispatcher.pause(name)

    def resume(self, name: str) -> None:
        self.dispatcher.resume(name)

    def wake(self) -> None:
        self.dispatcher.wake()


def view(condition: Condition) -> DestinationView:
    """How a destination is, in the words of the closed set of reasons."""
    trouble = condition.last_trouble
    met = () if trouble is None else ((condition.last_trouble_at or 0.0, _met(trouble)),)
    return DestinationView(
        condition.name,
        active=condition.active,
        limit=condition.limit,
        ready=condition.waiting,
        obstacle=_obstacle(condition),
        until=condition.paused_until,
        rate="" if condition.rate_left is None else f"{condition.rate_left} more now",
        met=met,
    )


def _obstacle(condition: Condition) -> Reason | None:
    if condition.paused_by:
        return Reason.PAUSED if condition.paused_by == "operator" else Reason.RESTING
    if condition.probing:
        return Reason.RESTING
    if condition.rate_left == 0:
        return Reason.RATE
    return Reason.AT_LIMIT if condition.active >= condition.limit else None


def _met(trouble: Delayed) -> str:
    peer = f" at {trouble.peer}" if trouble.peer else ""
    said = f": {trouble.diagnostic}" if trouble.diagnostic else ""
    return f"{trouble.because} ({trouble.status}){peer}{said}"
