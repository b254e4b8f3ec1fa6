"""When a copy is tried again, and when patience ends."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

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

#: What greylisting says (RFC 6647 section 5): 4.7.1 or 4.2.0, or its name.
_GREYLISTING: Final = re.compile(r"gr[ae]y.?list", re.IGNORECASE)
_GREYLISTING_STATUS: Final = frozenset({"4.7.1", "4.2.0"})
#: And when to come again: "try again in 300 seconds", "come back in 00:05:00", "for 5 minutes".
_HINT: Final = re.compile(
    r"\b(?:in|for|after)\s+(?:(?P<h>\d{1,2}):(?P<m>\d{2}):(?P<s>\d{2})\b"
    r"|(?P<count>\d{1,5})\s*(?P<unit>s|secs?|seconds?|mins?|minutes?|hours?)\b)",
    re.IGNORECASE,
)
_SECONDS: Final = {"s": 1.0, "m": MINUTE, "h": HOUR}
#: Shorter hints are taken for this, and behind this attempt none makes a pause shorter: else a host could have us come
#: every second for days.
_SHORTEST_HINT: Final = 60.0
_HINTED_ATTEMPTS: Final = 3


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
        return Again(min(now + self._pause_after(delayed, attempts, chance), end), delayed)

    def _pause_after(self, delayed: Delayed, attempts: int, chance: float) -> float:
        """As long as the host has said, within bounds, if it has; a little longer rather than shorter."""
        usual = self.pause(attempts, chance)
        said = hinted(delayed)
        if said is None:
            return usual
        pause = min(max(said, _SHORTEST_HINT), self.most) * (1 + self.jitter * chance)
        return pause if attempts <= _HINTED_ATTEMPTS else max(pause, usual)


@frozen
class Schedules:
    """The schedule of each policy, by the name that the configuration of today gives it, and that of all others."""

    usual: Schedule = Schedule()
    particular: Mapping[str, Schedule] = field(factory=dict)

    def of(self, policy: str) -> Schedule:
        """By which schedule the recipients are tried for whom this policy has decided."""
        return self.particular.get(policy, self.usual)


def hinted(delayed: Delayed) -> float | None:
    """In how many seconds a host that keeps a greylist wants to see us again, if it has said so."""
    said = delayed.diagnostic
    if delayed.status not in _GREYLISTING_STATUS and not _GREYLISTING.search(said):
        return None
    match = _HINT.search(said)
    if match is None:
        return None
    if match["count"]:
        return int(match["count"]) * _SECONDS[match["unit"][0].lower()]
    return int(match["h"]) * HOUR + int(match["m"]) * MINUTE + int(match["s"])


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
