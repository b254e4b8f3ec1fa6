"""
Of what a sender is to be told: which of a settlement's outcomes belong into a notice (RFC 3461 section 5.2, RFC 2852
section 4.1).

Pure, and without a memory: a delay is told once because an attempt is made at the very moment from which it may be told
(`Schedule.before`), so only the first attempt from then on was due no later than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from relay.delivery.retry import Schedule, Schedules, tells_of_lateness
from relay.delivery.settlement import Settlement
from relay.mail.dsn import Notify, Wishes
from relay.mail.envelope import ByMode
from relay.mail.notice import Action
from relay.mail.outcome import Delayed, Delivered, Relayed
from relay.mail.queue import EXPANSION, Entry, Pending

#: RFC 3463 section 3.5, for what succeeded; and what RFC 2852 section 4.1.3 asks for.
_DONE: Final = "2.0.0"
_LATE: Final = "4.4.7"


@frozen
class Tiding:
    """What the sender is told of one recipient."""

    pending: Pending
    action: Action
    status: str
    because: str = ""
    #: What the other server said, and its name, or "".
    diagnostic: str = ""
    peer: str = ""
    #: Until when it will be tried.
    until: float | None = None


@frozen
class Tidings:
    """What belongs into a notice, and of which failures nobody wants to hear."""

    told: tuple[Tiding, ...] = ()
    unwanted: tuple[Pending, ...] = ()


NOTHING: Final = Tidings()


def tidings(entry: Entry, settlement: Settlement, schedules: Schedules, now: float) -> Tidings:
    """`NOTHING` for all but few messages."""
    if not settlement.failed and not settlement.delayed and entry.envelope.deliver_by is None:
        for pending, _ in settlement.carried:
            if pending.recipient.wishes.notify is not None:
                break
        else:
            return NOTHING
    unwanted = tuple(pending for pending, _ in settlement.failed if not _wants(pending, Notify.FAILURE))
    told = (*_failures(settlement), *_successes(entry, settlement, now), *_delays(entry, settlement, schedules, now))
    return Tidings(told, unwanted) if told or unwanted else NOTHING


def _failures(settlement: Settlement) -> Iterator[Tiding]:
    for pending, failed in settlement.failed:
        if _wants(pending, Notify.FAILURE):
            yield Tiding(pending, Action.FAILED, failed.status, failed.because, failed.diagnostic, failed.peer)


def _successes(entry: Entry, settlement: Settlement, now: float) -> Iterator[Tiding]:
    for pending, carried in settlement.carried:
        if isinstance(carried, Delivered):
            if _wants(pending, Notify.SUCCESS):
                expanded = pending.recipient.route == EXPANSION
                yield Tiding(pending, Action.EXPANDED if expanded else Action.DELIVERED, _DONE)
        elif _of_relaying(entry, pending.recipient.wishes, carried, now):
            yield Tiding(pending, Action.RELAYED, _DONE, "", carried.text, carried.by)


def _of_relaying(entry: Entry, wishes: Wishes, relayed: Relayed, now: float) -> bool:
    if not relayed.told and wishes.wants(Notify.SUCCESS):
        # RFC 3461 section 5.2.2 (b). A server that offers DSN has taken over the duty to tell.
        return True
    by = entry.envelope.deliver_by
    if by is None or (wishes.notify is not None and Notify.NEVER in wishes.notify):
        return False
    # RFC 2852 sections 4.1.4 and 4.1.4.2: the sender hears if from now on nobody may look at the clock.
    return by.trace or (by.mode is ByMode.NOTIFY and now < by.until and not relayed.timed)


def _delays(entry: Entry, settlement: Settlement, schedules: Schedules, now: float) -> Iterator[Tiding]:
    for pending, _, delayed in settlement.delayed:
        schedule = schedules.of(pending.recipient.policy)
        late = _lateness(entry, pending, delayed, schedule, max(now, pending.due))
        if late is not None:
            yield late


def _lateness(entry: Entry, pending: Pending, delayed: Delayed, schedule: Schedule, now: float) -> Tiding | None:
    wishes, by = pending.recipient.wishes, entry.envelope.deliver_by
    status = ""
    if by is not None and tells_of_lateness(wishes) and _is_first(pending, by.until, now):
        status = _LATE
    elif (warn := schedule.warn_at(entry, wishes)) is not None and _is_first(pending, warn, now):
        status = delayed.status
    if not status:
        return None
    until = schedule.end(entry)
    if by is not None and by.mode is ByMode.RETURN:
        until = min(until, by.until)
    return Tiding(pending, Action.DELAYED, status, delayed.because, delayed.diagnostic, delayed.peer, until)


def _is_first(pending: Pending, moment: float, now: float) -> bool:
    """Whether the attempt that ended now is the first one that ended after `moment`."""
    return moment <= now and (pending.due <= moment or not pending.attempts)


def _wants(pending: Pending, what: Notify) -> bool:
    return pending.recipient.wishes.wants(what)
