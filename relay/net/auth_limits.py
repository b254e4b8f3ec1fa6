"""How often somebody may be wrong about a password: in a session, and from an address."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final

from attrs import field, frozen, validators

from relay.interfaces import IClock
from relay.net.admission import counted_as
from relay.net.tallies import Tallies

#: Addresses that are remembered at once. Beyond that the one that failed the longest ago is forgotten.
_MOST: Final = 100_000


@frozen
class FailureLimits:
    """The row of RELIABILITY's table."""

    session: int = field(default=3, validator=validators.ge(1))
    address: int = field(default=10, validator=validators.ge(1))
    #: Seconds for which a failure counts against its address.
    window: float = field(default=600.0, validator=validators.gt(0))


class Limiter:
    """
    Counts failures over all listeners of a relay.

    An attempt that is under way counts as one that failed, so that many at the same time do not get more tries than
    one after the other. A success does not wipe out failures: it may be the guesser's own account. With IPv6 the
    address is the network of 64 bits, of which one person has all.

    With `tallies` the limit of an address is that of several processes together.
    """

    def __init__(self, clock: IClock, limits: FailureLimits | None = None, tallies: Tallies | None = None) -> None:
        self._clock = clock
        self._tallies = tallies
        self.limits = limits or FailureLimits()
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()
        self._under_way: dict[str, int] = {}

    def adopt(self, limits: FailureLimits) -> None:
        """From now on these limits count, and what was counted before counts on."""
        self.limits = limits

    def session(self, address: str | None) -> Attempts:
        """The attempts of one session. Without an address (a Unix socket) only the session's own limit binds."""
        return Attempts(self, None if address is None else counted_as(address))

    def _may_try(self, whom: str | None) -> bool:
        if whom is None:
            return True
        tried = len(self._recent(whom)) + self._under_way.get(whom, 0)
        if (tallies := self._tallies) is not None:
            tried += tallies.trying.elsewhere(whom)
            tried += tallies.failed.elsewhere(whom, self._clock.seconds(), self.limits.window)
        return tried < self.limits.address

    def _recent(self, whom: str) -> deque[float]:
        failures = self._failures.get(whom)
        if failures is None:
            return deque()
        while failures and failures[0] <= self._clock.seconds() - self.limits.window:
            failures.popleft()
        if not failures:
            del self._failures[whom]
        return failures

    def _begun(self, whom: str | None) -> None:
        if whom is not None:
            self._under_way[whom] = self._under_way.get(whom, 0) + 1
            if self._tallies is not None:
                self._tallies.trying.enter(whom)

    def _ended(self, whom: str | None, failed: bool) -> None:
        if whom is None:
            return
        self._under_way[whom] -= 1
        if not self._under_way[whom]:
            del self._under_way[whom]
        tallies = self._tallies
        if failed:
            self._recent(whom)
            self._failures.setdefault(whom, deque()).append(self._clock.seconds())
            self._failures.move_to_end(whom)
            self._forget()
            if tallies is not None:
                tallies.failed.add(whom, self._clock.seconds(), self.limits.window)
        if tallies is not None:
            tallies.trying.leave(whom)

    def _forget(self) -> None:
        """Up to two whose failures no longer count, for each that is new: memory follows the last few minutes."""
        gone = self._clock.seconds() - self.limits.window
        for _ in range(2):
            whom, failures = next(iter(self._failures.items()))
            if failures[-1] > gone and len(self._failures) <= _MOST:
                return
            del self._failures[whom]


class Attempts:
    """
    What one session has tried. For each exchange ask `may_try`, call `begin`, and when it is over call exactly one of
    `failed`, `succeeded` and `withdrawn`.
    """

    def __init__(self, limiter: Limiter, whom: str | None) -> None:
        self._limiter = limiter
        self._whom = whom
        self._failures = 0

    @property
    def may_try(self) -> bool:
        """Whether another attempt may begin. If not, the session is closed with 421 4.7.0."""
        return self._failures < self._limiter.limits.session and self._limiter._may_try(self._whom)

    def begin(self) -> None:
        """An exchange begins."""
        self._limiter._begun(self._whom)

    def failed(self) -> None:
        """It was denied, or the client was gone before the answer was there."""
        self._failures += 1
        self._limiter._ended(self._whom, failed=True)

    def succeeded(self) -> None:
        """The client is who it says."""
        self._limiter._ended(self._whom, failed=False)

    def withdrawn(self) -> None:
        """The client cancelled it, or we could not find out: nobody has learned anything."""
        self._limiter._ended(self._whom, failed=False)
