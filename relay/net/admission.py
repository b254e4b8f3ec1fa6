"""Who may connect: how many at once, in all and from one address, and how many in a minute."""

from __future__ import annotations

import ipaddress
from collections import deque
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Final

from relay.config.limits import Limits
from relay.interfaces import IClock
from relay.mail.reply import Reply
from relay.net.tallies import Tallies

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TOO_MANY: Final = Reply.of(421, "4.7.0", "Too many connections, please try again later")
TOO_MANY_OF_YOURS: Final = Reply.of(421, "4.7.0", "Too many connections from your address, please try again later")
TOO_OFTEN: Final = Reply.of(421, "4.7.0", "You connect too often, please try again later")

_MINUTE: Final = 60.0


def is_within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an IP address is in one of these networks."""
    if not networks:
        return False
    parsed = ipaddress.ip_address(address.partition("%")[0])
    return any(parsed in network for network in networks if network.version == parsed.version)


@lru_cache(4096)
def counted_as(address: str) -> str:
    """What an address is counted as: of IPv6 the network of 64 bits, of which one person has all."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if ip.version == 4:
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((int(ip), 64), strict=False))


class Admission:
    """
    Counts connections over all listeners of a relay.

    Trusted addresses, and clients without an address (Unix sockets), are bound by the limit in all only.

    With `tallies` the limits are those of several processes together.
    """

    def __init__(
        self, limits: Limits, trusted: Sequence[Network], clock: IClock, tallies: Tallies | None = None
    ) -> None:
        self._clock = clock
        self._tallies = tallies
        #: Connections here.
        self._connected = 0
        #: From half the connection limit up slow content is no longer waited for.
        self.crowded = False
        #: From three quarters up idle clients are waited for less.
        self.stressed = False
        self._at_once: dict[str, int] = {}
        self._recent: dict[str, deque[float]] = {}
        self._swept = clock.seconds()
        self.adopt(limits, trusted)

    def adopt(self, limits: Limits, trusted: Sequence[Network]) -> None:
        """From now on these limits count. Who is connected stays, and stays counted."""
        self._limits = limits
        #: The answer for addresses that were asked about lately; reading an address takes longer than all the rest.
        self._within = lru_cache(4096)(partial(is_within, networks=tuple(trusted)))
        within = self._within
        #: ... and what they are counted as besides.
        self._known = lru_cache(4096)(lambda address: (counted_as(address), within(address)))
        self._crowd, self._stress = limits.connections / 2, limits.connections * 3 / 4
        self._see(self._connected if self._tallies is None else self._tallies.connections.with_mine(self._connected))

    def is_trusted(self, address: str | None) -> bool:
        """Whether the limits for strangers do not bind this client."""
        if address is None:
            return True
        return self._within(address)

    def enter(self, address: str | None) -> Reply | None:
        """
        A client has connected: `None` if it may stay, else what it is told before it is closed.

        Either way `leave` must be called once when it is gone.
        """
        self._connected = connected = self._connected + 1
        if (tallies := self._tallies) is not None:
            connected = tallies.connections.with_mine(connected)
        if connected >= self._crowd or self.crowded:
            self._see(connected)
        full = connected > self._limits.connections
        if address is None:
            return TOO_MANY if full else None
        whom, trusted = self._known(address)
        # Counted whatever comes of it, since `leave` counts it off.
        self._at_once[whom] = at_once = self._at_once.get(whom, 0) + 1
        if tallies is not None:
            tallies.at_once.enter(whom)
        if full:
            return TOO_MANY
        return None if trusted else self._met_stranger(whom, at_once)

    def _met_stranger(self, whom: str, at_once: int) -> Reply | None:
        """Somebody has come whom the limits of an address bind, and of whom so many are here."""
        now = self._clock.seconds()
        self._sweep(now)
        recent = self._recent.setdefault(whom, deque())
        while recent and recent[0] <= now - _MINUTE:
            recent.popleft()
        came = len(recent)
        if (tallies := self._tallies) is not None:
            at_once += tallies.at_once.elsewhere(whom)
            came += tallies.came.elsewhere(whom, now, _MINUTE)
        if at_once > self._limits.connections_per_address:
            return TOO_MANY_OF_YOURS
        if came >= self._limits.connections_per_minute:
            return TOO_OFTEN
        recent.append(now)
        if tallies is not None:
            tallies.came.add(whom, now, _MINUTE)
        return None

    def leave(self, address: str | None) -> None:
        """A client that entered is gone."""
        self._connected = connected = self._connected - 1
        if (tallies := self._tallies) is not None:
            connected = tallies.connections.with_mine(connected)
        if connected >= self._crowd or self.crowded:
            self._see(connected)
        if address is None:
            return
        whom = self._known(address)[0]
        at_once = self._at_once
        left = at_once.get(whom, 0) - 1
        if left > 0:
            at_once[whom] = left
        elif left == 0:
            del at_once[whom]
        else:
            return
        if tallies is not None:
            tallies.at_once.leave(whom)

    def _see(self, connected: int) -> None:
        """So many are connected, everywhere."""
        self.crowded = connected >= self._crowd
        self.stressed = connected >= self._stress

    def _sweep(self, now: float) -> None:
        """Forget addresses that have not connected for a minute, once a minute: memory follows the last one."""
        if now - self._swept < _MINUTE:
            return
        self._swept = now
        for address in [a for a, times in self._recent.items() if not times or times[-1] <= now - _MINUTE]:
            del self._recent[address]
