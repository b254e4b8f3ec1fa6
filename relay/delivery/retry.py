"""When a copy is tried again, and when patience ends."""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt

from relay.mail.envelope import OURSELVES
from relay.mail.outcome import Delayed, Failed
from relay.mail.queue import Entry

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@frozen
class Again:
    """One more attempt, at `due` (seconds since the epoch)."""

    due: float
    delayed: Delayed


@frozen
class Schedule:
    """
    Pauses that grow, with some chance in them, until an entry is too old (RFC 5321 section 4.5.4.1).

    Times are seconds.
    """

    first: float = field(default=5 * MINUTE, validator=gt(0))
    factor: float = field(default=2.0, validator=ge(1))
    most: float = field(default=4 * HOUR, validator=gt(0))
    #: How far a pause may be off by chance, as a part of it: a domain that comes back is not flooded.
    jitter: float = field(default=0.2, validator=ge(0))
    give_up: float = field(default=5 * DAY, validator=gt(0))
    #: The same for a notice of our own, of whose failure nobody is told.
    give_up_notices: float = field(default=2 * DAY, validator=gt(0))

    def pause(self, attempts: int, chance: float) -> float:
        """How long to wait after this many attempts (at least 1); `chance` is between 0 and 1."""
        # The exponent is bounded because a float is.
        grown = self.first * self.factor ** min(max(attempts, 1) - 1, 100)
        return min(grown, self.most) * (1 + self.jitter * (2 * chance - 1))

    def patience(self, entry: Entry) -> float:
        """How long after its arrival an entry is given up."""
        ours = entry.envelope.reverse_path is None and entry.envelope.client == OURSELVES
        return self.give_up_notices if ours else self.give_up

    def decide(self, entry: Entry, attempts: int, delayed: Delayed, now: float, chance: float) -> Again | Failed:
        """
        What follows from a delay, met at `now` by the attempt that was number `attempts`.

        There is one last attempt when patience ends. Where that is delayed too the copy fails, with the status of
        this last delay: RFC 3464 section 2.3.4 wants the reason, and that is why each attempt was in vain.
        """
        patience = self.patience(entry)
        end = entry.arrived + patience
        if now >= end:
            because = f"gave up after {spoken(patience)}: {delayed.because}"
            return Failed(delayed.status, because, delayed.diagnostic, delayed.peer)
        return Again(min(now + self.pause(attempts, chance), end), delayed)


def spoken(seconds: float) -> str:
    """A duration in words, in the largest unit that makes it a whole number: `5 days`, `36 hours`."""
    for unit, size in ("day", DAY), ("hour", HOUR), ("minute", MINUTE):
        count = seconds / size
        if count >= 1 and count == int(count):
            return f"{int(count)} {unit}{'' if count == 1 else 's'}"
    return f"{round(seconds)} seconds"
