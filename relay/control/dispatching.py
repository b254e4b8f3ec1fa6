"""The dispatcher as an operator sees it."""

from __future__ import annotations

from collections.abc import Sequence

from relay.control.api import Refused
from relay.delivery.dispatch import Dispatcher
from relay.mail.waiting import DestinationView, Reason


class Dispatching:
    """Answers for a dispatcher; see `relay.control.running.HasDestinations`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def destinations(self) -> Sequence[DestinationView]:
        if hasattr(self._dispatcher, "destinations"):
            views: Sequence[DestinationView] = self._dispatcher.destinations()
            return views
        held = self._dispatcher._destinations._destinations
        return [
            DestinationView(
                each.name,
                active=each.active,
                limit=each.limit,
                ready=len(each.waiting),
                obstacle=Reason.AT_LIMIT if each.active >= each.limit else None,
            )
            for _, each in sorted(held.items())
        ]

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
