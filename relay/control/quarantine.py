"""
Letting out what a policy holds: `Hold` says that a copy goes nowhere until an operator decides, and not where then.

So the policies are asked which only say where mail goes (`routes = True`), as for any copy that waits: it goes the way
that it would have gone without the one that holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from attrs import evolve, frozen

from relay.interfaces import IRoutes, ISpool
from relay.mail.decision import Accepted
from relay.mail.routing import Deliver, Forward, Inquiry
from relay.mail.selection import Holder, Queued, Reroute, Selection, State


@frozen
class Way:
    """Where some recipients go, by their ids."""

    act: Reroute
    ids: tuple[str, ...]


@frozen
class Quarantine:
    """The recipients that policies hold."""

    spool: ISpool
    routes: IRoutes

    async def held(self, selection: Selection, after: str, until: str, most: int) -> Sequence[Queued]:
        """Those of whom a slice of the queue has some, from behind `after` up to `until`; "" is the end."""
        if selection.state not in (None, State.HELD):
            return ()
        page = await self.spool.select(evolve(selection, state=State.HELD), most, after)
        return [
            one
            for one in page.queued
            if one.held_by is Holder.POLICY and (not until or _place(one.key) <= _place(until))
        ]

    async def ways(self, held: Collection[Queued]) -> Sequence[Way]:
        """Where each of these goes; who has no way now is left out."""
        found: dict[str, tuple[Deliver | Forward, list[str]]] = {}
        for queued in held:
            route = await self._route(queued)
            if route is not None:
                # By what is said of it, since the parameters of an agent cannot be hashed.
                found.setdefault(repr(route), (route, []))[1].append(queued.pending.recipient.id)
        return [Way(Reroute(route), tuple(ids)) for route, ids in found.values()]

    async def _route(self, queued: Queued) -> Deliver | Forward | None:
        entry = await self.spool.look_up(queued.entry)
        if entry is None:
            return None
        envelope, recipient = entry[0].envelope, queued.pending.recipient
        inquiry = Inquiry(
            recipient.address, recipient.original, envelope.reverse_path, envelope.client, recipient.facts
        )
        match await self.routes.today(inquiry, ""):
            case Accepted((placement,)) if isinstance(placement.route, Deliver | Forward):
                return placement.route
            case _:
                return None


def _place(key: str) -> tuple[str, str]:
    entry, _, id = key.partition(":")
    return entry, id
