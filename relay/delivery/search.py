"""
Where to, for the thousands of messages that go the same way within a second: what `exchangers` has found is kept as
long as that, and no longer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from attrs import define, field

from relay.delivery.exchangers import Exchangers, Surroundings, find
from relay.mail.outcome import Unresolved
from relay.mail.routing import NextHop

#: For so long nobody is asked again, in seconds. It comes on top of the TTLs that the resolver keeps to, hence it is
#: less than any TTL that means something.
_FRESH: Final = 1.0
#: Of a domain with several hosts so many orders are drawn in that time; messages take turns with them. To spread the
#: load is what the order is for (RFC 5321 section 5.1).
_ORDERS: Final = 8
#: Next hops of which something is kept.
_MOST: Final = 1000

#: All of a next hop that matters here: its name, its port, and whether it is found by MX.
_Key: TypeAlias = tuple[str, int, bool]


@define(eq=False)
class _Kept:
    """What was found for one next hop."""

    until: float
    #: It was the only peer of the first one: there are no orders to draw.
    only: Exchangers | None
    orders: list[Exchangers] = field(factory=list)
    #: Which of them is next, counted from the first time.
    turn: int = 0


class Search:
    """
    Finds the peers to try for a next hop.

    Only what can be used is kept: of what was not found the resolver knows for how long that is certain.
    """

    def __init__(self, surroundings: Surroundings, seconds: Callable[[], float]) -> None:
        """`seconds` is `IClock.seconds`."""
        self._surroundings = surroundings
        self._seconds = seconds
        self._kept: dict[_Key, _Kept] = {}

    def __call__(self, next_hop: NextHop) -> Exchangers | Awaitable[Exchangers | Unresolved]:
        """As `find`; an answer that is known is given at once."""
        key = next_hop.name, next_hop.port, next_hop.mx
        now = self._seconds()
        kept = self._kept.get(key)
        if kept is None or now >= kept.until:
            return self._find(next_hop, key, now)
        if kept.only is not None:
            return kept.only
        orders = kept.orders
        if len(orders) < _ORDERS:
            return self._find(next_hop, key, now)
        kept.turn += 1
        return orders[kept.turn % _ORDERS]

    async def _find(self, next_hop: NextHop, key: _Key, now: float) -> Exchangers | Unresolved:
        found = await find(next_hop, self._surroundings)
        if isinstance(found, Exchangers):
            self._keep(key, found, now)
        else:
            self._kept.pop(key, None)
        return found

    def _keep(self, key: _Key, found: Exchangers, now: float) -> None:
        """`now`: when the search began, since what it found was true then."""
        kept = self._kept.get(key)
        if kept is None or now >= kept.until:
            if len(self._kept) >= _MOST:
                self._kept.clear()
            kept = self._kept[key] = _Kept(now + _FRESH, found if len(found.peers) == 1 else None)
        if len(kept.orders) < _ORDERS:
            kept.orders.append(found)
