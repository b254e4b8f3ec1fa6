"""The dispatcher as an operator sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from relay.control.api import Refused
from relay.mail.waiting import DestinationView, Reason


class Dispatching:
    """Answers for a `relay.delivery.dispatch.Dispatcher`; see `relay.control.running.HasDestinations`."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher

    def destinations(self) -> Sequence[DestinationView]:
        if not hasattr(self._dispatcher, "destinations"):
            return ()
        return sorted(map(view, self._dispatcher.destinations()), key=lambda each: each.name)

    def pause(self, name: str) -> None:
        if not hasattr(self._dispatcher, "pause"):
            raise Refused("this relay cannot pause a destination; 'relayctl queue hold --dest' holds what waits", 501)
        self._dispatcher.pause(name)

    def resume(self, name: str) -> None:
        if not hasattr(self._dispatcher, "resume"):
            raise Refused("this relay cannot pause a destination; 'relayctl queue release' releases what is held", 501)
        self._dispatcher.resume(name)

    def wake(self) -> None:
        self._dispatcher.wake()


def view(condition: Any) -> DestinationView:
    """A `relay.delivery.destination.Condition` in the words of the closed set of reasons."""
    trouble = condition.last_trouble
    met = () if trouble is None else ((condition.last_trouble_at, _met(trouble)),)
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


def _obstacle(condition: Any) -> Reason | None:
    if condition.paused_by:
        return Reason.PAUSED if condition.paused_by == "operator" else Reason.RESTING
    if condition.probing:
        return Reason.RESTING
    if condition.rate_left == 0:
        return Reason.RATE
    return Reason.AT_LIMIT if condition.active >= condition.limit else None


def _met(trouble: Any) -> str:
    said = f": {trouble.diagnostic}" if trouble.diagnostic else ""
    return f"{trouble.because} ({trouble.status}){f' at {trouble.peer}' if trouble.peer else ''}{said}"
