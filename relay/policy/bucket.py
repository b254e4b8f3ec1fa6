"""A token bucket: so many at once, and then one more every few seconds."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen

#: Moments are sums of floats: what is due within a microsecond is due.
_JITTER: Final = 1e-6
#: Seconds by which the clock steps at least if somebody has set it.
_SET_BACK: Final = 1.0


@frozen
class Bucket:
    """
    It holds `burst` tokens when it is full, and gets one every `interval` seconds.

    All that is to be kept of it is one moment: when it will be full again. Once that has passed nothing needs to be
    kept. (The "generic cell rate algorithm" of ITU-T I.371 says the same in other words.)
    """

    interval: float = field()
    burst: int = field()

    def wait(self, full: float, now: float) -> float:
        """For how many seconds there is no token; 0: there is one."""
        seconds = self._missing(full, now) - (self.burst - 1) * self.interval
        return seconds if seconds > _JITTER else 0.0

    def after(self, full: float, now: float) -> float:
        """When it will be full again, now that one is taken."""
        return now + self._missing(full, now) + self.interval

    def _missing(self, full: float, now: float) -> float:
        """In how many seconds it will be full."""
        seconds = full - now
        # One that seems to be emptier than it can be was written before the machine's clock was set back.
        return seconds if 0 < seconds < self.burst * self.interval + _SET_BACK else 0.0
