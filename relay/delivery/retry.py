"""When a copy is tried again, and when patience ends."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen
from attrs.validators import ge, gt, optional

from relay.mail.dsn import Notify, Wishes
from relay.mail.envelope import OURSELVES, ByMode
from relay.mail.outcome import Delayed, Failed
from relay.mail.queue import Entry

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
#: When those are told of a delay who have asked for it, unless the operator has said when.
WARN = 4 * HOUR


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
    #: When a sender is told that a copy still waits; `None`: only who asked for that is, after `WARN`.
    warn: float | None = field(default=None, validator=optional(gt(0)))

    def pause(self, attempts: int, chance: float) -> float:
        """How long to wait after this many attempts (at least 1); `chance` is between 0 and 1."""
        # The exponent is bounded because a float is.
        grown = self.first * self.factor ** min(max(attempts, 1) - 1, 100)
        return min(grown, self.most) * (1 + self.jitter * (2 * chance - 1))

    def patience(self, entry: Entry) -> float:
        """How long after it could first be tried an entry is given up."""
        ours = entry.envelope.reverse_path is None and entry.envelope.client == OURSELVES
        return self.give_up_notices if ours else self.give_up

    def end(self, entry: Entry) -> float:
        """When an entry is given up."""
        return _beginning(entry) + self.patience(entry)

    def warn_at(self, entry: Entry, wishes: Wishes) -> float | None:
        """When the sender is told that this recipient's copy still waits (RFC 3461 section 5.2.5), or `None`."""
        if entry.envelope.reverse_path is None:
            return None
        if wishes.notify is None:
            return None if self.warn is None else _beginning(entry) + self.warn
        return _beginning(entry) + (self.warn or WARN) if Notify.DELAY in wishes.notify else None

    def moments(self, entry: Entry, wishes: Wishes) -> Iterator[float]:
        """Times at which something is due whatever the pauses are: a word to the sender, or the end."""
        warn = self.warn_at(entry, wishes)
        if warn is not None:
            yield warn
        by = entry.envelope.deliver_by
        if by is not None and (by.mode is ByMode.RETURN or tells_of_lateness(wishes)):
            yield by.until

    def before(self, due: float, entry: Entry, wishes: Wishes, now: float) -> float:
        """`due`, or the first moment before it."""
        return min((moment for moment in self.moments(entry, wishes) if now < moment < due), default=due)

    def decide(self, entry: Entry, attempts: int, delayed: Delayed, now: float, chance: float) -> Again | Failed:
        """
        What follows from a delay, met at `now` by the attempt that was number `attempts`.

        There is one last attempt when patience ends. Where that is delayed too the copy fails, with the status of
        this last delay: RFC 3464 section 2.3.4 wants the reason, and that is why each attempt was in vain.
        """
        end = self.end(entry)
        if now >= end:
            patience = self.patience(entry)
            because = f"gave up after {spoken(patience)}: {delayed.because}"
            return Failed(delayed.status, because, delayed.diagnostic, delayed.peer)
        return Again(min(now + self.pause(attempts, chance), end), delayed)


def _beginning(entry: Entry) -> float:
    """When the first attempt could be made: while it is held (RFC 4865), nothing has been in vain."""
    return max(entry.arrived, entry.envelope.release or 0.0)


def tells_of_lateness(wishes: Wishes) -> bool:
    """Whether the sender is told that a deadline has passed, as is also who said nothing (RFC 2852 section 4.1.3)."""
    return wishes.notify is None or Notify.DELAY in wishes.notify


def spoken(seconds: float) -> str:
    """A duration in words, in the largest unit that makes it a whole number: `5 days`, `36 hours`."""
    for unit, size in ("day", DAY), ("hour", HOUR), ("minute", MINUTE):
        count = seconds / size
        if count >= 1 and count == int(count):
            return f"{int(count)} {unit}{'' if count == 1 else 's'}"
    return f"{round(seconds)} seconds"
