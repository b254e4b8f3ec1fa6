"""A relay as an operator sees it: what the control socket's answers are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from relay.control.rehearsal import Rehearsal
from relay.delivery.suppression import Suppressions
from relay.interfaces import IClock, IHistory, IMailLog, IRoutes, ISpool
from relay.mail.waiting import DestinationView


class HasDestinations(Protocol):
    """What an operator asks of the dispatcher."""

    def destinations(self) -> Sequence[DestinationView]:
        """All of which something is known, in the order of their names."""

    def pause(self, name: str) -> None:
        """Begin nothing more for this destination until `resume`. May be said again."""

    def knows(self, name: str) -> bool:
        """Whether anything is known of a destination of this name at this moment."""

    def resume(self, name: str) -> None:
        """Whatever stands in this destination's way (`pause`, rest after failures): try now."""

    async def keep(self) -> None:
        """When it returns, what is paused stays so beyond a restart. Raises `Refused` if nobody can say so."""

    def wake(self) -> None:
        """Recipients in the spool may have become due by other means."""


@frozen
class Running:
    """A relay that runs."""

    clock: IClock
    spool: ISpool
    maillog: IMailLog
    delivery: HasDestinations
    hostname: str
    pid: int
    #: When it was put together, by `IClock.seconds`.
    started: float
    #: The address of each listener that listens, its name, and who is connected.
    listeners: Callable[[], Sequence[dict[str, Any]]]
    #: How often what has happened since then, by the words of the mail log.
    counts: Mapping[str, int]
    #: The policies, where what one of them holds is to be let out.
    routes: IRoutes
    #: `None`: it keeps none.
    history: IHistory | None = None
    #: `None`: it keeps none.
    suppressions: Suppressions | None = None
    #: Where it is tried what would become of a mail; `None`: nowhere.
    rehearsal: Rehearsal | None = None
    #: Reads the configuration again (`relay.control.reloading`); `None`: nobody does.
    reload: Callable[[], Awaitable[Any]] | None = None
    #: Which configuration is in force (`relay.control.reloading.InForce`); `None`: nobody knows.
    in_force: Callable[[], Any] | None = None
